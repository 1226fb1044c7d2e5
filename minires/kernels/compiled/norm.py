"""The passes of batch norm, compiled, on contiguous arrays whose last axis is the channels: (..., C).

Several pixels side by side make a long row, so that the loops over it use whole vectors whatever C is. The statistics
of a piece are taken in two passes while it is in the cache, and pieces are put together in float64 by

    m var = sum over pieces i of  m_i var_i + m_i (mean_i - mean)^2        (Chan, Golub and LeVeque 1983)

where nothing cancels, however far the mean is from 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from minires.backend import Array
from minires.kernels.memory import empty
from minires.kernels.threads import each

ROW = 512  # numbers in a row, about
RUNS = 8  # calls that the pieces of an array are shared out in: each takes the interpreter's lock for a moment
PIECE = 1 << 15  # numbers in a piece: with its like of another array well within a core's second-level cache


def statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of every channel, in float64: (C,) and (C,)."""
    c, row, size = x.shape[-1], _row(x.shape[-1]), _size(x.shape[-1])
    means, squares = np.empty((2, *_shape(x)))
    flat = x.reshape(-1)

    def work(first: int, last: int) -> None:
        _statistics(flat, size, first, last, *np.empty((2, row), x.dtype), means, squares)

    _in_runs(x, work)
    counts = np.diff([*range(0, x.size, size), x.size]) / c  # pixels in each piece
    mean = counts @ means / counts.sum()
    var = (squares.sum(axis=0) + counts @ (means - mean) ** 2) / counts.sum()
    return mean, var


def normalize(x: Array, mean: Array, scale: Array, shift: Array) -> Array:
    """y = (x - mean) scale + shift, channel by channel."""
    y, size = empty(x.shape, x.dtype), _size(x.shape[-1])
    vectors, flat, out = _rows(x, mean, scale, shift), x.reshape(-1), y.reshape(-1)
    _in_runs(x, lambda first, last: _normalize(flat, size * first, size * last, *vectors, out))
    return y


def sums(x: Array, g: Array, mean: Array) -> tuple[Array, Array]:
    """sum(g) and sum(g (x - mean)) of every channel, in float64: (C,) and (C,)."""
    row, size = _row(x.shape[-1]), _size(x.shape[-1])
    plain, weighted = np.empty((2, *_shape(x)))
    (center,), flat, due = _rows(x, mean), x.reshape(-1), g.reshape(-1)

    def work(first: int, last: int) -> None:
        _sums(flat, due, size, first, last, center, *np.empty((2, row), x.dtype), plain, weighted)

    _in_runs(x, work)
    return plain.sum(axis=0), weighted.sum(axis=0)


def project(x: Array, g: Array, mean: Array, slope: Array, offset: Array, scale: Array) -> Array:
    """gx = scale g - slope (x - mean) - offset, channel by channel."""
    gx, size = empty(x.shape, x.dtype), _size(x.shape[-1])
    vectors = _rows(x, mean, slope, offset, scale)
    flat, due, out = x.reshape(-1), g.reshape(-1), gx.reshape(-1)
    _in_runs(x, lambda first, last: _project(flat, due, size * first, size * last, *vectors, out))
    return gx


def channel_sums(g: Array) -> Array:
    """The sum over everything but the channels, in float64: (C,)."""
    row, size, plain, flat = _row(g.shape[-1]), _size(g.shape[-1]), np.empty(_shape(g)), g.reshape(-1)
    _in_runs(g, lambda first, last: _channel_sums(flat, size, first, last, np.empty(row, g.dtype), plain))
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


def _in_runs(x: Array, work: Callable[[int, int], None]) -> None:
    """work(first, last) for runs of the pieces first ... last - 1, on all cores."""
    pieces = _shape(x)[0]
    run = -(-pieces // RUNS)
    each(-(-pieces // run), lambda i: work(i * run, min(pieces, (i + 1) * run)), blas=False)


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
def _statistics(
    x: Array, size: int, first: int, last: int, center: Array, total: Array, means: Array, squares: Array
) -> None:
    """A piece's mean, and its sum of (x - mean)^2, of every channel; center and total: (row,)."""
    for i in range(first, last):
        _channel_sums(x, size, i, i + 1, total, means)
        piece, mean = x[i * size : min(x.size, (i + 1) * size)], means[i]
        pixels = piece.size // mean.size
        for c in range(mean.size):
            mean[c] /= pixels
        for j in range(0, center.size, mean.size):
            for c in range(mean.size):
                center[j + c] = mean[c]
        total[:] = 0
        for r in range(0, piece.size, total.size):
            part = piece[r : r + total.size]
            for j in range(part.size):
                d = part[j] - center[j]
                total[j] += d * d
        _fold(total, squares[i])


@njit(nogil=True, cache=True)
def _channel_sums(g: Array, size: int, first: int, last: int, total: Array, plain: Array) -> None:
    for i in range(first, last):
        piece = g[i * size : min(g.size, (i + 1) * size)]
        total[:] = 0
        for r in range(0, piece.size, total.size):
            part = piece[r : r + total.size]
            for j in range(part.size):
                total[j] += part[j]
        _fold(total, plain[i])


@njit(nogil=True, cache=True, fastmath={"contract"})
def _normalize(x: Array, start: int, stop: int, mean: Array, scale: Array, shift: Array, y: Array) -> None:
    for r in range(start, min(stop, x.size), mean.size):
        part, out = x[r : r + mean.size], y[r : r + mean.size]
        for j in range(part.size):
            out[j] = (part[j] - mean[j]) * scale[j] + shift[j]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _sums(
    x: Array, g: Array, size: int, first: int, last: int,
    mean: Array, one: Array, two: Array, plain: Array, weighted: Array,
) -> None:  # fmt: skip
    for i in range(first, last):
        one[:] = 0
        two[:] = 0
        stop = min(x.size, (i + 1) * size)
        for r in range(i * size, stop, mean.size):
            part, due = x[r : min(stop, r + mean.size)], g[r : min(stop, r + mean.size)]
            for j in range(part.size):
                one[j] += due[j]
                two[j] += due[j] * (part[j] - mean[j])
        _fold(one, plain[i])
        _fold(two, weighted[i])


@njit(nogil=True, cache=True, fastmath={"contract"})
def _project(
    x: Array, g: Array, start: int, stop: int, mean: Array, slope: Array, offset: Array, scale: Array, gx: Array
) -> None:
    for r in range(start, min(stop, x.size), mean.size):
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
