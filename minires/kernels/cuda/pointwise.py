"""Activations, the skip and dropout on CuPy: one launch each way, no temporaries, memory order kept."""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.cuda.layout import (
    BLOCKS,
    THREADS,
    channels_last,
    dense,
    empty_like,
    is_channels_last,
    like,
    logical,
)
from minires.kernels.cuda.source import Source, ceil, takes
from minires.ops.activation import Gelu, GeluTanh, Relu
from minires.ops.dropout import Dropout
from minires.ops.residual import PadChannels, ResidualAdd


def run(xp: Any, name: str, y: Array, *arguments: Any) -> Array:
    """Runs one kernel for all numbers of dense arrays that lie like y, and returns y."""
    grid = (min(ceil(y.size, THREADS), 16 * BLOCKS),)
    Source(xp, "pointwise", y.dtype)(name, grid, (THREADS,), *arguments, y.size)
    return y


def takes_one(cls: Any, *arrays: Any, **options: Any) -> bool:
    return takes(*arrays)


@kernel(Relu, "cupy")
class CudaRelu(Relu):
    """`Relu`. Saved: y, as y > 0 where x > 0."""

    accepts = classmethod(takes_one)

    def forward(self, x: Array) -> Array:
        x = dense(self.xp, x)
        self.y = empty_like(self.xp, x)
        return run(self.xp, "relu", self.y, x, self.y)

    def backward(self, gy: Array) -> Array:
        gx = empty_like(self.xp, self.y)
        return run(self.xp, "relu_gradient", gx, like(self.xp, gy, self.y), self.y, gx)


@kernel(ResidualAdd, "cupy")
class CudaResidualAdd(ResidualAdd):
    """`ResidualAdd`; its gradient is the formula's."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return takes(*arrays) and arrays[0].shape == arrays[1].shape

    def forward(self, x: Array, f: Array) -> Array:
        x = dense(self.xp, x)
        y = empty_like(self.xp, x)
        return run(self.xp, "add", y, x, like(self.xp, f, x), y)


@kernel(PadChannels, "cupy")
class CudaPadChannels(PadChannels):
    """`PadChannels` of images channels last, which so remain; 2 launches each way."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return is_channels_last(arrays[0])

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        kept = channels_last(self.xp, x)[:, :: self.stride, :: self.stride]  # (N, OH, OW, C)
        c = kept.shape[3]
        y = self.xp.zeros((*kept.shape[:3], self.before + c + self.after), x.dtype)
        y[..., self.before : self.before + c] = kept
        return logical(y)

    def backward(self, gy: Array) -> Array:
        n, c, h, w = self.shape
        gx = self.xp.zeros((n, h, w, c), gy.dtype)
        seen = gy[:, self.before : self.before + c].transpose(0, 2, 3, 1)  # (N, OH, OW, C)
        gx[:, :: self.stride, :: self.stride] = seen
        return logical(gx)


class Smooth:
    """Forward y = f(x), backward gx = f'(x) gy, by the kernels `name` and `name`_gradient. Saved: x."""

    name_: str
    xp: Any

    accepts = classmethod(takes_one)

    def forward(self, x: Array) -> Array:
        self.x = dense(self.xp, x)
        y = empty_like(self.xp, self.x)
        return run(self.xp, self.name_, y, self.x, y)

    def backward(self, gy: Array) -> Array:
        gx = empty_like(self.xp, self.x)
        return run(self.xp, f"{self.name_}_gradient", gx, self.x, like(self.xp, gy, self.x), gx)


@kernel(Gelu, "cupy")
class CudaGelu(Smooth, Gelu):
    """`Gelu`. P(x) is computed again in backward, which costs less than reading it."""

    name_ = "gelu"


@kernel(GeluTanh, "cupy")
class CudaGeluTanh(Smooth, GeluTanh):
    """`GeluTanh`; t is computed again in backward."""

    name_ = "gelu_tanh"


@kernel(Dropout, "cupy")
class CudaDropout(Dropout):
    """`Dropout` with a mask of x's shape. Saved: which entries are kept, one byte each."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return takes(*arrays) and tuple(options["mask_shape"]) == tuple(arrays[0].shape)

    def forward(self, x: Array) -> Array:
        xp = self.xp
        x = dense(xp, x)
        noise = like(xp, self.lib.uniform(self.mask_shape, x.dtype), x)
        y, self.kept = empty_like(xp, x), empty_like(xp, x, bool)
        self.scale = 1 / (1 - self.p) if self.p < 1 else 0.0
        return run(xp, "dropout", y, x, noise, y, self.kept, float(self.p), self.scale)

    def backward(self, gy: Array) -> Array:
        gx = empty_like(self.xp, self.kept, gy.dtype)
        return run(self.xp, "dropout_gradient", gx, like(self.xp, gy, self.kept), self.kept, gx, self.scale)
