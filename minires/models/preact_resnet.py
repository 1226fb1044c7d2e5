"""Pre-activation ResNets: norm and rectifier stand before each convolution, and nothing after the sum.

The stream x then runs from the first block to the last through additions alone, x_L = x_l + F(x_l) + ... , so that
the gradient of x_L reaches every x_l unchanged, beside what the branches add. Three stages of n blocks, as in the
original CIFAR networks: of two 3x3 convolutions (depth 6n + 2; widths w, 2w, 4w) or bottlenecks of three (9n + 2; 4w,
8w, 16w), then a last batch norm and rectifier, which the stream has not had yet.

`ORDERS` has the other four places for norm and rectifier that the paper compares.

Source: He et al. 2016, Identity Mappings in Deep Residual Networks, figure 4, table 2 and the appendix; the released
code, github.com/KaimingHe/resnet-1k-layers
"""

from __future__ import annotations

from typing import Any, NamedTuple

from minires import functional as F
from minires.engine import Tensor
from minires.models import require
from minires.models.registry import Depths, register
from minires.models.resnet_cifar import blocks_of, stages, start
from minires.nn import BatchNorm2d, Conv2d, Identity, Linear, Module, ReLU, Residual, Sequential, ShortcutA

BASIC = Depths(first=8, step=6, rule="6n + 2", shown=(20, 56, 110))
BOTTLENECK = Depths(first=11, step=9, rule="9n + 2", shown=(164, 1001))
SOURCE = "He et al. 2016, Identity Mappings in Deep Residual Networks"


class _PreActivation(Residual):
    """What both kinds of block share.

        same shape       y = x + F(relu(bn1(x)))                     the stream is only added to
        another shape    y = shortcut(a) + F(a), a = relu(bn1(x))    one activation before the two paths part

    Attributes
        shared    whether the paths part behind the first activation, as where the shape changes. A network sets it for
                  its very first block too, whose x is the first convolution's own output
    """

    bn1: Module

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: str) -> None:
        changes = stride != 1 or in_channels != out_channels
        self.shared = changes
        super().__init__(shortcut=_shortcut(shortcut, in_channels, out_channels, stride) if changes else None)

    def forward(self, x: Any) -> Tensor:
        return super().forward(self.activated(x) if self.shared else x)

    def branch(self, x: Any) -> Tensor:
        return self.convolved(x if self.shared else self.activated(x))

    def activated(self, x: Any) -> Tensor:
        return F.relu(self.bn1(x))

    def convolved(self, a: Any) -> Tensor:
        """F of what is activated already."""
        raise NotImplementedError(f"{type(self).__name__} has no convolved(a)")


class PreActBlock(_PreActivation):
    """F(a) = conv2(relu(bn2(conv1(a)))), with two 3x3 convolutions.

    Shapes    x: (N, in_channels, H, W); y: (N, out_channels, ceil(H / stride), ceil(W / stride))
    Keys      bn1, conv1, bn2, conv2
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, shortcut: str = "pad") -> None:
        self.bn1 = BatchNorm2d(in_channels)
        self.conv1 = Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = BatchNorm2d(out_channels)
        self.conv2 = Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        super().__init__(in_channels, out_channels, stride, shortcut)

    def convolved(self, a: Any) -> Tensor:
        return self.conv2(F.relu(self.bn2(self.conv1(a))))


class PreActBottleneck(_PreActivation):
    """F(a) = conv3(relu(bn3(conv2(relu(bn2(conv1(a))))))): 1x1 to a quarter of the channels, 3x3, 1x1 back.

    stride_in    which convolution has the stride: "1x1", the first one, as published, or "3x3"

    Shapes    as PreActBlock
    Keys      bn1, conv1, bn2, conv2, bn3, conv3
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        shortcut: str = "project",
        stride_in: str = "1x1",
    ) -> None:
        inside = out_channels // 4
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.bn1 = BatchNorm2d(in_channels)
        self.conv1 = Conv2d(in_channels, inside, 1, first, bias=False)
        self.bn2 = BatchNorm2d(inside)
        self.conv2 = Conv2d(inside, inside, 3, second, padding=1, bias=False)
        self.bn3 = BatchNorm2d(inside)
        self.conv3 = Conv2d(inside, out_channels, 1, bias=False)
        super().__init__(in_channels, out_channels, stride, shortcut)

    def convolved(self, a: Any) -> Tensor:
        a = F.relu(self.bn2(self.conv1(a)))
        return self.conv3(F.relu(self.bn3(self.conv2(a))))


# --- the other four orders


class Order(NamedTuple):
    """F(x) = last(conv(relu(bn( ... conv(first(x)) ... )))) and y = after(x + F(x))."""

    first: str  # before the first convolution
    last: str  # after the last one
    after: str  # after the sum


ORDERS = {
    "original": Order(first="", last="bn", after="relu"),
    "bn_after_addition": Order(first="", last="", after="bn relu"),
    "relu_before_addition": Order(first="", last="bn relu", after=""),
    "relu_only_preactivation": Order(first="relu", last="bn", after=""),
    "full_preactivation": Order(first="bn relu", last="", after=""),
}


