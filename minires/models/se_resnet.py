"""SE-ResNet: residual networks whose branches end in squeeze-and-excitation, y = relu(x + s F(x)).

The gate s, one number a channel between 0 and 1, is computed from the mean of F(x) over the image. Layout and numbers
of parameters are those of timm's legacy_seresnet*, after the networks that the paper's authors published: stride on the
first 1x1 of a bottleneck, a first pooling without padding.

Source: Hu et al. 2018, Squeeze-and-Excitation Networks, figure 3 and table 1.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.models import require
from minires.models.registry import register
from minires.models.resnet import EXPANSION, BasicBlock, Bottleneck, ResNet
from minires.models.resnet_cifar import Block
from minires.nn import MaxPool2d, SqueezeExcitation

SOURCE = "Hu et al. 2018, Squeeze-and-Excitation Networks, table 1"
SKIP = "y = relu(x + s F(x)), s = sigmoid(W2 relu(W1 mean(F(x))))"
SMALLEST = 3  # pixels a side: below, the first pooling has no window


class SEBasicBlock(BasicBlock):
    """y = relu(shortcut(x) + s F(x)) with the F of a basic block.

    relu_before_gate    whether a ReLU ends F, as in timm's 18 and 34 layers; the paper has none there, and He et al.
                        2016 (table 2) found one harmful, because a branch that is nowhere negative can only add
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, *, reduction: int, relu_before_gate: bool
    ) -> None:
        super().__init__(in_channels, out_channels, stride, "B")
        self.relu_before_gate = relu_before_gate
        self.se_module = _gate(out_channels, reduction)

    def branch(self, x: Any) -> Tensor:
        f = super().branch(x)
        return self.se_module(F.relu(f) if self.relu_before_gate else f)


class SEBottleneck(Bottleneck):
    """y = relu(shortcut(x) + s F(x)) with the F of a bottleneck that halves the image in its first convolution."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, reduction: int) -> None:
        super().__init__(in_channels, out_channels, stride, "B", stride_in="1x1")
        self.se_module = _gate(out_channels, reduction)

    def branch(self, x: Any) -> Tensor:
        return self.se_module(super().branch(x))


def _gate(channels: int, reduction: int) -> SqueezeExcitation:
    require.at_least_one("se_resnet", reduction=reduction)
    return SqueezeExcitation(channels, reduction)


class SEResNet(ResNet):
    """A `ResNet` of SE blocks.

    Shapes    x: (N, in_channels, H, W), 3 pixels a side or more; y: (N, num_classes)
    Keys      those of `ResNet`, and se_module.{fc1,fc2} in each block, 1x1 convolutions with biases
    """

    def __init__(self, block: Block, blocks: Sequence[int], *counts: int, **options: Any) -> None:
        super().__init__(block, blocks, *counts, **options)
        self.maxpool = MaxPool2d(3, stride=2, ceil_mode=True)

    def forward(self, x: Any) -> Tensor:
        if not self.small_images:
            require.side("se_resnet", x, SMALLEST)
        return super().forward(x)


def _register_basic(depth: int, blocks: Sequence[int]) -> None:
    @register(f"se_resnet{depth}", depth=depth, skip=SKIP, source=SOURCE)
    def build(
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        width: int = 64,
        reduction: int = 16,
        relu_before_gate: bool = True,
        small_images: bool = False,
    ) -> SEResNet:
        block = functools.partial(SEBasicBlock, reduction=reduction, relu_before_gate=relu_before_gate)
        return SEResNet(block, blocks, num_classes, in_channels, width=width, small_images=small_images)


def _register_bottleneck(depth: int, blocks: Sequence[int]) -> None:
    @register(f"se_resnet{depth}", depth=depth, skip=SKIP, source=SOURCE)
    def build(
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        width: int = 64,
        reduction: int = 16,
        small_images: bool = False,
    ) -> SEResNet:
        block = functools.partial(SEBottleneck, reduction=reduction)
        common: dict[str, Any] = {"width": width, "expansion": EXPANSION, "small_images": small_images}
        return SEResNet(block, blocks, num_classes, in_channels, **common)


_register_basic(18, (2, 2, 2, 2))
_register_basic(34, (3, 4, 6, 3))
_register_bottleneck(50, (3, 4, 6, 3))
_register_bottleneck(101, (3, 4, 23, 3))
_register_bottleneck(152, (3, 8, 36, 3))
