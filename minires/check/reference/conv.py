"""Convolution, one multiplication at a time."""

from __future__ import annotations

import numpy as np

from minires.backend import Array

Pair = tuple[int, int]


def conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """y[n, o, i, j] = b[o] + sum_{c, k, l} w[o, c, k, l] x[n, first + c, s i + d k - p, s j + d l - p]."""
    (N, _, H, W), (OC, C, KH, KW) = x.shape, w.shape
    (sh, sw), (ph, pw), (dh, dw) = stride, padding, dilation
    OH = (H + 2 * ph - dh * (KH - 1) - 1) // sh + 1
    OW = (W + 2 * pw - dw * (KW - 1) - 1) // sw + 1
    y = np.zeros((N, OC, OH, OW))
    for n, o, i, j in np.ndindex(y.shape):
        first = o // (OC // groups) * C  # the first channel that o's group sees
        for c in range(C):
            for k in range(KH):
                for m in range(KW):
                    row, column = sh * i + dh * k - ph, sw * j + dw * m - pw
                    if 0 <= row < H and 0 <= column < W:  # beyond lies padding, which is 0
                        y[n, o, i, j] += w[o, c, k, m] * x[n, first + c, row, column]
        if b is not None:
            y[n, o, i, j] += b[o]
    return y


def conv1d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Array:
    """y[n, o, i] = b[o] + sum_{c, k} w[o, c, k] x[n, first + c, s i + d k - p]."""
    (N, _, L), (OC, C, K) = x.shape, w.shape
    y = np.zeros((N, OC, (L + 2 * padding - dilation * (K - 1) - 1) // stride + 1))
    for n, o, i in np.ndindex(y.shape):
        first = o // (OC // groups) * C
        for c in range(C):
            for k in range(K):
                at = stride * i + dilation * k - padding
                if 0 <= at < L:
                    y[n, o, i] += w[o, c, k] * x[n, first + c, at]
        if b is not None:
            y[n, o, i] += b[o]
    return y


def conv_transpose2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    output_padding: Pair = (0, 0),
    groups: int = 1,
    dilation: Pair = (1, 1),
) -> Array:
    """Each pixel x[n, c, i, j] paints its kernel: y[n, first + o, s i + d k - p, s j + d l - p] += x w[c, o, k, l]."""
    (N, C, H, W), (_, OC, KH, KW) = x.shape, w.shape
    (sh, sw), (ph, pw), (dh, dw) = stride, padding, dilation
    OH = (H - 1) * sh - 2 * ph + dh * (KH - 1) + output_padding[0] + 1
    OW = (W - 1) * sw - 2 * pw + dw * (KW - 1) + output_padding[1] + 1
    y = np.zeros((N, OC * groups, OH, OW))
    if b is not None:
        for o in range(OC * groups):
            y[:, o] = b[o]
    for n, c, i, j in np.ndindex(x.shape):
        first = c // (C // groups) * OC  # the first channel that c's group paints
        for o in range(OC):
            for k in range(KH):
                for m in range(KW):
                    row, column = sh * i + dh * k - ph, sw * j + dw * m - pw
                    if 0 <= row < OH and 0 <= column < OW:
                        y[n, first + o, row, column] += x[n, c, i, j] * w[c, o, k, m]
    return y
