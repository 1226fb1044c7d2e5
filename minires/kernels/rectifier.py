"""The rectifier on NumPy, blocked and threaded. It saves its output, which the next layer saves anyway, and no mask."""

from __future__ import annotations

from typing import Any

import numpy as np

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.layout import pointwise
from minires.kernels.threads import pays
from minires.ops.activation import Relu

WORTH = 1 << 15  # numbers below which a thread costs more than it saves


@kernel(Relu, "numpy")
class BlockedRelu(Relu):
    """`Relu`, blocked and threaded. Saved: y, as y > 0 where x > 0."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return pays(arrays[0].size, WORTH) and arrays[0].dtype.char in "fd"

    def forward(self, x: Array) -> Array:
        self.y = pointwise(lambda x, y: np.maximum(x, 0, out=y), x)
        return self.y

    def backward(self, gy: Array) -> Array:
        return pointwise(lambda gy, y, gx: np.multiply(gy, y > 0, out=gx), gy, self.y)