class OrderedBlock(Residual):
    """y = after(shortcut(x) + last(conv(relu(bn( ... conv(first(x)) ... ))))), by a row of `ORDERS`.

    inside    None: two 3x3 convolutions; else a bottleneck, 1x1 to `inside` channels, 3x3, 1x1

    Keys      branch.0, branch.1, ... of the convolutions and norms in order; activation.0 where a norm follows the sum
    Source    He et al. 2016, figure 4
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, order: str, shortcut: str, inside: int | None = None
    ) -> None:
        first, last, after = ORDERS[order]
        changes = stride != 1 or in_channels != out_channels
        conv, *more = _convolutions(in_channels, out_channels, stride, inside)
        branch = [*_layers(first, in_channels), conv]
        for conv in more:
            branch += [*_layers("bn relu", conv.in_channels), conv]
        super().__init__(
            Sequential(*branch, *_layers(last, out_channels)),
            _shortcut(shortcut, in_channels, out_channels, stride) if changes else None,
            activation=Sequential(*_layers(after, out_channels)),
        )


def _layers(names: str, channels: int) -> list[Module]:
    return [BatchNorm2d(channels) if name == "bn" else ReLU() for name in names.split()]


def _convolutions(in_channels: int, out_channels: int, stride: int, inside: int | None) -> list[Conv2d]:
    if inside is None:
        first = Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        return [first, Conv2d(out_channels, out_channels, 3, padding=1, bias=False)]
    return [
        Conv2d(in_channels, inside, 1, stride, bias=False),
        Conv2d(inside, inside, 3, padding=1, bias=False),
        Conv2d(inside, out_channels, 1, bias=False),
    ]


def _shortcut(kind: str, in_channels: int, out_channels: int, stride: int) -> Module:
    """What carries x where the shape changes: zeros for the new channels (option A), or a bare 1x1 convolution."""
    if kind == "pad":
        return ShortcutA(in_channels, out_channels, stride)
    return Conv2d(in_channels, out_channels, 1, stride, bias=False)


# --- networks


class _EitherForm(Depths):
    """6n + 2 or 9n + 2 layers."""

    def __contains__(self, depth: object) -> bool:
        return depth in BASIC or depth in BOTTLENECK

    def nearest(self, depth: int) -> list[int]:
        around = sorted({*BASIC.nearest(depth), *BOTTLENECK.nearest(depth)})
        return [max((d for d in around if d < depth), default=around[0]), min(d for d in around if d > depth)]


EITHER = _EitherForm(first=8, step=3, rule="6n + 2 or 9n + 2", shown=(20, 56, 110, 164, 1001))


@register("preact_resnet", depth=EITHER, skip="y = x + F(relu(bn(x)))", source=SOURCE)
class PreActResNet(Module):
    """Pre-activation ResNet-N.

    block         "basic", two 3x3 convolutions and N = 6n + 2, or "bottleneck", three and N = 9n + 2; "" is as
                  published: bottlenecks from 164 layers on, and where N is of the form 9n + 2 alone
    shortcut      where the shape changes: "pad" (option A), "project" (a 1x1 convolution without norm); "" is as
                  published: "pad" for basic blocks, "project" for bottlenecks
    order         one of ORDERS. Those that are not the full pre-activation have a norm and a rectifier behind the first
                  convolution, as the original has, and no norm behind the last block
    stride_in     which convolution of a bottleneck has the stride, "1x1" or "3x3"; for the full pre-activation

    Shapes    x: (N, in_channels, H, W); y: (N, num_classes)
    Keys      conv1, layer{1,2,3}.{i}.{bn1,conv1,bn2,conv2}, of bottlenecks also {bn3,conv3}, and shortcut where
              it projects; bn, linear
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        in_channels: int = 3,
        width: int = 16,
        *,
        block: str = "",
        shortcut: str = "",
        order: str = "full_preactivation",
        stride_in: str = "1x1",
    ) -> None:
        deep = depth in BOTTLENECK and (depth >= 164 or depth not in BASIC)
        block = block or ("bottleneck" if deep else "basic")
        shortcut = shortcut or ("project" if block == "bottleneck" else "pad")
        require.one_of("preact_resnet", "block", block, ("basic", "bottleneck"))
        require.one_of("preact_resnet", "shortcut", shortcut, ("pad", "project"))
        require.one_of("preact_resnet", "stride_in", stride_in, ("1x1", "3x3"))
        require.one_of("preact_resnet", "order", order, tuple(ORDERS))
        narrow = block == "bottleneck"
        blocks = blocks_of(depth, BOTTLENECK if narrow else BASIC, width)
        full = order == "full_preactivation"
        self.depth = depth

        def made(before: int, after: int, stride: int) -> Module:
            if not full:
                return OrderedBlock(before, after, stride, order, shortcut, after // 4 if narrow else None)
            if narrow:
                return PreActBottleneck(before, after, stride, shortcut, stride_in=stride_in)
            return PreActBlock(before, after, stride, shortcut)

        wide = 4 * width if narrow else width
        self.conv1 = Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.stem = Sequential(*_layers("" if full else "bn relu", width))
        self.layer1, self.layer2, self.layer3 = stages(made, blocks, (width, wide, 2 * wide, 4 * wide))
        if full:
            self.layer1[0].shared = True
        self.bn = BatchNorm2d(4 * wide) if full else Identity()
        self.relu = order in ("full_preactivation", "relu_only_preactivation")
        self.linear = Linear(4 * wide, num_classes)
        start(self)

    def forward(self, x: Any) -> Tensor:
        x = self.stem(self.conv1(x))  # (N, w, H, W)
        x = self.layer3(self.layer2(self.layer1(x)))  # (N, 4w or 16w, H/4, W/4)
        x = self.bn(x)
        if self.relu:
            x = F.relu(x)
        return self.linear(F.mean(x, dim=(2, 3)))
