import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.backend import manual_seed
from minires.engine import Tensor
from minires.kernels import attention, memory, threads
from minires.ops.attention import ScaledDotProductAttention
from minires.switches import formulas_only, kernels_at_any_size
from tests.kernels.equality import DTYPES, assert_equals_formula, in_order, run

BOUND = {np.float64: 1e-12, np.float32: 2e-5}
KERNEL = attention.BlockedAttention


def assert_near_formula(f, *arrays, gy):
    """As `assert_equals_formula`, but relative to all numbers together: with one key in sight, gradients are zero."""
    with kernels_at_any_size():
        op, got = run(f, *arrays, gy=gy)
    assert op is KERNEL
    with formulas_only():
        expected = run(f, *arrays, gy=gy)[1]
    allowed = BOUND[gy.dtype.type] * max(1, *(np.max(np.abs(a), initial=0.0) for a in (gy, *expected)))
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype == gy.dtype
        assert a.shape == b.shape
        assert np.max(np.abs(a - b), initial=0.0) <= allowed


def seeded(**options):
    """Attention whose dropout draws the same numbers each time."""

    def f(*arrays):
        manual_seed(3)
        return F.scaled_dot_product_attention(*arrays, **options)

    return f


@pytest.fixture(params=[(20, 2), (200, 3), (1 << 16, 64)], ids=["queries", "heads", "whole"])
def _blocks(request, monkeypatch):
    """Blocks of a few queries, of a few heads, and of all there is."""
    monkeypatch.setattr(attention, "BLOCK", request.param[0])
    monkeypatch.setattr(attention, "FEWEST", request.param[1])


@st.composite
def problems(draw):
    """rng, q, k, v, gy with axes of any length, in several memory orders; k and v may broadcast."""
    rng, dtype = np.random.default_rng(draw(st.integers(0, 999))), draw(st.sampled_from(DTYPES))
    t, s, e, d = (draw(st.integers(1, n)) for n in (13, 13, 6, 6))
    leading = tuple(draw(st.lists(st.integers(1, 4), max_size=3)))
    fewer = tuple(draw(st.sampled_from([n, n, 1])) for n in leading)
    order = draw(st.sampled_from(["C", "fortran", "gaps", "heads last"]))

    def array(*shape):
        a = rng.normal(size=shape).astype(dtype)
        if order == "heads last" and a.ndim > 2:
            return np.ascontiguousarray(a.swapaxes(-3, -2)).swapaxes(-3, -2)
        return in_order(a, order)

    return rng, array(*leading, t, e), array(*fewer, s, e), array(*fewer, s, d), array(*leading, t, d)


@pytest.mark.usefixtures("_blocks")
@settings(deadline=None, max_examples=50)
@given(problems(), st.sampled_from([0.0, 0.3, 1.0]), st.booleans(), st.sampled_from([None, 0.7]))
def test_attention_equals_its_formula(problem, dropout_p, is_causal, scale):
    _, q, k, v, gy = problem
    f = seeded(dropout_p=dropout_p, is_causal=is_causal, scale=scale)
    assert_near_formula(f, q, k, v, gy=gy)


