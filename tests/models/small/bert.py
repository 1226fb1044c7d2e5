"""BERT at its smallest, guessing words."""

from minires import functional as F
from tests.models.small import Small


def sentences(rng):
    words = rng.integers(0, 9, (4, 5))
    hidden = rng.integers(0, 9, (4, 5))
    hidden[rng.random((4, 5)) < 0.5] = -100
    hidden[:, 0] = words[:, 0]
    return words, hidden


def hidden_words(model, words, hidden):
    logits = model(words)  # (N, T, V)
    return F.cross_entropy(F.reshape(logits, (-1, logits.shape[-1])), hidden.reshape(-1))


SIZES = {
    "vocab_size": 9,
    "context": 6,
    "layers": 2,
    "heads": 2,
    "width": 4,
    "feedforward": 6,
    "dropout": 0.0,
    "head": "masked",
}


# A key's bias adds the same to all scores of a query, which softmax does not see.
SMALL = [
    Small(name, SIZES, sentences, hidden_words, may_vanish=("self.key.bias",)) for name in ("bert_base", "bert_tiny")
]
COUNTS = [
    ("bert_base", {}, 109_482_240),
    ("bert_base", {"pooler": False}, 108_891_648),
    ("bert_base", {"head": "masked"}, 109_514_298),
    ("bert_base", {"head": "pretraining"}, 110_106_428),
    ("bert_large", {}, 335_141_888),
]
