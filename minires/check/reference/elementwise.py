"""Arithmetic index by index, broadcasting included: an axis of length 1, or one that is absent, stands still."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minires.backend import Array


def each(f: Callable[..., Any], *xs: Any) -> Array:
    """y_i = f(x_i, ...) for arrays that broadcast to y, or numbers."""
    shape = common([np.shape(x) for x in xs])
    y = np.empty(shape)
    for i in np.ndindex(*shape):
        y[i] = f(*(entry(x, i) for x in xs))
    return y


def entry(x: Any, i: Sequence[int]) -> Any:
    """The entry of x that is repeated at index i."""
    shape = np.shape(x)
    last = i[len(i) - len(shape) :]
    return x if not shape else x[*(k if n > 1 else 0 for k, n in zip(last, shape, strict=True))]


def common(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape that all broadcast to: on each axis, counted from the last, the length that is not 1."""
    found = []
    for axis in range(-max(len(s) for s in shapes), 0):
        lengths = {s[axis] for s in shapes if len(s) >= -axis} - {1}
        found.append(lengths.pop() if lengths else 1)
    return tuple(found)


def add(x: Any, w: Any) -> Array:
    """y_i = x_i + w_i."""
    return each(lambda a, b: a + b, x, w)


def sub(x: Any, w: Any) -> Array:
    """y_i = x_i - w_i."""
    return each(lambda a, b: a - b, x, w)


def mul(x: Any, w: Any) -> Array:
    """y_i = x_i w_i."""
    return each(lambda a, b: a * b, x, w)


def div(x: Any, w: Any) -> Array:
    """y_i = x_i / w_i."""
    return each(lambda a, b: a / b, x, w)


def neg(x: Array) -> Array:
    """y_i = -x_i."""
    return each(lambda a: -a, x)


def pow(x: Any, w: Any) -> Array:
    """y_i = x_i^w_i: a product of w_i factors, or of -w_i inverses, for an integer w_i, else exp(w_i log x_i)."""

    def power(a: float, b: float) -> float:
        if b != int(b):
            return math.exp(b * math.log(a))
        return math.prod([a if b > 0 else 1 / a] * round(math.fabs(b)))

    return each(power, x, w)


def exp(x: Array) -> Array:
    """y_i = e^x_i."""
    return each(math.exp, x)


def log(x: Array) -> Array:
    """y_i = log x_i."""
    return each(math.log, x)


def sqrt(x: Array) -> Array:
    """y_i = the root of x_i."""
    return each(math.sqrt, x)


def abs(x: Array) -> Array:
    """y_i = x_i or -x_i, whichever is not negative."""
    return each(lambda a: a if a > 0 else -a, x)


def clamp(x: Array, low: float, high: float) -> Array:
    """y_i = x_i, but at least `low`, and then at most `high`."""
    return each(lambda a: min(max(a, low), high), x)


def maximum(x: Any, w: Any) -> Array:
    """y_i = x_i or w_i, whichever is larger."""
    return each(lambda a, b: a if a > b else b, x, w)


def minimum(x: Any, w: Any) -> Array:
    """y_i = x_i or w_i, whichever is smaller."""
    return each(lambda a, b: a if a < b else b, x, w)


def where(c: Any, x: Any, w: Any) -> Array:
    """y_i = x_i where c_i holds, else w_i."""
    return each(lambda taken, a, b: a if taken else b, c, x, w)


def cast(x: Array) -> Array:
    """y_i = x_i, in a dtype that holds it exactly."""
    return each(lambda a: a, x)
