"""The residual networks for ImageNet, their plain twins, ResNeXt and Wide ResNet-50.

A 7x7 convolution and a max pooling bring the image to a quarter of its side; four stages of residual blocks follow
(widths w, 2w, 4w, 8w; all but the first halve the image), then global average pooling and a linear classifier. Up to 34
layers the blocks are those of the networks for small images, from 50 on bottlenecks. Keys, start and numbers of
parameters are torchvision's.

Source: He et al. 2015, Deep Residual Learning for Image Recognition, section 4.1 and table 1.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models import require
from minires.models.registry import register
from minires.models.resnet_cifar import Block, PlainBlock, ResidualBlock, shortcut_of
from minires.nn import BatchNorm2d, Conv2d, Linear, MaxPool2d, Module, Residual, Sequential, init, zero_gamma_

SOURCE = "He et al. 2015, Deep Residual Learning for Image Recognition, table 1"
EXPANSION = 4  # a bottleneck's output is four times as wide as the maps that it convolves
STRIDE_IN = {"3x3": (1, 2), "1x1": (2, 1)}  # the strides of a halving bottleneck's first two convolutions


class BasicBlock(ResidualBlock):
    """y = relu(downsample(x) + F(x)) with two 3x3 convolutions in F: `ResidualBlock`, under torchvision's keys.

    Source    He et al. 2015, figure 5, left
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: str = "B") -> None:
        super().__init__(in_channels, out_channels, stride, None)
        self.downsample = shortcut_of(shortcut, in_channels, out_channels, stride)

    def shortcut(self, x: Any) -> Any:
        return self.downsample(x)


class Bottleneck(Residual):
    """y = relu(downsample(x) + F(x)) with F: 1x1 down to a quarter of the channels, 3x3, 1x1 up again.

    stride_in                  which convolution halves the image: "1x1", the first (the paper, "v1"), or "3x3"
                               (torchvision, "v1.5"), which passes over no pixel
    groups, width_per_group    the 3x3 convolves out_channels / 4 * width_per_group / 64 * groups channels, in groups

    Shapes    x: (N, in_channels, H, W); y: (N, out_channels, ceil(H / stride), ceil(W / stride))
    Source    He et al. 2015, figure 5, right; groups: Xie et al. 2017, Aggregated Residual Transformations for Deep
              Neural Networks, figure 3c
    """

    last_norm = "bn3"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        shortcut: str = "B",
        *,
        stride_in: str = "3x3",
        groups: int = 1,
        width_per_group: int = 64,
    ) -> None:
        require.one_of("resnet", "stride_in", stride_in, tuple(STRIDE_IN))
        inner = out_channels // EXPANSION * width_per_group // 64 * groups
        if inner < 1:
            raise RequestError(
                f"a bottleneck of {out_channels} channels with groups={groups} and width_per_group={width_per_group} "
                "leaves its 3x3 convolution no channels; raise the width or width_per_group"
            )
        first, second = STRIDE_IN[stride_in] if stride > 1 else (1, 1)
        self.conv1 = Conv2d(in_channels, inner, 1, first, bias=False)
        self.bn1 = BatchNorm2d(inner)
        self.conv2 = Conv2d(inner, inner, 3, second, padding=1, groups=groups, bias=False)
        self.bn2 = BatchNorm2d(inner)
        self.conv3 = Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = BatchNorm2d(out_channels)
        super().__init__(activation=F.relu)
        self.downsample = shortcut_of(shortcut, in_channels, out_channels, stride)

    def shortcut(self, x: Any) -> Any:
        return self.downsample(x)

    def branch(self, x: Any) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))  # (N, inner, H, W), with stride_in="1x1" H and W over stride
        x = F.relu(self.bn2(self.conv2(x)))  # (N, inner, H / stride, W / stride)
        return self.bn3(self.conv3(x))  # (N, out_channels, H / stride, W / stride)


