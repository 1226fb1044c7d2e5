import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.check import gradcheck
from minires.engine import Tensor
from minires.kernels import rows, threads
from minires.ops.norm import LayerNorm
from minires.ops.softmax import Softmax
from minires.switches import kernels_at_any_size
from tests.kernels.equality import DTYPES, ORDERS, assert_equals_formula, in_order, run

BOUND = {np.float64: 1e-12, np.float32: 2e-5}


@pytest.fixture
def _small_blocks(monkeypatch):
    monkeypatch.setattr(rows, "BLOCK", 40)


@st.composite
def drawn(draw, *, longest=12):
    """A shape, a dtype, and a function that draws an array in some memory order.

    A row has six numbers or more: of two, layer norm makes -1 and 1, and the true gradient is zero; of three, the
    gradient has but one direction left, and what remains of it may be as small as its rounding.
    """
    rng, dtype = np.random.default_rng(draw(st.integers(0, 999))), draw(st.sampled_from(DTYPES))
    shape = (*draw(st.lists(st.integers(1, 6), max_size=3)), draw(st.integers(6, longest)))
    order = draw(st.sampled_from(ORDERS))
    return shape, dtype, lambda *s: in_order(rng.normal(size=s).astype(dtype), order)


@pytest.mark.usefixtures("_small_blocks")
@settings(deadline=None, max_examples=60)
@given(drawn(), st.integers(1, 3), st.sampled_from(["w b", "w", ""]))
def test_layer_norm_equals_its_formula(drawn, axes, given):
    shape, dtype, draw = drawn
    normalized = shape[-axes:]
    x, gy, w, b = draw(*shape), draw(*shape), draw(*normalized), draw(*normalized)
    vectors = (w, b)[: len(given.split())]
    f = lambda x, *vectors: F.layer_norm(x, normalized, *vectors)
    assert_equals_formula(rows.BlockedLayerNorm, f, x, *vectors, gy=gy, tolerance=BOUND[dtype], least=np.abs(gy).max())


@pytest.mark.usefixtures("_small_blocks")
@settings(deadline=None, max_examples=40)
@given(drawn(), st.integers(1, 3), st.booleans())
def test_rms_norm_equals_its_formula(drawn, axes, weighted):
    shape, dtype, draw = drawn
    normalized = shape[-axes:]
    x, gy, w = draw(*shape), draw(*shape), draw(*normalized)
    f = lambda x, *w: F.rms_norm(x, normalized, *w)
    assert_equals_formula(
        rows.BlockedRmsNorm, f, x, *(w,) * weighted, gy=gy, tolerance=BOUND[dtype], least=np.abs(gy).max()
    )


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize(
    ("f", "kernel"), [(F.softmax, rows.BlockedSoftmax), (F.log_softmax, rows.BlockedLogSoftmax)], ids=["softmax", "log"]
)
@settings(deadline=None, max_examples=40)
@given(drawn(longest=50), st.sampled_from([0.0, 1e4]), st.booleans())
def test_softmax_and_its_logarithm_equal_their_formulas(f, kernel, drawn, offset, last):
    shape, dtype, draw = drawn
    x, gy = draw(*shape), draw(*shape)
    dim = -1 if last else len(shape) - 1
    assert_equals_formula(kernel, lambda x: f(x, dim), x + dtype(offset), gy=gy, tolerance=BOUND[dtype])


def test_softmax_of_masked_scores_is_exactly_zero_and_hands_back_exactly_zero():
    rng = np.random.default_rng(0)
    x, gy = rng.normal(size=(100, 128)), rng.normal(size=(100, 128))
    x[:, 70:] = -np.inf
    op, (y, gx) = run(lambda x: F.softmax(x, -1), x, gy=gy)
    assert op is rows.BlockedSoftmax
    assert not y[:, 70:].any()
    assert not gx[:, 70:].any()
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=0, atol=1e-14)


def test_a_large_offset_cancels_in_layer_norm_as_in_the_formula():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(300, 64)) + 1e3).astype(np.float32)
    gy = rng.normal(size=x.shape).astype(np.float32)
    assert_equals_formula(rows.BlockedLayerNorm, lambda x: F.layer_norm(x, 64), x, gy=gy, tolerance=2e-3)
    _, (y, _) = run(lambda x: F.layer_norm(x, 64), x, gy=gy)
    exact = x.astype(np.float64)
    exact = (exact - exact.mean(1, keepdims=True)) / np.sqrt(exact.var(1, keepdims=True) + 1e-5)
    assert np.max(np.abs(y - exact)) < 1e-3


@pytest.mark.parametrize("f", [lambda x, w, b: F.layer_norm(x, 6, w, b), lambda x, w, b: F.rms_norm(x, 6, w)])
def test_gradients_by_central_differences(f):
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(5, 6)), rng.normal(size=6), rng.normal(size=6)
    with kernels_at_any_size():
        assert type(f(Tensor(x, requires_grad=True), w, b).op).__name__.startswith("Blocked")
        gradcheck(lambda x, w: f(x, w, b), x, w, method="central")


def test_rows_do_not_depend_on_the_number_of_threads(monkeypatch):
    rng = np.random.default_rng(0)
    x, gy = (rng.normal(size=(1000, 200)).astype(np.float32) for _ in "xg")
    w, b = (rng.normal(size=200).astype(np.float32) for _ in "wb")
    seen = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(threads, "cores", lambda cores=cores: cores)
        got = run(lambda *a: F.layer_norm(a[0], 200, *a[1:]), x, w, b, gy=gy)[1]
        seen.append(got + run(lambda x: F.softmax(x, -1), x, gy=gy)[1])
    for got in seen[1:]:
        for a, c in zip(got, seen[0], strict=True):
            np.testing.assert_array_equal(a, c)


def test_what_the_kernels_do_not_take_falls_back_to_the_formula():
    x = np.random.default_rng(0).normal(size=(200, 100))
    leaf = lambda a: Tensor(a, requires_grad=True)
    assert type(F.softmax(leaf(x), 0).op) is Softmax
    assert type(F.softmax(leaf(x[:2]), 1).op) is Softmax
    assert type(F.softmax(leaf(x + 0j), 1).op) is Softmax
    assert type(F.layer_norm(leaf(x), 100, np.ones(100, np.float32)).op) is LayerNorm
    assert type(F.layer_norm(leaf(x[:0]), 100).op) is LayerNorm
