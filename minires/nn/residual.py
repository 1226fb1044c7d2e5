"""Residual connections as layers: the skip around a branch, and the three shortcuts for one that changes shape."""

from __future__ import annotations

from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.nn.containers import Sequential
from minires.nn.conv import Conv2d
from minires.nn.module import Module
from minires.nn.norm import BatchNorm2d


class Residual(Module):
    """y = shortcut(x) + branch(x), with the identity where no shortcut is given.

    branch      F, any module
    shortcut    what carries x past the branch; it must give the branch's output shape

    Backward    gx = gy + J_Fᵀ gy (see `minires.ops.residual`)
    Source      He et al. 2015, Deep Residual Learning, eq. 1 and 2
    """

    def __init__(self, branch: Module, shortcut: Module | None = None) -> None:
        self.branch = branch
        self.shortcut = shortcut

    def forward(self, x: Any) -> Tensor:
        return F.residual_add(x if self.shortcut is None else self.shortcut(x), self.branch(x))


class ShortcutA(Module):
    """Option A: every `stride`-th pixel, and zeros for the new channels; the identity where nothing changes.

    Shapes    x: (N, in_channels, H, W); y: (N, out_channels, ceil(H / stride), ceil(W / stride))
    Keys      none: there is nothing to learn
    Source    He et al. 2015, Deep Residual Learning, section 3.3 (A)
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride

    def forward(self, x: Any) -> Any:
        if self.stride == 1 and self.in_channels == self.out_channels:
            return x
        return F.pad_channels(x, self.out_channels, self.stride)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, stride={self.stride}"


class ShortcutC(Sequential):
    """Option C: a 1x1 convolution and batch norm, even where nothing changes, so that no gradient passes untouched.

    Shapes    as ShortcutA
    Keys      0.weight (the convolution's), 1.weight, 1.bias, ... (batch norm's)
    Source    He et al. 2015, Deep Residual Learning, section 3.3 (C)
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(Conv2d(in_channels, out_channels, 1, stride, bias=False), BatchNorm2d(out_channels))


class ShortcutB(Sequential):
    """Option B: a 1x1 convolution and batch norm where the shape changes, else the identity.

    Shapes    as ShortcutA
    Keys      those of ShortcutC, or none
    Source    He et al. 2015, Deep Residual Learning, section 3.3 (B)
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        changes = stride != 1 or in_channels != out_channels
        super().__init__(*(ShortcutC(in_channels, out_channels, stride) if changes else ()))
