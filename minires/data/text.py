"""Text as numbers: Tiny Shakespeare, and two tokenizers that turn text into tokens and back.

`Characters` gives every character a number. `BytePairs` begins with the 256 bytes of UTF-8 and learns which neighbors
to merge, so that frequent words become one token; since every byte is a token, it can write any text.

Source: Sennrich et al. 2016, Neural Machine Translation of Rare Words with Subword Units, section 3.2; on bytes:
Radford et al. 2019, section 2.2.
"""

from __future__ import annotations

import codecs
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from minires.data.fetch import Source, locate
from minires.errors import RequestError

SHAKESPEARE = Source(
    "tinyshakespeare",
    {"input.txt": "6fb458f1232090904fb40fe944165e91"},
    ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",),
)
SHARES = (0.90, 0.05)  # of the text, from its beginning, for training and validation; the rest is for the test


class TextSplits(NamedTuple):
    """Three stretches of one text, in this order."""

    train: str
    validation: str
    test: str


def load_shakespeare(root: str | Path | None = None, download: bool = True) -> TextSplits:
    """A million characters of Shakespeare's plays, cut by position into 90, 5 and 5 percent.

    Neighboring lines know of each other, so a split at random would test on what was trained on.
    Raises RequestError for a file that is damaged or cannot be had.
    """
    folder = locate(SHAKESPEARE, None if root is None else Path(root).expanduser(), download)
    text = (folder / "input.txt").read_bytes().decode()  # not read_text, which would change the ends of lines
    first, second = round(SHARES[0] * len(text)), round(sum(SHARES) * len(text))
    return TextSplits(text[:first], text[first:second], text[second:])


# --- tokenizers


class Tokenizer(Protocol):
    """Text to tokens 0 ... vocab_size - 1 and back: decode(encode(text)) == text."""

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str) -> np.ndarray: ...

    def decode(self, tokens: Iterable[int]) -> str: ...

    def stream(self, tokens: Iterable[int]) -> Iterator[str]: ...

    def lengths(self) -> np.ndarray: ...

    def state(self) -> dict[str, Any]: ...


