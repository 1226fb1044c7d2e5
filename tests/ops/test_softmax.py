import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires.check import gradcheck
from minires.check.reference import softmax as reference
from minires.engine import Tensor
from minires.errors import RequestError
from minires.functional.softmax import log_softmax, softmax
from tests.parity import assert_close, assert_like_torch, spread_out

rng = np.random.default_rng(5)
CASES = [((5,), 0), ((3, 4), 0), ((3, 4), 1), ((2, 3, 4), -2), ((2, 3, 1, 4), 1)]
BOTH = pytest.mark.parametrize("f", [softmax, log_softmax])


def pull(f, x, gy):
    leaf = Tensor(x, requires_grad=True)
    f(leaf).backward(gy)
    return leaf.grad


@BOTH
@pytest.mark.parametrize(("shape", "dim"), CASES)
def test_gradients(f, shape, dim):
    gradcheck(lambda x: f(x, dim), 2 * rng.standard_normal(shape))
    gradcheck(lambda x: f(x, dim), spread_out(*shape))


@BOTH
@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data(), st.integers(0, 99))
def test_gradients_for_any_geometry(f, shape, data, seed):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    gradcheck(lambda x: f(x, dim), np.random.default_rng(seed).standard_normal(shape), may_vanish=shape[dim] == 1)


@pytest.mark.parametrize(("shape", "dim"), CASES)
def test_both_equal_their_index_loops(shape, dim):
    x = rng.standard_normal(shape)
    assert_close(softmax(x, dim).data, reference.softmax(x, dim))
    assert_close(log_softmax(x, dim).data, reference.log_softmax(x, dim))


@pytest.mark.parametrize(("shape", "dim"), CASES)
def test_both_match_torch(shape, dim):
    F = pytest.importorskip("torch").nn.functional
    x = 3 * rng.standard_normal(shape)
    assert_like_torch(lambda x: softmax(x, dim), lambda x: F.softmax(x, dim), x)
    assert_like_torch(lambda x: log_softmax(x, dim), lambda x: F.log_softmax(x, dim), x)


@BOTH
def test_softmax_gx_sums_to_zero(f):
    x, gy = rng.standard_normal((2, 3, 5, 4))
    for dim in (0, 1, 2):
        assert np.max(np.abs(pull(lambda x, dim=dim: f(x, dim), x, gy).sum(dim))) < 1e-14


def test_softmax_is_a_distribution():
    y = softmax(5 * rng.standard_normal((4, 6)), 1).data
    assert np.all(y > 0)
    assert_close(y.sum(1), np.ones(4))


@BOTH
def test_a_common_offset_changes_nothing(f):
    x = rng.standard_normal((3, 4))
    assert_close(f(x + 0.25, 1).data, f(x, 1).data)


@BOTH
def test_a_permutation_of_the_scores_permutes_the_answer(f):
    x, order = rng.standard_normal((3, 6)), rng.permutation(6)
    assert_close(f(x[:, order], 1).data, f(x, 1).data[:, order])


@BOTH
def test_huge_scores_do_not_overflow(f):
    x = np.array([[1000.0, 0.0, -1000.0], [-1e30, -1e30, -1e30]])
    expected = np.array([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    y = f(x, 1).data
    assert_close(y if f is softmax else np.exp(y), expected)
    assert np.all(np.isfinite(y))
    assert np.all(np.isfinite(pull(lambda x: f(x, 1), x, rng.standard_normal(x.shape))))


def test_a_score_of_minus_infinity_has_no_probability_and_no_gradient():
    x = np.array([0.3, -math.inf, 1.1])
    gy = rng.standard_normal(3)
    assert softmax(x, 0).data[1] == 0
    assert log_softmax(x, 0).data[1] == -math.inf
    assert pull(lambda x: softmax(x, 0), x, gy)[1] == 0


@BOTH
def test_a_row_of_minus_infinity_is_nan_as_in_torch(f):
    x = np.array([[-math.inf, -math.inf], [0.0, 1.0]])
    with pytest.warns(RuntimeWarning, match="invalid value"):
        y = f(x, 1).data
    assert np.array_equal(np.isnan(y), [[True, True], [False, False]])
    torch = pytest.importorskip("torch")
    peer = getattr(torch.nn.functional, f.__name__)(torch.tensor(x), 1).numpy()
    assert np.array_equal(np.isnan(y), np.isnan(peer))


@BOTH
def test_float32_stays_float32(f):
    x = rng.standard_normal((3, 4)).astype(np.float32)
    assert f(x, 1).dtype == np.float32
    assert pull(lambda x: f(x, 1), x, rng.standard_normal((3, 4)).astype(np.float32)).dtype == np.float32


@BOTH
def test_a_missing_axis_and_a_wrong_kind_are_refused_in_one_line(f):
    for dim in (2, -3):
        with pytest.raises(IndexError, match=rf"{f.__name__}: dim {dim} is out of range .*\(3, 4\); use -2 to 1"):
            f(np.ones((3, 4)), dim)
    with pytest.raises(TypeError, match="int64"):
        f(np.ones((3, 4), np.int64), 0)
    with pytest.raises(RequestError, match="0-d"):
        f(np.array(1.0), 0)
