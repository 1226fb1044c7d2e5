"""Arithmetic under torch's names. Operands are Tensors, arrays or Python numbers, and broadcast."""

from __future__ import annotations

import math
from typing import Any

from minires import backend
from minires.engine import Function, Tensor
from minires.errors import RequestError
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
    """input + other. Raises RequestError when the shapes do not broadcast."""
    return _broadcast("add", Add, input, other)


def sub(input: Any, other: Any) -> Tensor:
    """input - other. Raises RequestError when the shapes do not broadcast."""
    return _broadcast("sub", Sub, input, other)


def mul(input: Any, other: Any) -> Tensor:
    """input times other, element by element. Raises RequestError when the shapes do not broadcast."""
    return _broadcast("mul", Mul, input, other)


def div(input: Any, other: Any) -> Tensor:
    """input / other; of integers too, a float. Raises RequestError when the shapes do not broadcast."""
    return _broadcast("div", Div, input, other)


def neg(input: Any) -> Tensor:
    """-input."""
    return Neg.apply(input)


def pow(input: Any, exponent: Any) -> Tensor:
    """input to the power of exponent; either may be a number. Raises RequestError when the shapes do not broadcast."""
    return _broadcast("pow", Pow, input, exponent)


def exp(input: Any) -> Tensor:
    """e to the power of input."""
    return Exp.apply(input)


def log(input: Any) -> Tensor:
    """The natural logarithm of input."""
    return Log.apply(input)


def sqrt(input: Any) -> Tensor:
    """The square root of input. Its slope at 0 is infinite."""
    return Sqrt.apply(input)


def abs(input: Any) -> Tensor:
    """The absolute value of input. Its slope at 0 is taken as 0."""
    return Abs.apply(input)


def clamp(input: Any, min: float | None = None, max: float | None = None) -> Tensor:
    """input, held between the numbers min and max; None means no bound on that side.

    The gradient passes where min <= input <= max. Raises RequestError without any bound, and TypeError for bounds that
    are tensors (`maximum` and `minimum` take those).
    """
    if min is None and max is None:
        raise RequestError("clamp: neither min nor max is given; give at least one")
    for name, bound in (("min", min), ("max", max)):
        if bound is not None and not isinstance(bound, (int, float)):
            raise TypeError(f"clamp: {name} is a {type(bound).__name__}, but must be a number; use maximum or minimum")
    return Clip.apply(input, low=-math.inf if min is None else min, high=math.inf if max is None else max)


clip = clamp


def maximum(input: Any, other: Any) -> Tensor:
    """The larger of input and other; where they are equal, each gets half the gradient."""
    return _broadcast("maximum", Maximum, input, other)


def minimum(input: Any, other: Any) -> Tensor:
    """The smaller of input and other; where they are equal, each gets half the gradient."""
    return _broadcast("minimum", Minimum, input, other)


def where(condition: Any, input: Any, other: Any) -> Tensor:
    """input where condition holds, else other.

    condition    of booleans; it broadcasts with the other two, and carries no gradient

    Raises TypeError for a condition of another dtype, RequestError when the shapes do not broadcast.
    """
    c = condition.data if isinstance(condition, Tensor) else condition
    c = c if hasattr(c, "dtype") else backend.find([_data(input), _data(other)], "where").asarray(c)
    if c.dtype.kind != "b":
        raise TypeError(f"where: condition is {c.dtype}, but must be of booleans, as in x > 0")
    return _broadcast("where", Where, c, input, other)


def cast(input: Any, dtype: Any) -> Tensor:
    """input in another dtype, and its gradient back in input's own; `Tensor.to(dtype)` in torch.

    A dtype of integers or booleans ends the gradient.
    """
    return Cast.apply(input, dtype=dtype)


def _broadcast(name: str, op: type[Function], *operands: Any) -> Tensor:
    try:
        return op.apply(*operands)
    except ValueError as error:
        shapes = [tuple(x.shape) for x in operands if hasattr(x, "shape")]
        if _fit_together(shapes):
            raise
        listed = " and ".join(map(str, shapes))
        raise RequestError(
            f"{name}: the shapes {listed} do not broadcast: counted from the last, axes must be equal or 1"
        ) from error


def _fit_together(shapes: list[tuple[int, ...]]) -> bool:
    for axis in range(1, 1 + max(map(len, shapes), default=0)):
        if len({s[-axis] for s in shapes if len(s) >= axis} - {1}) > 1:
            return False
    return True


def _data(x: Any) -> Any:
    return x.data if isinstance(x, Tensor) else x
