"""Arithmetic under torch's names. Inputs broadcast; Python numbers keep the tensor's dtype."""

from __future__ import annotations

from typing import Any

from minires.engine import Tensor
from minires.ops.elementwise import (
    Abs,
    Add,
    Cast,
    Clip,
    Div,
    Exp,
    Log,
    Maximum,
    Minimum,
    Mul,
    Neg,
    Pow,
    Sqrt,
    Sub,
    Where,
)

__all__ = [
    "abs",
    "add",
    "cast",
    "clamp",
    "clip",
    "div",
    "exp",
    "log",
    "maximum",
    "minimum",
    "mul",
    "neg",
    "pow",
    "sqrt",
    "sub",
    "where",
]


def add(input: Any, other: Any) -> Tensor:
    """input + other."""
    return Add.apply(input, other)


def sub(input: Any, other: Any) -> Tensor:
    """input - other."""
    return Sub.apply(input, other)


def mul(input: Any, other: Any) -> Tensor:
    """input * other."""
    return Mul.apply(input, other)


def div(input: Any, other: Any) -> Tensor:
    """input / other."""
    return Div.apply(input, other)


def neg(input: Any) -> Tensor:
    """-input."""
    return Neg.apply(input)


def pow(input: Any, exponent: Any) -> Tensor:
    """input ** exponent."""
    return Pow.apply(input, exponent)


def exp(input: Any) -> Tensor:
    """e ** input."""
    return Exp.apply(input)


def log(input: Any) -> Tensor:
    """The natural logarithm."""
    return Log.apply(input)


def sqrt(input: Any) -> Tensor:
    """The square root."""
    return Sqrt.apply(input)


def abs(input: Any) -> Tensor:
    """The absolute value."""
    return Abs.apply(input)


def clamp(input: Any, min: float | None = None, max: float | None = None) -> Tensor:
    """input held between `min` and `max`, numbers or None. Raises ValueError when both are None."""
    if min is None and max is None:
        raise ValueError("clamp: at least one of min and max must be given")
    return Clip.apply(input, low=min, high=max)


clip = clamp


def maximum(input: Any, other: Any) -> Tensor:
    """The larger of two, element by element; ties share the gradient."""
    return Maximum.apply(input, other)


def minimum(input: Any, other: Any) -> Tensor:
    """The smaller of two, element by element; ties share the gradient."""
    return Minimum.apply(input, other)


def where(condition: Any, input: Any, other: Any) -> Tensor:
    """input where `condition` (bool), else other."""
    kind = getattr(condition, "dtype", None)
    if kind is None or kind.kind != "b":
        raise TypeError(f"where: condition is {kind or type(condition).__name__}, but must be a bool tensor or array")
    return Where.apply(condition, input, other)


def cast(input: Any, dtype: Any) -> Tensor:
    """The same values in another dtype; the gradient comes back in the input's."""
    return Cast.apply(input, dtype=dtype)
