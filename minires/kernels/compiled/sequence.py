"""The compiled kernels of a transformer's block: what lies between its products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.compiled.provider import ready, writable
from minires.kernels.slope import SavedSlope
from minires.ops.activation import Gelu
from minires.ops.norm import LayerNorm


@kernel(LayerNorm, "numpy")
class CompiledLayerNorm(LayerNorm):
    """`LayerNorm`, compiled. Saved: xhat, 1 / sigma, w."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return ready("rows", arrays[0].size, *arrays)

    def forward(self, x: Array, w: Array | None, b: Array | None) -> Array:
        from minires.kernels.compiled import rows

        self.w, b = (None if v is None else one_run(v, -1) for v in (w, b))
        y, self.xhat, self.inv = rows.layer_norm(one_run(x, -1, math.prod(self.normalized_shape)), self.w, b, self.eps)
        return y.reshape(x.shape)

    def backward(self, gy: Array) -> Any:
        from minires.kernels.compiled import rows

        gx, gw, gb = rows.layer_norm_backward(one_run(gy, *self.xhat.shape), self.xhat, self.inv, self.w)
        return gx.reshape(gy.shape), gw.reshape(self.normalized_shape), gb.reshape(self.normalized_shape)


@kernel(Gelu, "numpy")
class CompiledGelu(SavedSlope, Gelu):
    """`Gelu`, compiled for float32. Saved: dy/dx."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return arrays[0].dtype == np.float32 and ready("rows", arrays[0].size, arrays[0])

    def forward(self, x: Array) -> Array:
        from minires.kernels.compiled import rows

        return self.with_slope(rows.gelu, writable(x), self.needs[0])


def one_run(x: Array, *shape: int) -> Array:
    """x in this shape, contiguous and writable."""
    return writable(np.ascontiguousarray(x).reshape(shape))
