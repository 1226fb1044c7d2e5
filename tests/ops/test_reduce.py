"""Reductions: every gradient against the complex step, ties and empty sets, and the index loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.check import gradcheck
from minires.check.reference import reduce as reference
from minires.engine import Tensor
from minires.errors import RequestError
from tests.parity import assert_close, assert_like_torch, spread_out
from tests.strict_device import STRICT

rng = np.random.default_rng(3)

OVER_AXES = {
    "sum": F.sum,
    "mean": F.mean,
    "var": F.var,
    "var of the numbers": lambda x, dim=None, keepdim=False: F.var(x, dim, correction=0, keepdim=keepdim),
    "std": F.std,
    "amax": F.amax,
    "amin": F.amin,
    "logsumexp": F.logsumexp,
}
ALONG_ONE_AXIS = {"max": F.max, "min": F.min}
DIMS = [((4,), 0), ((3, 4), None), ((3, 4), 1), ((2, 3, 4), (0, 2)), ((2, 3, 4), (-1, -2)), ((2, 3, 1, 5), (1, 3))]


def normal(*shape):
    return rng.standard_normal(shape)


def pull(f, x, gy):
    leaf = Tensor(np.array(x), requires_grad=True)
    y = f(leaf)
    y.backward(np.array(gy))
    return y.data, leaf.grad


# --- gradients


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize(("shape", "dim"), DIMS)
@pytest.mark.parametrize("name", OVER_AXES)
def test_gradient_equals_the_complex_step(name, shape, dim, keepdim):
    gradcheck(lambda x: OVER_AXES[name](x, dim, keepdim=keepdim), 2 * normal(*shape) + 1)


@pytest.mark.parametrize("name", OVER_AXES)
def test_non_contiguous_inputs_give_the_right_gradients(name):
    gradcheck(lambda x: OVER_AXES[name](x, (0, 2)), spread_out(2, 3, 4))


@pytest.mark.parametrize("name", ["sum", "mean", "var of the numbers", "amax", "amin", "logsumexp"])
@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 4), max_size=4), st.data(), st.booleans(), st.integers(0, 99))
def test_gradients_for_any_axes(name, shape, data, keepdim, seed):
    dim = data.draw(st.lists(st.sampled_from(range(len(shape))), unique=True)) if shape else []
    x = np.random.default_rng(seed).standard_normal(shape)
    gradcheck(lambda x: OVER_AXES[name](x, tuple(dim), keepdim=keepdim), x, may_vanish=name.startswith("var"))


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("name", ALONG_ONE_AXIS)
@pytest.mark.parametrize(("shape", "dim"), [((4,), 0), ((3, 4), -1), ((2, 3, 4), 1), ((2, 1, 4), 1)])
def test_the_gradient_of_an_extreme_along_one_axis_equals_the_complex_step(name, shape, dim, keepdim):
    gradcheck(lambda x: ALONG_ONE_AXIS[name](x, dim, keepdim).values, normal(*shape))


# --- values


@pytest.mark.parametrize(("shape", "dim"), [((4,), (0,)), ((3, 4), (0, 1)), ((2, 3, 4), (0, 2)), ((2, 1, 3), (1,))])
@pytest.mark.parametrize("name", ["sum", "mean", "amax", "amin", "logsumexp"])
def test_values_equal_the_index_loops(name, shape, dim):
    x = normal(*shape)
    assert_close(getattr(F, name)(x, dim, keepdim=True).data, getattr(reference, name)(x, dim))


@pytest.mark.parametrize("correction", [0, 1, 0.5])
@pytest.mark.parametrize("name", ["var", "std"])
def test_spread_equals_the_index_loops(name, correction):
    x = normal(2, 3, 4)
    ours = getattr(F, name)(x, (0, 2), correction=correction, keepdim=True)
    assert_close(ours.data, getattr(reference, name)(x, (0, 2), correction))


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_the_index_is_that_of_the_first_of_equals(name, dim, keepdim):
    x = rng.integers(0, 3, (3, 5, 4)).astype(float)
    expected = getattr(reference, name)(x, dim % 3)
    found = getattr(F, name)(x, dim, keepdim=keepdim)
    assert found.dtype == np.int64
    assert np.array_equal(found.data, expected if keepdim else expected.squeeze(dim))


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_without_dim_the_index_counts_through_the_flattened_input(name):
    x = normal(3, 4)
    assert getattr(F, name)(x).item() == getattr(x, name)()
    assert getattr(F, name)(x, keepdim=True).shape == (1, 1)
    assert getattr(F, name)(np.array(2.5)).item() == 0


@pytest.mark.parametrize("name", ALONG_ONE_AXIS)
def test_an_extreme_along_an_axis_comes_with_its_index(name):
    x = Tensor(normal(3, 4), requires_grad=True)
    values, indices = ALONG_ONE_AXIS[name](x, 1)
    assert np.array_equal(values.data, getattr(np, name)(x.data, 1))
    assert np.array_equal(np.take_along_axis(x.data, indices.data[:, None], 1)[:, 0], values.data)
    assert values.requires_grad
    assert not indices.requires_grad
    assert indices.dtype == np.int64


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("name", ALONG_ONE_AXIS)
def test_writing_to_the_indices_does_not_move_the_gradient(name, keepdim):
    x, gy = Tensor(normal(3, 4), requires_grad=True), normal(3, 1)
    values, indices = ALONG_ONE_AXIS[name](x, 1, keepdim=keepdim)
    places = indices.data.reshape(3, 1).copy()
    indices.data[...] = (indices.data + 1) % 4
    values.backward(gy.reshape(values.shape))
    assert np.array_equal(x.grad, np.where(np.arange(4) == places, gy, 0))


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize(("shape", "dim"), [((3, 4), 1), ((2, 3, 4), (0, 2)), ((2, 3, 4), (0, 1, 2))])
@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "amax", "amin", "logsumexp"])
def test_values_and_gradients_agree_with_pytorch(name, shape, dim, keepdim):
    torch = pytest.importorskip("torch")
    assert_like_torch(
        lambda x: getattr(F, name)(x, dim, keepdim=keepdim),
        lambda x: getattr(torch, name)(x, dim=dim, keepdim=keepdim),
        normal(*shape),
    )


@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "max", "min"])
def test_over_everything_values_and_gradients_agree_with_pytorch(name):
    torch = pytest.importorskip("torch")
    assert_like_torch(getattr(F, name), getattr(torch, name), normal(3, 4))


@pytest.mark.parametrize("name", ALONG_ONE_AXIS)
@pytest.mark.parametrize("dim", [0, 1])
def test_extremes_along_an_axis_agree_with_pytorch(name, dim):
    torch = pytest.importorskip("torch")
    x = normal(3, 5)
    assert_like_torch(lambda x: ALONG_ONE_AXIS[name](x, dim).values, lambda x: getattr(torch, name)(x, dim).values, x)
    peer = getattr(torch, name)(torch.tensor(x), dim).indices
    assert np.array_equal(ALONG_ONE_AXIS[name](x, dim).indices.data, peer.numpy())


# --- laws


def test_the_gradient_of_a_variance_sums_to_zero():
    _, gx = pull(lambda x: F.var(x, 1), normal(3, 5), normal(3))
    assert np.max(np.abs(gx.sum(1))) < 1e-14


def test_a_variance_does_not_see_an_offset_and_squares_a_scale():
    x = normal(3, 50)
    assert_close(F.var(x + 7.0, 1).data, F.var(x, 1).data)
    assert_close(F.var(3.0 * x, 1).data, 9.0 * F.var(x, 1).data)


def test_the_gradient_of_logsumexp_is_softmax():
    x, gy = normal(3, 5), normal(3)
    _, gx = pull(lambda x: F.logsumexp(x, 1), x, gy)
    assert_close(gx, gy[:, None] * F.softmax(x, 1).data)


def test_equal_extremes_share_the_gradient_evenly():
    x = [[3.0, 1.0, 3.0], [2.0, 2.0, 2.0]]
    assert np.array_equal(pull(lambda x: F.amax(x, 1), x, [6.0, 9.0])[1], [[3, 0, 3], [3, 3, 3]])
    assert np.array_equal(pull(lambda x: F.amin(x, 1), x, [6.0, 9.0])[1], [[0, 6, 0], [3, 3, 3]])
    assert np.array_equal(pull(F.max, x, 6.0)[1], [[3, 0, 3], [0, 0, 0]])
    assert np.array_equal(pull(F.min, x, 6.0)[1], [[0, 6, 0], [0, 0, 0]])


def test_of_equal_extremes_along_an_axis_the_first_takes_the_gradient():
    x = [[3.0, 1.0, 3.0], [2.0, 2.0, 2.0]]
    assert np.array_equal(pull(lambda x: F.max(x, 1).values, x, [6.0, 9.0])[1], [[6, 0, 0], [9, 0, 0]])
    assert np.array_equal(pull(lambda x: F.min(x, 1).values, x, [6.0, 9.0])[1], [[0, 6, 0], [9, 0, 0]])


def test_logsumexp_neither_overflows_nor_underflows():
    x = [[1e4, 1e4, -1e4], [-1e4, -1e4, -1e4]]
    y, gx = pull(lambda x: F.logsumexp(x, 1), x, [2.0, 3.0])
    assert_close(y, [1e4 + math.log(2), -1e4 + math.log(3)])
    assert_close(gx, [[1, 1, 0], [1, 1, 1]])


def test_logsumexp_of_minus_infinities_is_minus_infinity_without_gradient():
    x = [[-math.inf, -math.inf], [-math.inf, 1.5], [0.0, 0.0]]
    y, gx = pull(lambda x: F.logsumexp(x, 1), x, [2.0, 3.0, 4.0])
    assert np.array_equal(y[:2], [-math.inf, 1.5])
    assert np.array_equal(gx, [[0, 0], [0, 3], [2, 2]])


def test_logsumexp_of_infinity_is_infinity():
    assert F.logsumexp(np.array([math.inf, 0.0])).item() == math.inf


def test_a_single_number_has_no_variance():
    with pytest.warns(RuntimeWarning, match="invalid value"):
        assert np.isnan(F.var(normal(3, 1), 1).data).all()
    assert np.array_equal(F.var(normal(3, 1), 1, correction=0).data, np.zeros(3))


def test_no_axes_are_all_axes_as_in_torch():
    x = normal(2, 3)
    assert F.sum(x, ()).shape == F.sum(x).shape == ()
    assert F.mean(x, [0, 1], keepdim=True).shape == (1, 1)


@pytest.mark.parametrize("name", [n for n in OVER_AXES if n not in ("var", "std")])
def test_a_0d_input_is_reduced_over_no_axes(name):
    y, gx = pull(OVER_AXES[name], 2.5, 3.0)
    assert (y.shape, gx.shape) == ((), ())
    assert y == (0 if name.startswith("var") else 2.5)
    assert gx == (0 if name.startswith("var") else 3.0)


# --- dtypes and devices


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [None, 1])
@pytest.mark.parametrize("name", OVER_AXES)
def test_float32_stays_float32(name, dim, keepdim):
    leaf = Tensor(normal(3, 4).astype(np.float32), requires_grad=True)
    y = OVER_AXES[name](leaf, dim, keepdim=keepdim)
    y.backward(normal(*y.shape).astype(np.float32))
    assert (y.dtype, leaf.grad.dtype) == (np.float32, np.float32)


def test_integers_are_counted_and_averaged():
    hits = np.array([True, False, True, True])
    assert (F.sum(hits).item(), F.sum(hits).dtype) == (3, np.int64)
    assert F.mean(hits).item() == 0.75
    assert F.amax(np.array([3, 5, 4])).item() == 5


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("name", [*OVER_AXES, *ALONG_ONE_AXIS])
def test_the_strict_device_gives_the_same_numbers(name, keepdim):
    def f(x):
        y = {**OVER_AXES, **ALONG_ONE_AXIS}[name](x, 1, keepdim=keepdim)
        return y.values if name in ALONG_ONE_AXIS else y

    x = normal(3, 4)
    gy = normal(3, 1) if keepdim else normal(3)
    y, gx = pull(f, x, gy)
    leaf = Tensor(STRICT.asarray(x), requires_grad=True)
    there = f(leaf)
    there.backward(STRICT.asarray(gy))
    assert there.device == "strict"
    assert np.array_equal(there.numpy(), y)
    assert np.array_equal(leaf.grad.get(), gx)


# --- requests that cannot be met


@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "amax", "amin", "logsumexp", "max", "argmin"])
def test_a_missing_axis_is_named(name):
    for dim in (2, -3):
        with pytest.raises(IndexError, match=rf"dim {dim} is out of range for an input of \(3, 4\), 2 axes"):
            getattr(F, name)(normal(3, 4), dim)


def test_an_axis_named_twice_is_refused():
    with pytest.raises(RequestError, match=r"sum: dim \(1, -1\) names an axis twice"):
        F.sum(normal(3, 4), (1, -1))


@pytest.mark.parametrize("name", ["amax", "amin", "logsumexp", "max", "argmax"])
def test_an_extreme_of_nothing_is_refused(name):
    with pytest.raises(RequestError, match=r"input is \(3, 0\), and no numbers along axes \(1,\) have no"):
        getattr(F, name)(np.ones((3, 0)), 1)


def test_a_sum_of_nothing_is_zero():
    assert np.array_equal(F.sum(np.ones((3, 0)), 1).data, np.zeros(3))


@pytest.mark.parametrize("name", ["max", "min"])
def test_two_tensors_are_sent_to_maximum_and_minimum(name):
    with pytest.raises(TypeError, match=f"for two tensors there is {name}imum"):
        getattr(F, name)(normal(3), normal(3))
    with pytest.raises(TypeError, match="dim is a tuple, but must be one axis"):
        getattr(F, name)(normal(3, 4), (0, 1))
