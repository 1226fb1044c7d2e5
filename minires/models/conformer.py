"""The Conformer encoder: self-attention for what is far apart, convolution for what is near, four skips a block.

A block is x + F(x) four times over: half a feed-forward layer, relative self-attention, a convolution module, and the
other half of the feed-forward layer; a layer norm closes it. Frames of log-mel features come in, a quarter as many
frames of `width` features come out; with `num_classes`, scores made of their mean over time.

All sequences of a batch have one length: there is no padding mask.

Source: Gulati et al. 2020, Conformer: Convolution-augmented Transformer for Speech Recognition, section 2 and table 1.
"""

from __future__ import annotations

import math
from typing import Any

from minires import backend
from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models import require
from minires.models.registry import register
from minires.models.transformer_layers import merge_heads, split_heads
from minires.nn import (
    BatchNorm1d,
    Conv1d,
    Conv2d,
    Dropout,
    LayerNorm,
    Linear,
    Module,
    Parameter,
    Residual,
    Sequential,
    SiLU,
    init,
)
from minires.nn.module import empty
from minires.nn.positions import sinusoidal

SHORTEST = 7  # frames, or mels, of which two 3-wide convolutions of stride 2 leave one


class FeedForward(Sequential):
    """F(x) = W2 dropout(swish(W1 x + b1)) + b2, four times as wide inside.

    Shapes    x, y: (N, T, width)
    Keys      0.weight (4 width, width), 0.bias; 3.weight (width, 4 width), 3.bias
    Source    Gulati et al. 2020, section 2.3
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(Linear(width, 4 * width), SiLU(), Dropout(dropout), Linear(4 * width, width))


class RelativeAttention(Module):
    """Self-attention whose scores know how far apart two frames are, and nothing of where they stand.

    Forward   score[i, j] = ((q_i + u) · k_j  +  (q_i + v) · r_{i - j}) / sqrt(D), with r_s = W_r sinusoid(s);
              head = softmax(score) values; y = W_o concat(heads) + b_o
    Shapes    x, y: (N, T, width); u, v: (heads, D) with D = width / heads
    Keys      query, key, value, out: .weight, .bias; position.weight; u, v (heads, D)
    Start     u = v = 0: at first neither content nor distance is preferred whatever the query
    Source    Dai et al. 2019, Transformer-XL, section 3.3 and appendix B; Gulati et al. 2020, section 2.1
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        if heads < 1 or width % heads:
            raise RequestError(f"conformer: {heads} heads must divide the width, {width}; choose another number")
        self.heads = heads
        self.query = Linear(width, width)
        self.key = Linear(width, width)
        self.value = Linear(width, width)
        self.position = Linear(width, width, bias=False)
        self.out = Linear(width, width)
        self.u = Parameter(empty(heads, width // heads))
        self.v = Parameter(empty(heads, width // heads))
        init.zeros_(self.u)
        init.zeros_(self.v)
        self.dropout = dropout

    def forward(self, x: Any) -> Tensor:
        t, width = x.shape[1:]
        q, k, values = (split_heads(layer(x), self.heads) for layer in (self.query, self.key, self.value))
        r = split_heads(self.position(_distances(x, t)), self.heads)  # (1, H, 2 T - 1, D)
        by_distance = F.matmul(q + F.unsqueeze(self.v, 1), F.transpose(r, -2, -1))  # (N, H, T, 2 T - 1)
        scale = 1.0 / math.sqrt(width // self.heads)
        heads = F.scaled_dot_product_attention(
            q + F.unsqueeze(self.u, 1),
            k,
            values,
            attn_mask=relative_shift(by_distance) * scale,
            dropout_p=self.dropout if self.training else 0.0,
            scale=scale,
        )  # (N, H, T, D)
        return self.out(merge_heads(heads))

    def extra_repr(self) -> str:
        return f"heads={self.heads}, dropout={self.dropout}"


def _distances(x: Any, t: int) -> Any:
    """sinusoid(s) of the distances s = T - 1, ..., -(T - 1), in x's library and real dtype: (1, 2 T - 1, width)."""
    xp = backend.find((x.data if isinstance(x, Tensor) else x,)).xp
    real = xp.zeros((), x.dtype).real.dtype
    return sinusoidal(xp.arange(t - 1, -t, -1), x.shape[-1]).astype(real)[None]


def relative_shift(scores: Any) -> Tensor:
    """out[..., i, j] = scores[..., i, T - 1 - (i - j)]: from one column for each distance to one for each key.

    Row i must move T - 1 - i places to the left. One more column makes the rows 2 T long; read in rows of T instead,
    each row begins one place later than the one before, which is the shift, without an index.

    Shapes    scores: (N, H, T, 2 T - 1), columns for the distances T - 1, ..., -(T - 1); out: (N, H, T, T)
    Source    Dai et al. 2019, Transformer-XL, appendix B
    """
    n, h, t, distances = scores.shape
    wide = F.reshape(F.pad(scores, (1, 0)), n, h, distances + 1, t)  # (N, H, 2 T, T)
    return F.reshape(wide[:, :, 1:], n, h, t, distances)[..., :t]  # (N, H, T, T)


class ConvolutionModule(Module):
    """F(x) = pointwise2(swish(bn(depthwise(glu(pointwise1(x)))))), with glu([a, b]) = a sigmoid(b).

    The depthwise convolution sees `kernel` frames of one feature. An even kernel has no middle: frame t then sees
    kernel / 2 - 1 frames before it and kernel / 2 after it (padding="same", as torch and TensorFlow do it).

    Shapes    x, y: (N, T, width)
    Keys      pointwise1, depthwise, pointwise2: .weight, with `bias` also .bias; bn as BatchNorm1d
    Source    Gulati et al. 2020, section 2.2
    """

    def __init__(self, width: int, kernel: int, bias: bool) -> None:
        self.pointwise1 = Conv1d(width, 2 * width, 1, bias=bias)
        self.depthwise = Conv1d(width, width, kernel, padding="same", groups=width, bias=bias)
        self.bn = BatchNorm1d(width)
        self.pointwise2 = Conv1d(width, width, 1, bias=bias)

    def forward(self, x: Any) -> Tensor:
        a, b = F.chunk(self.pointwise1(F.transpose(x, 1, 2)), 2, dim=1)  # (N, width, T) each
        x = F.silu(self.bn(self.depthwise(a * F.sigmoid(b))))
        return F.transpose(self.pointwise2(x), 1, 2)  # (N, T, width)


class ConformerBlock(Module):
    """y = LN(x4): x1 = x + FFN(x) / 2, x2 = x1 + MHSA(x1), x3 = x2 + Conv(x2), x4 = x3 + FFN'(x3) / 2.

    Each branch begins with its own layer norm and ends with dropout. Two half feed-forward layers around the rest, as
    in macaron nets.

    Shapes    x, y: (N, T, width)
    Keys      ffn1, attention, convolution, ffn2: .branch and .norm_layer; norm
    Source    Gulati et al. 2020, eq. 1
    """

    def __init__(self, width: int, heads: int, kernel: int, dropout: float, conv_bias: bool) -> None:
        def around(branch: Module, scale: float | None = None) -> Residual:
            dropping = Dropout(dropout)
            return Residual(branch, scale=scale, drop_path=dropping, norm="pre", norm_layer=LayerNorm(width))

        self.ffn1 = around(FeedForward(width, dropout), scale=0.5)
        self.attention = around(RelativeAttention(width, heads, dropout))
        self.convolution = around(ConvolutionModule(width, kernel, conv_bias))
        self.ffn2 = around(FeedForward(width, dropout), scale=0.5)
        self.norm = LayerNorm(width)

    def forward(self, x: Any) -> Tensor:
        x = self.ffn1(x)
        x = self.attention(x)
        x = self.convolution(x)
        x = self.ffn2(x)
        return self.norm(x)


class Subsampling(Module):
    """Two 3x3 convolutions of stride 2 over time and mels, then a linear layer: a quarter as many frames.

    Shapes    x: (N, T, mels); y: (N, T', width) with T' = ((T - 1) // 2 - 1) // 2
    Keys      conv1, conv2, linear: .weight, .bias
    Source    Gulati et al. 2020, figure 1; sizes of Watanabe et al. 2018, ESPnet
    """

    def __init__(self, mels: int, width: int) -> None:
        if mels < SHORTEST:
            raise RequestError(f"conformer: mels is {mels}, but two convolutions of stride 2 need at least {SHORTEST}")
        self.mels = mels
        self.conv1 = Conv2d(1, width, 3, 2)
        self.conv2 = Conv2d(width, width, 3, 2)
        self.linear = Linear(width * (((mels - 1) // 2 - 1) // 2), width)

    def forward(self, x: Any) -> Tensor:
        if x.ndim != 3 or x.shape[2] != self.mels or x.shape[1] < SHORTEST:
            raise RequestError(
                f"this conformer takes (N, T, {self.mels}) log-mel features of at least {SHORTEST} frames, not "
                f"{tuple(x.shape)}; create it with the right mels, or give longer sequences"
            )
        x = F.relu(self.conv1(F.unsqueeze(x, 1)))  # (N, width, T / 2, mels / 2)
        x = F.relu(self.conv2(x))  # (N, width, T', mels / 4)
        n, width, t, mels = x.shape
        return self.linear(F.reshape(F.transpose(x, 1, 2), n, t, width * mels))  # (N, T', width)


class Conformer(Module):
    """Subsampling, dropout and blocks; with `num_classes` a linear layer on the mean over time.

    Shapes    x: (N, T, mels); y: (N, T', width), or with num_classes (N, num_classes)
    Keys      subsampling, blocks.{i}, head: see the classes
    """

    head: Linear | None

    def __init__(
        self,
        num_classes: int | None = None,
        mels: int = 80,
        layers: int = 16,
        width: int = 144,
        heads: int = 4,
        kernel: int = 32,
        dropout: float = 0.1,
        conv_bias: bool = True,
    ) -> None:
        require.at_least_one("conformer", layers=layers, width=width, kernel=kernel)
        if width % 2:
            raise RequestError(f"conformer: width is {width}, but must be even: positions are pairs of sine and cosine")
        self.subsampling = Subsampling(mels, width)
        self.dropout = Dropout(dropout)
        self.blocks = Sequential(*(ConformerBlock(width, heads, kernel, dropout, conv_bias) for _ in range(layers)))
        self.head = None if num_classes is None else Linear(width, num_classes)

    def forward(self, x: Any) -> Tensor:
        x = self.blocks(self.dropout(self.subsampling(x)))  # (N, T', width)
        return x if self.head is None else self.head(F.mean(x, dim=1))


SKIP = "y = x + F(LN(x)), of the two feed-forward layers half"
SOURCE = "Gulati et al. 2020, Conformer"


def _of_size(mels: int, layers: int, width: int, kernel: int) -> Any:
    """A build function of Conformer whose defaults are of this size."""

    def build(
        num_classes: int | None = None,
        *,
        mels: int = mels,
        layers: int = layers,
        width: int = width,
        heads: int = 4,
        kernel: int = kernel,
        dropout: float = 0.1,
        conv_bias: bool = True,
    ) -> Conformer:
        return Conformer(num_classes, mels, layers, width, heads, kernel, dropout, conv_bias)

    return build


# The paper's small encoder, and one that two cores train in a minute. Without num_classes they end in features.
register("conformer_s", depth=16, skip=SKIP, source=f"{SOURCE}, table 1")(_of_size(80, 16, 144, 32))
register("conformer_tiny", depth=2, skip=SKIP, source=SOURCE)(_of_size(40, 2, 48, 15))
