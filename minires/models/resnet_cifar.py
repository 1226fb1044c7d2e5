"""The residual networks for small images, and the plain networks that they are compared with.

Depth N = 6n + 2: a 3x3 convolution, three stages of n blocks of two 3x3 convolutions (widths w, 2w, 4w; stages two
and three start with stride 2), global average pooling, a linear classifier. Nothing depends on the image's size, so
8 x 8 digits, 28 x 28 MNIST and 32 x 32 CIFAR all pass.

What else a shortcut can be than the identity, and what it then does to the gradient, is in `SHORTCUT_KINDS`.

Source: He et al. 2015, Deep Residual Learning for Image Recognition, section 4.2; He et al. 2016, Identity Mappings in
Deep Residual Networks, table 1.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models import require
from minires.models.registry import Depths, register
from minires.nn import (
    BatchNorm2d,
    Conv2d,
    Dropout,
    GatedShortcut,
    Linear,
    Module,
    Residual,
    Scale,
    Sequential,
    ShortcutA,
    ShortcutB,
    ShortcutC,
    TransferGate,
    init,
)

Block = Callable[[int, int, int], Module]  # of in_channels, out_channels and stride
SHORTCUTS: dict[str, Callable[[int, int, int], Module]] = {"A": ShortcutA, "B": ShortcutB, "C": ShortcutC}
DEPTHS = Depths(first=8, step=6, rule="6n + 2", shown=(8, 14, 20, 32, 44, 56, 110, 1202))
COMPARED = dataclasses.replace(DEPTHS, shown=(20, 56, 110))  # of the families that are compared with these
SOURCE = "He et al. 2015, Deep Residual Learning for Image Recognition, section 4.2"

# Table 1 of He et al. 2016. s carries x past the branch (option A, B or C, where the shape changes), and g makes a gate
# T(x) = sigmoid(1x1 convolution). Their 1x1 convolution around every block is option C.
SHORTCUT_KINDS: dict[str, Callable[[Module, Callable[[], Module]], dict[str, Any]]] = {
    "identity": lambda s, g: {"shortcut": s},  # relu(x + F(x))
    "half": lambda s, g: {"shortcut": Sequential(s, Scale(0.5))},  # relu(x / 2 + F(x))
    "halves": lambda s, g: {"shortcut": Sequential(s, Scale(0.5)), "scale": 0.5},  # relu(x / 2 + F(x) / 2)
    "exclusive_gate": lambda s, g: {"shortcut": s, "gate": g()},  # relu((1 - T(x)) x + T(x) F(x))
    "shortcut_gate": lambda s, g: {"shortcut": GatedShortcut(g(), s)},  # relu((1 - T(x)) x + F(x))
    "dropout": lambda s, g: {"shortcut": Sequential(s, Dropout(0.5))},  # relu(dropout(x) + F(x))
    "zero": lambda s, g: {"shortcut": Sequential(s, Scale(0.0))},  # relu(F(x)): the plain network
}


class _TwoConvolutions(Module):
    """What plain and residual blocks share: F(x) = bn(conv(relu(bn(conv(x)))))."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, bias: bool = False) -> None:
        self.conv1 = Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=bias)
        self.bn1 = BatchNorm2d(out_channels)
        self.conv2 = Conv2d(out_channels, out_channels, 3, padding=1, bias=bias)
        self.bn2 = BatchNorm2d(out_channels)

    def branch(self, x: Any) -> Tensor:
        return self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))


class PlainBlock(_TwoConvolutions):
    """y = relu(F(x)) with F(x) = bn(conv(relu(bn(conv(x))))): a residual block without its skip.

    Shapes    x: (N, in_channels, H, W); y: (N, out_channels, ceil(H / stride), ceil(W / stride))
    """

    def forward(self, x: Any) -> Tensor:
        return F.relu(self.branch(x))


class ResidualBlock(_TwoConvolutions, Residual):
    """y = relu(shortcut(x) + F(x)), with the F of `PlainBlock`.

    shortcut    "A", "B" or "C", or a module that carries x to F's shape; None in a subclass that has its own
    bias        whether the convolutions have one
    options     scale, gate and drop_path, as `nn.Residual` takes them

    Source    He et al. 2015, eq. 1 and 2, figure 2
    """

    last_norm = "bn2"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        shortcut: str | Module | None,
        *,
        bias: bool = False,
        **options: Any,
    ) -> None:
        _TwoConvolutions.__init__(self, in_channels, out_channels, stride, bias)
        if isinstance(shortcut, str):
            shortcut = shortcut_of(shortcut, in_channels, out_channels, stride)
        Residual.__init__(self, shortcut=shortcut, activation=F.relu, **options)


