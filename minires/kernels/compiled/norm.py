"""The passes of batch norm, compiled, on contiguous arrays whose last axis is the channels: (..., C).

Several pixels side by side make a long row, so that the loops over it use whole vectors whatever C is. The statistics
of a piece are taken in two passes while it is in the cache, and pieces are put together in float64 by

    m var = sum over pieces i of  m_i var_i + m_i (mean_i - mean)^2        (Chan, Golub and LeVeque 1983)

where nothing cancels, however far the mean is from 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from minires.backend import Array
from minires.kernels.memory import empty
from minires.kernels.threads import each

ROW = 512  # numbers in a row, about
PIECE = 1 << 15  # numbers in a piece: with its like of another array well within a core's second-level cache


def statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of every channel, in float64: (C,) and (C,)."""
    c = x.shape[-1]
    means, squares = np.empty((2, *_shape(x)))
    _in_pieces(x, lambda i, row, part: _statistics(part, *np.empty((2, row), x.dtype), means[i], squares[i]), x)
    counts = np.diff([*range(0, x.size, _size(c)), x.size]) / c  # pixels in each piece
    mean = counts @ means / counts.sum()
    var = (squares.sum(axis=0) + counts @ (means - mean) ** 2) / counts.sum()
    return mean, var


def normalize(x: Array, mean: Array, scale: Array, shift: Array) -> Array:
    """y = (x - mean) scale + shift, channel by channel."""
    y = empty(x.shape, x.dtype)
    vectors = _rows(x, mean, scale, shift)
    _in_pieces(x, lambda i, row, x, y: _normalize(x, *vectors, y), x, y)
    return y


def sums(x: Array, g: Array, mean: Array) -> tuple[Array, Array]:
    """sum(g) and sum(g (x - mean)) of every channel, in float64: (C,) and (C,)."""
    plain, weighted = np.empty((2, *_shape(x)))
    (center,) = _rows(x, mean)
    _in_pieces(x, lambda i, row, x, g: _sums(x, g, center, *np.empty((2, row), x.dtype), plain[i], weighted[i]), x, g)
    return plain.sum(axis=0), weighted.sum(axis=0)


def project(x: Array, g: Array, mean: Array, slope: Array, offset: Array, scale: Array) -> Array:
    """gx = scale g - slope (x - mean) - offset, channel by channel."""
    gx = empty(x.shape, x.dtype)
    vectors = _rows(x, mean, slope, offset, scale)
    _in_pieces(x, lambda i, row, x, g, gx: _project(x, g, *vectors, gx), x, g, gx)
    return gx


def channel_sums(g: Array) -> Array:
    """The sum over everything but the channels, in float64: (C,)."""
    plain = np.empty(_shape(g))
    _in_pieces(g, lambda i, row, g: _channel_sums(g, np.empty(row, g.dtype), plain[i]), g)
    return plain.sum(axis=0)


# --- pieces -------------------------------------------------------------------------------------------


def _row(c: int) -> int:
    return c * max(1, ROW // c)


def _size(c: int) -> int:
    return _row(c) * max(1, PIECE // _row(c))


def _shape(x: Array) -> tuple[int, int]:
    """Number of pieces, and of channels."""
    return -(-x.size // _size(x.shape[-1])), x.shape[-1]


def _rows(x: Array, *vectors: Array) -> list[Array]:
    """Vectors of one number a channel, repeated to stand beside a row of x and in its dtype."""
    c = x.shape[-1]
    return [np.tile(np.asarray(v, x.dtype), _row(c) // c) for v in vectors]


def _in_pieces(x: Array, work: Callable[..., Any], *arrays: Array) -> None:
    """work(i, length of a row, the i-th piece of each array) on all cores."""
    c = x.shape[-1]
    row, size, flat = _row(c), _size(c), [a.reshape(-1) for a in arrays]
    each(_shape(x)[0], lambda i: work(i, row, *(a[i * size : (i + 1) * size] for a in flat)))


# --- loops --------------------------------------------------------------------------------------------
# `contract` lets the compiler fuse a product and a sum; nothing else of IEEE arithmetic is given up.


@njit(nogil=True, cache=True)
def _fold(long: Array, out: Array) -> None:
    """out[c] = the sum of all entries of a row that belong to channel c."""
    out[:] = 0
    for j in range(0, long.size, out.size):
        for c in range(out.size):
            out[c] += long[j + c]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _statistics(x: Array, center: Array, total: Array, mean: Array, squares: Array) -> None:
    """A piece's mean, and its sum of (x - mean)^2, of every channel; center and total: (row,)."""
    _channel_sums(x, total, mean)
    pixels = x.size // mean.size
    for c in range(mean.size):
        mean[c] /= pixels
    for j in range(0, center.size, mean.size):
        for c in range(mean.size):
            center[j + c] = mean[c]
    total[:] = 0
    for r in range(0, x.size, total.size):
        part = x[r : r + total.size]
        for j in range(part.size):
            d = part[j] - center[j]
            total[j] += d * d
    _fold(total, squares)


@njit(nogil=True, cache=True)
def _channel_sums(g: Array, total: Array, plain: Array) -> None:
    total[:] = 0
    for r in range(0, g.size, total.size):
        part = g[r : r + total.size]
        for j in range(part.size):
            total[j] += part[j]
    _fold(total, plain)


@njit(nogil=True, cache=True, fastmath={"contract"})
def _normalize(x: Array, mean: Array, scale: Array, shift: Array, y: Array) -> None:
    for r in range(0, x.size, mean.size):
        part, out = x[r : r + mean.size], y[r : r + mean.size]
        for j in range(part.size):
            out[j] = (part[j] - mean[j]) * scale[j] + shift[j]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _sums(x: Array, g: Array, mean: Array, first: Array, second: Array, plain: Array, weighted: Array) -> None:
    first[:] = 0
    second[:] = 0
    for r in range(0, x.size, mean.size):
        part, due = x[r : r + mean.size], g[r : r + mean.size]
        for j in range(part.size):
            first[j] += due[j]
            second[j] += due[j] * (part[j] - mean[j])
    _fold(first, plain)
    _fold(second, weighted)


@njit(nogil=True, cache=True, fastmath={"contract"})
def _project(x: Array, g: Array, mean: Array, slope: Array, offset: Array, scale: Array, gx: Array) -> None:
    for r in range(0, x.size, mean.size):
        part, due, out = x[r : r + mean.size], g[r : r + mean.size], gx[r : r + mean.size]
        for j in range(part.size):
            out[j] = due[j] * scale[j] - (part[j] - mean[j]) * slope[j] - offset[j]


def warm_up(dtype: type) -> None:
    """Compiles everything here for one dtype, or takes it from the cache."""
    x: Array = np.ones((2, 4), dtype)
    mean, var = statistics(x)
    sums(x, x, mean)
    channel_sums(x)
    project(x, normalize(x, mean, var, var), mean, mean, mean, mean)
