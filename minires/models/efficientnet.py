"""Mobile networks of inverted residual blocks: MobileNetV2 and EfficientNet.

A bottleneck block squeezes, convolves and widens again; an inverted one widens, convolves each channel by itself and
squeezes, so that the skip joins the thin ends:

    y = x + F(x) where the stride is 1 and the channels are equal, else y = F(x)
    F = project( gate( depthwise( expand(x) ) ) )

    expand       1x1 to `expand_ratio` times the channels, batch norm, activation (left out at a ratio of 1)
    depthwise    k x k with one kernel for each channel, batch norm, activation
    gate         squeeze and excitation, in EfficientNet alone
    project      1x1 and batch norm, without an activation: a ReLU would cut into the few channels that are left

Only 9 of EfficientNet-B0's 16 blocks have a skip, and 10 of MobileNetV2's 17: the first block of each stage changes
the shape, and nothing stands in for the identity there.

Source: Sandler et al. 2018, MobileNetV2, table 2; Tan and Le 2019, EfficientNet, table 1. Names and keys: torchvision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models import require
from minires.models.registry import register
from minires.nn import (
    BatchNorm2d,
    Conv2d,
    Dropout,
    Linear,
    Module,
    ReLU6,
    Residual,
    Sequential,
    SiLU,
    SqueezeExcitation,
    init,
)

SKIP = "y = x + F(x) if the shape stays, else F(x)"


class Stage(NamedTuple):
    """`layers` blocks, of which the first has the stride and changes the channels."""

    expand_ratio: int
    kernel_size: int
    stride: int
    out_channels: int
    layers: int


EFFICIENTNET = (  # behind a stem of 32 channels
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)
MOBILENET = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 3, 2, 32, 3),
    Stage(6, 3, 2, 64, 4),
    Stage(6, 3, 1, 96, 3),
    Stage(6, 3, 2, 160, 3),
    Stage(6, 3, 1, 320, 1),
)
STEM, HEAD = 32, 1280


class InvertedResidual(Residual):
    """y = x + F(x) where x and F(x) have one shape, else y = F(x). What F is made of, a subclass says.

    drop_path    the probability with which a sample passes by the skip alone in training

    Shapes    x: (N, in_channels, H, W); y: (N, out_channels, ceil(H / stride), ceil(W / stride))
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, drop_path: float = 0.0) -> None:
        super().__init__(drop_path=drop_path)
        self.has_skip = stride == 1 and in_channels == out_channels

    def forward(self, x: Any) -> Tensor:
        return super().forward(x) if self.has_skip else self.branch(x)