class CifarResNet(Module):
    """ResNet-N, or with shortcut=None Plain-N.

    Convolutions and the classifier start from the He normal distribution, N(0, 2 / fan_in).

    block     makes a block of (in_channels, out_channels, stride); by default a ResidualBlock with this `shortcut`
    bias      whether the first convolution has one

    Shapes    x: (N, in_channels, H, W); y: (N, num_classes)
    Keys      conv1, bn1, layer{1,2,3}.{i}.{conv1,bn1,conv2,bn2}, linear; options B and C add
              layer{2,3}.{i}.shortcut.0 (convolution) and .1 (batch norm)
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        in_channels: int = 3,
        width: int = 16,
        shortcut: str | None = "A",
        *,
        block: Block | None = None,
        bias: bool = False,
    ) -> None:
        self.depth = depth
        blocks = blocks_of(depth, DEPTHS, width)
        if block is None:
            block = PlainBlock if shortcut is None else functools.partial(ResidualBlock, shortcut=shortcut)
        self.conv1 = Conv2d(in_channels, width, 3, padding=1, bias=bias)
        self.bn1 = BatchNorm2d(width)
        self.layer1, self.layer2, self.layer3 = stages(block, blocks, (width, width, 2 * width, 4 * width))
        self.linear = Linear(4 * width, num_classes)
        start(self)

    def forward(self, x: Any) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))  # (N, w, H, W)
        x = self.layer1(x)  # (N, w, H, W)
        x = self.layer2(x)  # (N, 2w, H/2, W/2)
        x = self.layer3(x)  # (N, 4w, H/4, W/4)
        x = F.mean(x, dim=(2, 3))  # (N, 4w)
        return self.linear(x)

    def blocks(self) -> list[Any]:
        """The blocks of all three stages, from the first to the last."""
        return [*self.layer1, *self.layer2, *self.layer3]


# --- what all networks of three stages share


def blocks_of(depth: int, depths: Depths, width: int) -> int:
    """How many blocks a stage has. Raises RequestError for a depth or a width that there is not."""
    if depth not in depths:
        near = ", ".join(str(depths.first + i * depths.step) for i in range(3))
        raise RequestError(f"depth is {depth}, but this kind of network has {depths.rule} layers: {near}, ...")
    require.at_least_one("resnet", width=width)
    return (depth - 2) // depths.step


def stages(block: Block, blocks: int, widths: tuple[int, int, int, int]) -> Any:
    """Three rows of blocks. The first block of each takes the width before; in the second and third it has stride 2."""
    return [
        Sequential(block(before, after, stride), *(block(after, after, 1) for _ in range(blocks - 1)))
        for before, after, stride in zip(widths, widths[1:], (1, 2, 2), strict=False)
    ]


def start(network: Module) -> None:
    """The He normal distribution, N(0, 2 / fan_in), for every convolution and the classifier."""
    for module in network.modules():
        if isinstance(module, (Conv2d, Linear)):
            init.kaiming_normal_(module.weight)


def shortcut_of(option: str | None, in_channels: int, out_channels: int, stride: int) -> Module:
    """The shortcut of option A, B or C. Raises RequestError for another."""
    if option not in SHORTCUTS:
        raise RequestError(f"unknown shortcut {option!r}: there are A (pad), B (1x1 where needed), C (always 1x1)")
    return SHORTCUTS[option](in_channels, out_channels, stride)


# --- by name


@register("plain", depth=DEPTHS, skip="none: y = relu(F(x))", source=SOURCE)
def plain(depth: int, num_classes: int = 10, in_channels: int = 3, *, width: int = 16) -> CifarResNet:
    """A network of `depth` layers without skips, with exactly the parameters of the resnet of option A."""
    return CifarResNet(depth, num_classes, in_channels, width, shortcut=None)


@register("resnet", depth=DEPTHS, skip="y = relu(x + F(x))", source=SOURCE)
def resnet(
    depth: int,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    shortcut: str = "A",
    width: int = 16,
    shortcut_kind: str = "identity",
    gate_bias: float = -6.0,
) -> CifarResNet:
    """A residual network of `depth` layers.

    shortcut         what carries x where the shape changes: option A, B or C
    shortcut_kind    what is done to x on the way: one of SHORTCUT_KINDS
    gate_bias        what the gates start from, in the two kinds that have gates
    """
    require.one_of("resnet", "shortcut_kind", shortcut_kind, tuple(SHORTCUT_KINDS))

    def block(before: int, after: int, stride: int) -> ResidualBlock:
        def gate() -> Module:
            return TransferGate(Conv2d(before, after, 1, stride), gate_bias)

        options = SHORTCUT_KINDS[shortcut_kind](shortcut_of(shortcut, before, after, stride), gate)
        return ResidualBlock(before, after, stride, **options)

    return CifarResNet(depth, num_classes, in_channels, width, shortcut, block=block)
