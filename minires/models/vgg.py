"""VGG: nothing but 3x3 convolutions, five poolings and three fully connected layers; no skip.

At 16 to 19 layers this is about as deep as plain networks went before batch norm and skips. Keys, start and numbers of
parameters are torchvision's.

Source: Simonyan and Zisserman 2015, Very Deep Convolutional Networks for Large-Scale Image Recognition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.models import require
from minires.models.registry import register
from minires.nn import (
    AdaptiveAvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
    init,
)

SOURCE = "Simonyan and Zisserman 2015, Very Deep Convolutional Networks for Large-Scale Image Recognition"
CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # a stage, by depth: table 1, columns D and E
STAGES = 5
GRID = 7  # the classifier sees 7 x 7 cells: what is left of 224 pixels after five poolings


class VGG(Module):
    """Five stages of 3x3 convolutions, each ended by a pooling that halves the image; then three linear layers.

    Shapes    x: (N, in_channels, H, W), 32 pixels a side or more; y: (N, num_classes)
    Keys      features.{i} and classifier.{0,3,6}: .weight, .bias; with batch norm it follows each convolution
    Start     convolutions N(0, 2 / fan_out), linear layers N(0, 0.01^2), biases 0, as torchvision
    """

    def __init__(
        self,
        convolutions: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        batch_norm: bool = False,
        width: int = 64,
        hidden: int = 4096,
        dropout: float = 0.5,
    ) -> None:
        require.at_least_one("vgg", width=width, hidden=hidden)
        widths = [width * factor for factor in (1, 2, 4, 8, 8)]
        self.features = Sequential()
        for count, out_channels in zip(convolutions, widths, strict=True):
            for _ in range(count):
                self.features.append(Conv2d(in_channels, out_channels, 3, padding=1))
                self.features.extend([BatchNorm2d(out_channels)] if batch_norm else [])
                self.features.append(ReLU())
                in_channels = out_channels
            self.features.append(MaxPool2d(2))
        self.avgpool = AdaptiveAvgPool2d(GRID)
        self.classifier = fully_connected(in_channels * GRID * GRID, hidden, num_classes, dropout)
        for module in self.modules():
            if isinstance(module, Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, Linear):
                init.normal_(module.weight, 0.0, 0.01)
            if isinstance(module, (Conv2d, Linear)) and module.bias is not None:
                init.zeros_(module.bias)

    def forward(self, x: Any) -> Tensor:
        require.side("vgg", x, least=2**STAGES)
        x = self.features(x)  # (N, 8w, H / 32, W / 32)
        x = self.avgpool(x)  # (N, 8w, 7, 7)
        x = F.flatten(x, 1)  # (N, 8w 7 7)
        return self.classifier(x)


def fully_connected(features: int, hidden: int, num_classes: int, dropout: float) -> Sequential:
    """The three linear layers, with dropout behind each hidden one.

    Keys      0, 3 and 6: .weight, .bias
    """
    return Sequential(
        *(Linear(features, hidden), ReLU(), Dropout(dropout)),
        *(Linear(hidden, hidden), ReLU(), Dropout(dropout)),
        Linear(hidden, num_classes),
    )


def _register(name: str, depth: int, batch_norm: bool) -> None:
    @register(name, depth=depth, skip="none", source=SOURCE)
    def build(
        num_classes: int = 1000, in_channels: int = 3, *, width: int = 64, hidden: int = 4096, dropout: float = 0.5
    ) -> VGG:
        options: dict[str, Any] = {"width": width, "hidden": hidden, "dropout": dropout}
        return VGG(CONVOLUTIONS[depth], num_classes, in_channels, batch_norm=batch_norm, **options)


for _depth in CONVOLUTIONS:
    _register(f"vgg{_depth}", _depth, batch_norm=False)
    _register(f"vgg{_depth}_bn", _depth, batch_norm=True)
