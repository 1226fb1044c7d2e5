"""Matrix products and the linear layer on CuPy, through cuBLAS.

Launches: 1 for each product; the linear layer's bias 1 forward and 2 backward.
"""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.cuda.gemm import batches, multiplies, product, turn
from minires.kernels.cuda.source import takes
from minires.kernels.cuda.sums import column_sums
from minires.ops.linear import Linear, Matmul, add_bias, rows


@kernel(Matmul, "cupy")
class CudaMatmul(Matmul):
    """`Matmul` of a batch by one matrix, or of two batches of one shape."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        x, w = arrays
        alike = min(x.ndim, w.ndim) >= 2 and (w.ndim == 2 or x.shape[:-2] == w.shape[:-2])
        return alike and multiplies(x, w) and x.size > 0 and w.size > 0

    def forward(self, x: Array, w: Array) -> Array:
        self.x, self.w = x, w
        y = product(self.xp, self.folded(x), self.matrices())
        return y.reshape(*x.shape[:-1], w.shape[-1])  # (*, T, D)

    def backward(self, gy: Array) -> Any:
        x, w, xp = self.x, self.w, self.xp
        gx = gw = None
        g = self.folded(gy)
        if self.needs[0]:
            gx = product(xp, g, turn(self.matrices())).reshape(x.shape)
        if self.needs[1]:
            gw = product(xp, turn(self.folded(x)), g).reshape(w.shape)
        return gx, gw

    def folded(self, x: Array) -> Array:
        """x or gy as a batch: all its rows as one matrix where w is one."""
        return rows(x)[None] if self.w.ndim == 2 else batches(x)

    def matrices(self) -> Array:
        """w as a batch."""
        return batches(self.w)


@kernel(Linear, "cupy")
class CudaLinear(Linear):
    """`Linear`; the bias's gradient is summed by many blocks."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return takes(*arrays) and arrays[1].size > 0

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        self.x, self.w = x, w
        y = product(self.xp, rows(x)[None], turn(w[None]))[0]  # (R, O)
        return add_bias(y, b).reshape(*x.shape[:-1], w.shape[0])  # (*, O)

    def backward(self, gy: Array) -> Any:
        xp, g = self.xp, rows(gy)[None]  # (1, R, O)
        gx = product(xp, g, self.w[None]).reshape(self.x.shape) if self.needs[0] else None
        gw = product(xp, turn(g), rows(self.x)[None])[0] if self.needs[1] else None
        gb = column_sums(xp, xp.ascontiguousarray(g[0]))[0] if self.needs[2] else None
        return gx, gw, gb
