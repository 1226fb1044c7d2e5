"""Normalization over sets of one number to dozens, with and without gain and bias.

A set's numbers are drawn far enough apart for its variance to be of order 1, or eps is large: where both are small,
sigma, and with it every derivative, hangs on the last digits of the input. Of a single number the gradient is 0;
PyTorch refuses that, or answers with rounding errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minires.backend import Array
from minires.check.case import Case, case
from minires.check.draw import Draw
from minires.check.reference import composed
from minires.check.reference import norm as loops
from minires.ops.norm import BatchNorm, BatchNormEval, GroupNorm, LayerNorm, RmsNorm

ENOUGH = 5  # numbers in a set from which on a small eps is harmless


def spread(draw: Draw, *shape: int, over: Sequence[int]) -> Array:
    """Numbers whose mean and deviation over the axes `over` are drawn too: of order 1, but neither 0 nor 1."""
    x = draw.normal(*shape)
    if math.prod(shape[a] for a in over) > 1 and x.size:
        x = x - x.mean(axis=tuple(over), keepdims=True)
        x = x / x.std(axis=tuple(over), keepdims=True)
    beside = [1 if a in over else n for a, n in enumerate(shape)]
    return draw.positive(*beside, low=0.8, high=1.6) * x + draw.normal(*beside)


def small(draw: Draw, count: int) -> float:
    """An eps for sets of `count` numbers."""
    return draw.choice([1e-5, 0.1, 1e-3, 0.4] if count >= ENOUGH else [0.4, 0.1, 0.8])


def gain(draw: Draw, *shape: int) -> Array | None:
    """Random numbers of either sign, now and then None; never all 1 or 0, where half of the formulas are alike."""
    return None if draw.integer(0, 3) == 3 else draw.away(*shape)


def image(draw: Draw, batch: int) -> tuple[int, ...]:
    """(N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W), of some 30 numbers at most."""
    n, c = batch, draw.size(1, 3)
    room = draw.choice([(), (3,), (2, 3), (5,), (1, 1), (3, 1), (2, 1, 2)])
    return (n, c, *room)


@case(BatchNorm)
def batch_norm(draw: Draw) -> Case:
    shape = image(draw, draw.choice([2, 3, 5, 1, 4, 0]))
    count = shape[0] * math.prod(shape[2:])
    x = spread(draw, *shape, over=(0, *range(2, len(shape))))
    eps = small(draw, count)

    def torch(x: Any, w: Any, b: Any) -> Any:
        from torch.nn import functional as F

        return F.batch_norm(x, None, None, w, b, training=True, eps=eps)

    return Case(
        (x, gain(draw, shape[1]), gain(draw, shape[1])),
        {"eps": eps, "observe": None},
        reference=lambda x, w, b: loops.batch_norm(x, w, b, eps),
        composed=(lambda x, w, b: composed.batch_norm(x, w, b, eps)) if count else None,  # the mean of none is 0 / 0
        torch=torch if count > 1 else None,
    )


@case(BatchNormEval)
def batch_norm_eval(draw: Draw) -> Case:
    shape = image(draw, draw.batch())
    c, eps = shape[1], draw.choice([1e-5, 0.1])

    def torch(x: Any, w: Any, b: Any, mean: Any, var: Any) -> Any:
        from torch.nn import functional as F

        return F.batch_norm(x, mean, var, w, b, eps=eps)

    return Case(
        (draw.normal(*shape), gain(draw, c), gain(draw, c), draw.normal(c), draw.positive(c)),
        {"eps": eps},
        constant=(3, 4),
        reference=lambda x, w, b, mean, var: loops.batch_norm_eval(x, mean, var, w, b, eps),
        composed=lambda x, w, b, mean, var: composed.batch_norm_eval(x, mean, var, w, b, eps),
        torch=torch,
    )


def rows(draw: Draw) -> tuple[Array, tuple[int, ...], float]:
    """x (*, D...), the D... that form a row, and an eps; now and then no row, or rows of one number."""
    shape = draw.choice([(4,), (2, 3), (6,), (3, 2, 2), (1,), (5,), (1, 4)])
    leading = draw.shape(0, 2, longest=3)
    x = spread(draw, *leading, *shape, over=tuple(range(len(leading), len(leading) + len(shape))))
    return x, shape, small(draw, math.prod(shape))


@case(LayerNorm)
def layer_norm(draw: Draw) -> Case:
    x, shape, eps = rows(draw)

    def torch(x: Any, w: Any, b: Any) -> Any:
        from torch.nn import functional as F

        return F.layer_norm(x, shape, w, b, eps)

    return Case(
        (x, gain(draw, *shape), gain(draw, *shape)),
        {"normalized_shape": shape, "eps": eps},
        reference=lambda x, w, b: loops.layer_norm(x, shape, w, b, eps),
        composed=lambda x, w, b: composed.layer_norm(x, shape, w, b, eps),
        torch=torch if math.prod(shape) > 1 else None,
    )


@case(GroupNorm)
def group_norm(draw: Draw) -> Case:
    groups, width = draw.choice([2, 1, 3]), draw.size(1, 3)
    room = draw.choice([(2,), (), (1, 3), (2, 2), (1,)])
    shape = (draw.batch(), groups * width, *room)
    count = width * math.prod(room)
    x = spread(draw, shape[0], groups, count, over=(2,)).reshape(shape)  # (N, C, *)
    eps = small(draw, count)

    def torch(x: Any, w: Any, b: Any) -> Any:
        import torch as peer
        from torch.nn import functional as F

        alone = b is not None and w is None  # then PyTorch 2.13 finds no device
        return F.group_norm(x, groups, peer.ones_like(b) if alone else w, b, eps)

    return Case(
        (x, gain(draw, shape[1]), gain(draw, shape[1])),
        {"num_groups": groups, "eps": eps},
        reference=lambda x, w, b: loops.group_norm(x, groups, w, b, eps),
        composed=lambda x, w, b: composed.group_norm(x, groups, w, b, eps),
        torch=torch if count > 1 else None,
    )


@case(RmsNorm)
def rms_norm(draw: Draw) -> Case:
    x, shape, eps = rows(draw)

    def torch(x: Any, w: Any) -> Any:
        from torch.nn import functional as F

        return F.rms_norm(x, shape, w, eps)

    return Case(
        (x, gain(draw, *shape)),
        {"normalized_shape": shape, "eps": eps},
        reference=lambda x, w: loops.rms_norm(x, shape, w, eps),
        composed=lambda x, w: composed.rms_norm(x, shape, w, eps),
        torch=torch,
    )
