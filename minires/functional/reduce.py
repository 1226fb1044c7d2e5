"""Reductions under torch's names: `dim` is None (all axes), an axis or several; `keepdim` keeps them with length 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from minires import backend
from minires.backend import Array
from minires.engine import Tensor
from minires.functional.elementwise import sqrt
from minires.ops.reduce import Extreme, Logsumexp, Mean, Pick, Reduction, Sum, Var

__all__ = ["amax", "amin", "argmax", "argmin", "logsumexp", "max", "mean", "min", "std", "sum", "var"]

Dim = int | Sequence[int] | None


class Extremum(NamedTuple):
    """What `max(x, dim)` and `min(x, dim)` return. The indices are integers and carry no gradient."""

    values: Tensor
    indices: Tensor


def sum(input: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The sum over `dim`."""
    return _reduce(Sum, input, dim, keepdim)


def mean(input: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The mean over `dim`."""
    return _reduce(Mean, input, dim, keepdim)


def var(input: Any, dim: Dim = None, correction: float = 1, keepdim: bool = False) -> Tensor:
    """The variance over `dim`: the squared deviations, summed and divided by (m - correction)."""
    return _reduce(Var, input, dim, keepdim, correction=correction)


def std(input: Any, dim: Dim = None, correction: float = 1, keepdim: bool = False) -> Tensor:
    """The square root of `var`."""
    return sqrt(var(input, dim, correction, keepdim))


def amax(input: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The largest value over `dim`; ties share the gradient equally."""
    return _reduce(Extreme, input, dim, keepdim, smallest=False)


def amin(input: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The smallest value over `dim`; ties share the gradient equally."""
    return _reduce(Extreme, input, dim, keepdim, smallest=True)


def max(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """Without `dim` the largest value of all (ties share); with it, (values, indices) along one axis (first wins)."""
    return amax(input) if dim is None else _pick(input, argmax(input, dim, keepdim=True), dim, keepdim)


def min(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """Without `dim` the smallest value of all (ties share); with it, (values, indices) along one axis (first wins)."""
    return amin(input) if dim is None else _pick(input, argmin(input, dim, keepdim=True), dim, keepdim)


def argmax(input: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the first largest value along `dim`, or in the flattened input. No gradient."""
    return _index("argmax", input, dim, keepdim)


def argmin(input: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the first smallest value along `dim`, or in the flattened input. No gradient."""
    return _index("argmin", input, dim, keepdim)


def logsumexp(input: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """log(sum(exp(input))) over `dim`, without overflow."""
    return _reduce(Logsumexp, input, dim, keepdim)


def _reduce(op: type[Reduction], input: Any, dim: Dim, keepdim: bool, **options: Any) -> Tensor:
    axes = _axes(op.__name__.lower(), input.ndim, dim)
    if op in (Extreme, Logsumexp) and any(input.shape[i] == 0 for i in axes):
        raise ValueError(
            f"{op.__name__.lower()}: no largest value of nothing; input is {tuple(input.shape)}, dim {dim}"
        )
    return op.apply(input, dim=axes, keepdim=keepdim, **options)


def _axes(name: str, ndim: int, dim: Dim) -> tuple[int, ...]:
    if dim is None:
        return tuple(range(ndim))
    given = (dim,) if isinstance(dim, int) else tuple(dim)
    for d in given:
        if not -ndim <= d < ndim:
            raise IndexError(f"{name}: dim {d} is out of range for an input with {ndim} axes")
    axes = tuple(d % ndim for d in given)
    if len(set(axes)) < len(axes):
        raise ValueError(f"{name}: dim {tuple(given)} names an axis twice")
    return axes


def _pick(input: Any, index: Tensor, dim: int, keepdim: bool) -> Extremum:
    axes = _axes("max", input.ndim, dim)
    values = Pick.apply(input, index.data, dim=axes, keepdim=keepdim)
    return Extremum(values, index if keepdim else Tensor(index.data.squeeze(axes[0])))


def _index(name: str, input: Any, dim: int | None, keepdim: bool) -> Tensor:
    data: Array = input.data if isinstance(input, Tensor) else input
    key, xp = data.real, backend.find((data,), name).xp
    axis = None if dim is None else _axes(name, data.ndim, dim)[0]
    return Tensor(xp.asarray(getattr(key, name)(axis=axis, keepdims=keepdim)))
