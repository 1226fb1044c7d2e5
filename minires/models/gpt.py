"""GPT: a stack of pre-norm transformer blocks that says, at every place of a text, what comes next.

    x      = token embedding + position embedding
    x      = x + attention(LN(x));  x = x + mlp(LN(x))       in every block; no place sees a later one
    logits = LN(x) Wᵀ                                         W is the token embedding again ("tied")

The final LN is needed: nothing else normalizes the stream that the blocks only ever add to.

Source: Radford et al. 2019, Language Models are Unsupervised Multitask Learners, section 2.3 (GPT-2).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from minires import backend
from minires import functional as F
from minires.backend import Array
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models.registry import register
from minires.models.tokens import check
from minires.nn import Dropout, Embedding, LayerNorm, Linear, Module, ModuleList, Residual, init
from minires.switches import is_grad_enabled

SOURCE = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners, section 2.3"
SKIP = "y = x + F(LN(x))"
STD = 0.02  # of every weight at the start


class Memory:
    """The keys and values of the places read so far, in one layer: what later places will look at.

    keys, values    (N, H, length, D)
    """

    def __init__(self, context: int) -> None:
        self.context = context
        self.length = 0
        self.store: tuple[Array, Array] | None = None

    def extend(self, k: Array, v: Array) -> tuple[Array, Array]:
        """Adds the keys and values (N, H, T, D) of T new places; returns those of all places, (N, H, length, D)."""
        n, h, t, d = k.shape
        if self.store is None:
            xp = backend.find((k,)).xp
            self.store = (xp.empty((n, h, self.context, d), k.dtype), xp.empty((n, h, self.context, d), v.dtype))
        keys, values = self.store
        if keys.shape[0] != n:
            raise RequestError(f"this memory is of {keys.shape[0]} texts, not of {n}; begin a new one")
        places = slice(self.length, self.length + t)
        keys[:, :, places], values[:, :, places] = k, v
        self.length += t
        return keys[:, :, : self.length], values[:, :, : self.length]


class CausalSelfAttention(Residual):
    """y = x + F(LN(x)) with F(x) = concat(head_1, ..., head_H) Wo + bo, in which place t looks at places 0..t only.

    Shapes    x, y: (N, T, width)
    Keys      norm_layer.{weight,bias}; c_attn.{weight,bias} (3 width, width), c_proj.{weight,bias} (width, width)
    Source    Vaswani et al. 2017, Attention Is All You Need, section 3.2; Radford et al. 2019
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__(norm="pre", norm_layer=LayerNorm(width))
        self.heads = heads
        self.c_attn = Linear(width, 3 * width)
        self.c_proj = Linear(width, width)
        self.dropout = dropout
        self.drop = Dropout(dropout)

    def branch(self, x: Any, memory: Memory | None = None) -> Tensor:
        """F, over the places of x and before them those in the memory, to which they are added."""
        n, t, width = x.shape
        q, k, v = (self.split(part) for part in F.chunk(self.c_attn(x), 3, dim=-1))
        mask = None
        if memory is not None:
            k, v = memory.extend(k.data, v.data)  # (N, H, S, D), S = earlier places + T
            s = memory.length
            mask = None if t == 1 or t == s else backend.find((k,)).xp.tri(t, s, s - t, dtype=bool)
        p = self.dropout if self.training else 0.0
        causal = t > 1 and mask is None  # a single new place may look at all there are
        y = F.scaled_dot_product_attention(q, k, v, mask, p, is_causal=causal)  # (N, H, T, D)
        return self.drop(self.c_proj(F.reshape(F.transpose(y, 1, 2), (n, t, width))))

    def split(self, x: Tensor) -> Tensor:
        """(N, T, width) as heads, (N, H, T, D)."""
        n, t, width = x.shape
        return F.transpose(F.reshape(x, (n, t, self.heads, width // self.heads)), 1, 2)


class FeedForward(Residual):
    """y = x + F(LN(x)) with F(x) = gelu(x W1 + b1) W2 + b2, each place for itself.

    Shapes    x, y: (N, T, width)
    Keys      norm_layer.{weight,bias}; c_fc.{weight,bias} (4 width, width), c_proj.{weight,bias} (width, 4 width)
    Source    Radford et al. 2019, with gelu's tanh approximation (Hendrycks and Gimpel 2016)
    """

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__(norm="pre", norm_layer=LayerNorm(width))
        self.c_fc = Linear(width, 4 * width)
        self.c_proj = Linear(4 * width, width)
        self.drop = Dropout(dropout)

    def branch(self, x: Any) -> Tensor:
        """F: two linear layers with gelu between them."""
        return self.drop(self.c_proj(F.gelu(self.c_fc(x), approximate="tanh")))


class Block(Module):
    """One layer of the stack: attention, then the MLP, each with its own skip.

    Shapes    x, y: (N, T, width)
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        self.attn = CausalSelfAttention(width, heads, dropout)
        self.mlp = FeedForward(width, dropout)

    def forward(self, x: Any, memory: Memory | None = None) -> Tensor:
        return self.mlp(self.attn(x, memory))


class GPTBody(Module):
    """Embeddings, blocks and the final LN: tokens (N, T) in, one vector a place (N, T, width) out.

    Keys      wte, wpe, h.{i}.attn, h.{i}.mlp, ln_f
    """

    def __init__(self, vocab_size: int, context: int, layers: int, heads: int, width: int, dropout: float) -> None:
        self.vocab_size, self.context = vocab_size, context
        self.wte = Embedding(vocab_size, width)
        self.wpe = Embedding(context, width)
        self.drop = Dropout(dropout)
        self.h = ModuleList([Block(width, heads, dropout) for _ in range(layers)])
        self.ln_f = LayerNorm(width)

    def forward(self, tokens: Any, cache: list[Memory] | None = None) -> Tensor:
        x = self.embed(tokens, cache[0].length if cache else 0)
        for i, block in enumerate(self.h):
            x = block(x, cache[i] if cache else None)
        return self.ln_f(x)

    def embed(self, tokens: Any, past: int = 0) -> Tensor:
        """What the tokens are plus where they stand, the first of them at place `past`: (N, T, width)."""
        check(tokens, self.vocab_size, self.context, past)
        return self.drop(self.wte(tokens) + self.wpe.weight[past : past + tokens.shape[1]])


class GPT(Module):
    """GPT-2: the logits of the next token at every place.

    vocab_size   how many tokens there are
    context      the longest text that it can look at, in tokens
    tied         whether the head's weight is the token embedding

    Shapes    tokens: (N, T) integers, T <= context; y: (N, T, vocab_size)
    Keys      transformer.{wte,wpe,ln_f}, transformer.h.{i}.{attn,mlp}; lm_head.weight unless tied. They are Hugging
              Face's but for the norms, which are the sublayers' own here (h.{i}.attn.norm_layer is h.{i}.ln_1, and
              h.{i}.mlp.norm_layer is h.{i}.ln_2), and for weights being (out, in)
    Start     N(0, 0.02^2); the projections that add to the stream, 2 a block, by sqrt(2 layers) less, so that the
              stream's variance does not grow with depth; biases zero

    Raises RequestError for sizes that do not fit each other, and when called with tokens outside the vocabulary or
    with more than fit the context.
    """

    body: ClassVar[type[GPTBody]] = GPTBody  # what a GPT with another stream over depth replaces

    def __init__(
        self,
        vocab_size: int = 50257,
        context: int = 1024,
        *,
        layers: int = 12,
        heads: int = 12,
        width: int = 768,
        dropout: float = 0.1,
        tied: bool = True,
    ) -> None:
        sizes = {"vocab_size": vocab_size, "context": context, "layers": layers, "heads": heads, "width": width}
        for name, size in sizes.items():
            if size < 1:
                raise RequestError(f"{name} is {size}, but a GPT needs at least 1")
        if width % heads:
            raise RequestError(f"{heads} heads do not divide a width of {width}; try {heads * max(1, width // heads)}")
        if not 0 <= dropout < 1:
            raise RequestError(f"dropout is {dropout}, but must be at least 0 and below 1")
        self.vocab_size, self.context = vocab_size, context
        self.transformer = self.body(vocab_size, context, layers, heads, width, dropout)
        self.lm_head = None if tied else Linear(width, vocab_size, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        layers = len(self.transformer.h)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                adds_to_stream = name.endswith("c_proj.weight")
                init.normal_(parameter, 0.0, STD / math.sqrt(2 * layers) if adds_to_stream else STD)
            elif name.endswith("bias"):
                init.zeros_(parameter)

    def forward(self, tokens: Any, cache: list[Memory] | None = None) -> Tensor:
        """The logits (N, T, vocab_size).

        cache    from `new_cache`: the tokens then go on from those that were read into it before, and are added to it

        Raises RequestError for a cache where gradients are wanted: it keeps plain arrays.
        """
        if cache is not None and is_grad_enabled():
            raise RequestError("a cache remembers numbers without their gradients; read with it under no_grad()")
        x = self.transformer(tokens, cache)  # (N, T, width)
        return F.linear(x, self.transformer.wte.weight) if self.lm_head is None else self.lm_head(x)

    def new_cache(self) -> list[Memory] | None:
        """An empty memory for every block, so that each token of a text needs to be read once only."""
        return [Memory(self.context) for _ in self.transformer.h]


def _published(layers: int, heads: int, width: int) -> Any:
    """A build function of GPT-2 in one of its sizes."""

    def build(
        *,
        vocab_size: int = 50257,
        context: int = 1024,
        layers: int = layers,
        heads: int = heads,
        width: int = width,
        dropout: float = 0.1,
        tied: bool = True,
    ) -> GPT:
        return GPT(vocab_size, context, layers=layers, heads=heads, width=width, dropout=dropout, tied=tied)

    return build


# The sizes of Radford et al. 2019, table 2, which counts blocks as layers.
for _name, _layers, _heads, _width in (
    ("gpt2", 12, 12, 768),
    ("gpt2_medium", 24, 16, 1024),
    ("gpt2_large", 36, 20, 1280),
    ("gpt2_xl", 48, 25, 1600),
):
    register(_name, depth=_layers, skip=SKIP, source=SOURCE)(_published(_layers, _heads, _width))


@register("gpt_char", depth=4, skip=SKIP, source=SOURCE)
def gpt_char(
    *,
    vocab_size: int = 65,
    context: int = 128,
    layers: int = 4,
    heads: int = 4,
    width: int = 128,
    dropout: float = 0.0,
    tied: bool = True,
) -> GPT:
    """A GPT-2 small enough to learn Shakespeare letter by letter on two cores, in minutes."""
    return GPT(vocab_size, context, layers=layers, heads=heads, width=width, dropout=dropout, tied=tied)
