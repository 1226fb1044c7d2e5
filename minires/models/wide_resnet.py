"""Wide residual networks: pre-activation blocks with k times the channels, and few of them.

WRN-N-k has N convolutions: the first one, three stages of n = (N - 4) / 6 blocks of two, and three 1x1 projections
where the stages begin. Widths are 16, then 16k, 32k and 64k. WRN-28-10 beats networks of a thousand thin layers: what
made those good was not their depth alone.

Source: Zagoruyko and Komodakis 2016, Wide Residual Networks, table 1.
"""

from __future__ import annotations

import functools
from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.models import require
from minires.models.preact_resnet import PreActBlock
from minires.models.registry import Depths, register
from minires.models.resnet_cifar import blocks_of, stages, start
from minires.nn import BatchNorm2d, Conv2d, Dropout, Linear, Module

DEPTHS = Depths(first=10, step=6, rule="6n + 4", shown=(16, 28, 40))
PUBLISHED = ((16, 4), (28, 10), (40, 4))  # depth and k of the networks that have a name here
SOURCE = "Zagoruyko and Komodakis 2016, Wide Residual Networks"


class WideBlock(PreActBlock):
    """F(a) = conv2(dropout(relu(bn2(conv1(a))))): a pre-activation block with dropout between its convolutions.

    Shapes, keys    of `PreActBlock`; where the shape changes, shortcut.weight is a 1x1 convolution's
    Source          the paper's section 2.4 and figure 1d
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, dropout: float = 0.0) -> None:
        super().__init__(in_channels, out_channels, stride, "project")
        self.dropout = Dropout(dropout)

    def convolved(self, a: Any) -> Tensor:
        return self.conv2(self.dropout(F.relu(self.bn2(self.conv1(a)))))


class WideResNet(Module):
    """WRN-depth-k.

    width      channels of the first convolution; the stages have k, 2k and 4k times as many
    dropout    the chance that an element inside a branch is dropped; .3 in some of the paper's CIFAR networks

    Shapes    x: (N, in_channels, H, W); y: (N, num_classes)
    Keys      conv1, layer{1,2,3}.{i}.{bn1,conv1,bn2,conv2}, layer{1,2,3}.0.shortcut, bn, linear
    Start     the He normal distribution, N(0, 2 / fan_in)
    """

    def __init__(
        self,
        depth: int,
        k: int,
        num_classes: int = 10,
        in_channels: int = 3,
        *,
        width: int = 16,
        dropout: float = 0.0,
    ) -> None:
        require.at_least_one("wrn", k=k)
        blocks = blocks_of(depth, DEPTHS, width)
        wide = k * width
        block = functools.partial(WideBlock, dropout=dropout)
        self.conv1 = Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.layer1, self.layer2, self.layer3 = stages(block, blocks, (width, wide, 2 * wide, 4 * wide))
        self.bn = BatchNorm2d(4 * wide)
        self.linear = Linear(4 * wide, num_classes)
        start(self)

    def forward(self, x: Any) -> Tensor:
        x = self.conv1(x)  # (N, w, H, W)
        x = self.layer1(x)  # (N, kw, H, W)
        x = self.layer2(x)  # (N, 2kw, H/2, W/2)
        x = self.layer3(x)  # (N, 4kw, H/4, W/4)
        x = F.mean(F.relu(self.bn(x)), dim=(2, 3))  # (N, 4kw)
        return self.linear(x)


def _register(depth: int, k: int) -> None:
    @register(f"wrn{depth}_{k}", depth=depth, skip="y = x + F(relu(bn(x)))", source=SOURCE)
    def build(num_classes: int = 10, in_channels: int = 3, *, width: int = 16, dropout: float = 0.0) -> WideResNet:
        return WideResNet(depth, k, num_classes, in_channels, width=width, dropout=dropout)


for _depth, _k in PUBLISHED:
    _register(_depth, _k)
