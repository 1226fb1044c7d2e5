"""LeNet-5: two convolutions and three fully connected layers."""

from __future__ import annotations

from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models import require
from minires.models.registry import register
from minires.nn import Conv2d, Linear, Module

FULL_SIZE = 12  # from here on, conv2 fits behind the first pooling without padding


class LeNet(Module):
    """LeNet-5 with today's parts: ReLU, max pooling and a conv2 that sees all six maps (1998: tanh, a mean with
    learned gain, a hand-made connection table).

    For 28 x 28 images the layers have the sizes of the paper. Below 12 pixels a side conv2 is padded, so that 8 x 8
    digits also pass.

    Shapes    x: (N, in_channels, image_size, image_size); y: (N, num_classes)
    Keys      conv1, conv2, fc1, fc2, linear: .weight, .bias
    """

    def __init__(self, num_classes: int, in_channels: int, image_size: int) -> None:
        padding = 0 if image_size >= FULL_SIZE else 2
        side = (image_size // 2 + 2 * padding - 4) // 2  # after conv1 (same size), pool, conv2, pool
        self.image_shape = (in_channels, image_size, image_size)
        self.conv1 = Conv2d(in_channels, 6, 5, padding=2)
        self.conv2 = Conv2d(6, 16, 5, padding=padding)
        self.fc1 = Linear(16 * side * side, 120)
        self.fc2 = Linear(120, 84)
        self.linear = Linear(84, num_classes)

    def forward(self, x: Any) -> Tensor:
        require.images("lenet", x, self.image_shape)
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)  # (N, 6, S / 2, S / 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # (N, 16, side, side)
        x = F.flatten(x, 1)  # (N, 16 side side)
        x = F.relu(self.fc2(F.relu(self.fc1(x))))  # (N, 84)
        return self.linear(x)


@register(
    "lenet",
    depth=5,
    skip="none",
    source="LeCun et al. 1998, Gradient-based learning applied to document recognition",
)
def lenet(num_classes: int = 10, in_channels: int = 3, *, image_size: int = 32) -> LeNet:
    """LeNet-5 for square images of `image_size` pixels a side, at least 4."""
    if image_size < 4:
        raise RequestError(f"lenet: image_size is {image_size}, but two poolings need at least 4 pixels a side")
    return LeNet(num_classes, in_channels, image_size)
