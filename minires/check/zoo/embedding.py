"""Tables that learn the wrong rows, or too little."""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.check.bug import bug
from minires.ops.embedding import Embedding

COUNTED = "a_row_gets_as_many_gradients_as_it_was_read"
PADDED = "the_padding_row_gets_no_gradient_and_the_others_all_of_theirs"


@bug(
    Embedding,
    symptom="a language model learns rare words as fast as frequent ones, and both more slowly than it should",
    killed_by=COUNTED,
)
class EmbeddingOverwrites(Embedding):
    """gw[indices] = gy instead of gw[indices] += gy: a word that stands k times in the batch learns from one place.

    In a test whose indices are all different, nothing is wrong.
    """

    def backward(self, gy: Array) -> Any:
        gw = self.xp.zeros(self.shape, gy.dtype)
        gw[self.indices] = gy
        if self.padding_idx is not None:
            gw[self.padding_idx] = 0
        return gw, None


@bug(
    Embedding,
    symptom="frequent words learn too slowly, and a larger batch does not help them",
    killed_by=COUNTED,
)
class EmbeddingAveraged(Embedding):
    """gw[v] = mean of gy over the places that read v instead of the sum.

    It is what PyTorch does on request (scale_grad_by_freq=True), but not the gradient.
    """

    def backward(self, gy: Array) -> Any:
        gw, _ = super().backward(gy)
        counts = (self.indices.reshape(-1)[:, None] == self.xp.arange(self.shape[0])).sum(axis=0)
        return gw / self.xp.maximum(counts, 1)[:, None].astype(gy.dtype), None


@bug(
    Embedding,
    symptom="scores depend on how far a batch was padded: the padding row has learned something",
    killed_by=PADDED,
)
class PaddingRowLearns(Embedding):
    """gw[padding_idx] = sum of gy there instead of 0: the option was taken and not used."""

    def backward(self, gy: Array) -> Any:
        self.padding_idx = None
        return super().backward(gy)


@bug(
    Embedding,
    symptom="the padding row learns if it is row 0, the usual choice, and only then",
    killed_by=PADDED,
)
class PaddingRowZeroIsFalse(Embedding):
    """`if padding_idx:` instead of `if padding_idx is not None:`, and 0 is false."""

    def backward(self, gy: Array) -> Any:
        self.padding_idx = self.padding_idx or None
        return super().backward(gy)
