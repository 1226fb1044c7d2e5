"""The compiled loops of convolution: fill a frame, and run the tile over it. All arrays here are flat and contiguous.

Where they are cached and how they are called: see `minires.kernels.compiled.conv`. The sizes are explained in
`minires.kernels.compiled.plan`. Weights lie packed as (block of filters, block of channels, tap, channel, filter),
where a block of filters is two vectors wide, or one where one is left.
"""

from __future__ import annotations

from numba import njit

from minires.backend import Array
from minires.kernels.compiled.plan import BLOCK, Grid
from minires.kernels.compiled.tile import PIXELS, move, tile

NEAR = 24 << 10  # bytes that a pass over one tap may touch: they stay in the first-level cache for the next tap
SPLIT = BLOCK // PIXELS
TWICE = 2 * PIXELS


@njit(nogil=True, cache=True)
def fill(frame: Array, f0: int, x: Array, x0: int, row: int, g: Grid) -> None:
    """Copies the rows from pixel row `row` on of the image at x[x0] into the frame at f0; 0 where it has none."""
    run = g.columns * BLOCK
    for block in range((g.channels + BLOCK - 1) // BLOCK):
        c0 = block * BLOCK
        some = min(BLOCK, g.channels - c0)
        for r in range(g.rows):
            for turn in range(g.right):
                out = f0 + ((block * g.rows + r) * g.right + turn) * run
                h = row + r
                begin = end = 0
                if 0 <= h < g.height:
                    offset = g.left + turn
                    begin = min(g.columns, max(0, -(offset // g.right)))
                    end = max(begin, min(g.columns, (g.width - 1 - offset) // g.right + 1))
                for q in range(begin):
                    move(BLOCK, frame, out + q * BLOCK, frame, out, 0)
                for q in range(end, g.columns):
                    move(BLOCK, frame, out + q * BLOCK, frame, out, 0)
                step = g.right * g.channels
                source = x0 + (h * g.width + g.left + turn + begin * g.right) * g.channels + c0
                for q in range(begin, end):
                    if source + BLOCK <= x.size:
                        move(BLOCK, frame, out + q * BLOCK, x, source, some)
                    else:
                        for c in range(BLOCK):
                            frame[out + q * BLOCK + c] = x[source + c] if c < some else 0
                    source += step


@njit(nogil=True, cache=True)
def pack(w: Array, order: Array, swapped: bool, vector: int, packed: Array) -> None:
    """w: (O, C, T) into packed weights; with `swapped` the filters are the C and the channels the O."""
    filters, channels = (w.shape[1], w.shape[0]) if swapped else (w.shape[0], w.shape[1])
    taps = order.size
    at = 0
    for o0 in range(0, filters, 2 * vector):
        width = 2 * vector if filters - o0 > vector else vector
        for c0 in range(0, channels, BLOCK):
            for t in range(taps):
                for c in range(c0, c0 + BLOCK):
                    for o in range(o0, o0 + width):
                        if c >= channels or o >= filters:
                            packed[at] = 0
                        elif swapped:
                            packed[at] = w[c, o, order[t]]
                        else:
                            packed[at] = w[o, c, order[t]]
                        at += 1


@njit(nogil=True, cache=True)
def unpack(packed: Array, vector: int, w: Array) -> None:
    """The inverse of `pack` for w: (O, C, T), not swapped and with the taps in order."""
    filters, channels, taps = w.shape
    at = 0
    for o0 in range(0, filters, 2 * vector):
        width = 2 * vector if filters - o0 > vector else vector
        for c0 in range(0, channels, BLOCK):
            for t in range(taps):
                for c in range(c0, min(channels, c0 + BLOCK)):
                    for o in range(o0, min(filters, o0 + width)):
                        w[o, c, t] = packed[at + (c - c0) * width + o - o0]
                at += BLOCK * width


@njit(nogil=True, cache=True)
def correlate(
    x: Array, weights: Array, bias: Array, y: Array, frame: Array, spare: Array,
    taps: Array, parts: Array, vector: int, g: Grid, first: int, last: int,
) -> None:  # fmt: skip
    """y = sum over taps of w x + bias for the pieces first ... last - 1. An empty bias counts as 0."""
    for piece in range(first, last):
        n0, u0 = piece // g.strips * g.group, g.first_row + piece % g.strips * g.strip
        n1, u1 = min(g.images, n0 + g.group), min(g.last_row, u0 + g.strip)
        for n in range(n0, n1):
            image = n * g.height * g.width * g.channels
            fill(frame, (n - n0) * g.size, x, image, u0 * g.down + g.top, g)
        for p in range(parts.shape[0]):
            part = parts[p]
            rows, columns = (max(u0, part[2]), min(u1, part[3])), (part[4], part[5])
            if bias.size or part[1] == 0:
                start(y, bias, n0, n1, rows, columns, part[6], part[7], g)
            if part[1] == 0:
                continue
            for c0 in range(0, g.channels, BLOCK):
                for o0 in range(0, g.filters, 2 * vector):
                    width = 2 * vector if g.filters - o0 > vector else vector
                    some, fresh = min(BLOCK, g.channels - c0), c0 == 0 and bias.size == 0
                    block = o0 * ((g.channels + BLOCK - 1) // BLOCK) + c0 // BLOCK * width
                    w0 = (block * taps.size + part[0] * width) * BLOCK
                    for n in range(n0, n1):
                        f0 = (n - n0) * g.size + c0 // BLOCK * (g.size // ((g.channels + BLOCK - 1) // BLOCK))
                        sweep(y, frame, weights, spare, taps, part, vector, g, rows, columns,
                              n, u0, f0, w0, o0, some, fresh)  # fmt: skip


@njit(nogil=True, cache=True)
def start(
    y: Array, bias: Array, n0: int, n1: int, rows: tuple[int, int], columns: tuple[int, int], k: int, m: int, g: Grid
) -> None:
    """Sets the outputs of a part to the bias, or to 0."""
    for n in range(n0, n1):
        for u in range(rows[0], rows[1]):
            for v in range(columns[0], columns[1]):
                at = ((n * g.out_height + g.below * u + k) * g.out_width + g.beside * v + m) * g.filters
                for o in range(g.filters):
                    y[at + o] = bias[o] if bias.size else 0


@njit(nogil=True, cache=True)
def sweep(
    y: Array, frame: Array, weights: Array, spare: Array, taps: Array, part: Array, vector: int, g: Grid,
    rows: tuple[int, int], columns: tuple[int, int],
    n: int, u0: int, f0: int, w0: int, o0: int, some: int, fresh: bool,
) -> None:  # fmt: skip
    """One image, one part of its outputs, one block of channels and one of filters."""
    width = 2 * vector if g.filters - o0 > vector else vector
    keep = min(width, g.filters - o0)
    down, right = g.below * g.out_width * g.filters, g.beside * g.filters
    pitch = g.down * g.right * g.columns * BLOCK
    t0, nt, bt, add = part[0], part[1], BLOCK * width, not fresh
    u = rows[0]
    while u < rows[1]:
        high = 1 if width > vector else min(3, rows[1] - u)
        for v in range(columns[0], columns[1], PIXELS):
            wide = min(PIXELS, columns[1] - v)
            a0 = f0 + (u - u0) * pitch + (v - g.first_column) * BLOCK
            y0 = ((n * g.out_height + g.below * u + part[6]) * g.out_width + g.beside * v + part[7]) * g.filters + o0
            if wide < PIXELS or keep < width or high * vector == width:  # into `spare` first
                for r in range(high):
                    if width > vector:
                        tile(1, PIXELS, 2, 1, BLOCK, spare, 0, 0, width, frame, a0, 0, 1,
                             taps, t0, nt, weights, w0, bt, width, some, False)  # fmt: skip
                    else:
                        tile(1, PIXELS, 1, 1, BLOCK, spare, 0, 0, width, frame, a0 + r * pitch, 0, 1,
                             taps, t0, nt, weights, w0, bt, width, some, False)  # fmt: skip
                    for q in range(wide):
                        at = y0 + r * down + q * right
                        for o in range(keep):
                            y[at + o] = spare[q * width + o] if fresh else y[at + o] + spare[q * width + o]
            elif width > vector:
                tile(1, PIXELS, 2, 1, BLOCK, y, y0, down, right, frame, a0, pitch, 1,
                     taps, t0, nt, weights, w0, bt, width, some, add)  # fmt: skip
            elif high == 3 and part[8]:
                tile(3, PIXELS, 1, 3, BLOCK, y, y0, down, right, frame, a0, pitch, 1,
                     taps, t0, nt // 3, weights, w0, bt, width, some, add)  # fmt: skip
            elif high == 3:
                tile(3, PIXELS, 1, 1, BLOCK, y, y0, down, right, frame, a0, pitch, 1,
                     taps, t0, nt, weights, w0, bt, width, some, add)  # fmt: skip
            else:
                tile(2, PIXELS, 1, 1, BLOCK, y, y0, down, right, frame, a0, pitch, 1,
                     taps, t0, nt, weights, w0, bt, width, some, add)  # fmt: skip
        u += high


@njit(nogil=True, cache=True)
def weigh(
    x: Array, gy: Array, gw: Array, frame: Array, copy: Array, table: Array, taps: Array,
    vector: int, g: Grid, first: int, last: int,
) -> None:  # fmt: skip
    """gw = sum over the outputs of the pieces first ... last - 1 of x gy, packed as weights are."""
    gw[:] = 0
    pad = (g.filters + vector - 1) // vector * vector
    for piece in range(first, last):
        n0, u0 = piece // g.strips * g.group, g.first_row + piece % g.strips * g.strip
        n1, u1 = min(g.images, n0 + g.group), min(g.last_row, u0 + g.strip)
        count = 0
        for n in range(n0, n1):
            image = n * g.height * g.width * g.channels
            fill(frame, (n - n0) * g.size, x, image, u0 * g.down + g.top, g)
            for u in range(u0, u1):
                table[count] = (n - n0) * g.size + (u - u0) * g.down * g.right * g.columns * BLOCK
                count += 1
        g0 = (n0 * g.out_height + u0) * g.out_width * g.filters
        if pad == g.filters:
            gather(frame, gy, g0, gw, table, count, taps, vector, pad, g)
        else:
            for i in range(count * g.out_width):
                for o in range(g.filters):
                    copy[i * pad + o] = gy[g0 + i * g.filters + o]
                copy[i * pad + g.filters : (i + 1) * pad] = 0
            gather(frame, copy, 0, gw, table, count, taps, vector, pad, g)


@njit(nogil=True, cache=True)
def gather(
    frame: Array, gy: Array, g0: int, gw: Array, table: Array, count: int, taps: Array, vector: int, pad: int, g: Grid
) -> None:
    """Adds what `count` rows of outputs say of each weight: a tile of channels and filters, summed over pixels."""
    row = g.out_width * pad
    size = g.size // ((g.channels + BLOCK - 1) // BLOCK)  # of a block of channels in a frame
    near = NEAR * vector // (64 * (BLOCK + 2 * vector))  # pixels in a pass
    batch = max(1, near // g.out_width)
    for i in range(0, count, batch):
        some = min(batch, count - i)
        at = 0
        for o0 in range(0, g.filters, 2 * vector):
            double = g.filters - o0 > vector
            for c0 in range(0, g.channels, BLOCK):
                f0 = c0 // BLOCK * size
                for t in range(taps.size):
                    b0 = g0 + i * row + o0
                    if double:
                        for c in range(0, min(BLOCK, g.channels - c0), PIXELS):
                            tile(1, PIXELS, 2, 1, 1, gw, at + c * 2 * vector, 0, 2 * vector,
                                 frame, f0 + taps[t] + c, 0, BLOCK, table, i, some,
                                 gy, b0, row, pad, g.out_width, True)  # fmt: skip
                        at += BLOCK * 2 * vector
                    else:
                        for c in range(0, min(BLOCK, g.channels - c0), TWICE):
                            tile(2, PIXELS, 1, 1, 1, gw, at + c * vector, PIXELS * vector, vector,
                                 frame, f0 + taps[t] + c, PIXELS, BLOCK, table, i, some,
                                 gy, b0, row, pad, g.out_width, True)  # fmt: skip
                        at += BLOCK * vector
