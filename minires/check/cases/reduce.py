"""Reductions over any axes, kept or not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from minires import functional as F
from minires.backend import Array
from minires.check.case import Case, case
from minires.check.draw import Draw
from minires.check.reference import reduce as loops
from minires.ops.reduce import Amax, Amin, Logsumexp, Max, Mean, Min, Sum, Var

Axes = tuple[int, ...]


@case(Sum)
def sum(draw: Draw) -> Case:
    shape = _shape(draw)
    return _over(draw, draw.normal(*shape), _axes(draw, len(shape)), loops.sum, "sum")


@case(Mean)
def mean(draw: Draw) -> Case:
    shape, axes = _some_along(draw)
    return _over(draw, draw.normal(*shape), axes, loops.mean, "mean")


@case(Var)
def var(draw: Draw) -> Case:
    shape, axes = _some_along(draw)
    n = math.prod(shape[a] for a in axes)
    correction = draw.choice([c for c in (1, 0, 0.5, 1.5, 2) if c < n])

    def composed(x: Any) -> Any:
        d = F.sub(x, F.mean(x, axes, keepdim=True))
        return F.div(F.sum(F.mul(d, d), axes, keepdim=found.options["keepdim"]), n - correction)

    found = _over(draw, draw.apart(*shape), axes, loops.var, "var", correction=correction)
    torch = found.torch if math.prod(shape) else None  # where there are no numbers PyTorch warns
    return replace(found, composed=composed, torch=torch)


@case(Amax)
def amax(draw: Draw) -> Case:
    shape, axes = _some_along(draw)
    return _over(draw, draw.apart(*shape), axes, loops.amax, "amax")


@case(Amin)
def amin(draw: Draw) -> Case:
    shape, axes = _some_along(draw)
    return _over(draw, draw.apart(*shape), axes, loops.amin, "amin")


@case(Max)
def max(draw: Draw) -> Case:
    return _extreme(draw, loops.amax, loops.argmax, "max")


@case(Min)
def min(draw: Draw) -> Case:
    return _extreme(draw, loops.amin, loops.argmin, "min")


@case(Logsumexp)
def logsumexp(draw: Draw) -> Case:
    shape, axes = _some_along(draw)
    found = _over(draw, draw.normal(*shape), axes, loops.logsumexp, "logsumexp")
    keepdim = found.options["keepdim"]
    return replace(found, composed=lambda x: F.log(F.sum(F.exp(x), axes, keepdim=keepdim)))


def _shape(draw: Draw) -> tuple[int, ...]:
    """Mostly of several axes: where all are reduced over, there is little that can go wrong."""
    return draw.shape(draw.choice([0, 1, 2, 2, 2]), longest=3)


def _axes(draw: Draw, ndim: int) -> Axes:
    """One axis, all but one, or any."""
    some = draw.axes(ndim)
    if ndim < 2 or draw.integer(0, 2) == 0:
        return some
    one = draw.integer(0, ndim - 1)
    return (one,) if draw.flag() else tuple(a for a in range(ndim) if a != one)


def _some_along(draw: Draw) -> tuple[tuple[int, ...], Axes]:
    """A shape, and axes that hold at least one number: the mean of none does not exist, nor does their maximum."""
    shape = _shape(draw)
    axes = _axes(draw, len(shape))
    return tuple(1 if n == 0 and a in axes else n for a, n in enumerate(shape)), axes


def _over(draw: Draw, x: Array, axes: Axes, twin: Callable[..., Array], name: str, **options: Any) -> Case:
    keepdim = draw.flag()

    def torch(x: Any) -> Any:
        import torch as peer

        return getattr(peer, name)(x, dim=axes, keepdim=keepdim, **options)

    return Case(
        (x,),
        {"axes": axes, "keepdim": keepdim, **options},
        reference=lambda x: _laid_out(twin(x, axes, **options), axes, keepdim),
        torch=torch,
    )


def _extreme(draw: Draw, value: Callable[..., Array], where: Callable[..., Array], name: str) -> Case:
    sizes = list(draw.shape(draw.choice([1, 2, 2]), longest=3))
    axis, keepdim = draw.integer(0, len(sizes) - 1), draw.flag()
    sizes[axis] = sizes[axis] or 1

    def twin(x: Array) -> Any:
        return tuple(_laid_out(y, (axis,), keepdim) for y in (value(x, (axis,)), where(x, axis)))

    def torch(x: Any) -> Any:
        import torch as peer

        return getattr(peer, name)(x, dim=axis, keepdim=keepdim)

    return Case((draw.apart(*sizes),), {"axis": axis, "keepdim": keepdim}, reference=twin, torch=torch)


def _laid_out(y: Array, axes: Axes, keepdim: bool) -> Array:
    """What a twin gives keeps the reduced axes, with length 1."""
    return y if keepdim else y.squeeze(axes)
