"""The linear layer on NumPy: its products cut into tiles of some hundred rows, or columns, one thread each.

BLAS has threads of its own, but a product is not the whole layer: the bias is added to a tile while it is in the
cache, and its gradient is summed alike. Nor do threads of BLAS, which wait by spinning, get in each other's way.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.layout import total
from minires.kernels.memory import empty
from minires.kernels.threads import cores, each, pays
from minires.ops.linear import Linear, rows

WORTH = 1 << 22  # multiplications below which threads cost more than they save
TILE = 1024  # rows of a tile, at most: BLAS wants many
FEW = 4  # cores; among more, BLAS divides a product better than by its rows alone


@kernel(Linear, "numpy")
class BlockedLinear(Linear):
    """`Linear`, blocked and threaded. Saved: x, w."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        x, w, b = arrays
        if not (pays(x.size * len(w), WORTH) and x.size and w.size and cores() <= FEW):
            return False
        return x.dtype == w.dtype and (b is None or b.dtype == x.dtype) and x.dtype.char in "fd"

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        self.x, self.w = x, w
        y = product(rows(x), w.T, b)  # (R, O)
        return y.reshape(*x.shape[:-1], len(w))  # (*, O)

    def backward(self, gy: Array) -> Any:
        g = rows(gy)  # (R, O)
        gx = product(g, self.w).reshape(self.x.shape) if self.needs[0] else None  # (*, D)
        gw = product(g.T, rows(self.x)) if self.needs[1] else None  # (O, D)
        return gx, gw, column_sums(g) if self.needs[2] else None


def product(a: Array, c: Array, b: Array | None = None) -> Array:
    """a c + b, tile by tile: (M, K), (K, N) and (N,) give (M, N)."""
    y = empty((len(a), c.shape[1]), a.dtype)
    by_rows = len(a) >= c.shape[1]
    tiles = cuts(max(y.shape))

    def work(n: int) -> None:
        i, j = (tiles[n], slice(None)) if by_rows else (slice(None), tiles[n])
        tile = np.matmul(a[i], c[:, j], out=y[i, j])
        if b is not None:
            tile += b[j]

    each(len(tiles), work)
    return y


def cuts(length: int) -> list[slice]:
    """Two tiles or more, as equal as may be."""
    pieces = min(length, max(2, -(-length // TILE)))
    ends = [length * i // pieces for i in range(pieces + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(ends)]


def column_sums(g: Array) -> Array:
    """The sum of the rows: (R, O) gives (O,)."""
    blocks, ones = cuts(len(g)), np.ones(len(g), g.dtype)
    parts: dict[int, Array] = {}

    def work(n: int) -> None:
        part = g[blocks[n]]
        parts[n] = ones[: len(part)] @ part

    each(len(blocks), work)
    return total(parts).astype(g.dtype)
