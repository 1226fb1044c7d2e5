"""Cross-entropy on CuPy, from logits to loss in two launches (each sample's loss; their sum) and back in one.

Bytes: the logits are read once, and once more in backward, where the gradient is written; log p is never stored.
"""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.cuda.layout import THREADS, row_block
from minires.kernels.cuda.source import Source, takes
from minires.ops.loss import CrossEntropy


@kernel(CrossEntropy, "cupy")
class CudaCrossEntropy(CrossEntropy):
    """`CrossEntropy` of (N, C) or (C,) without class weights. Saved: x, t, and two numbers a sample."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        x, t, w = arrays
        return takes(x) and x.ndim <= 2 and w is None and t.dtype.kind in "iu" and t.ndim == x.ndim - 1

    def forward(self, x: Array, t: Array, w: Array | None) -> Array:
        xp = self.xp
        self.x, self.t = xp.ascontiguousarray(x), xp.ascontiguousarray(t).astype(xp.int64, copy=False)
        n, d = t.size, x.shape[-1]
        losses, self.stats = xp.empty(t.shape, x.dtype), xp.empty((n, 2), x.dtype)
        run = Source(xp, "loss", x.dtype)
        given = self.x, self.t, losses, self.stats, float(self.label_smoothing), int(self.ignore_index), d
        run("cross_entropy", (n,), row_block(d), *given)
        self.count = None
        if self.reduction == "none":
            return losses
        y, self.count = xp.empty((), x.dtype), xp.empty((), x.dtype)
        mean = int(self.reduction == "mean")
        run("reduce", (1,), (1, THREADS), losses, self.t, y, self.count, mean, int(self.ignore_index), n)
        return y

    def backward(self, gy: Array) -> Any:
        gx, d = self.xp.empty(self.x.shape, gy.dtype), self.x.shape[-1]
        gy = self.xp.ascontiguousarray(gy)
        given = self.x, self.t, self.stats, gy, self.count, gx, float(self.label_smoothing), int(self.ignore_index), d
        Source(self.xp, "loss", gy.dtype)("cross_entropy_gradient", (self.t.size,), row_block(d), *given)
        return gx, None, None
