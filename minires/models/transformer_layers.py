"""The layers of a Transformer: attention and feed-forward, each in its skip, and what is made of them.

    post    y = LN(x + F(x))        as Vaswani et al. 2017 published it
    pre     y = x + F(LN(x))        as GPT-2, ViT and almost everything since has it

Source: Vaswani et al. 2017, Attention Is All You Need, section 3; Xiong et al. 2020, On Layer Normalization in the
Transformer Architecture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models import require
from minires.models.memory import Memory
from minires.nn import (
    Dropout,
    DropPath,
    LayerNorm,
    LayerScale,
    Linear,
    Module,
    MultiheadAttention,
    Residual,
    Scale,
    Sequential,
)


@dataclass(frozen=True)
class Sizes:
    """What the sublayers of a stack have in common.

    Attributes
        width          d, the length of the vectors
        heads          how many attentions side by side; must divide d
        feedforward    the width between the two matrices of a feed-forward sublayer
        dropout        the share of each F(x), and of the embeddings, that training drops
        norm           where a skip has its LN: "post" or "pre"; eps is the LN's
        activation     of a feed-forward sublayer: "relu" or "gelu"
        drop_path      the chance that training leaves a sample's F(x) out
        layer_scale    what LayerScale, if above 0, first multiplies every F(x) by
        alpha, beta    DeepNorm's: what the skip is multiplied by, and F's weights at the start; else 1

    Raises RequestError for sizes that do not fit each other.
    """

    width: int = 512
    heads: int = 8
    feedforward: int = 2048
    dropout: float = 0.1
    norm: str = "post"
    eps: float = 1e-5
    activation: str = "relu"
    drop_path: float = 0.0
    layer_scale: float = 0.0
    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        require.at_least_one("transformer", width=self.width, heads=self.heads, feedforward=self.feedforward)
        if self.width % self.heads:
            raise RequestError(f"{self.heads} heads do not divide a width of {self.width}")
        require.one_of("transformer", "norm", self.norm, ("post", "pre"))
        require.one_of("transformer", "activation", self.activation, ("relu", "gelu"))
        if self.layer_scale < 0:
            raise RequestError(f"layer_scale is {self.layer_scale}, but must be at least 0, which is none")

    def skip(self) -> dict[str, Any]:
        """The arguments of `Residual` for one sublayer."""
        drop = Dropout(self.dropout)
        return {
            "shortcut": None if self.alpha == 1 else Scale(self.alpha),
            "scale": LayerScale(self.width, self.layer_scale) if self.layer_scale else None,
            "drop_path": Sequential(drop, DropPath(self.drop_path)) if self.drop_path else drop,
            "norm": self.norm,
            "norm_layer": LayerNorm(self.width, self.eps),
        }


# --- heads


def split_heads(x: Any, heads: int) -> Tensor:
    """(N, T, d) as heads, (N, H, T, D) with D = d / H: each attends by itself to its own slice of the features."""
    n, t, d = x.shape
    return F.transpose(F.reshape(x, (n, t, heads, d // heads)), 1, 2)


def merge_heads(x: Any) -> Tensor:
    """The way back, (N, H, T, D) to (N, T, d): the heads' results side by side."""
    n, h, t, d = x.shape
    return F.reshape(F.transpose(x, 1, 2), (n, t, h * d))


# --- sublayers


