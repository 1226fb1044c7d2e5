"""Softmax and its logarithm on CuPy, along the last axis: one block a row. Launches: 1 forward, 1 backward."""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.cuda.layout import row_block
from minires.kernels.cuda.source import Source, takes
from minires.ops.softmax import LogSoftmax, Softmax


def along_last_axis(x: Array, dim: int) -> bool:
    """Whether the kernels take x: what they read as a row is one axis, the last."""
    return takes(x) and x.ndim > 0 and dim % x.ndim == x.ndim - 1


def each_row(xp: Any, name: str, y: Array, *arguments: Any) -> Array:
    """Runs one kernel on all rows of contiguous arrays shaped like y, and returns y."""
    d = y.shape[-1]
    Source(xp, "softmax", y.dtype)(name, (y.size // d,), row_block(d), *arguments, d)
    return y


@kernel(Softmax, "cupy")
class CudaSoftmax(Softmax):
    """`Softmax`, one block a row."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return along_last_axis(arrays[0], options["dim"])

    def forward(self, x: Array) -> Array:
        self.y = self.xp.empty(x.shape, x.dtype)
        return each_row(self.xp, "softmax", self.y, self.xp.ascontiguousarray(x), self.y)

    def backward(self, gy: Array) -> Array:
        gx = self.xp.empty(gy.shape, gy.dtype)
        return each_row(self.xp, "softmax_gradient", gx, self.y, self.xp.ascontiguousarray(gy), None, gx)


@kernel(LogSoftmax, "cupy")
class CudaLogSoftmax(LogSoftmax):
    """`LogSoftmax`, one block a row."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return along_last_axis(arrays[0], options["dim"])

    def forward(self, x: Array) -> Array:
        self.y = self.xp.empty(x.shape, x.dtype)
        return each_row(self.xp, "log_softmax", self.y, self.xp.ascontiguousarray(x), self.y)

    def backward(self, gy: Array) -> Array:
        gx = self.xp.empty(gy.shape, gy.dtype)
        return each_row(self.xp, "log_softmax_gradient", gx, self.y, self.xp.ascontiguousarray(gy), gx)
