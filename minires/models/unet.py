"""U-Net: an encoder that sees ever more of the image, a decoder that goes back to its pixels, and skips between them.

The skips concatenate. So unlike a residual's `+1` they leave it to the next convolution what becomes of the
encoder's map, and its gradient reaches the encoder through that convolution's weights.

Source: Ronneberger, Fischer and Brox 2015, U-Net: Convolutional Networks for Biomedical Image Segmentation.
"""

from __future__ import annotations

from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models import require
from minires.models.registry import register
from minires.nn import (
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    EncoderDecoderSkip,
    Identity,
    Module,
    ModuleList,
    init,
)

SOURCE = "Ronneberger et al. 2015, U-Net: Convolutional Networks for Biomedical Image Segmentation"
PADDINGS = ("same", "valid")
NORMS = ("none", "batch")


class DoubleConv(Module):
    """y = relu(conv2(relu(conv1(x)))), two 3x3 convolutions; with norm="batch" each is followed by batch norm.

    Shapes    x: (N, in_channels, H, W); y: (N, out_channels, H, W), or with padding="valid" 4 less in H and W
    Keys      conv1, conv2; with norm="batch" conv1 and conv2 have no bias, and there are bn1, bn2
    """

    def __init__(self, in_channels: int, out_channels: int, padding: str, norm: str) -> None:
        def norm_layer() -> Module:
            return BatchNorm2d(out_channels) if norm == "batch" else Identity()

        self.conv1 = Conv2d(in_channels, out_channels, 3, padding=padding, bias=norm == "none")
        self.bn1 = norm_layer()
        self.conv2 = Conv2d(out_channels, out_channels, 3, padding=padding, bias=norm == "none")
        self.bn2 = norm_layer()

    def forward(self, x: Any) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)))


class DecoderStage(Module):
    """y = convs([encoded, up(x)]): twice the pixels and half the channels, beside the encoder's map of that size.

    Shapes    x: (N, 2C, H, W); encoded: (N, C, at least 2H, at least 2W), cropped around its center;
              y: (N, C, 2H, 2W), or with padding="valid" 4 less in height and width
    Keys      up (2x2, stride 2), convs
    """

    def __init__(self, channels: int, padding: str, norm: str) -> None:
        self.up = ConvTranspose2d(2 * channels, channels, 2, stride=2)
        self.skip = EncoderDecoderSkip()
        self.convs = DoubleConv(2 * channels, channels, padding, norm)

    def forward(self, x: Any, encoded: Any) -> Tensor:
        x = self.up(x)  # (N, C, 2H, 2W)
        x = self.skip(x, encoded)  # (N, 2C, 2H, 2W)
        return self.convs(x)  # (N, C, 2H, 2W)


@register("unet", depth=23, skip="y = [x, F(x)], across the U", source=SOURCE)
class UNet(Module):
    """A score for each class at each pixel.

    width      channels of the first stage; each of the `levels` poolings doubles them
    levels     how many poolings there are, and so how many skips
    padding    "same": the scores have the image's size. "valid", as published: no convolution looks past the
               border, so the scores belong to the middle of the image (`map_size`: 388 of 572 pixels)
    norm       "none", as published, or "batch": batch norm after each 3x3 convolution
    dropout    at the end of the encoder, on its last map and on the bottom's, as published (at which rate is not said)

    Weights start from N(0, 2 / fan_in), as published, and biases from 0.

    Shapes    x: (N, in_channels, H, W); y: (N, num_classes, H, W), or with padding="valid"
              (N, num_classes, map_size(H), map_size(W))
    Keys      encoder.{i}, bottom: .conv1, .bn1, .conv2, .bn2; decoder.{i}: .up and the same under .convs; head
    """

    def __init__(
        self,
        num_classes: int = 2,
        in_channels: int = 1,
        width: int = 64,
        levels: int = 4,
        padding: str = "same",
        norm: str = "none",
        dropout: float = 0.0,
    ) -> None:
        require.at_least_one("unet", width=width, levels=levels)
        require.one_of("unet", "padding", padding, PADDINGS)
        require.one_of("unet", "norm", norm, NORMS)
        self.levels = levels
        self.padding = padding
        widths = [width * 2**i for i in range(levels + 1)]  # 64, 128, 256, 512, 1024
        self.encoder = ModuleList(
            DoubleConv(a, b, padding, norm) for a, b in zip([in_channels, *widths], widths[:-1], strict=False)
        )
        self.bottom = DoubleConv(widths[-2], widths[-1], padding, norm)
        self.decoder = ModuleList(DecoderStage(channels, padding, norm) for channels in widths[-2::-1])
        self.head = Conv2d(width, num_classes, 1)
        self.dropout = Dropout(dropout)
        for module in self.modules():
            if isinstance(module, (Conv2d, ConvTranspose2d)):
                init.kaiming_normal_(module.weight)  # of an up-convolution: 1 / in_channels, as no ReLU follows it
                if module.bias is not None:
                    init.zeros_(module.bias)

    def forward(self, x: Any) -> Tensor:
        self._check_image(x)
        maps = []
        for i, stage in enumerate(self.encoder):
            x = stage(x)  # (N, w 2^i, H / 2^i, W / 2^i)
            x = self.dropout(x) if i == self.levels - 1 else x
            maps.append(x)
            x = F.max_pool2d(x, 2)  # (N, w 2^i, H / 2^(i+1), W / 2^(i+1))
        x = self.dropout(self.bottom(x))  # (N, w 2^levels, H / 2^levels, W / 2^levels)
        for stage in self.decoder:
            x = stage(x, maps.pop())  # (N, w 2^i, H / 2^i, W / 2^i)
        return self.head(x)  # (N, num_classes, H, W)

    def map_size(self, side: int) -> int | None:
        """How many scores an image with sides of this length gives along each, None where the length does not fit.

        It fits if every pooling finds an even number of pixels, since else the two maps that a skip joins would be
        shifted against each other, and if there is something left with padding="valid".
        """
        lost = 4 if self.padding == "valid" else 0  # in each pair of convolutions
        for _ in range(self.levels):
            side -= lost
            if side < 2 or side % 2:
                return None
            side //= 2
        side -= lost
        for _ in range(self.levels):
            side = 2 * side - lost
        return side if side > 0 else None

    def _check_image(self, x: Any) -> None:
        if x.ndim != 4:
            raise RequestError(f"unet: x is {tuple(x.shape)}, but must be (N, C, H, W)")
        height, width = (int(n) for n in x.shape[2:])
        if self.map_size(height) is None or self.map_size(width) is None:
            fits = " x ".join(str(self._next_that_fits(side)) for side in (height, width))
            raise RequestError(
                f"unet: an image of {height} x {width} does not fit {self.levels} halvings with padding "
                f"{self.padding!r}; pad it to {fits}, or create the model with fewer levels"
            )

    def _next_that_fits(self, side: int) -> int:
        while self.map_size(side) is None:
            side += 1
        return side
