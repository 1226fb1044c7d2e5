"""Convolution, compiled: the three maps of `minires.ops.conv` on contiguous channels-last arrays.

Each thread copies a few rows at a time into a frame, padding and all, and multiplies from there: there are no patches.
Pieces depend on shapes only, and the weights' gradient is summed in the order of its blocks, so the result does not
depend on the number of threads or on their timing.
"""

from __future__ import annotations

import numpy as np

from minires.backend import Array
from minires.kernels.compiled import conv_loops as loops
from minires.kernels.compiled import plan
from minires.kernels.compiled.plan import BLOCK, Plan
from minires.kernels.compiled.tile import PIXELS, lanes
from minires.kernels.memory import empty
from minires.kernels.threads import each, scratch
from minires.ops.conv import Pair

CALLS = 32  # at most, of a compiled function: enough for many cores
LINE = 64  # bytes
SMALL = 1 << 20  # multiplications below which a second thread costs more than it saves


def correlate(x: Array, w: Array, b: Array | None, stride: Pair, starts: Pair, dilation: Pair, out: Pair) -> Array:
    """y[n, i, j, o] = b[o] + sum over c, k, l of w[o, c, k, l] x[n, s i + d k - start, s j + d l - start, c].

    Shapes    x: (N, H, W, C), contiguous; w: (O, C, KH, KW); b: (O,) or None; y: (N, *out, O)
    """
    scheme = plan.forward(x.shape, w.shape[0], w.shape[2:], stride, starts, dilation, out, x.itemsize)
    return _run(x, w, b, scheme, False)


def spread(g: Array, w: Array, b: Array | None, stride: Pair, starts: Pair, dilation: Pair, image: Pair) -> Array:
    """The transpose: x[n, h, v, c] = b[c] + the sum of w[o, c, k, l] g[n, i, j, o] where h = s i + d k - start, ...

    Shapes    g: (N, OH, OW, O), contiguous; w: (O, C, KH, KW); b: (C,) or None; x: (N, *image, C)
    """
    scheme = plan.backward(g.shape, w.shape[1], w.shape[2:], stride, starts, dilation, image, g.itemsize)
    return _run(g, w, b, scheme, True)


def weigh(x: Array, g: Array, kernel: Pair, stride: Pair, starts: Pair, dilation: Pair) -> Array:
    """gw[o, c, k, l] = sum over n, i, j of g[n, i, j, o] x[n, s i + d k - start, s j + d l - start, c].

    Shapes    x: (N, H, W, C) and g: (N, OH, OW, O), contiguous; gw: (O, C, *kernel)
    """
    o, c = g.shape[3], x.shape[3]
    scheme = plan.forward(x.shape, o, kernel, stride, starts, dilation, g.shape[1:3], x.itemsize)
    grid, n = scheme.grid, lanes(x.itemsize)
    size = _packed(o, c, len(scheme.taps), n)
    runs = plan.blocks_of(grid, grid.pieces(), size * x.itemsize)
    if _small(scheme):
        runs = [(0, grid.pieces())]
    parts = empty((len(runs), size), x.dtype)
    flat, against = x.reshape(-1), g.reshape(-1)
    rows = grid.group * grid.strip

    def work(i: int) -> None:
        copy = scratch("copy", (rows * grid.out_width * (-(-o // n) * n) if o % n else 0,), x.dtype)
        table = scratch("table", (rows,), np.int64)
        loops.weigh(flat, against, parts[i], _frame(scheme, x), copy, table, scheme.taps, n, grid, *runs[i])

    each(len(runs), work, blas=False)
    gw = np.empty((o, c, *kernel), x.dtype)
    loops.unpack(parts.sum(axis=0), n, gw.reshape(o, c, -1))
    return gw


def _run(x: Array, w: Array, b: Array | None, scheme: Plan, swapped: bool) -> Array:
    grid, n = scheme.grid, lanes(x.itemsize)
    packed = _aligned(_packed(grid.filters, grid.channels, len(scheme.taps), n), x)
    kernels = np.ascontiguousarray(w).reshape(*w.shape[:2], -1)
    loops.pack(kernels, scheme.order, swapped, n, packed)
    bias = np.empty(0, x.dtype) if b is None else np.ascontiguousarray(b)
    y = empty((grid.images, grid.out_height, grid.out_width, grid.filters), x.dtype)
    flat, out, pieces = x.reshape(-1), y.reshape(-1), grid.pieces()
    size = pieces if _small(scheme) else -(-pieces // CALLS)

    def work(i: int) -> None:
        spare = scratch("spare", (2 * PIXELS * n,), x.dtype)
        loops.correlate(
            flat, packed, bias, out, _frame(scheme, x), spare, scheme.taps, scheme.parts, n, grid,
            i * size, min(pieces, (i + 1) * size),
        )  # fmt: skip

    each(-(-pieces // size), work, blas=False)
    return y


def _frame(scheme: Plan, x: Array) -> Array:
    """This thread's frames, and what a tile may read beyond the last of them."""
    grid = scheme.grid
    return _aligned(grid.group * grid.size + PIXELS * BLOCK, x, "frame")


def _aligned(size: int, x: Array, name: str | None = None) -> Array:
    """Uninitialized numbers that start with a cache line, which a vector then never straddles."""
    shape = (size + LINE // x.itemsize,)
    held = np.empty(shape, x.dtype) if name is None else scratch(name, shape, x.dtype)
    skip = -held.ctypes.data % LINE // x.itemsize
    return held[skip : skip + size]


def _packed(filters: int, channels: int, taps: int, vector: int) -> int:
    return -(-filters // vector) * vector * -(-channels // BLOCK) * BLOCK * taps


def _small(scheme: Plan) -> bool:
    g = scheme.grid
    pixels = min(g.height * g.width, g.out_height * g.out_width)
    return g.images * g.channels * g.filters * len(scheme.taps) * pixels < SMALL


def warm_up(dtype: type) -> None:
    """Compiles everything here for one dtype, or takes it from the cache."""
    x: Array = np.ones((1, 1, 1, 1), dtype)
    look = (1, 1), (0, 0), (1, 1)
    correlate(x, x, None, *look, (1, 1))
    weigh(x, x, (1, 1), *look)