@pytest.mark.usefixtures("_blocks")
@settings(deadline=None, max_examples=50)
@given(problems(), st.sampled_from([0.0, 0.4]), st.booleans(), st.data())
def test_masked_attention_equals_its_formula_also_for_queries_that_may_look_nowhere(problem, dropout_p, added, data):
    rng, q, k, v, gy = problem
    scores = (*q.shape[:-1], k.shape[-2])
    shape = tuple(data.draw(st.sampled_from([n, n, 1])) for n in scores[data.draw(st.integers(0, len(scores) - 2)) :])
    visible = rng.random(shape) < data.draw(st.sampled_from([0.0, 0.5, 0.9]))
    if added:
        mask = np.where(visible, rng.normal(size=shape), -np.inf).astype(q.dtype)
        assert_near_formula(seeded(dropout_p=dropout_p), q, k, v, mask, gy=gy)
    else:
        f = lambda q, k, v: seeded(dropout_p=dropout_p)(q, k, v, visible)
        assert_near_formula(f, q, k, v, gy=gy)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_over_long_sequences_equals_its_formula(causal):
    rng = np.random.default_rng(0)
    q, k, v, gy = (rng.normal(size=(2, 3, 300, 8)) for _ in range(4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "BLOCK", 1 << 14)
        assert_equals_formula(KERNEL, seeded(is_causal=causal), q, k, v, gy=gy, tolerance=1e-12)


def test_no_gradient_comes_from_the_future():
    rng = np.random.default_rng(0)
    q, k, v, gy = (rng.normal(size=(5, 3, 70, 8)) for _ in range(4))
    gy[:, :, 40:] = 0
    op, (_, gq, gk, gv) = run(seeded(is_causal=True), q, k, v, gy=gy)
    assert op is KERNEL
    for g in (gq, gk, gv):
        assert not g[:, :, 40:].any()
    for g in (gk, gv):
        assert g[:, :, :40].all()


def test_the_mask_gets_no_gradient_from_the_future_and_no_weight_looks_there(monkeypatch):
    monkeypatch.setattr(memory, "empty", lambda shape, dtype: np.full(shape, np.nan, dtype))
    monkeypatch.setattr(attention, "empty", memory.empty)
    rng = np.random.default_rng(0)
    q, k, v, mask = (Tensor(rng.normal(size=s), requires_grad=True) for s in ((9, 90, 8),) * 3 + ((90, 90),))
    options = {"dropout_p": 0.0, "is_causal": True, "scale": 1.0}
    y = ScaledDotProductAttention.apply(q, k, v, mask, **options)
    assert type(y.op) is KERNEL
    later = np.triu(np.ones((90, 90), bool), 1)
    np.testing.assert_array_equal(y.op.p[:, later], 0)
    np.testing.assert_array_equal(y.op.backward(rng.normal(size=y.shape))[3][:, later], 0)


def test_only_the_gradients_that_are_wanted_are_made():
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(5, 3, 70, 8)) for _ in range(3)] + [rng.normal(size=(70, 70))]
    every = seeded()(*(Tensor(a, requires_grad=True) for a in arrays))
    gy = rng.normal(size=every.shape)
    expected = every.op.backward(gy)
    for wanted in range(4):
        y = seeded()(*(Tensor(a, requires_grad=i == wanted) for i, a in enumerate(arrays)))
        assert type(y.op) is KERNEL
        got = y.op.backward(gy)
        assert [g is not None for g in got] == [i == wanted for i in range(4)]
        np.testing.assert_array_equal(got[wanted], expected[wanted])


def test_merging_the_heads_copies_nothing():
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(5, 3, 70, 8)) for _ in range(3))
    y = F.scaled_dot_product_attention(q, k, v).data
    assert y.swapaxes(1, 2).flags.c_contiguous


def test_attention_does_not_depend_on_the_number_of_threads(monkeypatch):
    rng = np.random.default_rng(0)
    q, k, v, gy = (rng.normal(size=(5, 3, 90, 16)).astype(np.float32) for _ in range(4))
    monkeypatch.setattr(attention, "BLOCK", 1 << 12)
    seen = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(threads, "cores", lambda cores=cores: cores)
        seen.append(run(seeded(is_causal=True, dropout_p=0.1), q, k, v, gy=gy)[1])
    for got in seen[1:]:
        for a, b in zip(got, seen[0], strict=True):
            np.testing.assert_array_equal(a, b)


def test_what_the_kernel_does_not_take_falls_back_to_the_formula():
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(5, 3, 70, 8)) for _ in range(3))
    leaf = lambda a: Tensor(a, requires_grad=True)
    attend = lambda *arrays: type(F.scaled_dot_product_attention(*map(leaf, arrays)).op)
    assert attend(q, k, v) is KERNEL
    for others in (
        (q[:, :, :2], k, v),
        (q[:1], k, v),
        (q, k + 0j, v),
        (q, k, v.astype(np.float32)),
        (q[:0], k[:0], v[:0]),
    ):
        assert attend(*others) is ScaledDotProductAttention
    with formulas_only():
        assert attend(q, k, v) is ScaledDotProductAttention
