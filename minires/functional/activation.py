"""Activations under the names, signatures and defaults of torch.nn.functional."""

from __future__ import annotations

from typing import Any

from minires.engine import Tensor
from minires.errors import RequestError
from minires.ops.activation import (
    Elu,
    Gelu,
    GeluTanh,
    Hardswish,
    Hardtanh,
    LeakyRelu,
    Relu,
    Sigmoid,
    Silu,
    Softplus,
    Tanh,
)

__all__ = [
    "elu",
    "gelu",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "relu",
    "relu6",
    "sigmoid",
    "silu",
    "softplus",
    "tanh",
]


def relu(input: Any, inplace: bool = False) -> Tensor:
    """max(input, 0). Raises TypeError for inplace=True."""
    _out_of_place("relu", inplace)
    return Relu.apply(input)


def relu6(input: Any, inplace: bool = False) -> Tensor:
    """min(max(input, 0), 6). Raises TypeError for inplace=True."""
    _out_of_place("relu6", inplace)
    return Hardtanh.apply(input, low=0.0, high=6.0)


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """min(max(input, min_val), max_val); unlike `clamp`, its slope at the bounds is 0.

    Raises RequestError when min_val is above max_val, TypeError for inplace=True.
    """
    _out_of_place("hardtanh", inplace)
    if min_val > max_val:
        raise RequestError(f"hardtanh: min_val {min_val} is above max_val {max_val}; exchange them")
    return Hardtanh.apply(input, low=min_val, high=max_val)


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """input where it is positive, else negative_slope times input. Raises TypeError for inplace=True."""
    _out_of_place("leaky_relu", inplace)
    return LeakyRelu.apply(input, slope=negative_slope)


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """input where it is positive, else alpha (exp(input) - 1). Raises TypeError for inplace=True."""
    _out_of_place("elu", inplace)
    return Elu.apply(input, alpha=alpha)


def gelu(input: Any, approximate: str = "none") -> Tensor:
    """input times the standard normal distribution function of input; approximate="tanh" for its usual approximation.

    Raises RequestError for another value of approximate.
    """
    if approximate not in ("none", "tanh"):
        raise RequestError(f"gelu: approximate is {approximate!r}, but must be 'none' or 'tanh'")
    return (Gelu if approximate == "none" else GeluTanh).apply(input)


def silu(input: Any, inplace: bool = False) -> Tensor:
    """input times sigmoid(input), also called swish. Raises TypeError for inplace=True."""
    _out_of_place("silu", inplace)
    return Silu.apply(input)


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta input)) / beta, and input itself where beta input > threshold.

    Raises RequestError for beta = 0.
    """
    if beta == 0:
        raise RequestError("softplus: beta is 0, by which the formula divides; use a beta other than 0")
    return Softplus.apply(input, beta=beta, threshold=threshold)


def hardswish(input: Any, inplace: bool = False) -> Tensor:
    """input times relu6(input + 3) / 6. Raises TypeError for inplace=True."""
    _out_of_place("hardswish", inplace)
    return Hardswish.apply(input)


def tanh(input: Any) -> Tensor:
    """The hyperbolic tangent of input."""
    return Tanh.apply(input)


def sigmoid(input: Any) -> Tensor:
    """1 / (1 + exp(-input))."""
    return Sigmoid.apply(input)


def _out_of_place(name: str, inplace: bool) -> None:
    if inplace:
        raise TypeError(
            f"{name}: minires computes out of place, so that backward sees what forward saw; drop inplace=True"
        )
