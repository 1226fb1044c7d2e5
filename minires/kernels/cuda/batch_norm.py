"""Batch norm on CuPy, in C order or channels last.

Launches: 3 forward (each block's moments; the whole batch's; y) and whatever `observe` does, 3 backward (each block's
sums; the batch's; gx). At rest: 1 forward, and 2 copies of the statistics where backward may follow; 1 to 3 backward.
Bytes: x is read twice and y written; x and gy are read twice and gx written. The formula moves about three times that.
"""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.cuda.layout import by_channel, columns, dense, empty_like, like, vector
from minires.kernels.cuda.source import Source, takes
from minires.kernels.cuda.sums import add_parts
from minires.ops.norm import BatchNorm, BatchNormEval


@kernel(BatchNorm, "cupy")
class CudaBatchNorm(BatchNorm):
    """`BatchNorm` by two-stage sums, the variance by Welford's method. Saved: x, mu, var, w."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return takes(*arrays)

    def forward(self, x: Array, w: Array | None, b: Array | None) -> Array:
        xp = self.xp
        self.x, self.w = dense(xp, x), vector(xp, w)
        self.mean, self.var = moments(xp, self.x)
        if self.observe is not None:
            self.observe(self.mean, self.var)
        return normalized(xp, self.x, self.w, vector(xp, b), self.mean, self.var, self.eps)

    def backward(self, gy: Array) -> Any:
        xp, x = self.xp, self.x
        gy = like(xp, gy, x)
        sums = gradient_sums(xp, x, gy, self.mean, self.var, self.eps)  # (2, C)
        gx = None
        if self.needs[0]:
            walk, gx = by_channel(x), empty_like(xp, x)
            run = Source(xp, "batch_norm", x.dtype)
            given = x, gy, self.w, self.mean, self.var, sums, gx, float(self.eps)
            run("input_gradient", walk.grid, walk.block, *given, *walk.axes)
        return gx, sums[1], sums[0]


@kernel(BatchNormEval, "cupy")
class CudaBatchNormEval(BatchNormEval):
    """`BatchNormEval`. Saved: x, w, and copies of mean and var, since running statistics move on."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return takes(*arrays)

    def forward(self, x: Array, w: Array | None, b: Array | None, mean: Array, var: Array) -> Array:
        xp = self.xp
        self.x, self.w = dense(xp, x), vector(xp, w)
        self.mean, self.var = (v.copy() if any(self.needs) else xp.ascontiguousarray(v) for v in (mean, var))
        return normalized(xp, self.x, self.w, vector(xp, b), self.mean, self.var, self.eps)

    def backward(self, gy: Array) -> Any:
        gy = like(self.xp, gy, self.x)
        gx = gw = gb = None
        if self.needs[0]:
            gx = normalized(self.xp, gy, self.w, None, None, self.var, self.eps)
        if self.needs[1] or self.needs[2]:
            gb, gw = gradient_sums(self.xp, self.x, gy, self.mean, self.var, self.eps)
        return gx, gw, gb, None, None


def moments(xp: Any, x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of every channel of a dense x: (C,) and (C,)."""
    walk, run = by_channel(x), Source(xp, "batch_norm", x.dtype)
    partial = xp.empty((walk.parts, 3, walk.channels), x.dtype)
    run("moments", walk.grid, walk.block, x, partial, *walk.axes)
    mean, var = xp.empty(walk.channels, x.dtype), xp.empty(walk.channels, x.dtype)
    given = x, partial, mean, var, walk.parts, walk.channels, walk.inner
    run("finish_moments", *columns(walk.channels), *given)
    return mean, var


def normalized(
    xp: Any, x: Array, w: Array | None, b: Array | None, mean: Array | None, var: Array, eps: float
) -> Array:
    """w (x - mean) / sqrt(var + eps) + b, in the memory order of x."""
    walk, y = by_channel(x), empty_like(xp, x)
    run = Source(xp, "batch_norm", x.dtype)
    run("normalize", walk.grid, walk.block, x, w, b, mean, var, y, float(eps), *walk.axes)
    return y


def gradient_sums(xp: Any, x: Array, gy: Array, mean: Array, var: Array, eps: float) -> Array:
    """sum(gy) and sum(gy xhat) of every channel: (2, C)."""
    walk = by_channel(x)
    partial = xp.empty((walk.parts, 2, walk.channels), x.dtype)
    run = Source(xp, "batch_norm", x.dtype)
    run("gradient_sums", walk.grid, walk.block, x, gy, mean, var, partial, float(eps), *walk.axes)
    return add_parts(xp, partial)
