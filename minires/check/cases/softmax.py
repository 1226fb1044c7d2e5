"""Softmax along every axis, negative ones included, and along axes of one."""

from __future__ import annotations

from typing import Any

from minires.check.case import Case, case
from minires.check.draw import Draw
from minires.check.reference import composed
from minires.check.reference import softmax as loops
from minires.ops.softmax import LogSoftmax, Softmax


def scores(draw: Draw) -> tuple[Any, int]:
    """x with one to three axes, and one of them, of one number at least; now and then there is no slice at all."""
    before, after = draw.shape(0, 1, longest=3), draw.shape(0, 1, longest=3)
    along, ndim = len(before), len(before) + 1 + len(after)
    x = draw.normal(*before, draw.choice([3, 2, 4, 1]), *after) + draw.normal(*before, 1, *after)
    return x, along - ndim if draw.flag() else along


@case(Softmax)
def softmax(draw: Draw) -> Case:
    x, dim = scores(draw)
    return Case(
        (x,),
        {"dim": dim},
        reference=lambda x: loops.softmax(x, dim),
        # of one score the gradient is 0, and the quotient rule leaves a rounding error
        composed=(lambda x: composed.softmax(x, dim)) if x.shape[dim] > 1 else None,
        torch=lambda x: x.softmax(dim),
    )


@case(LogSoftmax)
def log_softmax(draw: Draw) -> Case:
    x, dim = scores(draw)
    return Case(
        (x,),
        {"dim": dim},
        reference=lambda x: loops.log_softmax(x, dim),
        composed=(lambda x: composed.log_softmax(x, dim)) if x.shape[dim] > 1 else None,
        torch=lambda x: x.log_softmax(dim),
    )
