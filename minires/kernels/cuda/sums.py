"""Sums to few numbers. CuPy gives each result one block of threads; here many blocks share the work, in two steps.

Launches: 2, or 1 where one block is enough.
"""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.kernels.cuda.layout import BLOCKS, columns
from minires.kernels.cuda.source import Source, ceil


def column_sums(
    xp: Any, g: Array, x: Array | None = None, mean: Array | None = None, inv: Array | None = None
) -> Array:
    """sum(g) down each column of a contiguous (R, D), (1, D); with x, below it sum(g (x - mean) inv), (2, D).

    mean and inv are (R,); without a mean it is 0.
    """
    rows, d = g.shape
    grid, block = columns(d)
    parts = max(1, min(ceil(rows, 4 * block[1]), BLOCKS // grid[0]))
    partial = xp.empty((parts, 1 if x is None else 2, d), g.dtype)
    Source(xp, "sums", g.dtype)("column_sums", (grid[0], parts), block, g, x, mean, inv, partial, rows, d)
    return add_parts(xp, partial)


def add_parts(xp: Any, partial: Array) -> Array:
    """The sum of partial (parts, K, D) over its parts, always in the same order: (K, D)."""
    parts, k, d = partial.shape
    if parts == 1:
        return partial[0]
    y = xp.empty((k, d), partial.dtype)
    grid, block = columns(k * d)
    Source(xp, "sums", partial.dtype)("add_rows", grid, block, partial, y, parts, k * d)
    return y
