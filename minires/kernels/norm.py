"""Batch norm on NumPy, channels last: every block is read once for the statistics and once to be normalized.

The formula of `minires.ops.norm` in the same order of operations, but block by block in the cache, on all cores, and
without xhat: x is saved, as the convolution that made it saved nothing of it, and x - mu is taken anew in backward.

The variance stays that of two passes. A block's mean and sum of squares are taken while the block is in the cache, and
blocks are joined by the identity of Chan, Golub and LeVeque 1979, Updating Formulae and a Pairwise Algorithm for
Computing Sample Variances, eq. 2.1, in float64:

    sum (x - mu)^2 = sum over blocks of  [ sum (x - mu_b)^2 + m_b (mu_b - mu)^2 ]
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.layout import channels_last, each_block, folded, logical, repeated, total
from minires.kernels.threads import scratch
from minires.ops.norm import BatchNorm, BatchNormEval

WORTH = 1 << 12  # numbers below which blocks cost more than they save


def takes(x: Array, *vectors: Array | None) -> bool:
    """Whether x is a batch of images large enough, and all are real numbers of one dtype."""
    return x.ndim == 4 and x.dtype.char in "fd" and x.size >= WORTH and all(v is None or v.dtype == x.dtype for v in vectors)


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
        return logical(normalized(images, self.mean, self.inv if w is None else w * self.inv, b))

    def backward(self, gy: Array) -> Any:
        x, g = channels_last(self.x), channels_last(gy)  # (N, H, W, C)
        gb, agreement = sums(x, g, self.mean)
        gw = agreement * self.inv
        if not self.needs[0]:
            return None, gw, gb
        # gx = (w / sigma) (gy - gb / m - xhat gw / m), and xhat = (x - mu) / sigma
        scale = self.inv if self.w is None else self.w * self.inv
        slope, offset = self.inv * gw / self.m, gb / self.m
        gx, rows, grads = np.empty_like(x), folded(x), folded(g)  # (R, F C)
        out = folded(gx)
        mean, slope, offset, scale = (repeated(v, rows.shape[1]) for v in (self.mean, slope, offset, scale))

        def work(block: slice) -> None:
            part, t = out[block], scratch("centered", out[block].shape, out.dtype)
            np.subtract(rows[block], mean, out=t)
            t *= slope
            t += offset
            np.subtract(grads[block], t, out=part)
            part *= scale

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
        return logical(normalized(channels_last(x), mean, self.inv if w is None else w * self.inv, b))

    def backward(self, gy: Array) -> Any:
        g = channels_last(gy)  # (N, H, W, C)
        gx = gw = gb = None
        if self.needs[0]:
            zero = np.zeros_like(self.mean)
            gx = logical(normalized(g, zero, self.inv if self.w is None else self.w * self.inv, None))
        if self.needs[1] or self.needs[2]:
            gb, agreement = sums(channels_last(self.x), g, self.mean)
            gw = agreement * self.inv
        return gx, gw, gb, None, None


def statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of every channel of (N, H, W, C), by blocks: (C,) and (C,)."""
    rows, c = folded(x), x.shape[3]  # (R, F C)
    counts: dict[int, int] = {}
    means: dict[int, Array] = {}
    squares: dict[int, Array] = {}

    def work(block: slice) -> None:
        part = rows[block]
        ones, t = np.ones(len(part), x.dtype), scratch("centered", part.shape, x.dtype)
        count = part.size // c
        mean = (ones @ part).reshape(-1, c).sum(axis=0) / count  # (C,)
        np.subtract(part, repeated(mean, part.shape[1]), out=t)
        rest = (ones @ t).reshape(-1, c).sum(axis=0, dtype=np.float64) / count  # what rounding left of the mean
        t *= t
        counts[block.start], means[block.start] = count, mean + rest
        squares[block.start] = (ones @ t).reshape(-1, c).sum(axis=0, dtype=np.float64) - count * rest * rest

    each_block(rows, work)
    order = sorted(counts)
    share = np.array([counts[i] for i in order], np.float64)[:, None] / (x.size // c)  # (blocks, 1)
    centers = np.array([means[i] for i in order])  # (blocks, C)
    mean = (share * centers).sum(axis=0)
    var = total(squares) / (x.size // c) + (share * (centers - mean) ** 2).sum(axis=0)
    return mean.astype(x.dtype), var.astype(x.dtype)


def normalized(x: Array, mean: Array, scale: Array, b: Array | None) -> Array:
    """(x - mean) scale + b, channel by channel: (N, H, W, C)."""
    y, rows = np.empty_like(x), folded(x)  # (R, F C)
    out, mean, scale = folded(y), repeated(mean, rows.shape[1]), repeated(scale, rows.shape[1])
    shift = None if b is None else repeated(b, rows.shape[1])

    def work(block: slice) -> None:
        part = out[block]
        np.subtract(rows[block], mean, out=part)
        part *= scale
        if shift is not None:
            part += shift

    each_block(rows, work)
    return y


def sums(x: Array, g: Array, mean: Array) -> tuple[Array, Array]:
    """sum(g) and sum(g (x - mean)) of every channel of (N, H, W, C): (C,) and (C,)."""
    rows, grads, c = folded(x), folded(g), x.shape[3]  # (R, F C)
    center = repeated(mean, rows.shape[1])
    plain: dict[int, Array] = {}
    weighted: dict[int, Array] = {}

    def work(block: slice) -> None:
        part = grads[block]
        ones, t = np.ones(len(part), x.dtype), scratch("centered", part.shape, x.dtype)
        np.subtract(rows[block], center, out=t)
        t *= part
        plain[block.start], weighted[block.start] = ones @ part, ones @ t  # (F C,)

    each_block(rows, work)
    return total(plain).reshape(-1, c).sum(axis=0), total(weighted).reshape(-1, c).sum(axis=0)
