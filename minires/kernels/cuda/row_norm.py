"""Layer norm and RMS norm on CuPy: one block a row.

Launches: 1 forward; backward 1 for gx and 2 for gw and gb together. Bytes: x once and y; x and gy twice, and gx.
"""

from __future__ import annotations

import math
from typing import Any

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.cuda.layout import row_block, vector
from minires.kernels.cuda.source import Source, takes
from minires.kernels.cuda.sums import column_sums
from minires.ops.norm import LayerNorm, RmsNorm


class Rows:
    """What the two share. Saved: x as rows, mu (but for RMS norm), 1 / sigma, w."""

    xp: Any
    needs: tuple[bool, ...]
    normalized_shape: tuple[int, ...]
    eps: float
    mean: Array | None

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return takes(*arrays)

    def normalize(self, x: Array, w: Array | None, b: Array | None, centered: bool) -> Array:
        xp, d = self.xp, math.prod(self.normalized_shape)
        self.x, self.w = xp.ascontiguousarray(x).reshape(-1, d), vector(xp, w)  # (R, D)
        rows = self.x.shape[0]
        self.mean = xp.empty(rows, x.dtype) if centered else None
        self.inv, y = xp.empty(rows, x.dtype), xp.empty(x.shape, x.dtype)
        run = Source(xp, "row_norm", x.dtype)
        given = self.x, self.w, vector(xp, b), y, self.mean, self.inv, float(self.eps), d
        run("normalize_rows", (rows,), row_block(d), *given)
        return y

    def gradients(self, gy: Array) -> tuple[Array | None, Array | None, Array | None]:
        """gx, gw and gb."""
        rows = self.xp.ascontiguousarray(gy).reshape(self.x.shape)  # (R, D)
        gx = gw = gb = None
        if self.needs[0]:
            gx = self.xp.empty(gy.shape, gy.dtype)
            run, d = Source(self.xp, "row_norm", gy.dtype), rows.shape[1]
            run("row_gradient", rows.shape[:1], row_block(d), self.x, rows, self.w, self.mean, self.inv, gx, d)
        if any(self.needs[1:]):
            sums = column_sums(self.xp, rows, self.x, self.mean, self.inv)  # (2, D)
            gb, gw = (v.reshape(self.normalized_shape) for v in (sums[0], sums[1]))
        return gx, gw, gb


@kernel(LayerNorm, "cupy")
class CudaLayerNorm(Rows, LayerNorm):
    """`LayerNorm`, one block a row."""

    def forward(self, x: Array, w: Array | None, b: Array | None) -> Array:
        return self.normalize(x, w, b, True)

    def backward(self, gy: Array) -> Any:
        return self.gradients(gy)


@kernel(RmsNorm, "cupy")
class CudaRmsNorm(Rows, RmsNorm):
    """`RmsNorm`, one block a row."""

    def forward(self, x: Array, w: Array | None) -> Array:
        return self.normalize(x, w, None, False)

    def backward(self, gy: Array) -> Any:
        return self.gradients(gy)[:2]
