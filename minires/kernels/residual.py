"""The residual connection on NumPy, blocked and threaded: the sum, and the shortcut for a stage that widens."""

from __future__ import annotations

from typing import Any

import numpy as np

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.layout import channels_last, logical, pointwise
from minires.kernels.threads import pays
from minires.ops.residual import PadChannels, ResidualAdd

WORTH = 1 << 15  # numbers below which a thread costs more than it saves


@kernel(ResidualAdd, "numpy")
class BlockedResidualAdd(ResidualAdd):
    """`ResidualAdd`, blocked and threaded; its gradient is the formula's."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        x, f = arrays
        return x.size > 0 and pays(x.size, WORTH) and x.shape == f.shape and x.dtype == f.dtype and x.dtype.char in "fd"

    def forward(self, x: Array, f: Array) -> Array:
        return pointwise(lambda x, f, y: np.add(x, f, out=y), x, f)


@kernel(PadChannels, "numpy")
class ChannelsLastPadChannels(PadChannels):
    """`PadChannels`, channels last, so that the sum it goes into finds both in one order."""

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        kept = channels_last(x)[:, :: self.stride, :: self.stride]  # (N, OH, OW, C)
        c = kept.shape[3]
        y = np.zeros((*kept.shape[:3], self.before + c + self.after), x.dtype)
        y[..., self.before : self.before + c] = kept
        return logical(y)

    def backward(self, gy: Array) -> Array:
        n, c, h, w = self.shape
        gx = np.zeros((n, h, w, c), gy.dtype)
        gx[:, :: self.stride, :: self.stride] = channels_last(gy)[..., self.before : self.before + c]
        return logical(gx)
