"""AlexNet: five convolutions and three fully connected layers, which began the deep years; no skip.

The default is torchvision's, the single column of 2014. `two_tower=True` is the network of 2012: convolutions 2, 4
and 5 see only the half of the channels that lay on their own GPU, and responses are normalized across channels.

Source: Krizhevsky et al. 2012, ImageNet Classification with Deep Convolutional Neural Networks; the single column:
Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks.
"""

from __future__ import annotations

from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models import require
from minires.models.registry import register
from minires.models.vgg import fully_connected
from minires.nn import AdaptiveAvgPool2d, Conv2d, Dropout, Linear, MaxPool2d, Module, ReLU, Sequential, init

SMALLEST = 63  # pixels a side: below, the last pooling has no window left
GRID = 6  # the classifier sees 6 x 6 cells: what is left of 224 pixels
GEOMETRY = ((11, 4, 2), (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1))  # kernel, stride, padding
POOLED = (0, 1, 4)  # the convolutions that a pooling follows
NORMALIZED = (0, 1)  # with two towers: those whose responses are normalized
BIASED = (1, 3, 4)  # with two towers: those whose biases start at 1


class LocalResponseNorm(Module):
    """y = x / (k + (alpha / size) S)^beta, with S the sum of the squares of `size` neighboring channels.

    As torch.nn.LocalResponseNorm. The paper writes alpha S: its alpha is this one over `size`.

    Shapes    x, y: (N, C, H, W)
    Source    Krizhevsky et al. 2012, section 3.3
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        if size < 1 or size % 2 == 0:
            raise RequestError(f"LocalResponseNorm: size is {size}, but a channel with its neighbors needs an odd one")
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, x: Any) -> Tensor:
        n, c, h, w = x.shape
        squares = F.reshape(x * x, n, 1, c, h * w)  # (N, 1, C, H W): the channels as rows of an image
        mean = F.avg_pool2d(squares, (self.size, 1), stride=1, padding=(self.size // 2, 0))  # zeros beyond the ends
        mean = F.reshape(mean, n, c, h, w)  # (N, C, H, W)
        return x / (self.k + self.alpha * mean) ** self.beta

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


@register(
    "alexnet",
    depth=8,
    skip="none",
    source="Krizhevsky et al. 2012, ImageNet Classification with Deep Convolutional Neural Networks",
)
class AlexNet(Module):
    """Five convolutions with three overlapping poolings between them, then three linear layers with dropout.

    Shapes    x: (N, in_channels, H, W), 63 pixels a side or more; y: (N, num_classes)
    Keys      features.{0,3,6,8,10} and classifier.{1,4,6}: .weight, .bias; with two towers
              features.{0,4,8,10,12} and classifier.{0,3,6}
    Start     torch's defaults, as torchvision; with two towers N(0, 0.01^2), and biases of 1 in convolutions 2, 4 and
              5 and in the hidden linear layers, of 0 elsewhere (section 5 of the paper)
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        two_tower: bool = False,
        width: int = 64,
        hidden: int = 4096,
        dropout: float = 0.5,
    ) -> None:
        require.at_least_one("alexnet", width=width, hidden=hidden)
        if two_tower and width % 4:
            raise RequestError(
                f"alexnet: width is {width}, but with two_tower must be a multiple of 4, so that 3/2 of it splits "
                "into two towers"
            )
        self.features = _convolutions(in_channels, width, two_tower)
        self.avgpool = AdaptiveAvgPool2d(GRID)
        features = 4 * width * GRID * GRID
        if two_tower:
            self.classifier = fully_connected(features, hidden, num_classes, dropout)
            self._start_as_in_2012()
        else:
            self.classifier = Sequential(
                *(Dropout(dropout), Linear(features, hidden), ReLU()),
                *(Dropout(dropout), Linear(hidden, hidden), ReLU()),
                Linear(hidden, num_classes),
            )

    def forward(self, x: Any) -> Tensor:
        require.side("alexnet", x, SMALLEST)
        x = self.features(x)  # (N, 4w, about H / 32 - 1, about W / 32 - 1)
        x = self.avgpool(x)  # (N, 4w, 6, 6)
        x = F.flatten(x, 1)  # (N, 4w 6 6)
        return self.classifier(x)

    def _start_as_in_2012(self) -> None:
        convolutions = [m for m in self.features if isinstance(m, Conv2d)]
        linear = [m for m in self.classifier if isinstance(m, Linear)]
        ones: list[Module] = [*(convolutions[i] for i in BIASED), *linear[:-1]]
        for layer in self.modules():
            if isinstance(layer, (Conv2d, Linear)) and layer.bias is not None:
                init.normal_(layer.weight, 0.0, 0.01)
                init.constant_(layer.bias, float(layer in ones))


def _convolutions(in_channels: int, width: int, two_tower: bool) -> Sequential:
    """(N, in_channels, H, W) to (N, 4 width, ...)."""
    w = width
    widths = (3 * w // 2, 4 * w, 6 * w, 6 * w, 4 * w) if two_tower else (w, 3 * w, 6 * w, 4 * w, 4 * w)
    groups = (1, 2, 1, 2, 2) if two_tower else (1, 1, 1, 1, 1)
    layers = Sequential()
    for i, (kernel, stride, padding) in enumerate(GEOMETRY):
        layers.append(Conv2d(in_channels, widths[i], kernel, stride, padding, groups=groups[i]))
        layers.append(ReLU())
        if two_tower and i in NORMALIZED:
            layers.append(LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0))  # the paper's alpha is 1e-4
        if i in POOLED:
            layers.append(MaxPool2d(3, stride=2))
        in_channels = widths[i]
    return layers
