"""Arithmetic: two operands broadcast either way, and either may be a Python number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minires import functional as F
from minires.backend import Array
from minires.check.case import Case, case
from minires.check.draw import Draw
from minires.check.reference import elementwise as loops
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

Values = Callable[..., Array]
Shape = tuple[int, ...]


def shapes(draw: Draw) -> tuple[Shape, Shape]:
    """Two that broadcast: equal, or either one or both of them stretched."""
    shape = draw.shape(longest=3)
    stretched = draw.integer(0, 3)
    x = draw.broadcastable(shape) if stretched & 1 else shape
    w = draw.broadcastable(shape) if stretched & 2 else shape
    return x, w


def operands(draw: Draw, x: Values, w: Values) -> tuple[Any, Any]:
    """Two arrays that broadcast; now and then one of them is a Python number instead."""
    first, second = shapes(draw)
    number = draw.integer(0, 5)
    return (
        x().item() if number == 4 else x(*first),
        w().item() if number == 5 else w(*second),
    )


def nonzero(draw: Draw, *shape: int) -> Array:
    """Values of either sign, far enough from 0 that their inverses are tame."""
    return np.asarray(np.copysign(draw.positive(*shape), draw.normal(*shape)))


def rivals(draw: Draw) -> tuple[Any, Any]:
    """Two operands no entries of which are equal, or nearly so."""
    first, second = shapes(draw)
    n, number = math.prod(first), draw.integer(0, 5)
    values = draw.apart(n + math.prod(second) + 1)
    x, w = values[:n].reshape(first), values[n:-1].reshape(second)
    return (values[-1].item() if number == 4 else x), (values[-1].item() if number == 5 else w)


@case(Add)
def add(draw: Draw) -> Case:
    return Case(operands(draw, draw.normal, draw.normal), reference=loops.add, torch=lambda x, w: x + w)


@case(Sub)
def sub(draw: Draw) -> Case:
    return Case(operands(draw, draw.normal, draw.normal), reference=loops.sub, torch=lambda x, w: x - w)


@case(Mul)
def mul(draw: Draw) -> Case:
    return Case(operands(draw, draw.normal, draw.normal), reference=loops.mul, torch=lambda x, w: x * w)


@case(Div)
def div(draw: Draw) -> Case:
    return Case(
        operands(draw, draw.normal, lambda *shape: nonzero(draw, *shape)),
        reference=loops.div,
        composed=lambda x, w: F.mul(x, F.pow(w, -1.0)),
        torch=lambda x, w: x / w,
    )


@case(Neg)
def neg(draw: Draw) -> Case:
    return Case((draw.normal(*draw.shape()),), reference=loops.neg, torch=lambda x: -x)


@case(Pow)
def pow(draw: Draw) -> Case:
    """Any base to an integer power, which then is a constant; a positive base to any power."""

    def torch(x: Any, w: Any) -> Any:
        return x**w

    if draw.integer(0, 3) == 3:
        x_shape, w_shape = shapes(draw)
        x = nonzero(draw, *x_shape)
        w = draw.choice([2, 3.0, 0, -1, 1.0, np.asarray(draw.integers(6, *w_shape) - 2.0)])
        return Case((x, w), constant=(1,), reference=loops.pow, torch=torch)
    x, w = operands(draw, draw.positive, lambda *shape: draw.away(*shape, kinks=(-2.0, -1.0, 0.0, 1.0, 2.0)))
    composed = None if isinstance(x, float) else lambda x, w: F.exp(F.mul(F.log(x), w))
    return Case((x, w), reference=loops.pow, composed=composed, torch=torch)


@case(Exp)
def exp(draw: Draw) -> Case:
    return Case((draw.normal(*draw.shape()),), reference=loops.exp, torch=lambda x: x.exp())


@case(Log)
def log(draw: Draw) -> Case:
    return Case((draw.positive(*draw.shape()),), reference=loops.log, torch=lambda x: x.log())


@case(Sqrt)
def sqrt(draw: Draw) -> Case:
    return Case(
        (draw.positive(*draw.shape()),),
        reference=loops.sqrt,
        composed=lambda x: F.exp(F.mul(F.log(x), 0.5)),
        torch=lambda x: x.sqrt(),
    )


@case(Abs)
def abs(draw: Draw) -> Case:
    return Case(
        (draw.away(*draw.shape()),),
        reference=loops.abs,
        composed=lambda x: F.maximum(x, F.neg(x)),
        torch=lambda x: x.abs(),
    )


@case(Clip)
def clamp(draw: Draw) -> Case:
    """Two bounds, one, or none; now and then they are crossed or equal."""
    low, high = draw.choice([(-0.7, 0.8), (-math.inf, 0.4), (-0.4, math.inf), (-1, 1), (-math.inf, math.inf)])
    if draw.integer(0, 9) == 9:
        low, high = draw.choice([(0.6, -0.6), (0.25, 0.25)])
    return Case(
        (draw.away(*draw.shape(), kinks=(low, high)),),
        {"low": low, "high": high},
        reference=lambda x: loops.clamp(x, low, high),
        composed=lambda x: F.minimum(F.maximum(x, low), high),
        torch=lambda x: x.clamp(low, high),
    )


@case(Maximum)
def maximum(draw: Draw) -> Case:
    def torch(x: Any, w: Any) -> Any:
        import torch as peer

        return peer.maximum(*(peer.as_tensor(each, dtype=peer.float64) for each in (x, w)))

    return Case(rivals(draw), reference=loops.maximum, torch=torch)


@case(Minimum)
def minimum(draw: Draw) -> Case:
    def torch(x: Any, w: Any) -> Any:
        import torch as peer

        return peer.minimum(*(peer.as_tensor(each, dtype=peer.float64) for each in (x, w)))

    return Case(rivals(draw), reference=loops.minimum, torch=torch)


@case(Where)
def where(draw: Draw) -> Case:
    """The condition broadcasts as well: it may be the only one that has all axes."""
    x, w = operands(draw, draw.normal, draw.normal)
    common = np.broadcast_shapes(np.shape(x), np.shape(w))
    c = draw.mask(*(draw.broadcastable(common) if draw.flag() else common))
    if draw.integer(0, 4) == 4:
        c = draw.mask(2, *(n if n else 1 for n in common))

    def torch(c: Any, x: Any, w: Any) -> Any:
        import torch as peer

        return peer.where(c, x, w)

    return Case((c, x, w), reference=loops.where, torch=torch)


@case(Cast)
def cast(draw: Draw) -> Case:
    """Only casts that lose nothing: what rounds is a staircase, and no slope of it equals the gradient."""
    dtype = draw.choice([np.float64, np.longdouble])
    return Case(
        (draw.normal(*draw.shape()),),
        {"dtype": dtype},
        reference=loops.cast,
        torch=None if dtype is np.longdouble else lambda x: x.double(),
        analytic=False,
        why_not="a cast to a real dtype drops the imaginary part, which is where the complex step keeps the slope",
    )
