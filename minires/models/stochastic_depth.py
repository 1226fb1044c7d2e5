"""Stochastic depth: in training whole branches are left out at random, batch by batch, and later ones more often.

In training y = relu(shortcut(x) + b F(x)) with b ~ Bernoulli(p_l), in evaluation y = relu(shortcut(x) + p_l F(x)),
where p_l = 1 - l / L (1 - p_L) falls from the first block to the last. On average (3L - 1) / 4 of L blocks are computed
when p_L = 1/2, which is the quarter of the time that training saves.

Source: Huang et al. 2016, Deep Networks with Stochastic Depth; the released code,
github.com/yueatsprograms/Stochastic_Depth
"""

from __future__ import annotations

from typing import Any

from minires import functional as F
from minires.models.registry import register
from minires.models.resnet_cifar import COMPARED, CifarResNet, ResidualBlock
from minires.nn import Conv2d, Module, StochasticDepth, init, linear_decay


class AveragingShortcut(Module):
    """The mean of each `stride` x `stride` square, and zeros behind the channels that there are.

    Shapes    x: (N, in_channels, H, W); y: (N, out_channels, ceil(H / stride), ceil(W / stride))
    Source    the released code, ResidualDrop.lua
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        self.stride = stride
        self.added = out_channels - in_channels

    def forward(self, x: Any) -> Any:
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)  # (N, in_channels, H/stride, W/stride)
        return F.pad(x, (0, 0, 0, 0, 0, self.added)) if self.added else x  # (N, out_channels, ...)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, added={self.added}"


@register(
    "stochastic_depth_resnet",
    depth=COMPARED,
    skip="y = relu(x + b F(x)), b ~ Bernoulli(p)",
    source="Huang et al. 2016, Deep Networks with Stochastic Depth",
)
class StochasticDepthResNet(CifarResNet):
    """ResNet-N whose branches survive with chance p_l, linearly from 1 down to `last`.

    bias    whether convolutions have one, as in the released code; batch norm takes it out again

    Keys    those of CifarResNet, with conv{1,2}.bias
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        in_channels: int = 3,
        width: int = 16,
        last: float = 0.5,
        bias: bool = True,
    ) -> None:
        def block(before: int, after: int, stride: int) -> ResidualBlock:
            return ResidualBlock(before, after, stride, AveragingShortcut(before, after, stride), bias=bias)

        super().__init__(depth, num_classes, in_channels, width, block=block, bias=bias)
        blocks = self.blocks()
        for number, residual in enumerate(blocks, 1):
            residual.drop_path = StochasticDepth(linear_decay(number, len(blocks), last))
        for module in self.modules():
            if isinstance(module, Conv2d) and module.bias is not None:
                init.zeros_(module.bias)
