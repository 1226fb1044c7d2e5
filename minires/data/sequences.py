"""Strings of letters to be copied, reversed or sorted: translation with a known right answer, made from a fixed seed.

A string has 1 to 12 letters, no string occurs twice, and training, validation and test share none. Whoever copies must
learn to look at one position, whoever reverses to look at a position counted from the end, and whoever sorts to look at
what the letters are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minires.errors import RequestError

LONGEST = 12
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = ("<pad>", "<bos>", "<eos>", "<copy>", "<reverse>", "<sort>", *LETTERS)
PAD, BOS, EOS = 0, 1, 2
FIRST_LETTER = VOCABULARY.index("a")
SIZES = {"train": 20_000, "validation": 1_000, "test": 1_000}
SEED = 2017

Rule = Callable[[np.ndarray], np.ndarray]
RULES: dict[str, Rule] = {"copy": lambda s: s, "reverse": lambda s: s[::-1], "sort": np.sort}


@dataclass(frozen=True)
class Pairs:
    """Sentences and their translations, row by row, filled up with PAD.

    Attributes
        source        (n, S): the letters and EOS; with several rules, first the symbol of the rule to follow
        target_in     (n, T): BOS and the translation: what the decoder sees
        target_out    (n, T): the translation and EOS: what it should say, one step ahead of what it sees
    """

    source: np.ndarray
    target_in: np.ndarray
    target_out: np.ndarray

    def __len__(self) -> int:
        return len(self.source)


def load(*rules: str, seed: int = SEED) -> dict[str, Pairs]:
    """Training, validation and test pairs for one rule, or for several in turn, each announced by its symbol.

    Raises RequestError for an unknown rule, or for none.
    """
    unknown = [rule for rule in rules if rule not in RULES]
    if unknown or not rules:
        raise RequestError(f"unknown rule {unknown[0] if unknown else ''!r}: there are {', '.join(RULES)}")
    strings = _strings(sum(SIZES.values()), np.random.default_rng(seed))
    cuts = np.cumsum([0, *SIZES.values()])
    return {name: _pairs(strings[start:stop], rules) for name, start, stop in zip(SIZES, cuts, cuts[1:], strict=False)}


def spell(tokens: np.ndarray) -> str:
    """The string that a row of tokens stands for: up to its EOS, without PAD and BOS; a rule's symbol as it is."""
    ends = np.flatnonzero(tokens == EOS)
    said = tokens[: ends[0]] if len(ends) else tokens
    return "".join(VOCABULARY[t] for t in said if t not in (PAD, BOS))


def _strings(count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """`count` different strings of letters in random order; any length is as likely, as long as there are enough."""
    seen: dict[bytes, np.ndarray] = {}
    while len(seen) < count:
        letters = rng.integers(FIRST_LETTER, len(VOCABULARY), rng.integers(1, LONGEST + 1))
        seen.setdefault(letters.tobytes(), letters)
    strings = list(seen.values())
    return [strings[i] for i in rng.permutation(count)]  # the short ones, soon exhausted, came first


def _pairs(strings: list[np.ndarray], rules: tuple[str, ...]) -> Pairs:
    n, several = len(strings), len(rules) > 1
    source = np.full((n, LONGEST + 1 + several), PAD)
    target_in, target_out = np.full((2, n, LONGEST + 1), PAD)
    target_in[:, 0] = BOS
    for i, letters in enumerate(strings):
        rule, length = rules[i % len(rules)], len(letters)
        said = RULES[rule](letters)
        if several:
            source[i, 0] = VOCABULARY.index(f"<{rule}>")
        source[i, several : several + length] = letters
        source[i, several + length] = EOS
        target_in[i, 1 : length + 1] = said
        target_out[i, :length] = said
        target_out[i, length] = EOS
    return Pairs(source, target_in, target_out)
