"""Pooling on NumPy, channels last: the formulas of `minires.ops.pool`, a few images at a time in each core's cache."""

from __future__ import annotations

from typing import Any

import numpy as np

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.layout import BLOCK, channels_last, in_slices, logical
from minires.kernels.memory import empty
from minires.kernels.threads import pays, scratch
from minires.ops.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d

WORTH = 1 << 15  # numbers below which a thread costs more than it saves


def takes(x: Array) -> bool:
    return x.size > 0 and pays(x.size, WORTH) and x.dtype.char in "fd"


def images_of(x: Array) -> int:
    """How many images of (N, H, W, C) make a block."""
    return max(1, BLOCK * x.shape[0] // x.size)


def placed(index: tuple[Any, ...]) -> tuple[Any, ...]:
    """The index (..., rows, columns) of (N, C, H, W) as one of (N, H, W, C)."""
    return slice(None), index[1], index[2]


@kernel(MaxPool2d, "numpy")
class BlockedMaxPool2d(MaxPool2d):
    """`MaxPool2d`, blocked and threaded."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return takes(arrays[0])

    def forward(self, x: Array) -> Array:
        self.x, images = x, channels_last(x)  # (N, H, W, C)
        y = empty((x.shape[0], *self.out, x.shape[1]), x.dtype)  # (N, OH, OW, C)

        def work(block: slice) -> None:
            part, seen_by = images[block], y[block]
            seen_by[...] = -np.inf
            for _, _, seen, under in self.taps():
                best = seen_by[placed(seen)]
                np.maximum(best, part[placed(under)], out=best)

        in_slices(x.shape[0], images_of(images), work)
        self.y = logical(y)
        return self.y

    def backward(self, gy: Array) -> Array:
        x, y, g = channels_last(self.x), channels_last(self.y), channels_last(gy)
        gx = empty(x.shape, g.dtype)  # (N, H, W, C)

        def work(block: slice) -> None:
            part, best, due, out = x[block], y[block], g[block], gx[block]
            out[...] = 0
            pending = scratch("pending", due.shape, bool)  # the windows whose winner has not come yet
            pending[...] = True
            for _, _, seen, under in self.taps():
                here, there = placed(seen), placed(under)
                won = part[there] == best[here]
                won &= pending[here]
                pending[here] ^= won
                out[there] += due[here] * won

        in_slices(x.shape[0], images_of(x), work)
        return logical(gx)


@kernel(AvgPool2d, "numpy")
class BlockedAvgPool2d(AvgPool2d):
    """`AvgPool2d`, blocked and threaded."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return takes(arrays[0])

    def forward(self, x: Array) -> Array:
        self.shape, images = x.shape, channels_last(x)  # (N, H, W, C)
        share = np.asarray(self.share, x.dtype)
        self.weight = share if share.ndim == 0 else share[:, :, None]  # (OH, OW, 1)
        y = empty((x.shape[0], *self.out, x.shape[1]), x.dtype)  # (N, OH, OW, C)

        def work(block: slice) -> None:
            part, sums = images[block], y[block]
            sums[...] = 0
            for _, _, seen, under in self.taps():
                sums[placed(seen)] += part[placed(under)]
            sums *= self.weight

        in_slices(x.shape[0], images_of(images), work)
        return logical(y)

    def backward(self, gy: Array) -> Array:
        g = channels_last(gy)  # (N, OH, OW, C)
        n, c, h, w = self.shape
        gx = empty((n, h, w, c), g.dtype)

        def work(block: slice) -> None:
            out, shares = gx[block], scratch("shares", g[block].shape, g.dtype)
            np.multiply(g[block], self.weight, out=shares)
            out[...] = 0
            for _, _, seen, under in self.taps():
                out[placed(under)] += shares[placed(seen)]

        in_slices(n, images_of(gx), work)
        return logical(gx)


@kernel(GlobalAvgPool2d, "numpy")
class BlockedGlobalAvgPool2d(GlobalAvgPool2d):
    """`GlobalAvgPool2d`, channels last: the sum over the pixels is a product with ones."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return takes(arrays[0])

    def forward(self, x: Array) -> Array:
        self.shape = n, c, h, w = x.shape
        pixels, ones = channels_last(x).reshape(n, h * w, c), np.full(h * w, 1 / (h * w), x.dtype)
        y = np.empty((n, c), x.dtype)

        def work(block: slice) -> None:
            np.matmul(ones, pixels[block], out=y[block])

        in_slices(n, max(1, BLOCK * n // x.size), work)
        return y.reshape(n, c, 1, 1)
