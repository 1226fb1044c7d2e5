"""Looking up rows: the gradient of a row is the sum over its readers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minires.check import gradcheck
from minires.check.reference import embedding as reference
from minires.engine import Tensor
from minires.errors import GraphError, RequestError
from minires.functional.embedding import embedding, one_hot


def random(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


@given(
    indices=hnp.arrays(np.int64, hnp.array_shapes(min_dims=0, max_dims=3, max_side=4), elements=st.integers(0, 4)),
    width=st.integers(1, 3),
    padding_idx=st.sampled_from([None, 0, -1]),
)
@settings(max_examples=50)
def test_rows_are_looked_up_and_their_gradients_added(indices, width, padding_idx):
    w = random(5, width)
    y = embedding(indices, w, padding_idx)
    np.testing.assert_array_equal(y.data, reference.embedding(indices, w))
    if padding_idx is None:
        gradcheck(lambda w: embedding(indices, w), w)


def test_an_index_used_k_times_gets_the_sum_of_k_gradients():
    w = Tensor(random(4, 2), requires_grad=True)
    gy = random(5, 2, seed=1)
    embedding(np.array([3, 0, 3, 3, 1]), w).backward(gy)
    np.testing.assert_allclose(w.grad, [gy[1], gy[4], [0, 0], gy[0] + gy[2] + gy[3]], rtol=1e-15)


@pytest.mark.parametrize("padding_idx", [1, -3])
def test_only_the_padding_row_gets_no_gradient(padding_idx):
    indices = np.array([[1, 0, 1], [3, 1, 2]])
    gy = random(2, 3, 2)
    w, plain = Tensor(random(4, 2), requires_grad=True), Tensor(random(4, 2), requires_grad=True)
    embedding(indices, w, padding_idx).backward(gy)
    embedding(indices, plain).backward(gy)
    assert np.abs(plain.grad[1]).min() > 0
    np.testing.assert_array_equal(w.grad[1], 0)
    np.testing.assert_array_equal(np.delete(w.grad, 1, 0), np.delete(plain.grad, 1, 0))


@pytest.mark.parametrize("padding_idx", [None, 2, -1])
@pytest.mark.parametrize("shape", [(), (7,), (2, 3), (1, 1, 4)])
def test_embedding_equals_torch(padding_idx, shape):
    torch = pytest.importorskip("torch")
    indices = np.random.default_rng(3).integers(0, 4, shape)
    a, b = Tensor(random(4, 3), requires_grad=True), torch.tensor(random(4, 3), requires_grad=True)
    ya = embedding(Tensor(np.asarray(indices)), a, padding_idx)
    yb = torch.nn.functional.embedding(torch.tensor(indices), b, padding_idx)
    gy = random(*ya.shape, seed=4)
    ya.backward(gy)
    yb.backward(torch.tensor(gy))
    np.testing.assert_array_equal(ya.data, yb.detach().numpy())
    np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_embedding_is_one_hot_times_table():
    indices, w = np.array([[2, 0], [1, 2]]), random(3, 4)
    np.testing.assert_allclose(embedding(indices, w).data, one_hot(indices).data @ w, rtol=1e-15)


def test_float32_stays_float32():
    w = Tensor(random(3, 2).astype(np.float32), requires_grad=True)
    y = embedding(np.array([1, 1], np.uint8), w)
    y.backward(random(2, 2).astype(np.float32))
    assert y.dtype == w.grad.dtype == np.float32


def test_changed_indices_are_noticed():
    indices, w = Tensor(np.array([0, 1])), Tensor(random(3, 2), requires_grad=True)
    y = embedding(indices, w)
    indices.copy_(np.array([2, 2]))
    with pytest.raises(GraphError, match="changed in place"):
        y.backward(random(2, 2))


@given(indices=hnp.arrays(np.int64, hnp.array_shapes(max_dims=3, max_side=3), elements=st.integers(0, 4)))
@settings(max_examples=20)
def test_one_hot_equals_its_index_loop(indices):
    np.testing.assert_array_equal(one_hot(indices, 5).data, reference.one_hot(indices, 5))
    np.testing.assert_array_equal(one_hot(indices).data, reference.one_hot(indices, indices.max() + 1))


def test_one_hot_equals_torch():
    torch = pytest.importorskip("torch")
    indices = np.array([[2, 0, 1], [1, 1, 2]])
    ours, theirs = one_hot(Tensor(indices), 4), torch.nn.functional.one_hot(torch.tensor(indices), 4).numpy()
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours.data, theirs)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda w: embedding(np.array([0, 3]), w), IndexError, "input holds index 3, but weight has rows 0 to 2"),
        (lambda w: embedding(np.array([0, -1]), w), IndexError, "input holds index -1"),
        (lambda w: embedding(np.array([0.0]), w), TypeError, "input is of dtype float64.*integers"),
        (lambda w: embedding(np.array([True]), w), TypeError, "bool"),
        (lambda w: embedding([0, 1], w), TypeError, "input is of list"),
        (lambda w: embedding(np.array([0]), w[0]), RequestError, r"weight is \(2,\)"),
        (lambda w: embedding(np.array([0]), w, 3), RequestError, "padding_idx 3 is no row of a weight with 3 rows"),
        (lambda w: one_hot(np.array([0, 3]), 3), RequestError, "from 0 to 3 do not fit num_classes=3"),
        (lambda w: one_hot(np.array([-1])), RequestError, "from -1"),
        (lambda w: one_hot(np.array([], int)), RequestError, "at least 1"),
        (lambda w: one_hot(w), TypeError, "integers"),
    ],
)
def test_bad_requests_are_refused_in_one_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call(random(3, 2))
    assert "\n" not in str(caught.value)
