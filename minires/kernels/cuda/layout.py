"""Arrays in the GPU's memory, and how a grid of threads is laid over them.

CuPy gives every result in C order, whatever its operands' order. The kernels hand on channels-last images as they
came: (N, C, H, W) by shape, with `x.transpose(0, 2, 3, 1)` contiguous, as the convolutions make them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from minires.backend import Array
from minires.kernels.cuda.source import ceil

THREADS = 256  # in a block; the kernels' shared arrays are of this length
BLOCKS = 1024  # in a grid, where each block works on many numbers: about what an H200 holds at once


def is_channels_last(x: Array) -> bool:
    """Whether the channels of a pixel lie together: (N, C, H, W) that is not also in C order."""
    return x.ndim == 4 and not x.flags.c_contiguous and x.transpose(0, 2, 3, 1).flags.c_contiguous


def dense(xp: Any, x: Array) -> Array:
    """x itself where it lies without gaps in C order or channels last, else a copy in C order."""
    return x if x.flags.c_contiguous or is_channels_last(x) else xp.ascontiguousarray(x)


def channels_last(xp: Any, x: Array) -> Array:
    """The same images as a contiguous (N, H, W, C) array: a view where memory allows, else a copy."""
    return xp.ascontiguousarray(x.transpose(0, 2, 3, 1))


def logical(y: Array) -> Array:
    """(N, H, W, C) seen as (N, C, H, W)."""
    return y.transpose(0, 3, 1, 2)


def like(xp: Any, a: Array, x: Array) -> Array:
    """`a` in the memory order of x, which is dense: itself, or a copy."""
    if is_channels_last(x):
        return logical(channels_last(xp, a))
    return a if a.flags.c_contiguous else xp.ascontiguousarray(a)  # which would give a 0-d array an axis


def empty_like(xp: Any, x: Array, dtype: Any = None) -> Array:
    """An uninitialized array in the shape and the memory order of x, which is dense."""
    dtype = x.dtype if dtype is None else dtype
    if not is_channels_last(x):
        return xp.empty(x.shape, dtype)
    n, c, h, w = x.shape
    return logical(xp.empty((n, h, w, c), dtype))


def vector(xp: Any, v: Array | None) -> Array | None:
    """Weights as their kernel reads them, contiguous, or None."""
    return None if v is None else xp.ascontiguousarray(v)


def power(n: int, most: int) -> int:
    """The smallest power of two that is at least n, but not above `most`, which is one too."""
    return min(most, 1 << max(0, n - 1).bit_length())


class Channels(NamedTuple):
    """A dense array of channels as the kernels walk it: (outer, channels, inner), and the grid laid over it."""

    outer: int
    channels: int
    inner: int
    lanes: int  # neighboring threads that share out the inner axis
    parts: int  # blocks that share out the outer axis
    grid: tuple[int, int]
    block: tuple[int, int]

    @property
    def axes(self) -> tuple[int, int, int, int]:
        """What every kernel over channels takes last."""
        return self.outer, self.channels, self.inner, self.lanes


def by_channel(x: Array) -> Channels:
    """How to walk a dense x, (N, C, *), channel by channel, in the order of its memory."""
    n, c, length = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    outer, inner = (n * length, 1) if is_channels_last(x) else (n, length)
    across = power(c, 32) if inner == 1 else 1  # threads that take neighboring channels
    lanes = power(inner, THREADS // across)
    tiles = ceil(c, across)
    parts = min(ceil(outer, THREADS // across // lanes), max(1, BLOCKS // tiles))
    return Channels(outer, c, inner, lanes, parts, (tiles, parts), (across, THREADS // across))


def columns(count: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Grid and block with one column of 256 / 32 threads, or more, for each of `count` columns of a matrix."""
    across = power(count, 32)
    return (ceil(count, across), 1), (across, THREADS // across)


def row_block(length: int) -> tuple[int]:
    """A block for one row: whole warps, about four numbers a thread."""
    return (max(32, power(ceil(length, 4), 512)),)
