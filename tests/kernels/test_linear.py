import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.engine import Tensor
from minires.kernels import linear, threads
from tests.kernels.equality import DTYPES, ORDERS, assert_equals_formula, in_order, run

BOUND = {np.float64: 1e-12, np.float32: 2e-5}


@pytest.mark.parametrize("tile", [1, 3, 1024])
@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(1, 9), st.booleans(), st.data())
def test_linear_equals_its_formula(tile, shape, o, biased, data):
    rng, dtype = np.random.default_rng(data.draw(st.integers(0, 999))), data.draw(st.sampled_from(DTYPES))
    draw = lambda *s: in_order(rng.normal(size=s).astype(dtype), data.draw(st.sampled_from(ORDERS)))
    x, w, gy = draw(*shape), draw(o, shape[-1]), draw(*shape[:-1], o)
    b = (draw(o),) if biased else ()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "TILE", tile)
        assert_equals_formula(linear.BlockedLinear, F.linear, x, w, *b, gy=gy, tolerance=BOUND[dtype])


def test_only_the_gradients_that_are_wanted_are_made():
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(300, 200)), rng.normal(size=(100, 200)), rng.normal(size=100)
    for wanted in range(3):
        inputs = [Tensor(a, requires_grad=i == wanted) for i, a in enumerate((x, w, b))]
        y = F.linear(*inputs)
        assert type(y.op) is linear.BlockedLinear
        gys = y.op.backward(y.data)
        assert [g is not None for g in gys] == [i == wanted for i in range(3)]


def test_linear_does_not_depend_on_the_number_of_threads(monkeypatch):
    rng = np.random.default_rng(0)
    x, w, b, gy = (rng.normal(size=s).astype(np.float32) for s in ((1500, 90), (70, 90), (70,), (1500, 70)))
    seen = []
    for cores in (1, 2, 4):
        monkeypatch.setattr(threads, "cores", lambda cores=cores: cores)
        op, got = run(F.linear, x, w, b, gy=gy)
        assert op is linear.BlockedLinear
        seen.append(got)
    for got in seen[1:]:
        for a, c in zip(got, seen[0], strict=True):
            np.testing.assert_array_equal(a, c)


def test_what_the_kernel_does_not_take_falls_back_to_the_formula():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2000, 90)), rng.normal(size=(70, 90))
    small, mixed, empty = (x[:32], w), (x, w.astype(np.float32)), (x[:0], w)
    for a, b in (small, mixed, empty, (x + 0j, w + 0j)):
        assert type(F.linear(Tensor(a, requires_grad=True), b).op) is not linear.BlockedLinear
    assert type(F.linear(Tensor(x, requires_grad=True), w).op) is linear.BlockedLinear
