"""Convolution on NumPy: the formulas of `minires.ops.conv`, block by block, on all cores.

The plain formula lays out the patches of a whole batch, KH KW times the batch's memory, and so waits for memory.
Here a block is as many images as have patches that fit in a core's cache. They are laid out in a buffer
that is used again, and multiplied while they are there. Blocks depend on shapes only, and the weights'
gradient is summed in block order, so the result does not depend on the number of threads or on their timing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.threads import each, scratch
from minires.ops.conv import Conv2d, Convolution, ConvTranspose2d, Pair, Shape

CACHE = 1 << 20  # bytes of patches in a block: half of a core's second-level cache, on most machines
SMALL = 1 << 21  # multiplications below which a thread costs more than it saves


class Blocked(Convolution):
    """The three maps of `Convolution`, for one group and real numbers of one dtype."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        x, w, b = arrays
        return (
            options["groups"] == 1
            and x.dtype.char in "fd"
            and x.dtype == w.dtype
            and (b is None or b.dtype == x.dtype)
            and x.size > 0
        )

    def correlate(self, x: Array, w: Array, out: Pair) -> Array:
        starts = self.padding[0][0], self.padding[1][0]
        return slide(x, w, self.stride, starts, self.dilation, out)

    def spread(self, g: Array, w: Array, shape: Shape) -> Array:
        reach = [d * (k - 1) - p[0] for d, k, p in zip(self.dilation, w.shape[2:], self.padding, strict=True)]
        # At stride 1 this is a convolution itself, with the kernel turned round. That reads O channels and adds
        # none, while the scatter below adds C: where O is much larger, it is the cheaper way.
        if self.stride == (1, 1) and min(reach) >= 0 and w.shape[0] <= 2 * w.shape[1]:
            turned = w[:, :, ::-1, ::-1].swapaxes(0, 1)  # (C, O, KH, KW)
            return slide(g, turned, (1, 1), (reach[0], reach[1]), self.dilation, shape[2:])
        gx = np.empty(shape, g.dtype)  # (N, C, H, W)
        columns = np.ascontiguousarray(w.reshape(w.shape[0], -1).T)  # (R, O)
        flat = g.reshape(*g.shape[:2], -1)  # (N, O, L)

        def work(block: slice) -> None:
            rows = scratch("rows", (block.stop - block.start, columns.shape[0], flat.shape[2]), g.dtype)
            np.matmul(columns, flat[block], out=rows)  # (B, R, L)
            taken, part = rows.reshape(-1, *w.shape[1:], *g.shape[2:]), gx[block]  # (B, C, KH, KW, OH, OW)
            part[...] = 0
            for k, m, seen, under in self.taps(w.shape[2:], g.shape[2:], shape[2:]):
                part[under] += taken[:, :, k, m][seen]

        in_blocks(g.shape[0], columns.shape[0] * flat.shape[2] * g.itemsize, w.shape[0], work)
        return gx

    def weigh(self, x: Array, g: Array, shape: Shape) -> Array:
        starts, flat = (self.padding[0][0], self.padding[1][0]), g.reshape(*g.shape[:2], -1)  # (N, O, L)
        parts: dict[int, Array] = {}

        def work(block: slice) -> None:
            rows = lay_out(x[block], shape[2:], self.stride, starts, self.dilation, g.shape[2:])  # (B, R, L)
            parts[block.start] = np.matmul(rows, flat[block].swapaxes(1, 2)).sum(axis=0)  # (R, O): BLAS's better side

        in_blocks(x.shape[0], patch_bytes(x, shape[2:], g.shape[2:]), shape[0], work)
        gw = parts.pop(0)
        for start in sorted(parts):
            gw += parts[start]
        return np.ascontiguousarray(gw.T).reshape(shape)  # (O, C, KH, KW)


@kernel(Conv2d, "numpy")
class BlockedConv2d(Blocked, Conv2d):
    """`Conv2d`, blocked and threaded."""


@kernel(ConvTranspose2d, "numpy")
class BlockedConvTranspose2d(Blocked, ConvTranspose2d):
    """`ConvTranspose2d`, blocked and threaded."""


def slide(x: Array, w: Array, stride: Pair, starts: Pair, dilation: Pair, out: Pair) -> Array:
    """y[n, o, i, j] = sum of w[o, c, k, l] x[n, c, s i + d k - start, s j + d l - start]."""
    y = np.empty((x.shape[0], w.shape[0], *out), x.dtype)  # (N, O, OH, OW)
    flat, matrix = y.reshape(*y.shape[:2], -1), w.reshape(w.shape[0], -1)  # (N, O, L), (O, R)

    def work(block: slice) -> None:
        np.matmul(matrix, lay_out(x[block], w.shape[2:], stride, starts, dilation, out), out=flat[block])

    in_blocks(x.shape[0], patch_bytes(x, w.shape[2:], out), w.shape[0], work)
    return y


def lay_out(x: Array, kernel: Pair, stride: Pair, starts: Pair, dilation: Pair, out: Pair) -> Array:
    """`Convolution.patches` of a block in this thread's buffers: (B, R, L) with R = C KH KW."""
    n, c = x.shape[:2]
    seen = [s * (o - 1) + d * (k - 1) + 1 for s, o, d, k in zip(stride, out, dilation, kernel, strict=True)]
    if starts != (0, 0) or seen[0] > x.shape[2] or seen[1] > x.shape[3]:
        x = framed(x, starts, (seen[0], seen[1]))
    if kernel == (1, 1) == stride:
        return x[:, :, : seen[0], : seen[1]].reshape(n, c, seen[0] * seen[1])
    a, b, p, q = x.strides
    strides = a, b, dilation[0] * p, dilation[1] * q, stride[0] * p, stride[1] * q
    rows = scratch("rows", (n, c, *kernel, *out), x.dtype)
    rows[...] = as_strided(x, rows.shape, strides)  # (B, C, KH, KW, OH, OW)
    return rows.reshape(n, c * kernel[0] * kernel[1], out[0] * out[1])


def framed(x: Array, starts: Pair, size: Pair) -> Array:
    """x with zeros around it, in this thread's buffer: (B, C, *size), its first pixel at `starts`."""
    frame = scratch("frame", (*x.shape[:2], *size), x.dtype)
    (top, left), (bottom, right) = starts, (p + n for p, n in zip(starts, x.shape[2:], strict=True))
    frame[:, :, :top] = frame[:, :, bottom:] = 0
    frame[:, :, top:bottom, :left] = frame[:, :, top:bottom, right:] = 0
    inside = frame[:, :, top:bottom, left:right]
    inside[...] = x[:, :, : inside.shape[2], : inside.shape[3]]
    return frame


def patch_bytes(x: Array, kernel: Pair, out: Pair) -> int:
    """What the patches of one image take."""
    return x.shape[1] * kernel[0] * kernel[1] * out[0] * out[1] * x.itemsize


def in_blocks(images: int, image_bytes: int, channels: int, work: Callable[[slice], None]) -> None:
    """work(block) for consecutive slices of the batch, each with as many images as fit in the cache."""
    if images * image_bytes * channels < SMALL * 4:
        work(slice(0, images))
        return
    size = max(1, min(CACHE // image_bytes, images // 8))
    starts = range(0, images, size)
    each(len(starts), lambda i: work(slice(starts[i], min(images, starts[i] + size))))
