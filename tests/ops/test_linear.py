import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.check import gradcheck
from minires.check.reference import linear as reference
from minires.engine import Tensor
from minires.errors import RequestError
from tests.parity import assert_close, assert_like_torch, spread_out

rng = np.random.default_rng(3)

PRODUCTS = [
    ((3, 4), (4, 2)),
    ((1, 4), (4, 1)),
    ((3, 1), (1, 2)),
    ((4,), (4,)),
    ((4,), (4, 2)),
    ((3, 4), (4,)),
    ((4,), (2, 4, 3)),
    ((2, 3, 4), (4,)),
    ((2, 3, 4), (4, 5)),
    ((3, 4), (2, 4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((1, 3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (1, 3, 4, 2)),
]


def arrays(*shapes, rng=rng):
    return [rng.standard_normal(shape) for shape in shapes]


# --- matmul


@pytest.mark.parametrize("shapes", PRODUCTS)
def test_matmul_gradients(shapes):
    gradcheck(F.matmul, *arrays(*shapes))


@pytest.mark.parametrize("shapes", PRODUCTS)
def test_matmul_equals_its_index_loop(shapes):
    x, w = arrays(*shapes)
    assert_close(F.matmul(x, w).data, reference.matmul(x, w))


@pytest.mark.parametrize("shapes", PRODUCTS)
def test_matmul_matches_torch(shapes):
    torch = pytest.importorskip("torch")
    assert_like_torch(F.matmul, torch.matmul, *arrays(*shapes))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.data(), st.integers(0, 99))
def test_matmul_gradients_for_any_geometry(t, k, d, data, seed):
    batch = data.draw(st.lists(st.integers(1, 3), max_size=3))
    ones = [data.draw(st.lists(st.booleans(), min_size=len(batch), max_size=len(batch))) for _ in range(2)]
    a, b = ([1 if one else n for n, one in zip(batch, flags, strict=True)] for flags in ones)
    a = a[data.draw(st.integers(0, len(a))) :]
    rng = np.random.default_rng(seed)
    gradcheck(F.matmul, *arrays((*a, t, k), (*b, k, d), rng=rng))


def test_matmul_gradients_in_any_memory_layout():
    gradcheck(F.matmul, spread_out(2, 3, 4), spread_out(4, 5))
    gradcheck(F.matmul, spread_out(2, 3, 4), spread_out(2, 4, 5))


def test_matmul_of_a_transpose_is_the_transpose_of_the_matmul():
    x, w = arrays((3, 4), (4, 2))
    assert_close(F.matmul(w.T, x.T).data, F.matmul(x, w).data.T)


def test_matmul_skips_a_gradient_nobody_wants():
    x, w = arrays((2, 3, 4), (4, 5))
    for wanted in ((True, False), (False, True)):
        leaves = [Tensor(a, requires_grad=flag) for a, flag in zip((x, w), wanted, strict=True)]
        y = F.matmul(*leaves)
        gxs = y.op.backward(np.ones(y.shape))
        assert [g is not None for g in gxs] == list(wanted)


def test_mm_and_bmm_are_matmul_without_broadcasting():
    for f, shapes in ((F.mm, [(3, 4), (4, 2)]), (F.bmm, [(2, 3, 4), (2, 4, 5)])):
        x, w = arrays(*shapes)
        assert np.array_equal(f(x, w).data, F.matmul(x, w).data)
        gradcheck(f, x, w)


# --- linear


@pytest.mark.parametrize("lead", [(), (1,), (5,), (2, 3), (2, 1, 3)])
def test_linear_gradients(lead):
    x, w, b = arrays((*lead, 4), (3, 4), (3,))
    gradcheck(F.linear, x, w, b)
    gradcheck(F.linear, x, w)


@pytest.mark.parametrize("shapes", [[(1, 1), (1, 1), (1,)], [(5, 1), (3, 1), (3,)], [(5, 4), (1, 4), (1,)]])
def test_linear_gradients_with_axes_of_length_one(shapes):
    gradcheck(F.linear, *arrays(*shapes))


@pytest.mark.parametrize("lead", [(), (5,), (2, 3)])
def test_linear_equals_its_index_loop(lead):
    x, w, b = arrays((*lead, 4), (3, 4), (3,))
    assert_close(F.linear(x, w, b).data, reference.linear(x, w, b))
    assert_close(F.linear(x, w).data, reference.linear(x, w))


@pytest.mark.parametrize("lead", [(), (5,), (2, 3), (0,)])
def test_linear_matches_torch(lead):
    torch = pytest.importorskip("torch")
    x, w, b = arrays((*lead, 4), (3, 4), (3,))
    assert_like_torch(F.linear, torch.nn.functional.linear, x, w, b)
    assert_like_torch(F.linear, torch.nn.functional.linear, x, w)


def test_linear_gradients_in_any_memory_layout():
    gradcheck(F.linear, spread_out(2, 5, 4), spread_out(3, 4), spread_out(3))


def test_linear_leaves_its_inputs_alone():
    x, w, b = arrays((5, 4), (3, 4), (3,))
    kept = [a.copy() for a in (x, w, b)]
    F.linear(x, w, b)
    assert all(np.array_equal(a, k) for a, k in zip((x, w, b), kept, strict=True))


def test_the_bias_gradient_of_linear_is_the_sum_of_gy_over_the_rows():
    x, w, b = (Tensor(a, requires_grad=True) for a in arrays((2, 5, 4), (3, 4), (3,)))
    gy = rng.standard_normal((2, 5, 3))
    F.linear(x, w, b).backward(gy)
    assert_close(b.grad, gy.sum(axis=(0, 1)))


@pytest.mark.parametrize("f", [F.matmul, F.linear])
def test_float32_stays_float32(f):
    x, w = (Tensor(a.astype(np.float32), requires_grad=True) for a in arrays((2, 5, 4), (4, 4)))
    y = f(x, w)
    y.backward(rng.standard_normal(y.shape).astype(np.float32))
    assert y.dtype == x.grad.dtype == w.grad.dtype == np.float32


# --- what is refused


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.linear(np.ones((2, 3)), np.ones((4, 5))), r"input is \(2, 3\) and weight is \(4, 5\).*axis 1, 5"),
        (lambda: F.linear(np.ones(()), np.ones((4, 5))), r"input is \(\)"),
        (lambda: F.linear(np.ones((2, 3)), np.ones(3)), r"weight is \(3,\), but must be \(out_features, in_features\)"),
        (lambda: F.linear(np.ones((2, 3)), np.ones((4, 3)), np.ones(3)), r"bias is \(3,\).*needs \(4,\)"),
        (lambda: F.matmul(np.ones((2, 3)), np.ones((2, 3))), r"last axis, 3, must equal other's last but one, 2"),
        (lambda: F.matmul(np.ones((2, 3)), np.ones(2)), r"last axis, 3, must equal other's only one, 2"),
        (lambda: F.matmul(np.ones(()), np.ones(2)), "0-d operand is no matrix"),
        (lambda: F.matmul(np.ones((2, 4, 3)), np.ones((3, 3, 4))), "leading axes do not broadcast"),
        (lambda: F.mm(np.ones((2, 4, 3)), np.ones((3, 4))), "mm takes two matrices"),
        (lambda: F.bmm(np.ones((1, 4, 3)), np.ones((2, 3, 4))), "bmm takes two equally long batches"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_in_one_line(call, message):
    with pytest.raises(RequestError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
