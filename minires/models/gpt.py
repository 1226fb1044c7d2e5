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
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models import require
from minires.models.memory import Memory
from minires.models.registry import register
from minires.models.transformer_layers import merge_heads, split_heads
from minires.nn import Dropout, Embedding, LayerNorm, Linear, Module, ModuleList, Residual, init
from minires.switches import is_grad_enabled

SOURCE = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners, section 2.3"
SKIP = "y = x + F(LN(x))"
STD = 0.02  # of every weight at the start


class CausalSelfAttention(Residual):
    """y = x + dropout(F(LN(x))), F(x) = concat(head_1, ..., head_H) Wo + bo, where place t looks at places 0..t only.

    Shapes    x, y: (N, T, width)
    Keys      norm_layer.{weight,bias}; c_attn.{weight,bias} (3 width, width), c_proj.{weight,bias} (width, width)
    Source    Vaswani et al. 2017, Attention Is All You Need, section 3.2; Radford et al. 2019
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__(norm="pre", norm_layer=LayerNorm(width), drop_path=Dropout(dropout))
        self.heads = heads
        self.c_attn = Linear(width, 3 * width)
        self.c_proj = Linear(width, width)
        self.dropout = dropout  # of the attention's weights

    def branch(self, x: Any, memory: Memory | None = None) -> Tensor:
        """F, over the places of x and before them those in the memory, to which they are added."""
        t = x.shape[1]
        q, k, v = (split_heads(part, self.heads) for part in F.chunk(self.c_attn(x), 3, dim=-1))  # (N, H, T, D)
        mask = None
        if memory is not None:
            k, v = memory.extend(k.data, v.data)  # (N, H, S, D), S = earlier places + T
            s = memory.length
            mask = None if t == 1 or t == s else backend.find((k,)).xp.tri(t, s, s - t, dtype=bool)
        p = self.dropout if self.training else 0.0
        causal = t > 1 and mask is None  # a single new place may look at all there are
        y = F.scaled_dot_product_attention(q, k, v, mask, p, is_causal=causal)  # (N, H, T, D)
        return self.c_proj(merge_heads(y))


class FeedForward(Residual):
    """y = x + dropout(F(LN(x))), F(x) = gelu(x W1 + b1) W2 + b2, each place for itself.

    Shapes    x, y: (N, T, width)
    Keys      norm_layer.{weight,bias}; c_fc.{weight,bias} (4 width, width), c_proj.{weight,bias} (width, 4 width)
    Source    Radford et al. 2019, with gelu's tanh approximation (Hendrycks and Gimpel 2016)
    """

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__(norm="pre", norm_layer=LayerNorm(width), drop_path=Dropout(dropout))
        self.c_fc = Linear(width, 4 * width)
        self.c_proj = Linear(4 * width, width)

    def branch(self, x: Any) -> Tensor:
        """F: two linear layers with gelu between them."""
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


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
        require.tokens(tokens, self.vocab_size, self.context, past)
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
        require.at_least_one("gpt", vocab_size=vocab_size, context=context, layers=layers, heads=heads, width=width)
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


def _of_size(
    layers: int, heads: int, width: int, vocab_size: int = 50257, context: int = 1024, dropout: float = 0.1
) -> Any:
    """A build function of GPT whose defaults are of this size."""

    def build(
        *,
        vocab_size: int = vocab_size,
        context: int = context,
        layers: int = layers,
        heads: int = heads,
        width: int = width,
        dropout: float = dropout,
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
    register(_name, depth=_layers, skip=SKIP, source=SOURCE)(_of_size(_layers, _heads, _width))

# Small enough to learn Shakespeare letter by letter on two cores, in minutes.
register("gpt_char", depth=4, skip=SKIP, source=SOURCE)(_of_size(4, 4, 128, vocab_size=65, context=128, dropout=0.0))
