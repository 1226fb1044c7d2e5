"""Where a convolution's numbers lie: the frame that a few rows of an image are copied into, and its taps.

The frame holds the rows and columns that the outputs of a piece see, padding included, in blocks of 16 channels:

    frame[block of channels, row, column mod s, column div s, channel in block]

with s the stride. So from one output to the next beside it every tap moves on by 16 numbers, whatever the stride,
the dilation and the number of channels are: one loop serves all convolutions, and only a table of the taps differs.

A *grid* of positions (u, v) covers the outputs. At (u, v) a tap reads the pixel (f u + i, f v + j), and what the taps
give is written to the output pixel (e u + k, e v + l), with

    forward           f = stride, e = 1, one set of taps
    input gradient    f = 1, e = stride: the pixels of each remainder modulo the stride are seen by taps of their own
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from minires.backend import Array
from minires.ops.conv import Pair, Shape

BLOCK = 16  # channels side by side in a frame
FRAME = 1 << 17  # bytes of a frame: well within a core's second-level cache
PIECES = 8  # at least so many pieces of a batch, where it has as many images, so that all cores have work


class Grid(NamedTuple):
    """The sizes that the loops need. "Rows" and "columns" without more are those of the grid."""

    images: int
    height: int  # of the image that is read
    width: int
    channels: int
    out_height: int  # of the image that is written
    out_width: int
    filters: int
    down: int  # pixels read further on for each row, and for each column
    right: int
    below: int  # pixels written further on for each row, and for each column
    beside: int
    top: int  # pixel row that the first frame row holds at grid row 0
    left: int  # pixel column that the first frame column holds
    first_row: int
    last_row: int
    first_column: int
    strip: int  # grid rows in a piece
    strips: int  # pieces that an image is cut into
    group: int  # images in a piece
    rows: int  # of a frame
    columns: int  # of a frame, of each remainder modulo `right`
    size: int  # numbers in a frame

    def pieces(self) -> int:
        return -(-self.images // self.group) * self.strips


class Plan(NamedTuple):
    """A grid, the offset of each tap in its frame, and for each part of the outputs which taps it sees.

    order    (T,) the taps' places in the kernel, counted row by row, in the order of the parts
    taps     (T,) their offsets in a frame
    parts    (., 9) first tap, number of taps, first and last row, first and last column, k, l, whether each three
             taps stand side by side
    """

    grid: Grid
    order: Array
    taps: Array
    parts: Array


class _Part(NamedTuple):
    """On one axis: taps and what they read at grid position 0, the positions, and the output at position 0."""

    taps: list[tuple[int, int]]
    first: int
    last: int
    start: int


@functools.lru_cache(maxsize=512)
def forward(
    x: Shape, filters: int, kernel: Pair, stride: Pair, starts: Pair, dilation: Pair, out: Pair, itemsize: int
) -> Plan:
    """The plan of y[n, i, j] = sum over taps of w x[n, s i + d k - start, s j + d l - start]; x: (N, H, W, C)."""
    parts = [
        [_Part([(k, d * k - p) for k in range(size)], 0, o, 0)]
        for size, p, d, o in zip(kernel, starts, dilation, out, strict=True)
    ]
    return _plan(x, filters, kernel, out, parts, stride, (1, 1), itemsize)


@functools.lru_cache(maxsize=512)
def backward(
    g: Shape, filters: int, kernel: Pair, stride: Pair, starts: Pair, dilation: Pair, image: Pair, itemsize: int
) -> Plan:
    """The plan of the transpose: pixel h hears output i through tap k if h = s i + d k - start; g: (N, OH, OW, O)."""
    parts = [
        [
            _Part(
                [(k, -(d * k // s)) for k in reversed(range(size)) if d * k % s == r],
                -((r - p) // s),
                (h - 1 + p - r) // s + 1,
                r - p,
            )
            for r in range(s)
        ]
        for size, s, p, d, h in zip(kernel, stride, starts, dilation, image, strict=True)
    ]
    return _plan(g, filters, kernel, image, parts, (1, 1), stride, itemsize)


def _plan(
    x: Shape, filters: int, kernel: Pair, out: Pair, parts: list[list[_Part]], read: Pair, write: Pair, itemsize: int
) -> Plan:
    rows, columns = parts
    first_row, last_row, top, bottom = _extent(rows)
    first_column, last_column, west, east = _extent(columns)
    count = -(-(read[1] * (last_column - 1 - first_column) + east - west + 1) // read[1])
    blocks = -(-x[3] // BLOCK)
    row_size = blocks * read[1] * count * BLOCK
    extra = bottom - top + 1 - read[0]  # frame rows that a strip has beyond `read` for each of its rows
    strip = max(1, min((FRAME // (row_size * itemsize) - extra) // read[0], last_row - first_row))
    frame_rows = read[0] * strip + extra
    strips = -(-(last_row - first_row) // strip)
    group = 1
    if strips == 1:
        group = max(1, min(FRAME // (frame_rows * row_size * itemsize), x[0] // PIECES))
    grid = Grid(
        *x, *out, filters, *read, *write, top, read[1] * first_column + west, first_row, last_row, first_column,
        strip, strips, group, frame_rows, count, frame_rows * row_size,
    )  # fmt: skip
    order: list[int] = []
    taps: list[int] = []
    table: list[list[int]] = []
    for row in rows:
        for column in columns:
            number = len(row.taps) * len(column.taps)
            bounds = row.first, row.last, column.first, column.last
            places = [j for _, j in column.taps]
            threes = read[1] == 1 and len(places) == 3 and places == [*range(places[0], places[0] + 3)]
            table.append([len(taps), number, *bounds, row.start, column.start, threes])
            for k, i in row.taps:
                for m, j in column.taps:
                    turn, far = (j - west) % read[1], (j - west) // read[1]
                    order.append(k * kernel[1] + m)
                    taps.append((((i - top) * read[1] + turn) * count + far) * BLOCK)
    return Plan(grid, *(np.array(v, np.int64) for v in (order, taps, table)))


def _extent(parts: list[_Part]) -> tuple[int, int, int, int]:
    """First and last position of an axis, and the least and the greatest offset that a tap reads at."""
    reads = [i for part in parts for _, i in part.taps]
    return min(p.first for p in parts), max(p.last for p in parts), min(reads), max(reads)


def blocks_of(grid: Grid, count: int, part_bytes: Any) -> list[tuple[int, int]]:
    """`count` pieces as runs with a sum each: enough of them for many cores, and not too much memory."""
    runs = max(2, min(32, count, (1 << 26) // max(1, part_bytes)))
    size = -(-count // runs)
    return [(i, min(count, i + size)) for i in range(0, count, size)]
