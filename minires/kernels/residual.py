"""The residual connection on NumPy, blocked and threaded: the sum, and the shortcut for a stage that widens."""

from __future__ import annotations

from typing import Any

import numpy as np

from minires.backend import Array
from minires.engine import Meeting, kernel
from minires.kernels.layout import alike_reals, channels_last, logical, pointwise
from minires.kernels.threads import pays
from minires.ops.elementwise import Add
from minires.ops.residual import PadChannels, ResidualAdd

WORTH = 1 << 15  # numbers below which a thread costs more than it saves


class BlockedSum:
    """x + f for two arrays of one shape and dtype."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        x, f = arrays
        return alike_reals(x, f) and x.size > 0 and pays(x.size, WORTH)

    def forward(self, x: Array, f: Array) -> Array:
        return pointwise(lambda x, f, y: np.add(x, f, out=y), x, f)


@kernel(ResidualAdd, "numpy")
class BlockedResidualAdd(BlockedSum, ResidualAdd):
    """`ResidualAdd`, blocked and threaded; its gradient is the formula's."""


@kernel(Add, "numpy")
class BlockedAdd(BlockedSum, Add):
    """`Add` without broadcasting, blocked and threaded; its gradient is the formula's."""


@kernel(Meeting, "numpy")
class BlockedMeeting(BlockedSum, Meeting):
    """`Meeting`, blocked and threaded."""


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
