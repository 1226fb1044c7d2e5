"""Pooling on CuPy, in C order or channels last: one launch each way, and no two threads add to one number."""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.cuda.layout import THREADS, dense, is_channels_last, like, logical
from minires.kernels.cuda.source import Source, ceil, takes
from minires.ops.pool import AvgPool2d, MaxPool2d

Shape = tuple[int, ...]


def empty(xp: Any, shape: Shape, x: Array, dtype: Any) -> Array:
    """An uninitialized (N, C, H, W) array in the memory order of the dense x."""
    n, c, h, w = shape
    return logical(xp.empty((n, h, w, c), dtype)) if is_channels_last(x) else xp.empty(shape, dtype)


def run(
    xp: Any, name: str, x: Array, image: Shape, out: Shape, count: int, given: tuple[Any, ...], window: Shape
) -> None:
    """Launches one thread for each of `count` numbers of images of shape `image` or `out`; x says how both lie."""
    inner = image[1] if is_channels_last(x) else 1
    axes = count, *out[2:], *image[2:], inner
    Source(xp, "pool", x.dtype)(name, (ceil(count, THREADS),), (THREADS,), *given, *axes, *window)


@kernel(MaxPool2d, "cupy")
class CudaMaxPool2d(MaxPool2d):
    """`MaxPool2d`. Saved: which tap won each window, an int each, instead of x and y."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return takes(*arrays)

    def forward(self, x: Array) -> Array:
        xp, x = self.xp, dense(self.xp, x)
        self.shape, out = x.shape, (*x.shape[:2], *self.out)
        y, self.winner = (empty(xp, out, x, dtype) for dtype in (x.dtype, xp.int32))
        run(xp, "max_pool", x, self.shape, out, y.size, (x, y, self.winner), self.window())
        return y

    def backward(self, gy: Array) -> Array:
        gy, gx = like(self.xp, gy, self.winner), empty(self.xp, self.shape, self.winner, gy.dtype)
        given = gy, self.winner, gx
        run(self.xp, "max_pool_gradient", gy, self.shape, gy.shape, gx.size, given, self.window())
        return gx

    def window(self) -> tuple[int, ...]:
        """The window's options, as the kernels take them."""
        return (*self.kernel, *self.stride, *self.padding, *self.dilation)


@kernel(AvgPool2d, "cupy")
class CudaAvgPool2d(AvgPool2d):
    """`AvgPool2d` with windows of one size. Saved: x.shape, and in which order x lies."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return takes(*arrays) and isinstance(options["share"], float)

    def forward(self, x: Array) -> Array:
        xp, x = self.xp, dense(self.xp, x)
        self.shape, out = x.shape, (*x.shape[:2], *self.out)
        y = empty(xp, out, x, x.dtype)
        run(xp, "average_pool", x, self.shape, out, y.size, (x, y, self.share), self.window())
        return y

    def backward(self, gy: Array) -> Array:
        gy = dense(self.xp, gy)
        gx = empty(self.xp, self.shape, gy, gy.dtype)
        given = gy, gx, self.share
        run(self.xp, "average_pool_gradient", gy, self.shape, gy.shape, gx.size, given, self.window())
        return gx

    def window(self) -> tuple[int, ...]:
        """The window's options, as the kernels take them."""
        return (*self.kernel, *self.stride, *self.padding)
