"""Pooling, one window at a time."""

from __future__ import annotations

import math

import numpy as np

from minires.backend import Array

Pair = tuple[int, int]


def max_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool = False) -> Array:
    """y[n, c, i, j] = max over (k, l) of x[n, c, s i + d k - p, s j + d l - p], where there is such a pixel."""
    N, C, H, W = x.shape
    y = np.full((N, C, *_out(x, kernel, stride, padding, dilation, ceil_mode)), -np.inf)
    for n, c, i, j in np.ndindex(y.shape):
        for k in range(kernel[0]):
            for m in range(kernel[1]):
                row = stride[0] * i + dilation[0] * k - padding[0]
                column = stride[1] * j + dilation[1] * m - padding[1]
                if 0 <= row < H and 0 <= column < W and x[n, c, row, column] > y[n, c, i, j]:
                    y[n, c, i, j] = x[n, c, row, column]
    return y


def avg_pool2d(
    x: Array,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """y[n, c, i, j] = mean over (k, l) of x[n, c, s i + k - p, s j + l - p], where padding is 0, or does not count."""
    N, C, H, W = x.shape
    y = np.zeros((N, C, *_out(x, kernel, stride, padding, (1, 1), ceil_mode)))
    for n, c, i, j in np.ndindex(y.shape):
        counted = 0
        for k in range(kernel[0]):
            for m in range(kernel[1]):
                row, column = stride[0] * i + k - padding[0], stride[1] * j + m - padding[1]
                inside = 0 <= row < H and 0 <= column < W
                if inside:
                    y[n, c, i, j] += x[n, c, row, column]
                if inside or (count_include_pad and row < H + padding[0] and column < W + padding[1]):
                    counted += 1
        y[n, c, i, j] /= divisor_override or counted
    return y


def adaptive_avg_pool2d(x: Array, output_size: Pair) -> Array:
    """y[n, c, i, j] = mean of the rows floor(i H / OH) ... ceil((i + 1) H / OH) - 1, and of such columns."""
    N, C, H, W = x.shape
    OH, OW = output_size
    y = np.zeros((N, C, OH, OW))
    for n, c, i, j in np.ndindex(y.shape):
        rows = range(math.floor(i * H / OH), math.ceil((i + 1) * H / OH))
        columns = range(math.floor(j * W / OW), math.ceil((j + 1) * W / OW))
        for h in rows:
            for w in columns:
                y[n, c, i, j] += x[n, c, h, w] / (len(rows) * len(columns))
    return y


def _out(x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool) -> list[int]:
    """How many windows fit on each axis: they start at -p, s - p, 2 s - p, ..."""
    out = []
    for n, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True):
        starts = range(-p, n + p - d * (k - 1), s)  # of the windows that end within the padding
        covered = starts[-1] + d * (k - 1) + 1
        hangs_over = ceil_mode and covered < n + p and starts[-1] + s < n  # something is left, and one starts inside
        out.append(len(starts) + hangs_over)
    return out
