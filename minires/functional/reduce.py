"""Reductions under torch's names: `dim` is an axis, a tuple of axes, or None for all of them.

The axes reduced over disappear, or stay with length 1 where keepdim is True. Each function raises IndexError for an
axis that input has not, RequestError for one named twice, and for an extreme of no numbers at all.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

from minires import backend
from minires.engine import Tensor
from minires.errors import RequestError
from minires.functional.elementwise import sqrt
from minires.ops.reduce import Amax, Amin, Logsumexp, Max, Mean, Min, Sum, Var, kept

__all__ = ["amax", "amin", "argmax", "argmin", "logsumexp", "max", "mean", "min", "std", "sum", "var"]

Dims = int | Sequence[int] | None


class Extreme(NamedTuple):
    """What `max` and `min` along an axis return.

    Attributes
        values     the extreme values; the gradient goes to the element that `indices` names
        indices    where they stand along the axis (int64, no gradient)
    """

    values: Tensor
    indices: Tensor


def sum(input: Any, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The sum over `dim`. Integers and booleans add up to int64."""
    return Sum.apply(input, axes=_axes("sum", input, dim), keepdim=keepdim)


def mean(input: Any, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The mean over `dim`. Integers and booleans have a float64 mean, where torch refuses them."""
    return Mean.apply(input, axes=_axes("mean", input, dim), keepdim=keepdim)


def var(input: Any, dim: Dims = None, *, correction: float = 1, keepdim: bool = False) -> Tensor:
    """The variance over `dim`: squared deviations from the mean, over n - correction.

    correction    1 for a sample's estimate of its population's variance; 0 for the variance of the numbers themselves
    """
    return Var.apply(input, axes=_axes("var", input, dim), keepdim=keepdim, correction=correction)


def std(input: Any, dim: Dims = None, *, correction: float = 1, keepdim: bool = False) -> Tensor:
    """The square root of `var`. Its slope is infinite where all numbers are equal."""
    return sqrt(var(input, dim, correction=correction, keepdim=keepdim))


def amax(input: Any, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The largest value over `dim`; equal largest values share the gradient evenly."""
    return Amax.apply(input, axes=_axes("amax", input, dim, nonempty=True), keepdim=keepdim)


def amin(input: Any, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """The smallest value over `dim`; equal smallest values share the gradient evenly."""
    return Amin.apply(input, axes=_axes("amin", input, dim, nonempty=True), keepdim=keepdim)


def max(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """Without dim, `amax(input)`. With it, (values, indices) along that axis.

    The gradient of values goes to the chosen element only, the first of equal ones.
    """
    if dim is None:
        return amax(input, None, keepdim)
    return Extreme(*Max.apply(input, axis=_axis("max", input, dim), keepdim=keepdim))


def min(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """Without dim, `amin(input)`. With it, (values, indices) along that axis.

    The gradient of values goes to the chosen element only, the first of equal ones.
    """
    if dim is None:
        return amin(input, None, keepdim)
    return Extreme(*Min.apply(input, axis=_axis("min", input, dim), keepdim=keepdim))


def argmax(input: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the largest value stands along `dim`, or in the flattened input: the first of equal ones, no gradient."""
    return _where_extreme("argmax", input, dim, keepdim)


def argmin(input: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Where the smallest value stands along `dim`, or in the flattened input: the first of equal ones, no gradient."""
    return _where_extreme("argmin", input, dim, keepdim)


def logsumexp(input: Any, dim: Dims = None, keepdim: bool = False) -> Tensor:
    """log(sum(exp(input))) over `dim`, without overflow; -inf where all of input is -inf, with a gradient of 0."""
    return Logsumexp.apply(input, axes=_axes("logsumexp", input, dim, nonempty=True), keepdim=keepdim)


def _where_extreme(name: str, input: Any, dim: int | None, keepdim: bool) -> Tensor:
    x = input.data if isinstance(input, Tensor) else input
    axes = _axes(name, x, None) if dim is None else (_axis(name, x, dim),)
    found = getattr(x, name)(axis=None if dim is None else axes[0])
    return Tensor(backend.find((x,), name).asarray(found).reshape(kept(x.shape, axes, keepdim)))


def _axis(name: str, x: Any, dim: Any) -> int:
    """dim as a non-negative axis, of at least one element."""
    if isinstance(dim, Tensor) or hasattr(dim, "dtype") or not hasattr(dim, "__index__"):
        hint = f"; for two tensors there is {name}imum" if name in ("max", "min") else ""
        raise TypeError(f"{name}: dim is a {type(dim).__name__}, but must be one axis, an int{hint}")
    if not x.ndim:
        raise RequestError(f"{name}: input is 0-d, so it has no axis {dim}")
    return _axes(name, x, dim, nonempty=True)[0]


def _axes(name: str, x: Any, dim: Dims, nonempty: bool = False) -> tuple[int, ...]:
    """dim as a tuple of non-negative axes; None and (), as in torch, are all of them."""
    dims = tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    if dim is None or not dims:
        dims = tuple(range(x.ndim))
    axes = []
    for d in map(operator.index, dims):
        if not -x.ndim <= d < x.ndim and not (x.ndim == 0 and d in (0, -1)):
            raise IndexError(f"{name}: dim {d} is out of range for an input of {tuple(x.shape)}, {x.ndim} axes")
        if x.ndim:
            axes.append(d % x.ndim)
    if len(set(axes)) != len(axes):
        raise RequestError(f"{name}: dim {dim} names an axis twice")
    if nonempty and not math.prod(x.shape[a] for a in axes):
        raise RequestError(f"{name}: input is {tuple(x.shape)}, and no numbers along axes {tuple(axes)} have no {name}")
    return tuple(axes)
