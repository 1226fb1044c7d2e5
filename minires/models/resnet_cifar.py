"""The residual networks for small images, and the plain networks that they are compared with.

Depth N = 6n + 2: a 3x3 convolution, three stages of n blocks of two 3x3 convolutions (widths w, 2w, 4w; stages two
and three start with stride 2), global average pooling, a linear classifier. Nothing depends on the image's size, so
8 x 8 digits, 28 x 28 MNIST and 32 x 32 CIFAR all pass.

Source: He et al. 2015, Deep Residual Learning for Image Recognition, section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models.registry import Depths, register
from minires.nn import BatchNorm2d, Conv2d, Linear, Module, Sequential, ShortcutA, ShortcutB, ShortcutC, init

SHORTCUTS: dict[str, Callable[[int, int, int], Module]] = {"A": ShortcutA, "B": ShortcutB, "C": ShortcutC}
DEPTHS = Depths(first=8, step=6, rule="6n + 2", shown=(8, 14, 20, 32, 44, 56, 110, 1202))
SOURCE = "He et al. 2015, Deep Residual Learning for Image Recognition, section 4.2"


class PlainBlock(Module):
    """y = relu(F(x)) with F(x) = bn(conv(relu(bn(conv(x))))): a residual block without its skip.

    Shapes    x: (N, in_channels, H, W); y: (N, out_channels, ceil(H / stride), ceil(W / stride))
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        self.conv1 = Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(out_channels)
        self.conv2 = Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(out_channels)

    def forward(self, x: Any) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class ResidualBlock(PlainBlock):
    """y = relu(shortcut(x) + F(x)), with the F of `PlainBlock`.

    Source    He et al. 2015, eq. 1 and 2, figure 2
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: str) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = SHORTCUTS[shortcut](in_channels, out_channels, stride)

    def forward(self, x: Any) -> Tensor:
        return F.relu(F.residual_add(self.shortcut(x), self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))))


class CifarResNet(Module):
    """ResNet-N, or with shortcut=None Plain-N.

    Convolutions and the classifier start from the He normal distribution, N(0, 2 / fan_in).

    Shapes    x: (N, in_channels, H, W); y: (N, num_classes)
    Keys      conv1, bn1, layer{1,2,3}.{i}.{conv1,bn1,conv2,bn2}, linear; options B and C add
              layer{2,3}.{i}.shortcut.0 (convolution) and .1 (batch norm)
    """

    def __init__(
        self, depth: int, num_classes: int = 10, in_channels: int = 3, width: int = 16, shortcut: str | None = "A"
    ) -> None:
        if depth not in DEPTHS:
            raise RequestError(f"depth is {depth}, but this kind of network has {DEPTHS.rule} layers: 8, 14, 20, ...")
        if shortcut is not None and shortcut not in SHORTCUTS:
            raise RequestError(
                f"unknown shortcut {shortcut!r}: there are A (pad), B (1x1 where needed), C (always 1x1)"
            )
        if width < 1:
            raise RequestError(f"width is {width}, but a layer needs at least 1 channel")
        self.depth = depth
        blocks = (depth - 2) // 6
        self.conv1 = Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.layer1 = _stage(blocks, width, width, 1, shortcut)
        self.layer2 = _stage(blocks, width, 2 * width, 2, shortcut)
        self.layer3 = _stage(blocks, 2 * width, 4 * width, 2, shortcut)
        self.linear = Linear(4 * width, num_classes)
        for module in self.modules():
            if isinstance(module, (Conv2d, Linear)):
                init.kaiming_normal_(module.weight)

    def forward(self, x: Any) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))  # (N, w, H, W)
        x = self.layer1(x)  # (N, w, H, W)
        x = self.layer2(x)  # (N, 2w, H/2, W/2)
        x = self.layer3(x)  # (N, 4w, H/4, W/4)
        x = F.mean(x, dim=(2, 3))  # (N, 4w)
        return self.linear(x)


def _stage(blocks: int, in_channels: int, out_channels: int, stride: int, shortcut: str | None) -> Sequential:
    def block(first: bool) -> Module:
        shape = (in_channels, out_channels, stride) if first else (out_channels, out_channels, 1)
        return PlainBlock(*shape) if shortcut is None else ResidualBlock(*shape, shortcut)

    return Sequential(*(block(first=i == 0) for i in range(blocks)))


@register("plain", depth=DEPTHS, skip="none: y = relu(F(x))", source=SOURCE)
def plain(depth: int, num_classes: int = 10, in_channels: int = 3, *, width: int = 16) -> CifarResNet:
    """A network of `depth` layers without skips, with exactly the parameters of the resnet of option A."""
    return CifarResNet(depth, num_classes, in_channels, width, shortcut=None)


@register("resnet", depth=DEPTHS, skip="y = relu(x + F(x))", source=SOURCE)
def resnet(
    depth: int, num_classes: int = 10, in_channels: int = 3, *, shortcut: str = "A", width: int = 16
) -> CifarResNet:
    """A residual network of `depth` layers, with shortcuts of option A, B or C."""
    if shortcut not in SHORTCUTS:  # None would quietly build a plain network
        raise RequestError(f"unknown shortcut {shortcut!r}: there are A (pad), B (1x1 where needed), C (always 1x1)")
    return CifarResNet(depth, num_classes, in_channels, width, shortcut)
