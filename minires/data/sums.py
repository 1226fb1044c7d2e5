"""A language whose every sentence is a true sum, such as 47+08=055: text with holes that can be filled by thought.

A missing digit follows from the others, by adding or by subtracting, carry included; a missing sign from its place. Two
holes in one column leave a doubt: with 15 % hidden, nobody can be right about more than some 86 % of them. Every sum of
two numbers below 100 occurs once, in training, validation or test.
"""

from __future__ import annotations

import numpy as np

DIGITS = 2  # of each summand
VOCABULARY = ("<pad>", "<cls>", "<sep>", "<mask>", *"0123456789+=")
PAD, CLS, SEP, MASK = range(4)
LENGTH = 3 * DIGITS + 5  # CLS, the summands and the sum with one digit more, two signs, SEP
SIZES = {"train": 8_000, "validation": 1_000, "test": 1_000}
SEED = 2019


def load(seed: int = SEED) -> dict[str, np.ndarray]:
    """Training, validation and test sentences, (n, LENGTH) tokens each."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(10 ** (2 * DIGITS), sum(SIZES.values()), replace=False)  # each number is a pair of summands
    sentences = _write(*np.divmod(chosen, 10**DIGITS))
    return dict(zip(SIZES, np.split(sentences, np.cumsum(list(SIZES.values()))[:-1]), strict=True))


def spell(tokens: np.ndarray) -> str:
    """The sentence that a row of tokens stands for; a hole is an underscore."""
    return "".join("_" if t == MASK else VOCABULARY[t] for t in tokens if t not in (PAD, CLS, SEP))


def hide(tokens: np.ndarray, rng: np.random.Generator, share: float = 0.15) -> tuple[np.ndarray, np.ndarray]:
    """(what the model sees, where it is asked), both (n, T), for sentences (n, T).

    A `share` of the tokens is asked for, and one a sentence at least. Of these, 80 % are shown as MASK, 10 % as a
    random token and 10 % as they are: a model that may be asked for any token must keep a notion of every token.
    The special tokens are never asked for.

    Source    Devlin et al. 2019, BERT, section 3.1 and appendix A.1
    """
    draws = np.where(tokens <= MASK, 1.0, rng.random(tokens.shape))  # those below `share` are asked for
    asked = (draws < share) | (draws == draws.min(axis=1, keepdims=True)) & (tokens > MASK)
    how = rng.random(tokens.shape)
    shown = np.where(asked & (how < 0.8), MASK, tokens)
    random = rng.integers(MASK + 1, len(VOCABULARY), tokens.shape)
    return np.where(asked & (how >= 0.8) & (how < 0.9), random, shown), asked


def _write(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The sentences of a + b, (n, LENGTH)."""

    def column(token: str) -> np.ndarray:
        return np.full((len(a), 1), VOCABULARY.index(token))

    parts = (column("<cls>"), _digits(a, DIGITS), column("+"), _digits(b, DIGITS), column("="))
    return np.concatenate((*parts, _digits(a + b, DIGITS + 1), column("<sep>")), axis=1)


def _digits(numbers: np.ndarray, count: int) -> np.ndarray:
    """(n, count) tokens of the decimal digits, with leading zeros."""
    return numbers[:, None] // 10 ** np.arange(count - 1, -1, -1) % 10 + VOCABULARY.index("0")
