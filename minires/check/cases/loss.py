"""Losses over every reduction, with and without weights, on vectors, batches and images of targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minires import functional as F
from minires.backend import Array
from minires.check.case import Case, case
from minires.check.draw import Draw
from minires.check.reference import composed
from minires.check.reference import loss as loops
from minires.ops.loss import L1, BinaryCrossEntropyWithLogits, CrossEntropy, Dice, Huber, Mse, Nll, SoftCrossEntropy

# --- classes


def scores(draw: Draw) -> Array:
    """x (N, C, *), or (C,) for one sample; now and then there is no sample, or one class."""
    c = draw.choice([3, 2, 4, 1])
    n, room = draw.batch(), draw.choice([(), (2,), (1, 3), (2, 2)])
    return draw.normal(c) if draw.integer(0, 4) == 4 else draw.normal(n, c, *room)


def classes(x: Array) -> int:
    """C."""
    return x.shape[min(x.ndim - 1, 1)]


def samples(x: Array) -> tuple[int, ...]:
    """The shape of the losses, one a sample."""
    return () if x.ndim == 1 else (x.shape[0], *x.shape[2:])


def labels(draw: Draw, x: Array, reduction: str) -> tuple[Array, int]:
    """Targets (N, *), and which of them is ignored: a label of its own, or one of the classes. One always counts."""
    c = classes(x)
    t = np.asarray(draw.integers(c, *samples(x)))
    ignored = draw.choice([-100, 255, draw.integer(0, c - 1)])
    if not 0 <= ignored < c:
        t = np.where(draw.mask(*t.shape, p=0.3), ignored, t)
    if reduction == "mean" and t.size and np.all(t == ignored):
        t = np.asarray(draw.integers(c, *t.shape))
        ignored = -1
    return t, ignored


def weights(draw: Draw, *shape: int) -> Array | None:
    """A positive factor for each, or None."""
    return draw.choice([None, draw.positive(*shape), draw.positive(*shape)])


def reduction(draw: Draw, count: int) -> str:
    """How losses are added; the mean of none is 0 / 0."""
    return draw.choice(["mean", "none", "sum", "mean"] if count else ["none", "sum"])


def in_batches(twin: Any, ndim: int, *others: Any) -> Any:
    """A twin of (N, C, *) for one sample (C,) too."""
    if ndim > 1:
        return lambda x, t, w: twin(x, t, w, *others)
    return lambda x, t, w: _first(twin(x[None], t[None], w, *others))


def _first(y: Any) -> Any:
    return y[0] if np.ndim(y) else y


@case(Nll)
def nll_loss(draw: Draw) -> Case:
    x = scores(draw)
    how = reduction(draw, math.prod(samples(x)))
    t, ignored = labels(draw, x, how)

    def torch(x: Any, t: Any, w: Any) -> Any:
        from torch.nn import functional as F

        return F.nll_loss(x, t, w, ignore_index=ignored, reduction=how)

    return Case(
        (x, t, weights(draw, classes(x))),
        {"ignore_index": ignored, "reduction": how},
        constant=(2,),
        reference=in_batches(loops.nll_loss, x.ndim, ignored, how),
        torch=torch if x.size else None,
    )


@case(CrossEntropy)
def cross_entropy(draw: Draw) -> Case:
    x = scores(draw)
    c, how = classes(x), reduction(draw, math.prod(samples(x)))
    a = draw.choice([0.0, 0.1, 0.5, 0.0, 1.0]) if c > 1 else 0.0  # smoothed, one class leaves rounding errors for 0
    t, ignored = labels(draw, x, how)
    w = weights(draw, c)

    def by_parts(x: Any, t: Array, w: Array | None) -> Any:
        factors = np.ones(c) if w is None else w
        kept = t != ignored
        q = factors * ((1 - a) * np.eye(c)[np.where(kept, t, 0)] + a / c) * kept[..., None]  # (N, *, C)
        total = float(np.sum(factors[t[kept]]))
        return composed.cross_entropy(x, np.moveaxis(q, -1, min(x.ndim - 1, 1)), how, total)

    def torch(x: Any, t: Any, w: Any) -> Any:
        from torch.nn import functional as F

        return F.cross_entropy(x, t, w, ignore_index=ignored, reduction=how, label_smoothing=a)

    return Case(
        (x, t, w),
        {"ignore_index": ignored, "label_smoothing": a, "reduction": how},
        constant=(2,),
        reference=in_batches(loops.cross_entropy, x.ndim, ignored, how, a),
        composed=by_parts if c > 1 else None,  # of one class gx is 0, and log softmax leaves a rounding error
        torch=torch if x.size else None,
    )


@case(SoftCrossEntropy)
def soft_cross_entropy(draw: Draw) -> Case:
    x = scores(draw)
    c, a, how = classes(x), draw.choice([0.0, 0.2, 0.7]), reduction(draw, math.prod(samples(x)))
    t = draw.positive(*x.shape, low=0.1, high=1.0)  # the formulas hold whatever they sum to

    def by_parts(x: Any, t: Any, w: Array | None) -> Any:
        q = F.add(F.mul(t, 1 - a), a / c)
        return composed.cross_entropy(x, q if w is None else F.mul(q, w.reshape(-1, *[1] * (x.ndim - 2))), how)

    def torch(x: Any, t: Any, w: Any) -> Any:
        from torch.nn import functional as F

        return F.cross_entropy(x, t, w, reduction=how, label_smoothing=a)

    return Case(
        (x, t, weights(draw, c)),
        {"label_smoothing": a, "reduction": how},
        constant=(2,),
        reference=in_batches(loops.cross_entropy_soft, x.ndim, how, a),
        composed=by_parts if c > 1 else None,
        torch=torch if x.size else None,
    )


# --- numbers


def pair(draw: Draw, kinks: Sequence[float] | None = None) -> tuple[Array, Array, str]:
    """x and t of one shape, their difference far from the kinks, and a reduction."""
    shape = draw.shape()
    t = np.asarray(draw.normal(*shape))
    d = draw.normal(*shape) if kinks is None else draw.away(*shape, kinks=kinks, scale=1.5)
    return np.asarray(t + d), t, reduction(draw, math.prod(shape))


@case(Mse)
def mse_loss(draw: Draw) -> Case:
    x, t, how = pair(draw)

    def torch(x: Any, t: Any) -> Any:
        from torch.nn import functional as F

        return F.mse_loss(x, t, reduction=how)

    return Case((x, t), {"reduction": how}, reference=lambda x, t: loops.mse_loss(x, t, how), torch=torch)


@case(L1)
def l1_loss(draw: Draw) -> Case:
    x, t, how = pair(draw, [0.0])

    def torch(x: Any, t: Any) -> Any:
        from torch.nn import functional as F

        return F.l1_loss(x, t, reduction=how)

    return Case((x, t), {"reduction": how}, reference=lambda x, t: loops.l1_loss(x, t, how), torch=torch)


@case(Huber)
def huber_loss(draw: Draw) -> Case:
    delta = draw.choice([1.0, 0.4, 2.0])
    x, t, how = pair(draw, [-delta, delta])
    smooth = draw.flag()

    def torch(x: Any, t: Any) -> Any:
        from torch.nn import functional as F

        if smooth:
            return F.smooth_l1_loss(x, t, reduction=how, beta=delta)
        return F.huber_loss(x, t, reduction=how, delta=delta)

    twin = loops.smooth_l1_loss if smooth else loops.huber_loss
    return Case(
        (x, t),
        {"delta": delta, "gain": 1 / delta if smooth else 1.0, "reduction": how},
        reference=lambda x, t: twin(x, t, how, delta),
        torch=torch,
    )


# --- masks


@case(BinaryCrossEntropyWithLogits)
def binary_cross_entropy_with_logits(draw: Draw) -> Case:
    shape = draw.shape(1, 3, longest=3)
    how = reduction(draw, math.prod(shape))
    x, t = 1.5 * draw.normal(*shape), draw.positive(*shape, low=0.0, high=1.0)
    w, u = (weights(draw, *draw.broadcastable(shape)) for _ in range(2))

    def reference(x: Array, t: Array, w: Array | None, u: Array | None) -> Any:
        wide: list[Any] = [None if v is None else np.broadcast_to(v, x.shape) for v in (w, u)]
        return loops.binary_cross_entropy_with_logits(x, t, wide[0], wide[1], how)

    def torch(x: Any, t: Any, w: Any, u: Any) -> Any:
        from torch.nn import functional as F

        return F.binary_cross_entropy_with_logits(x, t, w, reduction=how, pos_weight=u)

    return Case(
        (x, t, w, u),
        {"reduction": how},
        constant=(2, 3),
        reference=reference,
        composed=lambda x, t, w, u: composed.binary_cross_entropy_with_logits(x, t, w, u, how),
        torch=torch,
    )


@case(Dice)
def dice_loss(draw: Draw) -> Case:
    shape = (draw.batch(), draw.size(1, 2), *draw.shape(1, 2, longest=3))
    how, eps = reduction(draw, shape[0]), draw.choice([1.0, 0.1])
    x, t = (draw.positive(*shape, low=0.1, high=0.9) for _ in range(2))

    def torch(x: Any, t: Any) -> Any:
        x, t = x.flatten(2), t.flatten(2)  # (N, C, L)
        losses = 1 - (2 * (x * t).sum(2) + eps) / (x.sum(2) + t.sum(2) + eps)
        return losses if how == "none" else losses.sum() if how == "sum" else losses.mean()

    return Case(
        (x, t),
        {"eps": eps, "reduction": how},
        reference=lambda x, t: loops.dice_loss(x, t, eps, how),
        torch=torch if math.prod(shape) else None,
    )
