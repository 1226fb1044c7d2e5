"""Ops that work row by row, on NumPy: layer norm, softmax and its logarithm along the last axis, blocked and threaded.

NumPy is slow where the last axis is short: most sums here are products with a vector, and a column or a row that meets
a block is first repeated to the block's shape, which costs less than to broadcast it. A block's rows are read from
memory once, and stay in the cache until it is done.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.layout import in_slices, total
from minires.kernels.memory import empty
from minires.kernels.threads import pays, scratch
from minires.ops.norm import LayerNorm, RmsNorm
from minires.ops.softmax import LogSoftmax, Softmax

WORTH = 1 << 13  # numbers below which blocks cost more than they save
BLOCK = 1 << 16  # numbers of one array in a block: several such arrays fit in a core's cache together


def takes(x: Array, *vectors: Array | None) -> bool:
    """Whether x is large enough, and all are real numbers of one dtype."""
    return (
        pays(x.size, WORTH)
        and x.size > 0
        and x.dtype.char in "fd"
        and all(v is None or v.dtype == x.dtype for v in vectors)
    )


def height(rows: Array) -> int:
    """How many rows of (R, D) a block has."""
    return min(len(rows), max(1, BLOCK // rows.shape[1]))


def each_block(rows: Array, work: Callable[[slice], Any]) -> None:
    """work(slice) for slices of the rows of (R, D) that fit in the cache."""
    in_slices(len(rows), height(rows), work)


def across(t: Array, v: Array) -> Array:
    """t, filled with the column v: (r, D) from (r,)."""
    np.copyto(t, v[:, None])
    return t


def repeated(v: Array | None, rows: Array) -> Array | None:
    """The row v as often as a block has rows."""
    return None if v is None else np.tile(v.reshape(1, -1), (height(rows), 1))


class Normalized:
    """What layer norm and RMS norm share. Saved: xhat, 1 / sigma, w."""

    eps: float
    needs: tuple[bool, ...]
    normalized_shape: tuple[int, ...]
    centered: bool
    xhat: Array
    inv: Array
    w: Array | None

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return takes(*arrays)

    def normalize(self, x: Array, w: Array | None, b: Array | None) -> Array:
        d = math.prod(self.normalized_shape)
        rows = np.ascontiguousarray(x).reshape(-1, d)  # (R, D)
        self.xhat, self.inv = empty(rows.shape, x.dtype), np.empty(len(rows), x.dtype)
        self.w = None if w is None else w.reshape(-1)
        y, mean, wide_w, wide_b = (
            empty(rows.shape, x.dtype),
            np.full(d, 1 / d, x.dtype),
            repeated(w, rows),
            repeated(b, rows),
        )

        def work(block: slice) -> None:
            part, xhat, t = rows[block], self.xhat[block], scratch("rows", rows[block].shape, x.dtype)
            if self.centered:
                part = np.subtract(part, across(t, part @ mean), out=xhat)
            inv = np.multiply(part, part, out=t) @ mean
            inv += self.eps
            np.reciprocal(np.sqrt(inv, out=inv), out=self.inv[block])
            np.multiply(part, across(t, self.inv[block]), out=xhat)
            if wide_w is None:
                np.copyto(y[block], xhat)
            else:
                np.multiply(xhat, wide_w[: len(t)], out=y[block])
            if wide_b is not None:
                y[block] += wide_b[: len(t)]

        each_block(rows, work)
        return y.reshape(x.shape)

    def gradients(self, gy: Array) -> tuple[Any, Any, Any]:
        xhat, rows = self.xhat, np.ascontiguousarray(gy).reshape(self.xhat.shape)  # (R, D)
        d, wide_w, ones = rows.shape[1], repeated(self.w, rows), np.ones(height(rows), rows.dtype)
        mean = np.full(d, 1 / d, rows.dtype) if self.w is None else self.w / d
        gx = empty(rows.shape, rows.dtype) if self.needs[0] else None
        gw: dict[int, Array] = {}
        gb: dict[int, Array] = {}

        def work(block: slice) -> None:
            g, h = rows[block], xhat[block]
            t = np.multiply(g, h, out=scratch("rows", g.shape, g.dtype))
            gw[block.start] = ones[: len(g)] @ t  # (D,)
            if self.centered:
                gb[block.start] = ones[: len(g)] @ g  # (D,)
            if gx is None:
                return
            part = np.multiply(h, across(t, -(t @ mean)), out=gx[block])
            if self.centered:
                part -= across(t, g @ mean)
            part += g if wide_w is None else np.multiply(g, wide_w[: len(g)], out=t)
            part *= across(t, self.inv[block])

        each_block(rows, work)
        shape = self.normalized_shape
        sum_w, sum_b = (total(v).astype(rows.dtype).reshape(shape) if v else None for v in (gw, gb))
        return None if gx is None else gx.reshape(gy.shape), sum_w, sum_b


@kernel(LayerNorm, "numpy")
class BlockedLayerNorm(Normalized, LayerNorm):
    """`LayerNorm`, blocked and threaded. Saved: xhat, 1 / sigma, w."""

    centered = True

    def forward(self, x: Array, w: Array | None, b: Array | None) -> Array:
        return self.normalize(x, w, b)

    def backward(self, gy: Array) -> Any:
        return self.gradients(gy)


@kernel(RmsNorm, "numpy")
class BlockedRmsNorm(Normalized, RmsNorm):
    """`RmsNorm`, blocked and threaded. Saved: xhat, 1 / r, w."""

    centered = False

    def forward(self, x: Array, w: Array | None) -> Array:
        return self.normalize(x, w, None)

    def backward(self, gy: Array) -> Any:
        return self.gradients(gy)[:2]


class Distribution:
    """What softmax and its logarithm share: rows along the last axis. Saved: y."""

    y: Array

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        (x,) = arrays
        return options["dim"] in (-1, x.ndim - 1) and x.ndim > 0 and takes(x)

    def spread(self, x: Array, work: Callable[[Array, Array], None]) -> Array:
        """y, filled by work(x's block, y's block)."""
        rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])  # (R, D)
        y = empty(rows.shape, x.dtype)
        each_block(rows, lambda block: work(rows[block], y[block]))
        self.y = y.reshape(x.shape)
        return self.y

    def gradient(self, gy: Array, work: Callable[[Array, Array, Array], None]) -> Array:
        """gx, filled by work(gy's block, y's block, gx's block)."""
        rows = np.ascontiguousarray(gy).reshape(-1, gy.shape[-1])  # (R, D)
        y, gx = self.y.reshape(rows.shape), empty(rows.shape, gy.dtype)
        each_block(rows, lambda block: work(rows[block], y[block], gx[block]))
        return gx.reshape(gy.shape)


@kernel(Softmax, "numpy")
class BlockedSoftmax(Distribution, Softmax):
    """`Softmax` along the last axis, blocked and threaded. Saved: y."""

    def forward(self, x: Array) -> Array:
        def work(x: Array, y: Array) -> None:
            t, ones = scratch("rows", x.shape, x.dtype), np.ones(x.shape[1], x.dtype)
            np.subtract(x, across(t, x.max(axis=1)), out=y)
            np.exp(y, out=y)
            y *= across(t, 1 / (y @ ones))

        return self.spread(x, work)

    def backward(self, gy: Array) -> Array:
        def work(gy: Array, y: Array, gx: Array) -> None:
            t, ones = scratch("rows", y.shape, y.dtype), np.ones(y.shape[1], y.dtype)
            np.multiply(gy, y, out=t)
            np.subtract(gy, across(t, t @ ones), out=gx)
            gx *= y

        return self.gradient(gy, work)


@kernel(LogSoftmax, "numpy")
class BlockedLogSoftmax(Distribution, LogSoftmax):
    """`LogSoftmax` along the last axis, blocked and threaded. Saved: y."""

    def forward(self, x: Array) -> Array:
        def work(x: Array, y: Array) -> None:
            t, ones = scratch("rows", x.shape, x.dtype), np.ones(x.shape[1], x.dtype)
            np.subtract(x, across(t, x.max(axis=1)), out=y)
            np.exp(y, out=t)
            y -= across(t, np.log(t @ ones))

        return self.spread(x, work)

    def backward(self, gy: Array) -> Array:
        def work(gy: Array, y: Array, gx: Array) -> None:
            t, ones = scratch("rows", y.shape, y.dtype), np.ones(y.shape[1], y.dtype)
            np.exp(y, out=gx)
            gx *= across(t, -(gy @ ones))
            gx += gy

        return self.gradient(gy, work)
