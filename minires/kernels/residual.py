"""The residual connection on NumPy, blocked and threaded: the sum, and the shortcut for a stage that widens."""

from __future__ import annotations

from typing import Any

import numpy as np

from minires.backend import Array
from minires.engine import Meeting, kernel
from minires.kernels.layout import alike_reals, channels_last, in_images, logical, pointwise
from minires.kernels.memory import empty
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
        y = empty((*kept.shape[:3], self.before + x.shape[1] + self.after), x.dtype)

        def work(i: slice) -> None:
            y[i] = 0
            y[i, ..., self.before : self.before + x.shape[1]] = kept[i]

        in_images(y, work)
        return logical(y)

    def backward(self, gy: Array) -> Array:
        n, c, h, w = self.shape
        gx, kept = empty((n, h, w, c), gy.dtype), channels_last(gy)[..., self.before : self.before + c]

        def work(i: slice) -> None:
            gx[i] = 0
            gx[i, :: self.stride, :: self.stride] = kept[i]

        in_images(gx, work)
        return logical(gx)
