"""DenseNet: every layer sees the maps of all layers before it, and adds k maps of its own.

    x_l = H_l([x_0, x_1, ..., x_{l-1}])          [...] joins along the channels

In place of a sum, which mixes what it is given, the skip is a concatenation, which keeps it: the gradient of x_0 is a
sum over all layers that read it, each by its own slice. A dense block of n layers takes C channels to C + n k. Between
blocks a transition squeezes the channels and halves the image.

    H        plain: BN-ReLU-3x3 (k maps);  BC: BN-ReLU-1x1 (4k maps) before it
    for small images   a 3x3 convolution, three blocks; DenseNet-L has L = 3n + 4 layers, DenseNet-BC-L 6n + 4
    for ImageNet       7x7 / 2 and a 3x3 / 2 max pool, four blocks, BC

Source: Huang et al. 2017, Densely Connected Convolutional Networks, sections 3 and 4, table 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.models import require
from minires.models.registry import Depths, register
from minires.nn import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    DenseConcat,
    Dropout,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
    checkpoint,
    init,
)

SOURCE = "Huang et al. 2017, Densely Connected Convolutional Networks"
SKIP = "y = [x, F(x)]"


class DenseLayer(DenseConcat):
    """y = [x, F(x)] with the plain F(x) = conv(relu(bn(x))), 3x3.

    Shapes    x: (N, C, H, W), all maps so far; F(x): (N, growth_rate, H, W); y: (N, C + growth_rate, H, W)
    Keys      norm1, conv1
    """

    def __init__(self, in_channels: int, growth_rate: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.norm1 = BatchNorm2d(in_channels)
        self.conv1 = Conv2d(in_channels, growth_rate, 3, padding=1, bias=False)
        self.dropout = Dropout(drop_rate)

    def branch(self, x: Any) -> Tensor:
        return self.dropout(self.conv1(F.relu(self.norm1(x))))


class DenseBottleneck(DenseConcat):
    """y = [x, F(x)] with F(x) = conv2(relu(bn(conv1(relu(bn(x)))))): 1x1 to bn_size growth_rate maps, then 3x3.

    Shapes    as DenseLayer
    Keys      norm1, conv1, norm2, conv2
    """

    def __init__(self, in_channels: int, growth_rate: int, drop_rate: float = 0.0, bn_size: int = 4) -> None:
        super().__init__()
        self.norm1 = BatchNorm2d(in_channels)
        self.conv1 = Conv2d(in_channels, bn_size * growth_rate, 1, bias=False)
        self.norm2 = BatchNorm2d(bn_size * growth_rate)
        self.conv2 = Conv2d(bn_size * growth_rate, growth_rate, 3, padding=1, bias=False)
        self.dropout = Dropout(drop_rate)

    def branch(self, x: Any) -> Tensor:
        x = self.conv1(F.relu(self.norm1(x)))  # (N, bn_size k, H, W)
        return self.dropout(self.conv2(F.relu(self.norm2(x))))  # (N, k, H, W)


class DenseBlock(Module):
    """Dense layers one after the other: y = [x, x_1, ..., x_n].

    layers              DenseLayer or DenseBottleneck, each made for the channels that the ones before it leave
    memory_efficient    keep the n + 1 pieces and join them anew for each layer, in the forward pass and again in
                        backward (`nn.checkpoint`): O(n) memory for what is otherwise O(n^2). The gradients are equal

    Shapes    x: (N, C, H, W); y: (N, C + n growth_rate, H, W)
    Keys      denselayer1, denselayer2, ...
    Source    memory_efficient: Pleiss et al. 2017, Memory-Efficient Implementation of DenseNets
    """

    def __init__(self, layers: Sequence[DenseLayer | DenseBottleneck], memory_efficient: bool = False) -> None:
        self.memory_efficient = memory_efficient
        for i, layer in enumerate(layers):
            self.add_module(f"denselayer{i + 1}", layer)

    def forward(self, x: Any) -> Any:
        if self.memory_efficient:
            return self._from_pieces(x)
        for layer in self.children():
            x = layer(x)  # (N, C + k, H, W), then (N, C + 2k, H, W), ...
        return x

    def _from_pieces(self, x: Any) -> Tensor:
        pieces = [x]
        for layer in self.children():
            pieces.append(checkpoint(_joined_branch, layer, *pieces))  # (N, k, H, W)
        return F.cat(pieces, 1)


def _joined_branch(layer: DenseLayer | DenseBottleneck, *pieces: Any) -> Tensor:
    return layer.branch(F.cat(pieces, 1))


class Transition(Module):
    """y = pool(conv(relu(bn(x)))): a 1x1 convolution to out_channels, and the mean of each 2 x 2 pixels.

    Shapes    x: (N, in_channels, H, W); y: (N, out_channels, H // 2, W // 2)
    Keys      norm, conv
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        self.norm = BatchNorm2d(in_channels)
        self.conv = Conv2d(in_channels, out_channels, 1, bias=False)
        self.pool = AvgPool2d(2)

    def forward(self, x: Any) -> Tensor:
        return self.pool(self.conv(F.relu(self.norm(x))))


class DenseNet(Module):
    """A stem, dense blocks with a transition between each two, batch norm, the mean over the image, a classifier.

    block_config         dense layers in each block
    growth_rate          k, the maps that each layer adds
    num_init_features    channels of the stem
    bottleneck           layers with a 1x1 convolution before the 3x3: the B of BC
    compression          the fraction of channels that a transition keeps, 1/2 being the C of BC
    drop_rate            dropout of each layer's maps
    small_images         the stem is a 3x3 convolution, not 7x7 / 2 and max pool / 2
    memory_efficient     see `DenseBlock`

    Convolutions start from the He normal distribution, the classifier's bias from 0. The names of arguments and keys
    are torchvision's.

    Shapes    x: (N, in_channels, H, W); y: (N, num_classes)
    Keys      features.conv0, features.norm0 (for large images), features.denseblock{i}.denselayer{j}.{norm1,conv1,...},
              features.transition{i}.{norm,conv}, features.norm5 (whatever the number of blocks), classifier

    Raises RequestError for an image of which the transitions would leave no pixel.
    """

    def __init__(
        self,
        block_config: Sequence[int] = (6, 12, 24, 16),
        growth_rate: int = 32,
        num_init_features: int = 64,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        bottleneck: bool = True,
        compression: float = 0.5,
        drop_rate: float = 0.0,
        small_images: bool = False,
        memory_efficient: bool = False,
    ) -> None:
        fewest = min(block_config, default=0)
        require.at_least_one(
            "densenet", growth_rate=growth_rate, num_init_features=num_init_features, block_config=fewest
        )
        pooled = 2 ** (len(block_config) - 1)  # pixels a side behind the stem, of which the transitions leave one
        self.least_side = pooled if small_images else 4 * (pooled - 1) + 1  # the stem's strides of 2 round up, twice
        channels = num_init_features
        self.features = _small_stem(in_channels, channels) if small_images else _stem(in_channels, channels)
        make = DenseBottleneck if bottleneck else DenseLayer
        for i, layers in enumerate(block_config, start=1):
            widths = range(channels, channels + layers * growth_rate, growth_rate)
            block = DenseBlock([make(width, growth_rate, drop_rate) for width in widths], memory_efficient)
            self.features.add_module(f"denseblock{i}", block)
            channels += layers * growth_rate
            if i < len(block_config):
                kept = int(channels * compression)
                self.features.add_module(f"transition{i}", Transition(channels, kept))
                channels = kept
        self.features.add_module("norm5", BatchNorm2d(channels))
        self.classifier = Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, Conv2d):
                init.kaiming_normal_(module.weight)
            elif isinstance(module, Linear) and module.bias is not None:
                init.zeros_(module.bias)

    def forward(self, x: Any) -> Tensor:
        require.side("densenet", x, self.least_side)
        x = F.relu(self.features(x))  # (N, C, h, w)
        x = F.mean(x, dim=(2, 3))  # (N, C)
        return self.classifier(x)


