"""Squeeze-and-excitation: channels weighted by what the whole image holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.nn.conv import Conv2d
from minires.nn.linear import Linear
from minires.nn.module import Module


class SqueezeExcitation(Module):
    """y = s x with s = gate(W2 act(W1 mean(x) + b1) + b2): each channel times a number between 0 and 1.

    In SE-ResNet it ends the branch, y = relu(x + s F(x)).

    channels      C
    reduction     C / reduction hidden features, rounded down
    squeezed      how many instead, where the hidden width does not follow from C (EfficientNet)
    conv          weights of 1x1 convolutions, (O, I, 1, 1), as torchvision and timm have them; else of linear layers
    activation, gate    functions of a Tensor

    Shapes    x, y: (N, C, H, W); s: (N, C, 1, 1)
    Keys      fc1.weight, fc1.bias, fc2.weight, fc2.bias
    Raises RequestError when no hidden feature is left, or x has another number of channels.
    Source    Hu et al. 2018, Squeeze-and-Excitation Networks, eq. 2-4
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        *,
        squeezed: int | None = None,
        conv: bool = True,
        activation: Callable[[Any], Tensor] = F.relu,
        gate: Callable[[Any], Tensor] = F.sigmoid,
    ) -> None:
        hidden = channels // reduction if squeezed is None and reduction > 0 else squeezed or 0
        if hidden < 1:
            raise RequestError(
                f"SqueezeExcitation: {channels} channels and reduction {reduction} leave no hidden feature; "
                "use a smaller reduction"
            )
        self.channels = channels
        self.conv = conv
        self.activation = activation
        self.gate = gate
        self.fc1: Module = Conv2d(channels, hidden, 1) if conv else Linear(channels, hidden)
        self.fc2: Module = Conv2d(hidden, channels, 1) if conv else Linear(hidden, channels)

    def forward(self, x: Any) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise RequestError(f"SqueezeExcitation: x is {tuple(x.shape)}, but must be (N, {self.channels}, H, W)")
        z = F.mean(x, dim=(2, 3), keepdim=self.conv)  # (N, C, 1, 1), or (N, C)
        s = self.gate(self.fc2(self.activation(self.fc1(z))))
        return F.mul(x, F.reshape(s, *x.shape[:2], 1, 1))
