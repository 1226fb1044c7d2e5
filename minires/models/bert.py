"""BERT: a stack of post-norm transformer blocks that reads a text in both directions.

    x = LN(word embedding + position embedding + segment embedding)
    x = LN(x + attention(x));  x = LN(x + W2 gelu(W1 x))          in every block; every place sees every other

It is trained to guess words that were hidden from it, and whether two sentences follow each other.

Source: Devlin et al. 2019, BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding.
"""

from __future__ import annotations

from typing import Any

from minires import backend
from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models import require
from minires.models.registry import register
from minires.models.transformer_layers import merge_heads, split_heads
from minires.nn import Dropout, Embedding, LayerNorm, Linear, Module, ModuleList, Parameter, Residual, init
from minires.nn.module import empty

SOURCE = "Devlin et al. 2019, BERT"
SKIP = "y = LN(x + F(x))"
HEADS = ("none", "masked", "pretraining")
EPS = 1e-12  # of every LN, as published
STD = 0.02  # of every matrix at the start


class Dense(Module):
    """A linear layer, one name deeper. Keys: dense."""

    def __init__(self, features: int, width: int) -> None:
        self.dense = Linear(features, width)


class Output(Dense):
    """The linear layer in which a branch ends, and the LN behind its skip. Keys: dense, LayerNorm."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__(features, width)
        self.LayerNorm = LayerNorm(width, EPS)


class PostNorm(Residual):
    """y = LN(x + dropout(F(x))), where F ends in `output.dense` and the LN is `output.LayerNorm`."""

    def __init__(self, features: int, width: int, dropout: float) -> None:
        self.output = Output(features, width)
        super().__init__(norm="post", drop_path=Dropout(dropout))

    def norm_layer(self, x: Any) -> Tensor:
        return self.output.LayerNorm(x)


class SelfAttention(Module):
    """concat(head_1, ..., head_H), head_h = softmax(q_h k_hᵀ / sqrt(D)) v_h, every place looking at every other.

    Shapes    x, y: (N, T, d); mask: broadcasts to (N, H, T, T), True where a place may look
    Keys      query, key, value
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        self.heads = heads
        self.dropout = dropout
        self.query = Linear(width, width)
        self.key = Linear(width, width)
        self.value = Linear(width, width)

    def forward(self, x: Any, mask: Any = None) -> Tensor:
        q, k, v = (split_heads(layer(x), self.heads) for layer in (self.query, self.key, self.value))  # (N, H, T, D)
        return merge_heads(F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0))


class Attention(PostNorm):
    """The skip around F(x) = attention(x) Wo + bo.

    Shapes    as `SelfAttention`
    Keys      self.{query,key,value}, output.{dense,LayerNorm}
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__(width, width, dropout)
        self.self = SelfAttention(width, heads, dropout)

    def branch(self, x: Any, mask: Any = None) -> Tensor:
        """F."""
        return self.output.dense(self.self(x, mask))


class Layer(PostNorm):
    """x = attention(x), then the skip around F(x) = gelu(x W1 + b1) W2 + b2.

    Shapes    x, y: (N, T, d); mask: as `SelfAttention`
    Keys      attention, intermediate.dense, output.{dense,LayerNorm}
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__(feedforward, width, dropout)
        self.attention = Attention(width, heads, dropout)
        self.intermediate = Dense(width, feedforward)

    def forward(self, x: Any, mask: Any = None) -> Tensor:
        return super().forward(self.attention(x, mask))

    def branch(self, x: Any) -> Tensor:
        """F."""
        return self.output.dense(F.gelu(self.intermediate.dense(x)))


