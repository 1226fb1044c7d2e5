"""Batch norm on NumPy, channels last: every block is read once for the statistics and once to be normalized.

The formula of `minires.ops.norm`, block by block in the cache, on all cores, and without xhat: x is saved, as the
convolution that made it saved nothing of it.

Both sums of the statistics are taken in one pass, of t = x - k instead of x:

    mean = k + mean(t),   var = mean(t^2) - mean(t)^2

With k = 0 this cancels. Here k is the mean of a share s of the numbers themselves, and by Cauchy-Schwarz the mean of
a share s of any numbers lies within sigma sqrt((1 - s) / s) of the mean of all. So mean(t)^2 < var / s, and no more
than a factor 1 / s, about 16, of the precision is lost, whatever the numbers are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.layout import channels_last, each_block, folded, logical, repeated, total
from minires.kernels.memory import empty_like
from minires.kernels.threads import pays, scratch
from minires.ops.norm import BatchNorm, BatchNormEval

WORTH = 1 << 12  # numbers below which blocks cost more than they save
SAMPLED = 16  # one of so many rows goes into k


def takes(x: Array, *vectors: Array | None) -> bool:
    """Whether x is a batch of images large enough, and all are real numbers of one dtype."""
    same = all(v is None or v.dtype == x.dtype for v in vectors)
    return x.ndim == 4 and x.dtype.char in "fd" and same and x.size > 0 and pays(x.size, WORTH)


@kernel(BatchNorm, "numpy")
class BlockedBatchNorm(BatchNorm):
    """`BatchNorm`, blocked and threaded. Saved: x, mu, 1 / sigma, w."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return takes(*arrays)

    def forward(self, x: Array, w: Array | None, b: Array | None) -> Array:
        self.x, self.w = x, w
        images = channels_last(x)  # (N, H, W, C)
        self.mean, var = statistics(images)
        self.m = x.size // x.shape[1]
        if self.observe is not None:
            self.observe(self.mean, var)
        self.inv = 1 / np.sqrt(var + x.dtype.type(self.eps))  # (C,)
        return logical(affine(images, self.mean, self.inv if w is None else w * self.inv, b))

    def backward(self, gy: Array) -> Any:
        x, g = channels_last(self.x), channels_last(gy)  # (N, H, W, C)
        gb, agreement = sums(x, g, self.mean)
        gw = agreement * self.inv
        if not self.needs[0]:
            return None, gw, gb
        # gx = (w / sigma) (gy - gb / m - xhat gw / m), and xhat = (x - mu) / sigma
        scale = self.inv if self.w is None else self.w * self.inv
        slope = scale * self.inv * gw / self.m
        offset = scale * gb / self.m - slope * self.mean
        gx, rows, grads = empty_like(x), folded(x), folded(g)  # (R, F C)
        out = folded(gx)
        slope, offset, scale = (repeated(v, rows.shape[1]) for v in (slope, offset, scale))

        def work(block: slice) -> None:
            part, t = out[block], scratch("centered", out[block].shape, out.dtype)
            np.multiply(rows[block], slope, out=t)
            t += offset
            np.multiply(grads[block], scale, out=part)
            part -= t

        each_block(rows, work)
        return logical(gx), gw, gb


@kernel(BatchNormEval, "numpy")
class BlockedBatchNormEval(BatchNormEval):
    """`BatchNormEval`, blocked and threaded. Saved: x, mean, 1 / sigma, w."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return takes(*arrays)

    def forward(self, x: Array, w: Array | None, b: Array | None, mean: Array, var: Array) -> Array:
        self.x, self.mean, self.w = x, mean.copy(), w  # running statistics move on before backward
        self.inv = 1 / np.sqrt(var + x.dtype.type(self.eps))  # (C,)
        return logical(affine(channels_last(x), mean, self.inv if w is None else w * self.inv, b))

    def backward(self, gy: Array) -> Any:
        g = channels_last(gy)  # (N, H, W, C)
        gx = gw = gb = None
        if self.needs[0]:
            gx = logical(affine(g, np.zeros_like(self.mean), self.inv if self.w is None else self.w * self.inv, None))
        if self.needs[1] or self.needs[2]:
            gb, agreement = sums(channels_last(self.x), g, self.mean)
            gw = agreement * self.inv
        return gx, gw, gb, None, None


def statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of every channel of (N, H, W, C), by blocks: (C,) and (C,)."""
    rows, c, count = folded(x), x.shape[3], x.size // x.shape[3]  # (R, F C)
    ones = np.ones(len(rows), x.dtype)
    sample = rows[::SAMPLED]
    k = (ones[: len(sample)] @ sample).reshape(-1, c).mean(axis=0) / len(sample)  # (C,)
    shift = repeated(k, rows.shape[1])
    plain: dict[int, Array] = {}
    squares: dict[int, Array] = {}

    def work(block: slice) -> None:
        part = rows[block]
        t = scratch("centered", part.shape, x.dtype)
        np.subtract(part, shift, out=t)
        plain[block.start] = ones[: len(part)] @ t  # (F C,)
        t *= t
        squares[block.start] = ones[: len(part)] @ t

    each_block(rows, work)
    away = total(plain).reshape(-1, c).sum(axis=0) / count
    var = total(squares).reshape(-1, c).sum(axis=0) / count - away * away
    return (k + away).astype(x.dtype), np.maximum(var, 0).astype(x.dtype)


def affine(x: Array, mean: Array, scale: Array, b: Array | None) -> Array:
    """(x - mean) scale + b, channel by channel: (N, H, W, C)."""
    shift = -mean * scale if b is None else b - mean * scale
    y, rows = empty_like(x), folded(x)  # (R, F C)
    out, scale, shift = folded(y), repeated(scale, rows.shape[1]), repeated(shift, rows.shape[1])

    def work(block: slice) -> None:
        part = out[block]
        np.multiply(rows[block], scale, out=part)
        part += shift

    each_block(rows, work)
    return y


def sums(x: Array, g: Array, mean: Array) -> tuple[Array, Array]:
    """sum(g) and sum(g (x - mean)) of every channel of (N, H, W, C): (C,) and (C,)."""
    rows, grads, c = folded(x), folded(g), x.shape[3]  # (R, F C)
    center, ones = repeated(mean, rows.shape[1]), np.ones(len(rows), x.dtype)
    plain: dict[int, Array] = {}
    weighted: dict[int, Array] = {}

    def work(block: slice) -> None:
        part = grads[block]
        t = scratch("centered", part.shape, x.dtype)
        np.subtract(rows[block], center, out=t)
        t *= part
        plain[block.start] = ones[: len(part)] @ part  # (F C,)
        weighted[block.start] = ones[: len(part)] @ t

    each_block(rows, work)
    return tuple(total(v).reshape(-1, c).sum(axis=0).astype(x.dtype) for v in (plain, weighted))