class LinearBottleneck(InvertedResidual):
    """MobileNetV2's block: ReLU6, and a 3 x 3 depthwise convolution.

    Keys      conv.{i}.0 and .1 (convolution, batch norm) for expand and depthwise; conv.{n}, conv.{n + 1} for project
    Source    Sandler et al. 2018, MobileNetV2, figure 3b and table 1
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand_ratio: int) -> None:
        super().__init__(in_channels, out_channels, stride)
        wide = in_channels * expand_ratio
        self.conv = Sequential(
            *([_conv_bn(in_channels, wide, 1, activation=ReLU6)] if expand_ratio > 1 else []),
            _conv_bn(wide, wide, 3, stride, groups=wide, activation=ReLU6),
            Conv2d(wide, out_channels, 1, bias=False),
            BatchNorm2d(out_channels),
        )

    def branch(self, x: Any) -> Tensor:
        return self.conv(x)


class MBConv(InvertedResidual):
    """EfficientNet's block: SiLU, k x k, squeeze and excitation by a quarter of the block's input channels, drop path.

    Keys      block.{i}: expand, depthwise and project with .0 (convolution) and .1 (batch norm); the gate with fc1, fc2
    Source    Tan et al. 2019, MnasNet, figure 7; Tan and Le 2019, EfficientNet, section 4
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        expand_ratio: int,
        kernel_size: int,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(in_channels, out_channels, stride, drop_path)
        wide = in_channels * expand_ratio
        self.block = Sequential(
            *([_conv_bn(in_channels, wide, 1, activation=SiLU)] if expand_ratio > 1 else []),
            _conv_bn(wide, wide, kernel_size, stride, groups=wide, activation=SiLU),
            SqueezeExcitation(wide, squeezed=max(1, in_channels // 4), activation=F.silu),
            _conv_bn(wide, out_channels, 1),
        )

    def branch(self, x: Any) -> Tensor:
        return self.block(x)


def _conv_bn(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    groups: int = 1,
    activation: Callable[[], Module] | None = None,
) -> Sequential:
    """Convolution (the image keeps its size at stride 1), batch norm, activation."""
    conv = Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
    return Sequential(conv, BatchNorm2d(out_channels), *([activation()] if activation else []))


class EfficientNet(Module):
    """Stem 3x3 / 2, stages of MBConv, 1x1 to four times the last channels, mean over the image, dropout, classifier.

    stages                   see `Stage`; the numbers of the paper's B0 with width and depth factors applied
    stem_channels            of the stem
    dropout                  before the classifier
    stochastic_depth_prob    p: block l of L (from 0) drops its branch with probability p l / L
    stem_stride              1 for small images

    Convolutions start from N(0, 2 / fan_out), the classifier from U(-r, r) with r = 1 / sqrt(num_classes), biases
    from 0. Images of any size pass.

    Shapes    x: (N, in_channels, H, W); y: (N, num_classes)
    Keys      features.0 (stem), features.{stage}.{i}.block..., features.{stages + 1} (head), classifier.1
    """

    def __init__(
        self,
        stages: Sequence[Stage] = EFFICIENTNET,
        stem_channels: int = STEM,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        dropout: float = 0.2,
        stochastic_depth_prob: float = 0.2,
        stem_stride: int = 2,
    ) -> None:
        blocks = sum(stage.layers for stage in stages)
        self.features = Sequential(_conv_bn(in_channels, stem_channels, 3, stem_stride, activation=SiLU))
        channels, made = stem_channels, 0
        for expand, kernel, stride, out_channels, layers in stages:
            row = Sequential()
            for i in range(layers):
                drop = stochastic_depth_prob * made / blocks
                row.append(MBConv(channels, out_channels, stride if i == 0 else 1, expand, kernel, drop))
                channels, made = out_channels, made + 1
            self.features.append(row)
        self.features.append(_conv_bn(channels, 4 * channels, 1, activation=SiLU))
        self.classifier = Sequential(Dropout(dropout), Linear(4 * channels, num_classes))
        _start(self)
        radius = 1 / math.sqrt(num_classes)
        init.uniform_(self.classifier[1].weight, -radius, radius)

    def forward(self, x: Any) -> Tensor:
        require.side("efficientnet", x, 1)
        x = self.features(x)  # (N, 4C, H / 32, W / 32), rounded up
        x = F.mean(x, dim=(2, 3))  # (N, 4C)
        return self.classifier(x)


class MobileNetV2(Module):
    """Stem 3x3 / 2, stages of LinearBottleneck, 1x1 to `head_channels`, mean over the image, dropout, classifier.

    Convolutions start from N(0, 2 / fan_out), the classifier from N(0, 0.01^2), biases from 0. The other arguments are
    EfficientNet's.

    Shapes    x: (N, in_channels, H, W); y: (N, num_classes)
    Keys      features.0 (stem), features.{i}.conv..., features.{blocks + 1} (head), classifier.1
    """

    def __init__(
        self,
        stages: Sequence[Stage] = MOBILENET,
        stem_channels: int = STEM,
        head_channels: int = HEAD,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        dropout: float = 0.2,
        stem_stride: int = 2,
    ) -> None:
        self.features = Sequential(_conv_bn(in_channels, stem_channels, 3, stem_stride, activation=ReLU6))
        channels = stem_channels
        for expand, _, stride, out_channels, layers in stages:
            for i in range(layers):
                self.features.append(LinearBottleneck(channels, out_channels, stride if i == 0 else 1, expand))
                channels = out_channels
        self.features.append(_conv_bn(channels, head_channels, 1, activation=ReLU6))
        self.classifier = Sequential(Dropout(dropout), Linear(head_channels, num_classes))
        _start(self)
        init.normal_(self.classifier[1].weight, 0.0, 0.01)

    def forward(self, x: Any) -> Tensor:
        require.side("mobilenet_v2", x, 1)
        x = self.features(x)  # (N, head_channels, H / 32, W / 32), rounded up
        x = F.mean(x, dim=(2, 3))  # (N, head_channels)
        return self.classifier(x)


def _start(model: Module) -> None:
    for module in model.modules():
        if isinstance(module, Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out")
        if isinstance(module, (Conv2d, Linear)) and module.bias is not None:
            init.zeros_(module.bias)


# --- by name ------------------------------------------------------------------------------------------------


def _scaled(channels: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `channels`, but at least one, and not more than a tenth below."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _scaled_stages(stages: Sequence[Stage], width_mult: float, depth_mult: float) -> list[Stage]:
    return [
        s._replace(out_channels=_scaled(s.out_channels * width_mult), layers=math.ceil(s.layers * depth_mult))
        for s in stages
    ]


def _factor(model: str, **factors: float) -> None:
    for name, value in factors.items():
        if value <= 0:
            raise RequestError(f"{model}: {name} is {value}, but must be above 0; 1.0 is the paper's network")


@register(
    "efficientnet_b0",
    depth=50,  # without the two small layers of each gate, as SE-ResNet-50 is counted
    skip=SKIP,
    source="Tan and Le 2019, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
)
def efficientnet_b0(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width_mult: float = 1.0,
    depth_mult: float = 1.0,
    dropout: float = 0.2,
    stochastic_depth_prob: float = 0.2,
    small_images: bool = False,
) -> EfficientNet:
    """EfficientNet-B0. Its larger relatives have wider and longer stages (table 1 and the released code):

                      B1      B2      B3      B4      B5      B6      B7
        width_mult    1.0     1.1     1.2     1.4     1.6     1.8     2.0
        depth_mult    1.1     1.2     1.4     1.8     2.2     2.6     3.1
        dropout       0.2     0.3     0.3     0.4     0.4     0.5     0.5

    small_images    a stem of stride 1, for which 32 x 32 pixels leave 2 x 2 and not one
    """
    _factor("efficientnet_b0", width_mult=width_mult, depth_mult=depth_mult)
    return EfficientNet(
        _scaled_stages(EFFICIENTNET, width_mult, depth_mult),
        _scaled(STEM * width_mult),
        num_classes,
        in_channels,
        dropout=dropout,
        stochastic_depth_prob=stochastic_depth_prob,
        stem_stride=1 if small_images else 2,
    )


@register(
    "mobilenet_v2",
    depth=53,
    skip=SKIP,
    source="Sandler et al. 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks",
)
def mobilenet_v2(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    width_mult: float = 1.0,
    depth_mult: float = 1.0,
    dropout: float = 0.2,
    small_images: bool = False,
) -> MobileNetV2:
    """MobileNetV2. Options as in EfficientNet; the head does not become thinner than the paper's 1280 channels."""
    _factor("mobilenet_v2", width_mult=width_mult, depth_mult=depth_mult)
    return MobileNetV2(
        _scaled_stages(MOBILENET, width_mult, depth_mult),
        _scaled(STEM * width_mult),
        _scaled(HEAD * max(1.0, width_mult)),
        num_classes,
        in_channels,
        dropout=dropout,
        stem_stride=1 if small_images else 2,
    )
