"""Clipping: the norm it returns, the gradients it leaves, and torch's answers for both."""

import math

import numpy as np
import pytest

from minires.engine import Tensor
from minires.errors import DivergedError, RequestError
from minires.optim import clip_grad_norm_, clip_grad_value_

rng = np.random.default_rng(11)
SHAPES = [(3, 4), (5,), (), (2, 1, 2)]


def parameters(scale=1.0, dtype=np.float64):
    made = [Tensor(np.zeros(shape, dtype)) for shape in SHAPES]
    for p in made:
        p.grad = np.asarray(scale * rng.standard_normal(p.shape), dtype)
    return [*made, Tensor(np.zeros(3))]  # the last has no gradient


def flat(ps):
    return np.concatenate([p.grad.reshape(-1) for p in ps if p.grad is not None])


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("scale", [0.01, 10.0])
def test_norm_and_clipped_gradients_are_those_of_torch(norm_type, scale):
    torch = pytest.importorskip("torch")
    ps = parameters(scale)
    peers = [torch.zeros(p.shape, dtype=torch.float64, requires_grad=True) for p in ps]
    for peer, p in zip(peers, ps, strict=True):
        peer.grad = None if p.grad is None else torch.tensor(p.grad)
    theirs = torch.nn.utils.clip_grad_norm_(peers, 1.5, norm_type)
    norm = clip_grad_norm_(ps, 1.5, norm_type)
    assert norm.item() == pytest.approx(theirs.item(), rel=1e-13)
    for p, peer in zip(ps[:-1], peers, strict=False):
        assert np.allclose(p.grad, peer.grad.numpy(), rtol=1e-13, atol=0)


@pytest.mark.parametrize("count", [1, 8, 9, 70])
@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
def test_the_norm_of_many_gradients_is_that_of_all_their_numbers(count, norm_type):
    ps = [Tensor(np.zeros(3)) for _ in range(count)]
    for p in ps:
        p.grad = rng.standard_normal(3)
    expected = np.linalg.norm(flat(ps), norm_type)
    assert clip_grad_norm_(ps, 1e3, norm_type).item() == pytest.approx(expected, rel=1e-13)


def test_a_clipped_gradient_keeps_its_direction_and_has_the_norm_asked_for():
    ps = parameters(10.0)
    before = flat(ps)
    norm = clip_grad_norm_(iter(ps), 2.0)
    assert norm.shape == ()
    assert norm.item() == pytest.approx(np.linalg.norm(before), rel=1e-14)
    assert np.allclose(flat(ps), before * (2.0 / norm.item()), rtol=1e-5)
    assert np.linalg.norm(flat(ps)) <= 2.0


def test_a_short_gradient_is_left_bit_for_bit():
    ps = parameters(0.01)
    before = flat(ps)
    clip_grad_norm_(ps, 5.0)
    assert np.array_equal(flat(ps), before)


def test_clipping_works_in_place_and_keeps_float32():
    ps = parameters(10.0, np.float32)
    arrays = [p.grad for p in ps]
    assert clip_grad_norm_(ps, 1.0).dtype == np.float32
    clip_grad_value_(ps, 0.01)
    assert all(p.grad is a for p, a in zip(ps, arrays, strict=True))
    assert all(p.grad.dtype == np.float32 for p in ps[:-1])


def test_values_are_brought_into_the_interval():
    ps = parameters(2.0)
    before = flat(ps)
    clip_grad_value_(ps, 0.5)
    assert np.array_equal(flat(ps), np.clip(before, -0.5, 0.5))


def test_one_tensor_stands_for_a_list_and_no_gradient_has_norm_zero():
    p = parameters(10.0)[0]
    clip_grad_norm_(p, 1.0)
    assert np.linalg.norm(p.grad) == pytest.approx(1.0, rel=1e-5)
    assert clip_grad_norm_([Tensor(np.zeros(3))], 1.0).item() == 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_norm_that_is_not_finite_is_an_error_on_request_and_touches_nothing(value):
    ps = parameters()
    ps[0].grad[0, 0] = value
    before = flat(ps)
    with pytest.raises(DivergedError, match=r"the gradient's norm is (nan|inf), so it cannot be clipped"):
        clip_grad_norm_(ps, 1.0, error_if_nonfinite=True)
    assert np.array_equal(flat(ps), before, equal_nan=True)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_bounds_must_be_positive(bad):
    with pytest.raises(RequestError, match="max_norm is"):
        clip_grad_norm_(parameters(), bad)
    with pytest.raises(RequestError, match="norm_type is"):
        clip_grad_norm_(parameters(), 1.0, bad)
    with pytest.raises(RequestError, match="clip_value is"):
        clip_grad_value_(parameters(), bad)