class ResNet(Module):
    """Stem, four stages of blocks, global average pooling, classifier.

    block           block(in_channels, out_channels, stride) -> Module
    blocks          how many in each of the four stages
    width           channels of the stem; the stages put out expansion * (w, 2w, 4w, 8w)
    small_images    a stem of one 3x3 convolution that keeps the image's size, for CIFAR's 32 x 32: all maps are four
                    times as long and as wide as `forward` says

    Shapes    x: (N, in_channels, H, W), of any size; y: (N, num_classes)
    Keys      conv1, bn1, layer{1,2,3,4}.{i}.{conv1,bn1,conv2,bn2,...}, fc; where a shortcut projects,
              layer{j}.{i}.downsample.0 (convolution) and .1 (batch norm)
    Start     convolutions N(0, 2 / fan_out); with zero_init_residual each branch starts as 0
    """

    def __init__(
        self,
        block: Block,
        blocks: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        width: int = 64,
        expansion: int = 1,
        zero_init_residual: bool = False,
        small_images: bool = False,
    ) -> None:
        require.at_least_one("resnet", width=width)
        self.small_images = small_images
        kernel, stride = (3, 1) if small_images else (7, 2)
        self.conv1 = Conv2d(in_channels, width, kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.maxpool = MaxPool2d(3, stride=2, padding=1)
        widths = [expansion * width * factor for factor in (1, 2, 4, 8)]
        self.layer1 = _stage(block, blocks[0], width, widths[0], 1)
        self.layer2 = _stage(block, blocks[1], widths[0], widths[1], 2)
        self.layer3 = _stage(block, blocks[2], widths[1], widths[2], 2)
        self.layer4 = _stage(block, blocks[3], widths[2], widths[3], 2)
        self.fc = Linear(widths[3], num_classes)
        for module in self.modules():
            if isinstance(module, Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_residual:
            zero_gamma_(self)

    def forward(self, x: Any) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))  # (N, w, H / 2, W / 2)
        if not self.small_images:
            x = self.maxpool(x)  # (N, w, H / 4, W / 4)
        x = self.layer1(x)  # (N, w, H / 4, W / 4), from here on times the expansion
        x = self.layer2(x)  # (N, 2w, H / 8, W / 8)
        x = self.layer3(x)  # (N, 4w, H / 16, W / 16)
        x = self.layer4(x)  # (N, 8w, H / 32, W / 32)
        x = F.mean(x, dim=(2, 3))  # (N, 8w)
        return self.fc(x)


def _stage(block: Block, count: int, in_channels: int, out_channels: int, stride: int) -> Sequential:
    following = (block(out_channels, out_channels, 1) for _ in range(count - 1))
    return Sequential(block(in_channels, out_channels, stride), *following)


# --- the registered networks


def _register_plain(name: str, depth: int, blocks: Sequence[int]) -> None:
    @register(name, depth=depth, skip="none: y = relu(F(x))", source=SOURCE)
    def build(num_classes: int = 1000, in_channels: int = 3, *, width: int = 64, small_images: bool = False) -> ResNet:
        return ResNet(PlainBlock, blocks, num_classes, in_channels, width=width, small_images=small_images)


def _register_basic(name: str, depth: int, blocks: Sequence[int]) -> None:
    @register(name, depth=depth, skip="y = relu(x + F(x))", source=SOURCE)
    def build(
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        width: int = 64,
        shortcut: str = "B",
        zero_init_residual: bool = False,
        small_images: bool = False,
    ) -> ResNet:
        block = functools.partial(BasicBlock, shortcut=shortcut)
        common: dict[str, Any] = {"zero_init_residual": zero_init_residual, "small_images": small_images}
        return ResNet(block, blocks, num_classes, in_channels, width=width, **common)


def _register_bottleneck(
    name: str, depth: int, blocks: Sequence[int], source: str = SOURCE, cardinality: int = 1, base_width: int = 64
) -> None:
    @register(name, depth=depth, skip="y = relu(x + F(x))", source=source)
    def build(
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        width: int = 64,
        shortcut: str = "B",
        stride_in: str = "3x3",
        groups: int = cardinality,
        width_per_group: int = base_width,
        zero_init_residual: bool = False,
        small_images: bool = False,
    ) -> ResNet:
        inside: dict[str, Any] = {"stride_in": stride_in, "groups": groups, "width_per_group": width_per_group}
        block = functools.partial(Bottleneck, shortcut=shortcut, **inside)
        common: dict[str, Any] = {"zero_init_residual": zero_init_residual, "small_images": small_images}
        return ResNet(block, blocks, num_classes, in_channels, width=width, expansion=EXPANSION, **common)


RESNEXT = "Xie et al. 2017, Aggregated Residual Transformations for Deep Neural Networks, table 1"
WIDE = "Zagoruyko and Komodakis 2016, Wide Residual Networks, section 3"

_register_plain("plain18", 18, (2, 2, 2, 2))
_register_plain("plain34", 34, (3, 4, 6, 3))
_register_basic("resnet18", 18, (2, 2, 2, 2))
_register_basic("resnet34", 34, (3, 4, 6, 3))
_register_bottleneck("resnet50", 50, (3, 4, 6, 3))
_register_bottleneck("resnet101", 101, (3, 4, 23, 3))
_register_bottleneck("resnet152", 152, (3, 8, 36, 3))
_register_bottleneck("resnext50_32x4d", 50, (3, 4, 6, 3), RESNEXT, cardinality=32, base_width=4)
_register_bottleneck("wide_resnet50_2", 50, (3, 4, 6, 3), WIDE, base_width=128)