class Characters:
    """Every character is a token, numbered in the order of Unicode."""

    def __init__(self, characters: Iterable[str]) -> None:
        self.characters = sorted(set(characters))
        if not self.characters:
            raise RequestError("a vocabulary of no characters cannot write anything; give it a text")
        self._number = {c: i for i, c in enumerate(self.characters)}

    @property
    def vocab_size(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> np.ndarray:
        """(len(text),) int64. Raises RequestError that names the characters that the vocabulary does not have."""
        unknown = sorted(set(text) - self._number.keys())
        if unknown:
            raise RequestError(
                f"the vocabulary has no {', '.join(map(repr, unknown))}; it has {''.join(self.characters)!r}"
            )
        return np.array([self._number[c] for c in text], np.int64)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of these tokens."""
        return "".join(self.stream(tokens))

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        """The text piece by piece, as the tokens come."""
        for token in tokens:
            yield self.characters[token]

    def lengths(self) -> np.ndarray:
        """(vocab_size,): how many characters each token writes."""
        return np.ones(self.vocab_size, np.int64)

    def state(self) -> dict[str, Any]:
        """What JSON can hold, for `from_state`."""
        return {"kind": "char", "characters": "".join(self.characters)}


class BytePairs:
    """Byte-pair encoding: the bytes of a word, whose neighbors are merged by learned rules, the first-learned first.

    A word is a run of letters, digits or other signs with the one space before it, so no token crosses a word's end.
    While it is merged, a word is a str whose characters are its tokens: to merge is then to replace a substring.

    merges    pairs of tokens; the pair at i becomes token 256 + i
    """

    WORD = re.compile(r" ?[^\W\d_]+| ?\d+| ?(?:[^\w\s]|_)+|\s+(?=\s)|\s")

    def __init__(self, merges: Iterable[tuple[int, int]]) -> None:
        self.merges = [(int(a), int(b)) for a, b in merges]
        self.pieces = [bytes([i]) for i in range(256)]
        for a, b in self.merges:
            if not 0 <= min(a, b) <= max(a, b) < len(self.pieces):
                raise RequestError(f"merge ({a}, {b}) is of tokens that are not there before it; the file is damaged")
            self.pieces.append(self.pieces[a] + self.pieces[b])
        self._rank = {chr(a) + chr(b): i for i, (a, b) in enumerate(self.merges)}
        self._known: dict[str, list[int]] = {}  # words that were encoded before

    @classmethod
    def train(cls, text: str, vocab_size: int) -> BytePairs:
        """Learns vocab_size - 256 merges: each time the most frequent pair of neighbors, the lowest of equals.

        Raises RequestError for a vocabulary below 256 and for more merges than the text has pairs for.
        """
        if not 256 <= vocab_size <= sys.maxunicode:
            raise RequestError(f"a byte-pair vocabulary has at least the 256 bytes, so it cannot have {vocab_size}")
        words = Counter(cls.WORD.findall(text))
        spelled = [_bytes(word) for word in words]
        counts = list(words.values())
        seen: Counter[str] = Counter()  # how often each pair occurs
        where: defaultdict[str, set[int]] = defaultdict(set)  # the words that have it, or had it

        def count(i: int, sign: int) -> None:
            for pair in _pairs(spelled[i]):
                seen[pair] += sign * counts[i]
                where[pair].add(i)

        for i in range(len(spelled)):
            count(i, 1)
        merges: list[tuple[int, int]] = []
        while len(merges) < vocab_size - 256:
            best = min(seen, key=lambda pair: (-seen[pair], pair), default="")
            if seen[best] < 1:
                raise RequestError(
                    f"the text gives {len(merges)} merges, not the {vocab_size - 256} of a vocabulary of {vocab_size}"
                )
            token = chr(256 + len(merges))
            merges.append((ord(best[0]), ord(best[1])))
            for i in list(where[best]):  # only these words change, so only their pairs are counted again
                if best in spelled[i]:
                    count(i, -1)
                    spelled[i] = spelled[i].replace(best, token)
                    count(i, 1)
            del seen[best], where[best]
        return cls(merges)

    @property
    def vocab_size(self) -> int:
        return len(self.pieces)

    def encode(self, text: str) -> np.ndarray:
        """(tokens,) int64, of any text."""
        found: list[int] = []
        for word in self.WORD.findall(text):
            if word not in self._known:
                self._known[word] = self._spell(word)
            found += self._known[word]
        return np.array(found, np.int64)

    def _spell(self, word: str) -> list[int]:
        tokens, never = _bytes(word), len(self.merges)
        while len(tokens) > 1:
            first = min(_pairs(tokens), key=lambda pair: self._rank.get(pair, never))
            if first not in self._rank:
                break
            tokens = tokens.replace(first, chr(256 + self._rank[first]))
        return [ord(token) for token in tokens]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of these tokens; bytes that are no UTF-8 become the replacement character."""
        return "".join(self.stream(tokens))

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        """The text piece by piece, as the tokens come; a character appears with the last of its bytes."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in tokens:
            yield decoder.decode(self.pieces[token])
        yield decoder.decode(b"", final=True)

    def lengths(self) -> np.ndarray:
        """(vocab_size,): how many characters begin in each token, so that they add up over any text."""
        return np.array([sum(byte & 0xC0 != 0x80 for byte in piece) for piece in self.pieces], np.int64)

    def state(self) -> dict[str, Any]:
        """What JSON can hold, for `from_state`."""
        return {"kind": "bpe", "merges": self.merges}


def _bytes(word: str) -> str:
    """The UTF-8 bytes of a word, each as the character of its number."""
    return word.encode().decode("latin-1")


def _pairs(tokens: str) -> list[str]:
    return [tokens[i : i + 2] for i in range(len(tokens) - 1)]


def tokenizer(kind: str, train: str, whole: str) -> Tokenizer:
    """The tokenizer that `kind` names: "char", of all characters of `whole`; "bpe:N", N tokens learned from `train`.

    Raises RequestError for any other kind.
    """
    if kind == "char":
        return Characters(whole)
    name, _, size = kind.partition(":")
    if name != "bpe" or not size.isdecimal():
        raise RequestError(f"unknown tokenizer {kind!r}; there are char, and bpe:N with N tokens, such as bpe:512")
    return BytePairs.train(train, int(size))


def save_tokenizer(path: Path, made: Tokenizer) -> None:
    """Writes a tokenizer as JSON."""
    path.write_text(json.dumps(made.state()) + "\n", encoding="utf-8")


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a file of `save_tokenizer`. Raises RequestError for a file that is missing or damaged."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        if state["kind"] == "char":
            return Characters(state["characters"])
        if state["kind"] == "bpe":
            return BytePairs(state["merges"])
        raise ValueError(f"its kind is {state['kind']!r}")
    except FileNotFoundError:
        raise RequestError(f"{path} does not exist: {path.parent} is not a run that trained a language model") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{path} is damaged ({error!r}); train again") from None
