"""Fixup: residual networks without any norm, which a start of the right size makes trainable.

Without batch norm a sum of L branches grows exponentially with L. Fixup keeps each step of SGD at a size that does not
depend on L, by three rules: the last layer of each branch and the classifier start from 0; the other layers of a
branch of m layers start L^(-1 / (2m - 2)) times smaller than He's normal distribution; and each branch has a learned
multiplier, from 1, and one learned number, from 0, in front of every convolution, rectifier and the classifier.

No norm catches a step that is too large: on the digits these networks learn with SGD at a rate of 0.1, the paper's, and
diverge at 0.2.

Source: Zhang, Dauphin and Ma 2019, Fixup Initialization: Residual Learning Without Normalization, section 3
"""

from __future__ import annotations

from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.models.registry import register
from minires.models.resnet_cifar import COMPARED, blocks_of, stages
from minires.nn import Conv2d, LearnedScale, Linear, Module, Residual, ShortcutA, init
from minires.nn.module import Parameter, empty

LAYERS = 2  # m: the convolutions of a branch


class ScalarBias(Module):
    """y = x + beta, with one learned number for all of x.

    Keys      beta (1,)
    Source    Zhang et al. 2019, section 3, rule 3
    """

    def __init__(self) -> None:
        self.beta = Parameter(empty(1))

    def forward(self, x: Any) -> Tensor:
        return F.add(x, self.beta)


class FixupBlock(Residual):
    """y = relu(shortcut(x) + F(x) + b4), F(x) = alpha conv2(relu(conv1(x + b1) + b2) + b3).

    Shapes    x: (N, in_channels, H, W); y: (N, out_channels, ceil(H / stride), ceil(W / stride))
    Keys      bias1.beta, conv1.weight, bias2.beta, bias3.beta, conv2.weight, multiplier.alpha, bias4.beta
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        self.bias1 = ScalarBias()
        self.conv1 = Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bias2 = ScalarBias()
        self.bias3 = ScalarBias()
        self.conv2 = Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.multiplier = LearnedScale(1.0)
        self.bias4 = ScalarBias()
        super().__init__(shortcut=ShortcutA(in_channels, out_channels, stride), activation=F.relu)

    def branch(self, x: Any) -> Tensor:
        a = F.relu(self.bias2(self.conv1(self.bias1(x))))
        return self.bias4(self.multiplier(self.conv2(self.bias3(a))))


@register(
    "fixup_resnet",
    depth=COMPARED,
    skip="y = relu(x + alpha F(x) + b), F = 0 at first",
    source="Zhang et al. 2019, Fixup Initialization",
)
class FixupResNet(Module):
    """ResNet-N of option A without norm. `start_fixup` is its start.

    Shapes    x: (N, in_channels, H, W); y: (N, num_classes)
    Keys      conv1, bias1, layer{1,2,3}.{i} as in FixupBlock, bias2, linear
    """

    def __init__(self, depth: int, num_classes: int = 10, in_channels: int = 3, width: int = 16) -> None:
        self.depth = depth
        blocks = blocks_of(depth, COMPARED, width)
        self.conv1 = Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bias1 = ScalarBias()
        self.layer1, self.layer2, self.layer3 = stages(FixupBlock, blocks, (width, width, 2 * width, 4 * width))
        self.bias2 = ScalarBias()
        self.linear = Linear(4 * width, num_classes)
        start_fixup(self)

    def forward(self, x: Any) -> Tensor:
        x = F.relu(self.bias1(self.conv1(x)))  # (N, w, H, W)
        x = self.layer3(self.layer2(self.layer1(x)))  # (N, 4w, H/4, W/4)
        x = F.mean(x, dim=(2, 3))  # (N, 4w)
        return self.linear(self.bias2(x))


def start_fixup(network: FixupResNet) -> None:
    """The rules of Fixup: see the top of this file."""
    init.kaiming_normal_(network.conv1.weight)
    blocks = [module for module in network.modules() if isinstance(module, FixupBlock)]
    shrink = len(blocks) ** (-1 / (2 * LAYERS - 2))
    for block in blocks:
        weight = block.conv1.weight
        init.normal_(weight, 0.0, shrink * (2 / init.fans(weight)[0]) ** 0.5)
        init.zeros_(block.conv2.weight)
    init.zeros_(network.linear.weight)
    if network.linear.bias is not None:
        init.zeros_(network.linear.bias)
