"""The kernels for small batches equal their formulas, and leave to them what they do not take."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minires as mr
from minires import functional as F
from minires.engine import Tensor
from minires.kernels import ClassCrossEntropy, RowsLinear
from tests.kernels.equality import DTYPES, ORDERS, in_order
from tests.parity import assert_close

# float32: sums of up to 300 terms, each rounded to 6e-8 of its size
BOUND = {np.float64: 1e-12, np.float32: 2e-6}


def both(f, leaves, kernel, gy_of):
    """[outputs and gradients] with the kernel, and without any."""
    found = []
    for formulas in (False, True):
        tensors = [None if a is None else Tensor(a, requires_grad=True) for a in leaves]
        if formulas:
            with mr.formulas_only():
                y = f(*tensors)
        else:
            y = f(*tensors)
            assert type(y.op) is kernel
        y.backward(gy_of(y))
        found.append([y.data, *(t.grad for t in tensors if t is not None)])
    return found


@given(n=st.integers(0, 40), d=st.integers(0, 60), o=st.integers(0, 30), order=st.sampled_from(ORDERS), data=st.data())
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_linear_equals_its_formula(dtype, n, d, o, order, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    bias = data.draw(st.booleans())
    x, w = (in_order(rng.standard_normal(s).astype(dtype), order) for s in ((n, d), (o, d)))
    b = rng.standard_normal(o).astype(dtype) if bias else None
    gy = in_order(rng.standard_normal((n, o)).astype(dtype), order)
    got, expected = both(F.linear, (x, w, b), RowsLinear, lambda y: gy)
    for a, e in zip(got, expected, strict=True):
        assert (a.shape, a.dtype) == (e.shape, e.dtype)
        assert_close(a, e, tolerance=BOUND[dtype])


def test_rows_linear_computes_only_what_is_asked_for():
    rng = np.random.default_rng(0)
    x, w, b, gy = (rng.standard_normal(s) for s in ((2, 3), (4, 3), (4,), (2, 4)))
    expected = gy @ w, gy.T @ x, gy.sum(axis=0)
    for wanted in range(3):
        leaves = [Tensor(a, requires_grad=i == wanted) for i, a in enumerate((x, w, b))]
        y = F.linear(*leaves)
        assert type(y.op) is RowsLinear
        y.backward(gy)
        assert_close(leaves[wanted].grad, expected[wanted], tolerance=1e-14)
        assert all(t.grad is None for i, t in enumerate(leaves) if i != wanted)


def test_rows_linear_leaves_leading_axes_and_mixed_dtypes_to_the_formula():
    x, w, b = np.ones((2, 3)), np.ones((4, 3)), np.ones(4)
    assert RowsLinear.accepts(x, w, b)
    assert RowsLinear.accepts(x, w, None)
    assert not RowsLinear.accepts(x[None], w, b)
    assert not RowsLinear.accepts(x[0], w, b)
    assert not RowsLinear.accepts(x, w, b.astype(np.float32))
    assert not RowsLinear.accepts(x.astype(complex), w, b)


@given(
    n=st.integers(1, 50),
    c=st.integers(1, 300),
    ignored=st.floats(0, 1),
    ignore_index=st.sampled_from([-100, 0, 2]),
    reduction=st.sampled_from(["mean", "sum"]),
    scale=st.sampled_from([0.0, 1.0, 30.0]),
    order=st.sampled_from(ORDERS),
    kind=st.sampled_from([np.int64, np.int32, np.uint8]),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_class_cross_entropy_equals_its_formula(
    dtype, n, c, ignored, ignore_index, reduction, scale, order, kind, seed
):
    rng = np.random.default_rng(seed)
    x = in_order((scale * rng.standard_normal((n, c))).astype(dtype), order)
    t = rng.integers(0, min(c, 200), n)
    t[rng.random(n) < ignored] = ignore_index
    if kind is np.uint8 and (t < 0).any():
        kind = np.int64
    t = np.where((t >= c) & (t != ignore_index), 0, t).astype(kind)
    if (t == ignore_index).all():
        t[0] = next((k for k in range(c) if k != ignore_index), 0)
    if (t == ignore_index).all():
        return  # tested below
    options = {"reduction": reduction, "ignore_index": ignore_index}
    gy = np.asarray(rng.standard_normal(), dtype)
    got, expected = both(lambda x: F.cross_entropy(x, t, **options), (x,), ClassCrossEntropy, lambda y: gy)
    (y, gx), (expected_y, expected_gx) = got, expected
    assert (y.shape, y.dtype, gx.shape, gx.dtype) == ((), dtype, x.shape, dtype)
    count = n if reduction == "sum" else 1
    # A small loss is a difference of scores, the gradient at a target one of p and 1: rounded as these are.
    assert abs(y - expected_y) <= BOUND[dtype] * max(abs(expected_y), count * max(scale, 1))
    assert np.abs(gx - expected_gx).max() <= BOUND[dtype] * abs(gy)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:divide by zero:RuntimeWarning")
def test_a_mean_over_nothing_is_nan_and_a_sum_zero():
    for reduction in ("mean", "sum"):
        x = np.ones((3, 4))
        got, expected = both(
            lambda x, reduction=reduction: F.cross_entropy(x, np.full(3, -100), reduction=reduction),
            (x,),
            ClassCrossEntropy,
            lambda y: np.asarray(1.0),
        )
        assert np.isnan(got[0]) == (reduction == "mean")
        for a, e in zip(got, expected, strict=True):
            assert np.array_equal(a, e, equal_nan=True)


def test_scores_of_minus_infinity_are_impossible_classes():
    x = np.array([[0.0, -np.inf, 1.0], [2.0, 0.0, -np.inf]])
    t = np.array([2, 0])
    got, expected = both(lambda x: F.cross_entropy(x, t), (x,), ClassCrossEntropy, lambda y: np.asarray(0.7))
    for a, e in zip(got, expected, strict=True):
        assert np.isfinite(a).all()
        assert np.allclose(a, e, rtol=1e-14)


def test_a_retained_graph_gives_the_same_gradient_twice_and_labels_may_change_after_forward():
    x, t = Tensor(np.linspace(-1, 1, 12).reshape(3, 4), requires_grad=True), np.array([0, 3, 1])
    y = F.cross_entropy(x, t)
    assert type(y.op) is ClassCrossEntropy
    t[:] = 0
    y.backward(retain_graph=True)
    first, x.grad = x.grad, None
    y.backward()
    assert np.array_equal(x.grad, first)
    assert np.argmin(first, axis=1).tolist() == [0, 3, 1]


def test_class_cross_entropy_leaves_the_rest_to_the_formula():
    plain = {"ignore_index": -100, "label_smoothing": 0.0, "reduction": "mean"}
    x, t = np.ones((2, 3)), np.zeros(2, int)
    assert ClassCrossEntropy.accepts(x, t, None, **plain)
    assert not ClassCrossEntropy.accepts(x, t, np.ones(3), **plain)
    assert not ClassCrossEntropy.accepts(x, t, None, **{**plain, "label_smoothing": 0.1})
    assert not ClassCrossEntropy.accepts(x, t, None, **{**plain, "reduction": "none"})
    for other in (x[0], x[..., None], x.astype(complex), x.astype(np.float16), x[:0], x[:, :0]):
        assert not ClassCrossEntropy.accepts(other, t, None, **plain)
