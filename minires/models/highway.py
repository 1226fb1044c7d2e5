"""Highway networks: a learned gate chooses, unit by unit, between a transformed input and the input itself.

    y = T(x) H(x) + (1 - T(x)) x,    T(x) = sigmoid(W_T x + b_T)

With b_T started at a negative number T is small, a layer begins close to the identity, and networks of a hundred layers
train like those of ten. That was half a year before ResNet, whose x + F(x) needs no gate: its gradient's +1 is not
multiplied by 1 - T.

Source: Srivastava, Greff and Schmidhuber 2015, Highway Networks and Training Very Deep Networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models import require
from minires.models.registry import Depths, register
from minires.nn import Conv2d, Linear, MaxPool2d, Module, Residual, Sequential, TransferGate, init

SOURCE = "Srivastava et al. 2015, Training Very Deep Networks"
SKIP = "y = T(x) H(x) + (1 - T(x)) x"
ACTIVATIONS: dict[str, Callable[[Any], Tensor]] = {"relu": F.relu, "tanh": F.tanh}
GAINS = {"relu": "relu", "tanh": "linear"}  # what keeps the signal's size: sqrt(2) against the half that ReLU cuts off


class Dense(Module):
    """y = act(W x + b), of a Linear or a convolution. W starts so that y is as large as x, b from 0.

    Shapes    those of `layer`
    Keys      layer.weight, layer.bias
    """

    def __init__(self, layer: Linear | Conv2d, activation: str) -> None:
        self.layer = layer
        self.activation = ACTIVATIONS[activation]
        init.kaiming_normal_(layer.weight, nonlinearity=GAINS[activation])
        if layer.bias is not None:
            init.zeros_(layer.bias)

    def forward(self, x: Any) -> Tensor:
        return self.activation(self.layer(x))


class HighwayLayer(Residual):
    """y = T(x) H(x) + (1 - T(x)) x with H(x) = act(W_H x + b_H) and T(x) = sigmoid(W_T x + b_T).

    transform, gate    W_H and W_T with their biases: two linear layers, or two convolutions, that keep x's shape
    transfer_bias      what b_T starts from

    Backward  gx = (1 - T) gy + J_Hᵀ (T gy) + J_Tᵀ ((H - x) gy)
    Keys      branch.layer.weight, .bias (W_H, b_H); gate.layer.weight, .bias (W_T, b_T)
    Source    Srivastava et al. 2015, Highway Networks, eq. 3
    """

    def __init__(
        self, transform: Linear | Conv2d, gate: Linear | Conv2d, activation: str, transfer_bias: float
    ) -> None:
        super().__init__(Dense(transform, activation), gate=TransferGate(gate, transfer_bias))


class HighwayMLP(Module):
    """A plain layer to `units` features, `depth - 1` highway layers, and a linear classifier.

    transfer_bias    None: plain layers in place of the highway layers, the network that it is compared with

    Shapes    x: (N, in_channels, image_size, image_size); y: (N, num_classes)
    Keys      first.layer, hidden.{i}.branch.layer and hidden.{i}.gate.layer (plain: hidden.{i}.layer), linear
    """

    def __init__(
        self,
        depth: int,
        image_shape: tuple[int, int, int],
        units: int,
        num_classes: int,
        activation: str,
        transfer_bias: float | None,
    ) -> None:
        c, h, w = image_shape
        require.one_of("highway", "activation", activation, tuple(ACTIVATIONS))
        require.at_least_one("highway", units=units, image_size=h)
        self.image_shape = image_shape
        self.first = Dense(Linear(c * h * w, units), activation)
        self.hidden = Sequential()
        for _ in range(depth - 1):
            if transfer_bias is None:
                self.hidden.append(Dense(Linear(units, units), activation))
            else:
                layers = Linear(units, units), Linear(units, units)
                self.hidden.append(HighwayLayer(*layers, activation, transfer_bias))
        self.linear = Linear(units, num_classes)

    def forward(self, x: Any) -> Tensor:
        require.images("highway_mlp", x, self.image_shape)
        x = self.first(F.flatten(x, 1))  # (N, units)
        return self.linear(self.hidden(x))


class HighwayCNN(Module):
    """Three stages of 3x3 convolutions at falling resolution; the mean over the image; a linear classifier.

    A stage is one plain convolution, which changes the channels, and `layers - 1` highway layers, which keep them. A
    2 x 2 max pool follows the first and the second stage.

    Shapes    x: (N, in_channels, H, W) of at least 4 x 4 pixels; y: (N, num_classes)
    Keys      stage{1,2,3}.0.layer, stage{1,2,3}.{i}.branch.layer and .gate.layer, linear
    """

    def __init__(
        self,
        layers: int,
        widths: Sequence[int],
        num_classes: int,
        in_channels: int,
        activation: str,
        transfer_bias: float,
    ) -> None:
        if len(widths) != 3:
            raise RequestError(f"highway: widths is {tuple(widths)}, but there are three stages; give three numbers")
        require.one_of("highway", "activation", activation, tuple(ACTIVATIONS))
        require.at_least_one("highway", widths=min(widths))
        options = layers, activation, transfer_bias
        self.stage1 = _stage(in_channels, widths[0], *options)
        self.stage2 = _stage(widths[0], widths[1], *options)
        self.stage3 = _stage(widths[1], widths[2], *options)
        self.pool = MaxPool2d(2)
        self.linear = Linear(widths[2], num_classes)

    def forward(self, x: Any) -> Tensor:
        require.side("highway_cnn", x, 4)
        x = self.pool(self.stage1(x))  # (N, C1, H / 2, W / 2)
        x = self.pool(self.stage2(x))  # (N, C2, H / 4, W / 4)
        x = self.stage3(x)  # (N, C3, H / 4, W / 4)
        x = F.mean(x, dim=(2, 3))  # (N, C3)
        return self.linear(x)


def _stage(in_channels: int, channels: int, layers: int, activation: str, transfer_bias: float) -> Sequential:
    def conv(before: int) -> Conv2d:
        return Conv2d(before, channels, 3, padding=1)

    stage = Sequential(Dense(conv(in_channels), activation))
    for _ in range(layers - 1):
        stage.append(HighwayLayer(conv(channels), conv(channels), activation, transfer_bias))
    return stage


# --- by name ----------------------------------------------------------------------------------------------

MLP_DEPTHS = Depths(first=2, step=1, rule="2 or more", shown=(10, 20, 50, 100))


@register("highway_mlp", depth=MLP_DEPTHS, skip=SKIP, source=SOURCE)
def highway_mlp(
    depth: int,
    num_classes: int = 10,
    in_channels: int = 1,
    *,
    units: int = 50,
    activation: str = "relu",
    transfer_bias: float = -4.0,
    image_size: int = 28,
) -> HighwayMLP:
    """The paper's MNIST network: a plain layer and `depth - 1` highway layers of 50 units. It counts no classifier.

    activation       of H: "relu" or "tanh", between which the paper searches
    transfer_bias    of -1 ... -10, where the paper searches. New, 49 layers carry (1 - T)^49 of x: 0.41 at -4, where 50
                     layers train about as fast as 10, but 0.002 at -2, where they hardly do
    """
    image = (in_channels, image_size, image_size)
    return HighwayMLP(depth, image, units, num_classes, activation, transfer_bias)


@register("plain_mlp", depth=MLP_DEPTHS, skip="none: y = H(x)", source=SOURCE)
def plain_mlp(
    depth: int,
    num_classes: int = 10,
    in_channels: int = 1,
    *,
    units: int = 71,
    activation: str = "relu",
    image_size: int = 28,
) -> HighwayMLP:
    """What `highway_mlp` is compared with: plain layers, of 71 units to have about as many parameters."""
    return HighwayMLP(depth, (in_channels, image_size, image_size), units, num_classes, activation, None)


@register(
    "highway_cnn",
    depth=Depths(first=7, step=3, rule="3n + 1", shown=(19,)),
    skip=SKIP,
    source=SOURCE,
)
def highway_cnn(
    depth: int,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    widths: Sequence[int] = (32, 80, 128),
    activation: str = "relu",
    transfer_bias: float = -4.0,
) -> HighwayCNN:
    """A convolutional highway network for CIFAR, of (depth - 1) / 3 convolutions a stage and a classifier.

    The paper's network of 19 layers has 2.3 M parameters and an error of 7.5 %, but does not say how they are laid out.
    This layout is ours, made for that budget: highway_cnn19 has 2,262,714 parameters.
    """
    return HighwayCNN((depth - 1) // 3, widths, num_classes, in_channels, activation, transfer_bias)
