"""Activations: the slope at each point, at the kinks, and far out where a careless formula overflows."""

import numpy as np
import pytest

from minires import functional as F
from minires.check import gradcheck
from minires.engine import Tensor
from minires.errors import RequestError
from tests.parity import assert_like_torch, spread_out
from tests.strict_device import STRICT

rng = np.random.default_rng(5)

SMOOTH = {
    "tanh": F.tanh,
    "sigmoid": F.sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "softplus, steep": lambda x: F.softplus(x, beta=3.0, threshold=2.0),
    "gelu, tanh": lambda x: F.gelu(x, approximate="tanh"),
    "elu": lambda x: F.elu(x, alpha=1.3),
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "hardswish": F.hardswish,
    "hardtanh": lambda x: F.hardtanh(x, -2.0, 5.0),
}


def torch_twin(torch, name):
    nn = torch.nn.functional
    return {
        "softplus, steep": lambda x: nn.softplus(x, beta=3.0, threshold=2.0),
        "gelu, tanh": lambda x: nn.gelu(x, approximate="tanh"),
        "gelu": nn.gelu,
        "elu": lambda x: nn.elu(x, alpha=1.3),
        "leaky_relu": lambda x: nn.leaky_relu(x, 0.2),
        "hardtanh": lambda x: nn.hardtanh(x, -2.0, 5.0),
    }.get(name) or getattr(nn, name)


def draw(*shape):
    """Between the kinks at -3, 0, 2/3, 3 and 6, and at least 0.05 away from each."""
    cells = np.array([[-5.0, -3.05], [-2.95, -0.05], [0.05, 0.6], [0.72, 2.95], [3.05, 5.95], [6.05, 9.0]])
    low, high = cells[rng.integers(0, len(cells), shape)].T
    return rng.uniform(low.T, high.T)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("shape", [(1,), (7, 9), (2, 1, 3)])
def test_gradient_equals_the_complex_step(name, shape):
    gradcheck(SMOOTH[name], draw(*shape), may_vanish=True)


def test_gelu_with_erf_agrees_with_central_differences():
    gradcheck(F.gelu, draw(6, 7), method="central")


@pytest.mark.parametrize("name", [*SMOOTH, "gelu"])
def test_values_and_gradients_agree_with_pytorch(name):
    torch = pytest.importorskip("torch")
    assert_like_torch(SMOOTH.get(name, F.gelu), torch_twin(torch, name), draw(6, 7))


@pytest.mark.parametrize("name", [*SMOOTH, "gelu"])
def test_float32_stays_float32(name):
    x = Tensor(draw(3, 4).astype(np.float32), requires_grad=True)
    y = SMOOTH.get(name, F.gelu)(x)
    y.backward(rng.standard_normal((3, 4)).astype(np.float32))
    assert (y.dtype, x.grad.dtype) == (np.float32, np.float32)


@pytest.mark.parametrize("name", [*SMOOTH, "gelu"])
def test_nothing_overflows_far_out(name):
    x = Tensor(np.array([-1e4, -800.0, 800.0, 1e4]), requires_grad=True)
    y = SMOOTH.get(name, F.gelu)(x)
    y.backward(rng.standard_normal(4))
    assert np.isfinite(y.data).all()
    assert np.isfinite(x.grad).all()


@pytest.mark.parametrize(
    ("f", "at", "slope"),
    [
        (F.relu, 0.0, 0.0),
        (F.relu6, 0.0, 0.0),
        (F.relu6, 6.0, 0.0),
        (F.hardtanh, -1.0, 0.0),
        (lambda x: F.leaky_relu(x, 0.2), 0.0, 0.2),
        (lambda x: F.elu(x, 1.3), 0.0, 1.3),
        (F.hardswish, -3.0, 0.0),
        (F.hardswish, 3.0, 1.0),
    ],
)
def test_the_subgradient_chosen_at_a_kink_is_the_documented_one(f, at, slope):
    x = Tensor(np.array([at]), requires_grad=True)
    f(x).backward(np.array([2.5]))
    assert np.allclose(x.grad, 2.5 * slope, rtol=1e-15)


def test_sigmoid_is_one_minus_its_mirror_image():
    x = draw(50)
    assert np.allclose(F.sigmoid(x).data + F.sigmoid(-x).data, 1, rtol=1e-15)


def test_gelu_refuses_an_unknown_approximation():
    with pytest.raises(ValueError, match="approximate is 'fast', but must be 'none' or 'tanh'"):
        F.gelu(draw(3), approximate="fast")


@pytest.mark.parametrize("name", [*SMOOTH, "gelu"])
def test_the_slope_at_each_kink_is_pytorchs(name):
    torch = pytest.importorskip("torch")
    at = np.array([-3.0, -2.0, 0.0, 2.0 / 3.0, 3.0, 5.0, 6.0])
    assert_like_torch(SMOOTH.get(name, F.gelu), torch_twin(torch, name), at)


@pytest.mark.parametrize("name", [*SMOOTH, "gelu"])
def test_non_contiguous_inputs_give_the_same_gradients(name):
    gradcheck(SMOOTH.get(name, F.gelu), spread_out(4, 5), method="central" if name == "gelu" else "complex")


@pytest.mark.parametrize("name", [*SMOOTH, "gelu"])
def test_a_nan_is_not_lost(name):
    y = SMOOTH.get(name, F.gelu)(np.array([np.nan, 1.0]))
    assert np.array_equal(np.isnan(y.data), [True, False])


def test_relu_of_minus_infinity_is_zero():
    assert np.array_equal(F.relu(np.array([-np.inf, np.inf])).data, [0, np.inf])


@pytest.mark.parametrize("name", [*SMOOTH, "gelu"])
def test_the_strict_device_gives_the_same_numbers(name):
    f, x, gy = SMOOTH.get(name, F.gelu), draw(3, 4), rng.standard_normal((3, 4))
    here, there = Tensor(x, requires_grad=True), Tensor(STRICT.asarray(x), requires_grad=True)
    y, peer = f(here), f(there)
    y.backward(gy)
    peer.backward(STRICT.asarray(gy))
    assert np.array_equal(y.data, peer.numpy())
    assert np.array_equal(here.grad, there.grad.get())


@pytest.mark.parametrize("f", [F.relu, F.relu6, F.hardtanh, F.leaky_relu, F.elu, F.silu, F.hardswish])
def test_computing_in_place_is_refused(f):
    with pytest.raises(TypeError, match=f"{f.__name__}: minires computes out of place"):
        f(draw(3), inplace=True)


def test_bounds_that_cross_and_a_beta_of_zero_are_refused():
    with pytest.raises(RequestError, match=r"min_val 2\.0 is above max_val 1\.0"):
        F.hardtanh(draw(3), 2.0, 1.0)
    with pytest.raises(RequestError, match="beta is 0"):
        F.softplus(draw(3), beta=0)
