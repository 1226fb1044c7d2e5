"""ViT: the encoder of a Transformer reads an image as a sentence of patches.

    x = [class token, patch 1, patch 2, ...] + positions          a patch is p x p pixels times a matrix
    x = x + attention(LN(x));  x = x + W2 gelu(W1 LN(x))          in every block
    y = W LN(x)[class token]

Nothing but the learned positions says which patches are neighbors, so it needs far more images than a convolutional
network before it is as good.

Source: Dosovitskiy et al. 2021, An Image is Worth 16x16 Words; the tiny size and drop path: Touvron et al. 2021,
Training data-efficient image transformers (DeiT); LayerScale: the same, Going deeper with Image Transformers.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models import require
from minires.models.registry import register
from minires.models.transformer_layers import EncoderLayer, Sizes
from minires.nn import Conv2d, LayerNorm, Linear, Module, Parameter, Sequential, init, linear_decay
from minires.nn.module import empty

SOURCE = "Dosovitskiy et al. 2021, An Image is Worth 16x16 Words"
SKIP = "y = x + F(LN(x))"
EPS = 1e-6  # of every LN
STD = 0.02  # of every matrix at the start


class Encoder(Module):
    """Positions, blocks, and the LN that ends the stream.

    drop_path    of the last block; it grows in a straight line from 0 at the first

    Shapes    x, y: (N, places, d)
    Keys      pos_embedding (1, places, d), layers.encoder_layer_{i}, ln
    """

    def __init__(self, places: int, layers: int, sizes: Sizes, drop_path: float) -> None:
        self.pos_embedding = Parameter(empty(1, places, sizes.width))
        rates = [1 - linear_decay(i, layers - 1, 1 - drop_path) if layers > 1 else drop_path for i in range(layers)]
        blocks = [EncoderLayer(dataclasses.replace(sizes, drop_path=rate)) for rate in rates]
        self.layers = Sequential({f"encoder_layer_{i}": block for i, block in enumerate(blocks)})
        self.ln = LayerNorm(sizes.width, EPS)

    def forward(self, x: Any) -> Tensor:
        return self.ln(self.layers(x + self.pos_embedding))


class ViT(Module):
    """Classes of images of one size.

    image_size    height and width of an image
    patch_size    of a patch, which must divide it; 0: the largest power of two up to 16 that divides the image and
                  is no more than about the number of patches on a side (224: 16, 32: 4, 28: 4, 8: 2)
    layer_scale   what LayerScale starts from; 0: none
    drop_path     the chance that training leaves out the last block's branches; less for those before it

    Shapes    x: (N, in_channels, image_size, image_size); y: (N, num_classes)
    Keys      class_token (1, 1, d), conv_proj, encoder, heads.head: torchvision's, but for the inside of a block, where
              the map in `minires.weights` tells what is what
    Start     matrices, class token and positions N(0, 0.02^2), cut off at 2; biases zero

    Raises RequestError for sizes that do not fit each other, and when called with images of another size.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        image_size: int = 224,
        patch_size: int = 0,
        layers: int = 12,
        sizes: Sizes,
        drop_path: float = 0.0,
    ) -> None:
        require.at_least_one("vit", image_size=image_size, layers=layers)
        if not 0 <= drop_path < 1:
            raise RequestError(f"vit: drop_path is {drop_path}, but must be at least 0 and below 1")
        patch_size = patch_size or _usual_patch(image_size)
        if patch_size < 1 or image_size % patch_size:
            raise RequestError(
                f"patches of {patch_size} pixels do not divide images of {image_size}; give a patch_size"
            )
        self.image_shape, self.patch_size, self.width = (in_channels, image_size, image_size), patch_size, sizes.width
        self.class_token = Parameter(empty(1, 1, sizes.width))
        self.conv_proj = Conv2d(in_channels, sizes.width, patch_size, patch_size)
        self.encoder = Encoder((image_size // patch_size) ** 2 + 1, layers, sizes, drop_path)
        self.heads = Sequential({"head": Linear(sizes.width, num_classes)})
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                init.trunc_normal_(parameter, std=STD)
            elif name.endswith("bias"):
                init.zeros_(parameter)

    def forward(self, x: Any) -> Tensor:
        require.images("vit", x, self.image_shape)
        n, d = x.shape[0], self.width
        x = F.reshape(self.conv_proj(x), (n, d, -1))  # (N, d, patches)
        x = F.transpose(x, 1, 2)  # (N, patches, d)
        x = F.cat([F.expand(self.class_token, n, 1, d), x], dim=1)  # (N, 1 + patches, d)
        return self.heads(self.encoder(x)[:, 0])


def _usual_patch(image_size: int) -> int:
    fits = (p for p in (16, 8, 4, 2) if image_size % p == 0 and p <= 1.25 * image_size / p)
    return next(fits, 1 if image_size <= 16 else 16)  # pixel by pixel only where they are few


def _of_size(layers: int, heads: int, width: int) -> Any:
    """A build function of ViT whose defaults are of this size."""

    def build(
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        image_size: int = 224,
        patch_size: int = 0,
        layers: int = layers,
        heads: int = heads,
        width: int = width,
        feedforward: int = 4 * width,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        layer_scale: float = 0.0,
    ) -> ViT:
        sizes = Sizes(width, heads, feedforward, dropout, "pre", EPS, "gelu", layer_scale=layer_scale)
        return ViT(
            num_classes,
            in_channels,
            image_size=image_size,
            patch_size=patch_size,
            layers=layers,
            sizes=sizes,
            drop_path=drop_path,
        )

    return build


register("vit_tiny", depth=12, skip=SKIP, source=SOURCE)(_of_size(12, 3, 192))
register("vit_small", depth=12, skip=SKIP, source=SOURCE)(_of_size(12, 6, 384))
register("vit_base", depth=12, skip=SKIP, source=SOURCE)(_of_size(12, 12, 768))
