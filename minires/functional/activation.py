"""Activations under the names and defaults of torch.nn.functional."""

from __future__ import annotations

from typing import Any

from minires.engine import Tensor
from minires.errors import RequestError
from minires.functional.elementwise import clamp
from minires.ops.activation import (
    Elu,
    Gelu,
    GeluTanh,
    Hardswish,
    LeakyRelu,
    Relu,
    Sigmoid,
    Silu,
    Softplus,
    Tanh,
)

__all__ = ["elu", "gelu", "hardswish", "leaky_relu", "relu", "relu6", "sigmoid", "silu", "softplus", "tanh"]


def relu(input: Any) -> Tensor:
    """max(input, 0)."""
    return Relu.apply(input)


def relu6(input: Any) -> Tensor:
    """input held between 0 and 6."""
    return clamp(input, 0.0, 6.0)


def leaky_relu(input: Any, negative_slope: float = 0.01) -> Tensor:
    """input where positive, else negative_slope * input."""
    return LeakyRelu.apply(input, slope=negative_slope)


def elu(input: Any, alpha: float = 1.0) -> Tensor:
    """input where positive, else alpha (exp(input) - 1)."""
    return Elu.apply(input, alpha=alpha)


def gelu(input: Any, approximate: str = "none") -> Tensor:
    """input times the standard normal distribution function at input; approximate: "none" (erf) or "tanh"."""
    if approximate not in ("none", "tanh"):
        raise RequestError(f"gelu: approximate is {approximate!r}, but must be 'none' or 'tanh'")
    return (Gelu if approximate == "none" else GeluTanh).apply(input)


def silu(input: Any) -> Tensor:
    """input * sigmoid(input)."""
    return Silu.apply(input)


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta input)) / beta, and input itself where beta * input > threshold."""
    return Softplus.apply(input, beta=beta, threshold=threshold)


def hardswish(input: Any) -> Tensor:
    """input * clip(input + 3, 0, 6) / 6."""
    return Hardswish.apply(input)


def tanh(input: Any) -> Tensor:
    """The hyperbolic tangent."""
    return Tanh.apply(input)


def sigmoid(input: Any) -> Tensor:
    """1 / (1 + exp(-input)), without overflow."""
    return Sigmoid.apply(input)
