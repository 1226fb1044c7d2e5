"""The Transformer: an encoder reads a sentence, a decoder writes its translation token by token.

    x = embedding[source] sqrt(d) + positions          a layer of the encoder:  x = feed-forward(self-attention(x))
    y = embedding[target] sqrt(d) + positions          a layer of the decoder:  y = self-attention(y), of no later place
    logits = y embeddingᵀ                                                       y = feed-forward(attention(y, x))

Each of these sublayers stands in a skip: LN(x + F(x)) as published ("post"), or x + F(LN(x)) with one more LN at either
stack's end ("pre"), which trains without a warm-up.

Source: Vaswani et al. 2017, Attention Is All You Need; pre-norm: Xiong et al. 2020, On Layer Normalization in the
Transformer Architecture; DeepNorm: Wang et al. 2022, DeepNet.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from minires import backend
from minires import functional as F
from minires.backend import Array
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models import require
from minires.models.registry import register
from minires.models.transformer_layers import DecoderLayer, EncoderLayer, Sizes
from minires.nn import Dropout, Embedding, LayerNorm, Module, ModuleList, deepnorm, init
from minires.nn.positions import sinusoidal
from minires.switches import no_grad

SOURCE = "Vaswani et al. 2017, Attention Is All You Need"
PAD = 0  # the token that fills short sentences up; nobody looks at it


class EncoderDecoder(Module):
    """The two stacks, on vectors: what torch calls nn.Transformer.

    final_norm    one more LN at the end of each stack, which pre-norm always has (nn.Transformer has it in any case)

    Shapes    source: (N, S, d); target, y: (N, T, d); source_mask: broadcasts to (N, H, T, S), True where one may look
    Keys      encoder.{i}.{self_attn,feedforward}, decoder.{i}.{self_attn,cross_attn,feedforward}; with final norms
              encoder_norm, decoder_norm
    Start     Xavier uniform, as torch; biases zero
    """

    encoder_norm: LayerNorm | None
    decoder_norm: LayerNorm | None

    def __init__(
        self,
        sizes: Sizes,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        final_norm: bool = False,
        deep: bool = False,
    ) -> None:
        require.at_least_one("transformer", encoder_layers=encoder_layers, decoder_layers=decoder_layers)
        if deep and sizes.norm != "post":
            raise RequestError("DeepNorm scales the skip before an LN behind the sum; use it with norm='post'")
        reader, writer = (
            _deeper(sizes, encoder_layers, decoder_layers, part) if deep else sizes for part in ("encoder", "decoder")
        )
        self.encoder = ModuleList([EncoderLayer(reader) for _ in range(encoder_layers)])
        self.decoder = ModuleList([DecoderLayer(writer) for _ in range(decoder_layers)])
        last = final_norm or sizes.norm == "pre"
        self.encoder_norm = LayerNorm(sizes.width) if last else None
        self.decoder_norm = LayerNorm(sizes.width) if last else None
        _start(self.encoder, reader.beta)
        _start(self.decoder, writer.beta)

    def encode(self, source: Any, mask: Any = None) -> Tensor:
        """What the decoder looks at, (N, S, d)."""
        for layer in self.encoder:
            source = layer(source, mask)
        return source if self.encoder_norm is None else self.encoder_norm(source)

    def forward(self, source: Any, target: Any, source_mask: Any = None) -> Tensor:
        source = self.encode(source, source_mask)
        for layer in self.decoder:
            target = layer(target, source, source_mask)
        return target if self.decoder_norm is None else self.decoder_norm(target)


def _deeper(sizes: Sizes, encoder_layers: int, decoder_layers: int, part: str) -> Sizes:
    alpha, beta = deepnorm(encoder_layers, decoder_layers, part)
    return dataclasses.replace(sizes, alpha=alpha, beta=beta)


def _start(stack: Module, beta: float) -> None:
    """Xavier uniform for every matrix; beta times smaller, as DeepNorm asks, for all but the queries' and keys'."""
    for name, parameter in stack.named_parameters():
        if parameter.ndim == 2:
            init.xavier_uniform_(parameter)
            if beta != 1:
                first = 2 * parameter.shape[1] if name.endswith("in_proj_weight") else 0
                with no_grad():
                    parameter[first:] = parameter[first:] * beta
        elif "norm_layer" not in name:
            init.zeros_(parameter)


class Transformer(Module):
    """Sentences in, for every place of their translations the logits of its next token out.

    vocab_size    how many tokens there are, one vocabulary for both languages
    context       the longest sentence; the positions themselves have no end
    deep          DeepNorm's skips, for very many layers

    Shapes    source: (N, S), target: (N, T), integers, 0 where there is no more; y: (N, T, vocab_size)
    Keys      embedding.weight (also the projection to the logits), stacks.{encoder,decoder}.{i}...
    Start     embeddings N(0, 1 / d), so that sqrt(d) times them has variance 1; else as `EncoderDecoder`

    Raises RequestError for sizes that do not fit each other, and when called with tokens outside the vocabulary or
    with more than fit the context.
    """

    def __init__(
        self,
        vocab_size: int = 37000,
        context: int = 1024,
        *,
        sizes: Sizes | None = None,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        deep: bool = False,
    ) -> None:
        require.at_least_one("transformer", vocab_size=vocab_size, context=context)
        sizes = sizes or Sizes()
        self.vocab_size, self.context, self.width = vocab_size, context, sizes.width
        self.embedding = Embedding(vocab_size, sizes.width)
        self.dropout = Dropout(sizes.dropout)
        self.stacks = EncoderDecoder(sizes, encoder_layers, decoder_layers, deep=deep)
        init.normal_(self.embedding.weight, 0.0, sizes.width**-0.5)

    def forward(self, source: Any, target: Any) -> Tensor:
        x, y = self.embed(source), self.embed(target)  # (N, S, d), (N, T, d)
        if len(x) != len(y):
            raise RequestError(f"{len(x)} sources and {len(y)} targets: each sentence needs its own translation")
        return self.logits(self.stacks(x, y, self.mask(source)))

    def mask(self, source: Any) -> Array:
        """(N, 1, 1, S): True where a source has a token. A target needs none: it is filled up after its end."""
        values = source.data if isinstance(source, Tensor) else source
        return (values != PAD)[:, None, None, :]

    def embed(self, sentence: Any, past: int = 0) -> Tensor:
        """embedding sqrt(d) + positions, (N, T, d), for tokens (N, T) that stand behind `past` others."""
        values = require.tokens(sentence, self.vocab_size, self.context, past)
        x = self.embedding(values) * math.sqrt(self.width)
        places = backend.find((values,)).xp.arange(past, past + values.shape[1])
        return self.dropout(x + sinusoidal(places, self.width).astype(x.data.real.dtype))

    def logits(self, y: Any) -> Tensor:
        """(N, T, vocab_size), by the embeddings once more."""
        return F.linear(y, self.embedding.weight)


def _of_size(
    vocab_size: int, context: int, layers: int, heads: int, width: int, feedforward: int, dropout: float, norm: str
) -> Any:
    """A build function of Transformer whose defaults are of this size: `layers` in each stack."""

    def build(
        *,
        vocab_size: int = vocab_size,
        context: int = context,
        encoder_layers: int = layers,
        decoder_layers: int = layers,
        heads: int = heads,
        width: int = width,
        feedforward: int = feedforward,
        dropout: float = dropout,
        norm: str = norm,
        deep: bool = False,
    ) -> Transformer:
        sizes = Sizes(width, heads, feedforward, dropout, norm)
        return Transformer(
            vocab_size, context, sizes=sizes, encoder_layers=encoder_layers, decoder_layers=decoder_layers, deep=deep
        )

    return build


# The paper's base model, post-norm; with norm="pre" LN stands in the branches, and deep=True is DeepNorm.
register("transformer_base", depth=12, skip="y = LN(x + F(x))", source=SOURCE)(
    _of_size(37000, 1024, layers=6, heads=8, width=512, feedforward=2048, dropout=0.1, norm="post")
)
# Pre-norm, and small enough to learn to copy, reverse or sort in minutes on two cores.
register("transformer_tiny", depth=4, skip="y = x + F(LN(x))", source=SOURCE)(
    _of_size(32, 64, layers=2, heads=4, width=64, feedforward=256, dropout=0.0, norm="pre")
)
