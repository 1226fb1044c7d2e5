"""The multilayer perceptron: pixels in a row, and fully connected layers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from minires.engine import Tensor
from minires.models import require
from minires.models.registry import register
from minires.nn import Flatten, Linear, Module, ReLU, Sequential


class MLP(Module):
    """Flatten, then Linear-ReLU for each hidden width, then a linear classifier.

    Shapes    x: (N, in_channels, image_size, image_size); y: (N, num_classes)
    Keys      hidden.0.weight, hidden.2.weight, ... and linear.weight, with their biases
    """

    def __init__(self, image_shape: tuple[int, int, int], hidden: Sequence[int], num_classes: int) -> None:
        c, h, w = image_shape
        widths = [c * h * w, *hidden]
        self.image_shape = image_shape
        self.flatten = Flatten()
        self.hidden = Sequential()
        for before, after in itertools.pairwise(widths):
            self.hidden.extend([Linear(before, after), ReLU()])
        self.linear = Linear(widths[-1], num_classes)

    def forward(self, x: Any) -> Tensor:
        require.images("mlp", x, self.image_shape)
        return self.linear(self.hidden(self.flatten(x)))


@register(
    "mlp", depth=3, skip="none", source="Rumelhart et al. 1986, Learning representations by back-propagating errors"
)
def mlp(
    num_classes: int = 10, in_channels: int = 3, *, hidden: Sequence[int] = (256, 128), image_size: int = 32
) -> MLP:
    """A multilayer perceptron for square images of `image_size` pixels a side, with layers of `hidden` widths."""
    require.at_least_one("mlp", image_size=image_size, hidden=min(hidden, default=1))
    return MLP((in_channels, image_size, image_size), hidden, num_classes)
