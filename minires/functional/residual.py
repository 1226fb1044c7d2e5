"""The skip connection, and the shortcut that pads."""

from __future__ import annotations

from typing import Any

from minires.engine import Tensor
from minires.errors import RequestError
from minires.ops.residual import PadChannels, ResidualAdd

__all__ = ["pad_channels", "residual_add"]


def residual_add(x: Any, f: Any) -> Tensor:
    """x + f, where x is the skip and f = F(x) the branch. Both receive the output's gradient untouched.

    Raises RequestError unless the shapes are equal: a skip that broadcasts is a bug.
    """
    if tuple(x.shape) != tuple(f.shape):
        raise RequestError(
            f"residual_add: the skip is {tuple(x.shape)} and the branch {tuple(f.shape)}, but a skip must not "
            "broadcast; bring it to the branch's shape with pad_channels or a 1x1 convolution"
        )
    return ResidualAdd.apply(x, f)


def pad_channels(x: Any, out_channels: int, stride: int = 1) -> Tensor:
    """The option-A shortcut: every `stride`-th pixel of x (N, C, H, W), and zeros for the channels it lacks.

    Half of the zeros, rounded down, come before x's channels and the rest after: for out_channels = 2C this is
    F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, C // 2, C // 2)), the usual one for CIFAR. No parameters.

    Returns (N, out_channels, ceil(H / stride), ceil(W / stride)). Raises RequestError when out_channels < C.
    """
    if x.ndim != 4:
        raise RequestError(f"pad_channels: x is {tuple(x.shape)}, but must be (N, C, H, W)")
    added = out_channels - x.shape[1]
    if added < 0:
        raise RequestError(
            f"pad_channels: out_channels is {out_channels}, fewer than the {x.shape[1]} channels of x; "
            "use a 1x1 convolution to drop channels"
        )
    if stride < 1:
        raise RequestError(f"pad_channels: stride is {stride}, but must be at least 1")
    return PadChannels.apply(x, before=added // 2, after=added - added // 2, stride=stride)