class Embeddings(Module):
    """LN of the sum of what a token is, where it stands and in which of the sentences.

    Shapes    tokens, segments: (N, T), integers; y: (N, T, d)
    Keys      word_embeddings, position_embeddings, token_type_embeddings, LayerNorm
    """

    def __init__(self, vocab_size: int, context: int, segments: int, width: int, dropout: float) -> None:
        self.word_embeddings = Embedding(vocab_size, width)
        self.position_embeddings = Embedding(context, width)
        self.token_type_embeddings = Embedding(segments, width)
        self.LayerNorm = LayerNorm(width, EPS)
        self.dropout = Dropout(dropout)

    def forward(self, words: Any, segments: Any = None) -> Tensor:
        vocabulary, context = self.word_embeddings.num_embeddings, self.position_embeddings.num_embeddings
        words = require.tokens(words, vocabulary, context)
        if segments is None:
            segments = backend.find((words,)).xp.zeros_like(words)
        segments = require.tokens(segments, self.token_type_embeddings.num_embeddings, context, what="segment")
        if segments.shape != words.shape:
            raise RequestError(f"segments are {segments.shape} and tokens {words.shape}, but each token needs its own")
        x = self.word_embeddings(words) + self.token_type_embeddings(segments)
        x = x + self.position_embeddings.weight[: words.shape[1]]
        return self.dropout(self.LayerNorm(x))


class Encoder(Module):
    """The blocks. Keys: layer.{i}."""

    def __init__(self, layers: int, *sizes: Any) -> None:
        self.layer = ModuleList([Layer(*sizes) for _ in range(layers)])

    def forward(self, x: Any, mask: Any = None) -> Tensor:
        for layer in self.layer:
            x = layer(x, mask)
        return x


class Bert(Module):
    """One vector for every token, and with a pooler one for the text: tanh of a linear layer on the first token's.

    Shapes    words, segments: (N, T), integers, T <= context; present: (N, T), False where there is no token any more;
              returns (N, T, d) and (N, d), or None without a pooler
    Keys      embeddings, encoder.layer.{i}, pooler.dense: Hugging Face's BertModel
    Start     matrices N(0, 0.02^2), biases zero

    Raises RequestError for sizes that do not fit each other, and when called with tokens or segments outside their
    ranges, with more than fit the context, or with arguments of other shapes.
    """

    def __init__(
        self,
        vocab_size: int = 30522,
        context: int = 512,
        *,
        layers: int = 12,
        heads: int = 12,
        width: int = 768,
        feedforward: int = 3072,
        segments: int = 2,
        dropout: float = 0.1,
        pooler: bool = True,
    ) -> None:
        require.at_least_one("bert", vocab_size=vocab_size, context=context, layers=layers, heads=heads)
        require.at_least_one("bert", width=width, feedforward=feedforward, segments=segments)
        if width % heads:
            raise RequestError(f"{heads} heads do not divide a width of {width}")
        self.vocab_size, self.context = vocab_size, context
        self.embeddings = Embeddings(vocab_size, context, segments, width, dropout)
        self.encoder = Encoder(layers, width, heads, feedforward, dropout)
        self.pooler = Dense(width, width) if pooler else None
        start(self)

    def forward(self, words: Any, segments: Any = None, present: Any = None) -> tuple[Tensor, Tensor | None]:
        if present is not None and tuple(present.shape) != tuple(words.shape):
            raise RequestError(f"present is {tuple(present.shape)} and tokens {tuple(words.shape)}; they must agree")
        x = self.embeddings(words, segments)  # (N, T, d)
        values = present.data if isinstance(present, Tensor) else present
        x = self.encoder(x, None if values is None else values.astype(bool)[:, None, None, :])
        return x, None if self.pooler is None else F.tanh(self.pooler.dense(x[:, 0]))


# --- what is trained on it


class Transform(Module):
    """LN(gelu(x W + b)), before the words are guessed. Keys: dense, LayerNorm."""

    def __init__(self, width: int) -> None:
        self.dense = Linear(width, width)
        self.LayerNorm = LayerNorm(width, EPS)

    def forward(self, x: Any) -> Tensor:
        return self.LayerNorm(F.gelu(self.dense(x)))