class Attention(MultiheadAttention):
    """`MultiheadAttention` in two steps, so that a decoder can keep the keys and values that it has made before.

    Shapes and keys as there; batch first.
    """

    def project(self, x: Any, first: int, last: int) -> tuple[Tensor, ...]:
        """Projections `first` to `last` - 1 of x (N, T, E): 0 the queries, 1 the keys, 2 the values; (N, H, T, D)."""
        n, t, e = x.shape
        weight: Any = self.in_proj_weight
        bias: Any = self.in_proj_bias
        if last - first < 3:
            weight, bias = weight[first * e : last * e], None if bias is None else bias[first * e : last * e]
        parts = F.reshape(F.linear(x, weight, bias), (n, t, last - first, self.num_heads, e // self.num_heads))
        return F.unbind(F.permute(parts, (2, 0, 3, 1, 4)), 0)

    def attend(self, q: Any, k: Any, v: Any, mask: Any = None, is_causal: bool = False) -> Tensor:
        """softmax(q kᵀ / sqrt(D)) v of every head, merged and projected: (N, T, E). mask: True where one may look."""
        return self.out_proj(merge_heads(F.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal)))


class SelfAttention(Residual):
    """The skip around F(x) = attention of x's places to one another.

    Shapes    x, y: (N, T, d); mask: broadcasts to (N, H, T, T), True where a place may look
    Keys      norm_layer, attention
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(**sizes.skip())
        self.attention = Attention(sizes.width, sizes.heads, batch_first=True)

    def branch(self, x: Any, mask: Any = None, is_causal: bool = False, memory: Memory | None = None) -> Tensor:
        """F. With a memory, x is one place, which looks at itself and at those in the memory."""
        q, k, v = self.attention.project(x, 0, 3)
        if memory is not None:
            k, v = memory.extend(k.data, v.data)
        return self.attention.attend(q, k, v, mask, is_causal and memory is None)


class CrossAttention(Residual):
    """The skip around F(y) = attention of the decoder's places to the encoder's.

    Shapes    y: (N, T, d); keys and values: (N, H, S, D), from `look`; mask: broadcasts to (N, H, T, S)
    Keys      norm_layer, attention
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(**sizes.skip())
        self.attention = Attention(sizes.width, sizes.heads, batch_first=True)

    def look(self, source: Any) -> tuple[Tensor, ...]:
        """The keys and values of what the encoder made, (N, S, d). While a sentence is written they stay the same."""
        return self.attention.project(source, 1, 3)

    def branch(self, y: Any, keys: Any, values: Any, mask: Any = None) -> Tensor:
        """F."""
        (q,) = self.attention.project(y, 0, 1)
        return self.attention.attend(q, keys, values, mask)


class FeedForward(Residual):
    """The skip around F(x) = relu(x W1 + b1) W2 + b2, or with gelu, each place for itself.

    Shapes    x, y: (N, T, d)
    Keys      norm_layer, linear1, linear2
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(**sizes.skip())
        self.linear1 = Linear(sizes.width, sizes.feedforward)
        self.linear2 = Linear(sizes.feedforward, sizes.width)
        self.between: Callable[[Any], Tensor] = F.relu if sizes.activation == "relu" else F.gelu

    def branch(self, x: Any) -> Tensor:
        """F."""
        return self.linear2(self.between(self.linear1(x)))


# --- layers


class EncoderLayer(Module):
    """Self-attention, then feed-forward. x, y: (N, S, d)."""

    def __init__(self, sizes: Sizes) -> None:
        self.self_attn = SelfAttention(sizes)
        self.feedforward = FeedForward(sizes)

    def forward(self, x: Any, mask: Any = None) -> Tensor:
        return self.feedforward(self.self_attn(x, mask))


class DecoderLayer(Module):
    """Self-attention to earlier places, attention to the encoder, then feed-forward. y: (N, T, d)."""

    def __init__(self, sizes: Sizes) -> None:
        self.self_attn = SelfAttention(sizes)
        self.cross_attn = CrossAttention(sizes)
        self.feedforward = FeedForward(sizes)

    def forward(self, y: Any, source: Any, mask: Any = None) -> Tensor:
        """A whole target against a whole source."""
        return self.go_on(y, self.cross_attn.look(source), mask)

    def go_on(self, y: Any, looked: tuple[Any, ...], mask: Any = None, memory: Memory | None = None) -> Tensor:
        """The same where the source has been looked at already, and with a memory also the places before y's only."""
        y = self.self_attn(y, is_causal=True, memory=memory)
        y = self.cross_attn(y, *looked, mask)
        return self.feedforward(y)