def _stem(in_channels: int, channels: int) -> Sequential:
    return Sequential(
        {
            "conv0": Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False),
            "norm0": BatchNorm2d(channels),
            "relu0": ReLU(),
            "pool0": MaxPool2d(3, stride=2, padding=1),
        }
    )


def _small_stem(in_channels: int, channels: int) -> Sequential:
    return Sequential({"conv0": Conv2d(in_channels, channels, 3, padding=1, bias=False)})


# --- for small images: CIFAR, digits --------------------------------------------------------------------


@register("densenet", depth=Depths(first=7, step=3, rule="3n + 4", shown=(40, 100)), skip=SKIP, source=SOURCE)
def densenet(
    depth: int,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    growth_rate: int = 12,
    drop_rate: float = 0.0,
    memory_efficient: bool = False,
) -> DenseNet:
    """The plain DenseNet: three blocks of (depth - 4) / 3 layers of one 3x3 convolution, transitions keep all maps.

    The paper drops out 0.2 where it trains without augmentation.
    """
    layers = (depth - 4) // 3
    return DenseNet(
        (layers,) * 3,
        growth_rate,
        16,
        num_classes,
        in_channels,
        bottleneck=False,
        compression=1.0,
        drop_rate=drop_rate,
        small_images=True,
        memory_efficient=memory_efficient,
    )


@register(
    "densenet_bc",
    depth=Depths(first=10, step=6, rule="6n + 4", shown=(40, 100)),
    skip=SKIP,
    source=SOURCE,
)
def densenet_bc(
    depth: int,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    growth_rate: int = 12,
    drop_rate: float = 0.0,
    memory_efficient: bool = False,
) -> DenseNet:
    """DenseNet-BC: three blocks of (depth - 4) / 6 bottleneck layers, transitions keep half of the maps.

    The paper's have k = 12 at 100 layers, 24 at 250 and 40 at 190.
    """
    layers = (depth - 4) // 6
    return DenseNet(
        (layers,) * 3,
        growth_rate,
        2 * growth_rate,
        num_classes,
        in_channels,
        drop_rate=drop_rate,
        small_images=True,
        memory_efficient=memory_efficient,
    )


# --- for ImageNet -----------------------------------------------------------------------------------------


def _of_size(block_config: Sequence[int], growth_rate: int = 32, num_init_features: int = 64) -> Any:
    """A build function of DenseNet-BC for large images whose defaults are of this size. Keys: torchvision's."""

    def build(
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        block_config: Sequence[int] = block_config,
        growth_rate: int = growth_rate,
        num_init_features: int = num_init_features,
        drop_rate: float = 0.0,
        memory_efficient: bool = False,
    ) -> DenseNet:
        return DenseNet(
            block_config,
            growth_rate,
            num_init_features,
            num_classes,
            in_channels,
            drop_rate=drop_rate,
            memory_efficient=memory_efficient,
        )

    return build


# Table 1 of the paper. The numbers are the dense layers in each block; DenseNet-161 is also wider.
register("densenet121", depth=121, skip=SKIP, source=SOURCE)(_of_size((6, 12, 24, 16)))
register("densenet169", depth=169, skip=SKIP, source=SOURCE)(_of_size((6, 12, 32, 32)))
register("densenet201", depth=201, skip=SKIP, source=SOURCE)(_of_size((6, 12, 48, 32)))
register("densenet161", depth=161, skip=SKIP, source=SOURCE)(_of_size((6, 12, 36, 24), 48, 96))