class Predictions(Module):
    """The logits of the word at every place: likeness to each word's embedding, and a bias. Keys: transform, bias."""

    def __init__(self, vocab_size: int, width: int) -> None:
        self.bias = Parameter(empty(vocab_size))
        self.transform = Transform(width)

    def forward(self, x: Any, words: Tensor) -> Tensor:
        return F.linear(self.transform(x), words, self.bias)


class PretrainingHeads(Module):
    """Guesses words; with `pairs` also whether the second sentence follows the first. Keys: predictions, and then
    seq_relationship."""

    def __init__(self, vocab_size: int, width: int, pairs: bool) -> None:
        self.predictions = Predictions(vocab_size, width)
        self.seq_relationship = Linear(width, 2) if pairs else None


class BertForPretraining(Module):
    """BERT with what it is trained by: the logits of every word, and with `pairs` those of the two sentences' order.

    Shapes    as `Bert`; returns (N, T, vocab_size), or with `pairs` a tuple of that and (N, 2)
    Keys      bert, cls.predictions, and with `pairs` cls.seq_relationship: Hugging Face's BertForPreTraining, or
              without `pairs` BertForMaskedLM, whose decoder's weight is the word embedding itself
    """

    def __init__(self, bert: Bert, pairs: bool) -> None:
        if pairs and bert.pooler is None:
            raise RequestError("whether a sentence follows another is read off the pooled vector; use pooler=True")
        self.vocab_size, self.context = bert.vocab_size, bert.context
        self.bert = bert
        self.cls = PretrainingHeads(bert.vocab_size, bert.embeddings.word_embeddings.embedding_dim, pairs)
        start(self.cls)

    def forward(self, words: Any, segments: Any = None, present: Any = None) -> Any:
        x, pooled = self.bert(words, segments, present)
        logits = self.cls.predictions(x, self.bert.embeddings.word_embeddings.weight)  # (N, T, V)
        return logits if self.cls.seq_relationship is None else (logits, self.cls.seq_relationship(pooled))


def start(module: Module) -> None:
    """N(0, 0.02^2) for matrices, zero for biases; the LNs start as they do."""
    for name, parameter in module.named_parameters():
        if parameter.ndim == 2:
            init.normal_(parameter, 0.0, STD)
        elif name.endswith("bias"):
            init.zeros_(parameter)


def _of_size(
    layers: int,
    heads: int,
    width: int,
    feedforward: int,
    *,
    vocab_size: int = 30522,
    context: int = 512,
    dropout: float = 0.1,
    head: str = "none",
) -> Any:
    """A build function of BERT whose defaults are of this size.

    It makes BERT alone, or with a head: "none", "masked" (no pooler, for nothing would train it) or "pretraining".
    """

    def build(
        *,
        vocab_size: int = vocab_size,
        context: int = context,
        layers: int = layers,
        heads: int = heads,
        width: int = width,
        feedforward: int = feedforward,
        segments: int = 2,
        dropout: float = dropout,
        pooler: bool = True,
        head: str = head,
    ) -> Module:
        require.one_of("bert", "head", head, HEADS)
        bert = Bert(
            vocab_size,
            context,
            layers=layers,
            heads=heads,
            width=width,
            feedforward=feedforward,
            segments=segments,
            dropout=dropout,
            pooler=pooler and head != "masked",
        )
        return bert if head == "none" else BertForPretraining(bert, pairs=head == "pretraining")

    return build


register("bert_base", depth=12, skip=SKIP, source=SOURCE)(_of_size(12, 12, 768, 3072))
register("bert_large", depth=24, skip=SKIP, source=SOURCE)(_of_size(24, 16, 1024, 4096))
# Small enough to learn a small language in minutes on two cores, with the head that guesses words.
register("bert_tiny", depth=2, skip=SKIP, source=SOURCE)(
    _of_size(2, 4, 64, 256, vocab_size=16, context=16, dropout=0.0, head="masked")
)
