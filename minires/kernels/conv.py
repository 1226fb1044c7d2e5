"""Convolution on NumPy: the formulas of `minires.ops.conv`, block by block, on all cores, channels last.

The plain formula lays out the patches of a whole batch, KH KW times the batch's memory, and so waits for memory.
Here a block is as many images, or rows of one image, as have patches that fit in a core's cache. Its patches are laid
out in a buffer that is used again, and multiplied while they are there:

    y  = P(x) w             P(x): (M, KH KW C), one row an output pixel;  w: (KH KW C, O)
    gx = P(gy) turned w     at stride 1 the gradient is a convolution too, with the kernel turned round,
    gw = x^T P(gy)          and the patches of gy serve both gradients

Where there are few channels, a row of P holds the patches of two neighbors, which share all but a column each, and w
is banded to match. That is a third more products for a 3 x 3 kernel, but a third less to lay out, and BLAS is
quicker with a matrix twice as wide.

Blocks depend on shapes only, and the weights' gradient is summed in block order, so the result does not depend on the
number of threads or on their timing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.layout import channel_sums, channels_last, logical, repeated, total
from minires.kernels.memory import empty
from minires.kernels.threads import each, scratch
from minires.ops.conv import Conv2d, Convolution, ConvTranspose2d, Pair, Shape

CACHE = 1 << 21  # bytes of patches in a block: about a core's second-level cache
SMALL = 1 << 21  # multiplications below which a thread costs more than it saves
NARROW = 16  # output channels up to which two neighbors share a row of the patches


class Look(NamedTuple):
    """How a kernel looks at an image: output (i, j) sees pixel (s i + d k - start, s j + d l - start) at tap (k, l)."""

    kernel: Pair
    stride: Pair
    starts: Pair
    dilation: Pair
    out: Pair
    groups: int


class Piece(NamedTuple):
    """What one call works on: these images, and these rows of their outputs."""

    images: slice
    rows: slice


class Blocked(Convolution):
    """The three maps of `Convolution`, for real numbers of one dtype."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        x, w, b = arrays
        same = x.dtype == w.dtype and (b is None or b.dtype == x.dtype)
        return x.dtype.char in "fd" and same and x.size > 0 and w.size > 0

    def look(self, w: Shape, out: Pair) -> Look:
        starts = self.padding[0][0], self.padding[1][0]
        return Look(w[2:], self.stride, starts, self.dilation, out, self.groups)

    def turned(self, w: Shape, shape: Shape) -> Look | None:
        """How the turned kernel looks at g to make gx: at stride 1, unless O is so large that scattering is cheaper."""
        reach = [d * (k - 1) - p[0] for d, k, p in zip(self.dilation, w[2:], self.padding, strict=True)]
        if self.stride != (1, 1) or min(reach) < 0 or w[0] > 2 * shape[1]:
            return None
        return Look(w[2:], (1, 1), (reach[0], reach[1]), self.dilation, shape[2:], self.groups)

    def correlate(self, x: Array, w: Array, out: Pair, b: Array | None = None) -> Array:
        return logical(sweep(channels_last(x), self.look(w.shape, out), w, b)[0])

    def weigh(self, x: Array, g: Array, shape: Shape) -> Array:
        return sweep(channels_last(x), self.look(shape, g.shape[2:]), against=channels_last(g))[1]

    def spread(self, g: Array, w: Array, shape: Shape) -> Array:
        look, rows = self.turned(w.shape, shape), channels_last(g)  # (N, OH, OW, O)
        if look is not None:
            return logical(sweep(rows, look, turn(w, self.groups))[0])
        gx = np.zeros((shape[0], *shape[2:], shape[1]), g.dtype)  # (N, H, W, C)
        back, taps = by_taps(w, self.groups).swapaxes(1, 2), list(self.taps(w.shape[2:], g.shape[2:], shape[2:]))

        def work(i: int, piece: Piece) -> None:
            part, under = rows[piece.images], gx[piece.images]
            shares = scratch("patches", (*part.shape[:3], self.groups, *w.shape[2:], w.shape[1]), g.dtype)
            multiply(part.reshape(-1, w.shape[0]), back, shares.reshape(-1, back.shape[0] * back.shape[2]))
            for k, m, (_, *seen), (_, *pixels) in taps:
                share = shares[:, :, :, :, k, m].reshape(*part.shape[:3], shape[1])
                under[:, *pixels] += share[:, *seen]

        row = g.shape[3] * shape[1] * w.shape[2] * w.shape[3]
        each_piece(shape[0], g.shape[2], row * g.itemsize, row * w.shape[0] // self.groups, work, by_rows=False)
        return logical(gx)


@kernel(Conv2d, "numpy")
class BlockedConv2d(Blocked, Conv2d):
    """`Conv2d`, blocked and threaded; at stride 1 the patches of gy are laid out once for both gradients."""

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        self.x, self.w = x, w
        axes = zip(x.shape[2:], self.padding, self.dilation, w.shape[2:], self.stride, strict=True)
        oh, ow = ((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in axes)
        return self.correlate(x, w, (oh, ow), b)  # (N, O, OH, OW)

    def backward(self, gy: Array) -> Any:
        g, w = channels_last(gy), self.w
        look = self.turned(w.shape, self.x.shape)
        if look is not None and self.needs[0] and self.needs[1]:
            gx, gw = sweep(g, look, turn(w, self.groups), against=channels_last(self.x))
            gx, gw = logical(gx), turn(gw, self.groups)
        else:
            gx = self.spread(gy, w, self.x.shape) if self.needs[0] else None
            gw = self.weigh(self.x, gy, w.shape) if self.needs[1] else None
        return gx, gw, channel_sums(g) if self.needs[2] else None


@kernel(ConvTranspose2d, "numpy")
class BlockedConvTranspose2d(Blocked, ConvTranspose2d):
    """`ConvTranspose2d`, blocked and threaded."""


def sweep(
    x: Array, look: Look, w: Array | None = None, b: Array | None = None, against: Array | None = None
) -> tuple[Any, Any]:
    """Lays out the patches of x once and makes of them, where asked for, y = P(x) w + b and gw = P(x)^T g.

    Shapes    x: (N, H, W, C); w and gw: (O, C / groups, KH, KW); b: (O,); g = against and y: (N, OH, OW, O)
    """
    channels = 0 if w is None else w.shape[0]
    channels = channels if against is None else against.shape[3]
    neighbors = 2 if pairs_up(look, channels) else 1
    y: Any = None
    matrix: Any = None
    if w is not None:
        y = empty((x.shape[0], *look.out, channels), x.dtype)  # (N, OH, OW, O)
        matrix = by_taps(w, look.groups) if neighbors == 1 else banded(w)
    parts: dict[int, Array] = {}

    def work(i: int, piece: Piece) -> None:
        rows = lay_out(x, piece, look, neighbors)  # (M / neighbors, groups R)
        if matrix is not None:
            out = y[piece]
            multiply(rows, matrix, out.reshape(rows.shape[0], -1))
            if b is not None:
                folds = out.reshape(-1, out.shape[2] * channels)
                folds += repeated(b, folds.shape[1])
        if against is not None:
            parts[i] = match(rows, against[piece].reshape(rows.shape[0], -1), look.groups)  # (groups, R, O / groups)

    row = look.out[1] * x.shape[3] * look.kernel[0] * look.kernel[1]
    each_piece(x.shape[0], look.out[0], row * x.itemsize, row * channels // look.groups, work)
    if against is None:
        return y, None
    shape = channels, x.shape[3] // look.groups, *look.kernel
    return y, (from_taps if neighbors == 1 else from_banded)(total(parts).astype(x.dtype), shape)


def lay_out(x: Array, piece: Piece, look: Look, neighbors: int) -> Array:
    """The patches of a piece, one row for each `neighbors` output pixels: (M / neighbors, groups R).

    They lie in this thread's buffer, or for a 1 x 1 kernel in x itself.
    """
    x, c = x[piece.images], x.shape[3] // look.groups  # (B, H, W, C)
    (kh, kw), (down, right), (below, beside) = look.kernel, look.stride, look.dilation
    height = piece.rows.stop - piece.rows.start
    top, left = down * piece.rows.start - look.starts[0], -look.starts[1]
    seen = down * (height - 1) + below * (kh - 1) + 1, right * (look.out[1] - 1) + beside * (kw - 1) + 1
    if top < 0 or left < 0 or top + seen[0] > x.shape[1] or left + seen[1] > x.shape[2]:
        x = framed(x, top, left, seen)
    else:
        x = x[:, top : top + seen[0], left : left + seen[1]]
    if look.kernel == (1, 1) == look.stride and x.flags.c_contiguous:
        return x.reshape(-1, x.shape[3])
    a, p, q, e = x.strides
    shape = x.shape[0], height, look.out[1] // neighbors, look.groups, kh, kw + neighbors - 1, c
    rows = scratch("patches", shape, x.dtype)
    rows[...] = as_strided(x, shape, (a, down * p, neighbors * right * q, c * e, below * p, beside * q, e))
    return rows.reshape(math.prod(shape[:3]), math.prod(shape[3:]))


def framed(x: Array, top: int, left: int, size: Pair) -> Array:
    """The pixels from (top, left) on, (B, *size, C), in this thread's buffer; 0 where the image has none."""
    frame = scratch("frame", (x.shape[0], *size, x.shape[3]), x.dtype)
    first, last = inside(top, size[0], x.shape[1])
    begin, end = inside(left, size[1], x.shape[2])
    frame[:, :first] = frame[:, last:] = 0
    frame[:, first:last, :begin] = frame[:, first:last, end:] = 0
    frame[:, first:last, begin:end] = x[:, top + first : top + last, left + begin : left + end]
    return frame


def inside(offset: int, size: int, image: int) -> tuple[int, int]:
    """On one axis: which of the pixels offset ... offset + size - 1 the image has, counted from offset."""
    first = min(max(0, -offset), size)
    return first, max(first, min(size, image - offset))


# --- the weights as matrices --------------------------------------------------------------------------


def by_taps(w: Array, groups: int) -> Array:
    """(O, C / groups, KH, KW) as (groups, R, O / groups), with R = KH KW C / groups in the order of the patches."""
    o, c, kh, kw = w.shape
    split = w.reshape(groups, o // groups, c, kh, kw).transpose(0, 3, 4, 2, 1)
    return np.ascontiguousarray(split).reshape(groups, kh * kw * c, o // groups)


def from_taps(matrix: Array, shape: Shape) -> Array:
    """The inverse of `by_taps`."""
    c, kh, kw = shape[1:]
    split = matrix.reshape(-1, kh, kw, c, matrix.shape[2]).transpose(0, 4, 3, 1, 2)
    return np.ascontiguousarray(split).reshape(shape)


def banded(w: Array) -> Array:
    """The weights for two neighbors at once, (1, KH (KW + 1) C, 2 O): the second's lie one pixel further right."""
    o, c, kh, kw = w.shape
    wide = np.zeros((kh, kw + 1, c, 2, o), w.dtype)
    wide[:, :-1, :, 0] = wide[:, 1:, :, 1] = w.transpose(2, 3, 1, 0)
    return wide.reshape(1, kh * (kw + 1) * c, 2 * o)


def from_banded(matrix: Array, shape: Shape) -> Array:
    """The transpose of `banded`: what both neighbors say of each weight, added."""
    o, c, kh, kw = shape
    wide = matrix.reshape(kh, kw + 1, c, 2, o)
    return np.ascontiguousarray((wide[:, :-1, :, 0] + wide[:, 1:, :, 1]).transpose(3, 2, 0, 1))


def pairs_up(look: Look, channels: int) -> bool:
    """Whether two neighbors share a row of the patches."""
    plain = look.groups == 1 and look.stride[1] == look.dilation[1] == 1
    return plain and channels <= NARROW and look.kernel[1] > 1 and look.out[1] % 2 == 0


def turn(w: Array, groups: int) -> Array:
    """(O, C / groups, KH, KW) as (C, O / groups, KH, KW), the kernels turned round: its own inverse."""
    o, c, kh, kw = w.shape
    split = w.reshape(groups, o // groups, c, kh, kw)[..., ::-1, ::-1].swapaxes(1, 2)
    return np.ascontiguousarray(split).reshape(groups * c, o // groups, kh, kw)


def multiply(rows: Array, matrix: Array, out: Array) -> None:
    """out = rows matrix, group by group: (M, groups R), (groups, R, S) and (M, groups S)."""
    if matrix.shape[0] == 1:
        np.matmul(rows, matrix[0], out=out)
        return
    groups = matrix.shape[0]
    split = rows.reshape(-1, groups, matrix.shape[1]).swapaxes(0, 1)  # (groups, M, R)
    np.matmul(split, matrix, out=out.reshape(-1, groups, matrix.shape[2]).swapaxes(0, 1))


def match(rows: Array, g: Array, groups: int) -> Array:
    """rows^T g, group by group: (groups, R, S) of (M, groups R) and (M, groups S)."""
    if groups == 1:
        return (rows.T @ g)[None]
    return np.matmul(
        rows.reshape(len(rows), groups, -1).transpose(1, 2, 0), g.reshape(len(g), groups, -1).swapaxes(0, 1)
    )


# --- blocks -------------------------------------------------------------------------------------------


def each_piece(
    images: int,
    height: int,
    row_bytes: int,
    row_products: int,
    work: Callable[[int, Piece], None],
    by_rows: bool = True,
) -> None:
    """work(i, piece) for pieces whose patches fit in the cache: whole images, or rows of one where it is too large."""
    image_bytes = height * row_bytes
    if images * height * row_products < SMALL:
        work(0, Piece(slice(0, images), slice(0, height)))
        return
    if image_bytes > 2 * CACHE and by_rows:
        size = max(1, CACHE // row_bytes)
        starts = [(n, i) for n in range(images) for i in range(0, height, size)]
        pieces = [Piece(slice(n, n + 1), slice(i, min(height, i + size))) for n, i in starts]
    else:
        size = max(1, min(CACHE // image_bytes, images // 8))
        pieces = [Piece(slice(n, min(images, n + size)), slice(0, height)) for n in range(0, images, size)]
    each(len(pieces), lambda i: work(i, pieces[i]))
