import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.engine import Tensor
from minires.kernels import gelu, threads
from minires.kernels import rows as plain_rows
from minires.kernels.compiled import sequence
from minires.switches import kernels_at_any_size, no_grad
from tests.kernels.equality import DTYPES, ORDERS, assert_equals_formula, in_order, run

pytest.importorskip("numba", reason="compiled kernels need numba")
rows = pytest.importorskip("minires.kernels.compiled.rows")

BOUND = {np.float64: 1e-12, np.float32: 2e-5}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 6), max_size=3), st.integers(3, 40), st.integers(1, 3), st.data())
def test_layer_norm_equals_its_formula(leading, d, axes, data):
    rng, dtype = np.random.default_rng(data.draw(st.integers(0, 999))), data.draw(st.sampled_from(DTYPES))
    draw = lambda *s: in_order(rng.normal(1, 2, size=s).astype(dtype), data.draw(st.sampled_from(ORDERS)))
    shape = (*leading, d)
    normalized = shape[-axes:]
    vectors = (draw(*normalized), draw(*normalized))[: data.draw(st.integers(0, 2))]
    f = lambda x, *vectors: F.layer_norm(x, normalized, *vectors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_rows, "BLOCK", 60)
        x, gy = draw(*shape), draw(*shape)
        assert_equals_formula(
            sequence.CompiledLayerNorm, f, x, *vectors, gy=gy, tolerance=BOUND[dtype], least=np.abs(gy).max()
        )


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.data())
def test_gelu_equals_its_formula(shape, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    draw = lambda: in_order((4 * rng.normal(size=shape)).astype(np.float32), data.draw(st.sampled_from(ORDERS)))
    assert_equals_formula(sequence.CompiledGelu, F.gelu, draw(), gy=draw(), tolerance=1e-6, least=1.0)


def test_gelu_without_a_gradient_is_the_same_and_saves_nothing():
    x = np.random.default_rng(0).normal(size=(50, 400)).astype(np.float32)
    x.setflags(write=False)
    y = F.gelu(Tensor(x, requires_grad=True))
    assert type(y.op) is sequence.CompiledGelu
    with no_grad():
        np.testing.assert_array_equal(F.gelu(Tensor(x)).data, y.data)


def test_far_out_gelu_is_the_rectifier_and_double_precision_is_left_to_numpy():
    x = np.array([-1e4, -1e3, -50, 50, 1e3, 1e4], np.float32)
    with kernels_at_any_size():
        op, (y, gx) = run(F.gelu, x, gy=np.ones_like(x))
        assert run(F.gelu, x.astype(float), gy=x.astype(float))[0] is gelu.BlockedGelu
    assert op is sequence.CompiledGelu
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    np.testing.assert_array_equal(gx, x > 0)


def test_the_result_does_not_depend_on_the_number_of_threads(monkeypatch):
    rng = np.random.default_rng(0)
    x, gy = (rng.normal(size=(1000, 200)).astype(np.float32) for _ in "xg")
    w, b = (rng.normal(size=200).astype(np.float32) for _ in "wb")
    seen = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(threads, "cores", lambda cores=cores: cores)
        got = run(lambda x, w, b: F.layer_norm(x, 200, w, b), x, w, b, gy=gy)[1]
        seen.append(got + run(F.gelu, x, gy=gy)[1])
    for got in seen[1:]:
        for a, c in zip(got, seen[0], strict=True):
            np.testing.assert_array_equal(a, c)
