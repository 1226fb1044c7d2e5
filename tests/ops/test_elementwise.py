"""Arithmetic: every gradient against the complex step, PyTorch's conventions at the kinks, and the dtype rules."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.check import gradcheck
from minires.engine import Tensor
from minires.errors import LibraryError, RequestError
from tests.parity import assert_like_torch, spread_out
from tests.strict_device import STRICT

rng = np.random.default_rng(11)


def normal(*shape):
    return rng.standard_normal(shape)


def positive(*shape):
    return rng.uniform(0.3, 2.0, shape)


def away_from_zero(*shape):
    x = rng.uniform(0.3, 2.0, shape)
    return x * rng.choice([-1.0, 1.0], shape)


UNARY = {
    "neg": (F.neg, normal, lambda t: lambda x: -x),
    "exp": (F.exp, normal, lambda t: t.exp),
    "log": (F.log, positive, lambda t: t.log),
    "sqrt": (F.sqrt, positive, lambda t: t.sqrt),
    "abs": (F.abs, away_from_zero, lambda t: t.abs),
    "square": (lambda x: F.pow(x, 2), away_from_zero, lambda t: lambda x: x**2),
    "cube": (lambda x: F.pow(x, 3.0), away_from_zero, lambda t: lambda x: x**3),
    "inverse": (lambda x: F.pow(x, -1.5), positive, lambda t: lambda x: x**-1.5),
    "power zero": (lambda x: F.add(F.pow(x, 0), x), away_from_zero, lambda t: lambda x: x**0 + x),
    "base two": (lambda x: F.pow(2.0, x), normal, lambda t: lambda x: 2.0**x),
    "clamp": (lambda x: F.clamp(x, -0.7, 0.8), normal, lambda t: lambda x: x.clamp(-0.7, 0.8)),
    "clamp above": (lambda x: F.clip(x, max=0.4), normal, lambda t: lambda x: x.clamp(max=0.4)),
    "clamp below": (lambda x: F.clamp(x, min=-0.4), normal, lambda t: lambda x: x.clamp(min=-0.4)),
    "times a number": (lambda x: F.mul(2.5, x), normal, lambda t: lambda x: 2.5 * x),
    "a number less x": (lambda x: F.sub(2.5, x), normal, lambda t: lambda x: 2.5 - x),
    "a number over x": (lambda x: F.div(2.5, x), away_from_zero, lambda t: lambda x: 2.5 / x),
    "at least a number": (lambda x: F.maximum(x, 0.25), normal, lambda t: lambda x: x.clamp(min=0.25)),
}

BINARY = {
    "add": (F.add, normal, lambda t: t.add),
    "sub": (F.sub, normal, lambda t: t.sub),
    "mul": (F.mul, normal, lambda t: t.mul),
    "div": (F.div, away_from_zero, lambda t: t.div),
    "pow": (F.pow, positive, lambda t: t.pow),
    "maximum": (F.maximum, normal, lambda t: t.maximum),
    "minimum": (F.minimum, normal, lambda t: t.minimum),
}

SHAPES = [((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 4)), ((), (2, 3)), ((2, 1, 3), (5, 1)), ((1,), (1, 1))]


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (2, 1, 3)])
def test_gradient_equals_the_complex_step(name, shape):
    f, draw, _ = UNARY[name]
    gradcheck(f, draw(*shape), may_vanish=name.startswith("clamp") or "least" in name)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("shapes", SHAPES)
def test_both_gradients_equal_the_complex_step_under_broadcasting(name, shapes):
    f, draw, _ = BINARY[name]
    gradcheck(f, draw(*shapes[0]), draw(*shapes[1]), may_vanish=name.startswith("m"))


@pytest.mark.parametrize("name", [n for n in UNARY if n != "power zero"])
def test_one_argument_agrees_with_pytorch(name):
    torch = pytest.importorskip("torch")
    f, draw, peer = UNARY[name]
    assert_like_torch(f, peer(torch), draw(3, 4))


@pytest.mark.parametrize("name", BINARY)
def test_two_arguments_agree_with_pytorch(name):
    torch = pytest.importorskip("torch")
    f, draw, peer = BINARY[name]
    assert_like_torch(f, peer(torch), draw(3, 1, 4), draw(2, 4))


@given(st.lists(st.integers(1, 3), max_size=3), st.sampled_from(sorted(BINARY)), st.data())
@settings(max_examples=60, deadline=None)
def test_any_broadcastable_pair_has_the_right_gradients(shape, name, data):
    other = [n if data.draw(st.booleans()) else 1 for n in shape][data.draw(st.integers(0, len(shape))) :]
    f, draw, _ = BINARY[name]
    gradcheck(f, draw(*shape), draw(*other), may_vanish=True)


def test_non_contiguous_inputs_give_the_same_gradients():
    gradcheck(F.mul, spread_out(3, 4), spread_out(4))
    gradcheck(F.exp, spread_out(2, 3, 4))


def test_where_sends_each_gradient_to_the_chosen_side_only():
    c = rng.random((3, 4)) < 0.5
    gradcheck(lambda x, w: F.where(c, x, w), normal(3, 4), normal(4))
    x, w = Tensor(normal(3, 4), requires_grad=True), Tensor(normal(3, 4), requires_grad=True)
    g = normal(3, 4)
    F.where(c, x, w).backward(g)
    assert np.array_equal(x.grad, np.where(c, g, 0))
    assert np.array_equal(w.grad, np.where(c, 0, g))


def test_where_takes_python_numbers_and_a_python_condition():
    gradcheck(lambda x: F.where(x.data.real > 0, x, 0.0), normal(3, 4))
    assert np.array_equal(F.where(True, normal(3) * 0, 1.0).data, np.zeros(3))


def test_where_refuses_a_condition_that_is_not_bool():
    with pytest.raises(TypeError, match="condition is int64"):
        F.where(np.arange(3), normal(3), normal(3))


# --- kinks


def slope(f, x, g):
    t = Tensor(np.array(x), requires_grad=True)
    f(t).backward(np.array(g))
    return t.grad


def test_abs_has_slope_zero_at_zero():
    assert np.array_equal(slope(F.abs, [0.0, -0.0, 2.0, -2.0], [3.0, 3.0, 5.0, 7.0]), [0, 0, 5, -7])


def test_clamp_passes_the_gradient_on_its_bounds():
    assert np.array_equal(
        slope(lambda x: F.clamp(x, -1, 1), [-1.0, 1.0, 1.1, -1.1], [2.0, 3.0, 4.0, 5.0]), [2, 3, 0, 0]
    )


@pytest.mark.parametrize("f", [F.maximum, F.minimum])
def test_a_tie_is_split_in_half(f):
    x, w = Tensor(np.ones(2), requires_grad=True), Tensor(np.ones(2), requires_grad=True)
    f(x, w).backward(np.array([2.0, 5.0]))
    assert np.array_equal(x.grad, [1, 2.5])
    assert np.array_equal(w.grad, [1, 2.5])


def test_the_gradient_of_a_power_is_finite_at_base_zero():
    assert np.array_equal(slope(lambda x: F.pow(x, 2), [0.0], [3.0]), [0])
    assert np.array_equal(slope(lambda x: F.pow(x, 1), [0.0], [3.0]), [3])
    assert np.array_equal(slope(lambda x: F.pow(x, 0), [0.0], [3.0]), [0])
    w = Tensor(np.array([2.0, 0.0]), requires_grad=True)
    F.pow(np.zeros(2), w).backward(np.array([3.0, 3.0]))
    assert np.array_equal(w.grad, [0, 0])


def test_a_power_of_base_zero_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    x, w = np.array([0.0, 0.0, 0.0, 2.0, -2.0]), np.array([0.0, 1.0, 2.5, 0.0, 3.0])
    assert_like_torch(lambda x: F.pow(x, w), lambda x: x ** torch.tensor(w), x)
    assert_like_torch(lambda w: F.pow(x[:4], w), lambda w: torch.tensor(x[:4]) ** w, w[:4])


@pytest.mark.parametrize(("name", "at"), [("sqrt", 0.0), ("log", 0.0)])
def test_an_infinite_slope_is_infinite(name, at):
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert slope(getattr(F, name), [at], [3.0]) == [np.inf]


def test_a_nan_is_not_lost():
    x = np.array([np.nan, 1.0])
    for y in (F.maximum(x, 0.0), F.minimum(0.0, x), F.clamp(x, -2, 2), F.abs(x)):
        assert np.array_equal(np.isnan(y.data), [True, False])


def test_clamp_with_crossed_bounds_gives_the_upper_one_as_in_torch():
    assert np.array_equal(F.clamp(np.array([-5.0, 1.5, 5.0]), 2, 1).data, [1, 1, 1])


# --- dtypes


@pytest.mark.parametrize("name", UNARY)
def test_float32_stays_float32(name):
    f, draw, _ = UNARY[name]
    x = Tensor(draw(3, 4).astype(np.float32), requires_grad=True)
    y = f(x)
    y.backward(normal(3, 4).astype(np.float32))
    assert (y.dtype, x.grad.dtype) == (np.float32, np.float32)


@pytest.mark.parametrize("name", BINARY)
def test_float32_with_float32_stays_float32(name):
    f, draw, _ = BINARY[name]
    x, w = (Tensor(draw(3).astype(np.float32), requires_grad=True) for _ in range(2))
    y = f(x, w)
    y.backward(normal(3).astype(np.float32))
    assert (y.dtype, x.grad.dtype, w.grad.dtype) == (np.float32,) * 3


def test_cast_returns_the_gradient_in_the_inputs_dtype():
    x = Tensor(normal(3).astype(np.float32), requires_grad=True)
    y = F.cast(x, np.float64)
    g = normal(3)
    y.backward(g)
    assert y.dtype == np.float64
    assert x.grad.dtype == np.float32
    assert np.array_equal(x.grad, g.astype(np.float32))


def test_a_product_saves_only_what_its_gradients_need():
    x, w = Tensor(normal(3), requires_grad=True), Tensor(normal(3))
    saved = vars(F.mul(x, w).op)
    assert saved["w"] is w.data
    assert saved["x"] is None


def test_mixed_dtypes_follow_numpy():
    ints, single, double = np.arange(3), normal(3).astype(np.float32), normal(3)
    assert F.add(ints, 1).dtype == np.int64
    assert F.div(ints, 2).dtype == np.float64
    assert F.mul(single, double).dtype == np.float64
    x = Tensor(single, requires_grad=True)
    F.mul(x, double).backward(normal(3))
    assert x.grad.dtype == np.float32


# --- devices


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_the_strict_device_gives_the_same_numbers(name):
    f, draw, _ = (UNARY | BINARY)[name]
    arrays = [draw(3, 4), draw(4)][: 1 if name in UNARY else 2]
    gy = normal(3, 4)
    here = [Tensor(a, requires_grad=True) for a in arrays]
    there = [Tensor(STRICT.asarray(a), requires_grad=True) for a in arrays]
    y, peer = f(*here), f(*there)
    y.backward(gy)
    peer.backward(STRICT.asarray(gy))
    assert np.array_equal(y.data, peer.numpy())
    for a, b in zip(here, there, strict=True):
        assert np.array_equal(a.grad, b.grad.get())


def test_where_and_cast_run_on_the_strict_device():
    x = Tensor(STRICT.asarray(normal(3, 4)), requires_grad=True)
    y = F.cast(F.where(x.data > 0, x, 0.0), "float32")
    y.backward(STRICT.asarray(normal(3, 4).astype(np.float32)))
    assert (y.device, y.dtype, x.grad.dtype) == ("strict", np.float32, np.float64)


# --- requests that cannot be met


@pytest.mark.parametrize("name", BINARY)
def test_shapes_that_do_not_broadcast_are_named(name):
    with pytest.raises(RequestError, match=rf"{name}: the shapes \(2, 3\) and \(4,\) do not broadcast"):
        BINARY[name][0](positive(2, 3), positive(4))


def test_another_error_of_numpy_is_passed_on():
    with pytest.raises(ValueError, match="negative integer powers"):
        F.pow(np.arange(3), -1)


def test_clamp_needs_a_bound_and_takes_numbers_only():
    with pytest.raises(RequestError, match="neither min nor max"):
        F.clamp(normal(3))
    with pytest.raises(TypeError, match="max is a ndarray, but must be a number; use maximum or minimum"):
        F.clamp(normal(3), max=normal(3))


def test_a_list_is_refused():
    with pytest.raises(LibraryError, match="input 1 is a list, not a Tensor or an array"):
        F.add(normal(3), [1.0, 2.0, 3.0])
