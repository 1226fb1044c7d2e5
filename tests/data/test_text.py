"""Text to tokens and back, byte pairs learned as the paper says, and Shakespeare cut by position."""

import json
import os
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires.data import text
from minires.data.text import BytePairs, Characters
from minires.errors import RequestError

TALE = "the cat sat on the mat, the rat sat on the cat.\n  The end...\tthe naïve end! 12 mats, 123 hats_\r\n" * 3
LEARNED = BytePairs.train(TALE, 290)


# --- there and back


@given(st.text())
def test_byte_pairs_write_any_text(said):
    tokens = LEARNED.encode(said)
    assert LEARNED.decode(tokens) == said
    assert "".join(LEARNED.stream(tokens)) == said
    assert LEARNED.lengths()[tokens].sum() == len(said)
    assert "".join(BytePairs.WORD.findall(said)) == said


@given(st.text(alphabet=sorted(set(TALE))))
def test_characters_write_any_text_of_their_own(said):
    made = Characters(TALE)
    tokens = made.encode(said)
    assert tokens.dtype == np.int64
    assert made.decode(tokens) == said
    assert made.lengths()[tokens].sum() == len(said) == len(tokens)


def test_characters_are_numbered_in_the_order_of_unicode():
    made = Characters("hello\n")
    assert made.characters == ["\n", "e", "h", "l", "o"]
    assert made.encode("hole").tolist() == [2, 4, 3, 1]
    assert made.vocab_size == 5


def test_a_character_appears_with_the_last_of_its_bytes():
    assert list(BytePairs([]).stream("é!".encode())) == ["", "é", "!", ""]
    assert "".join(BytePairs([]).stream("é".encode()[:1])) == "\N{REPLACEMENT CHARACTER}"


# --- learning


def learn_slowly(said, merges):
    """Sennrich et al. 2016, algorithm 1, counting every pair anew for every merge."""
    words = Counter(tuple(word.encode()) for word in BytePairs.WORD.findall(said))
    learned = []
    for token in range(256, 256 + merges):
        seen = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                seen[pair] += count
        best = min(seen, key=lambda pair: (-seen[pair], pair))
        learned.append(best)
        words = Counter({apply(word, best, token): count for word, count in words.items()})
    return learned


def apply(word, pair, token):
    made = []
    for piece in word:
        if made and (made[-1], piece) == pair:
            made[-1] = token
        else:
            made.append(piece)
    return tuple(made)


@pytest.mark.parametrize("said", [TALE, "aaaa aaa aa a aaaaa", "abababab bababa ab"])
def test_the_most_frequent_pair_is_merged_first(said):
    size = 290 if said is TALE else 260
    assert BytePairs.train(said, size).merges == learn_slowly(said, size - 256)


@settings(deadline=None)
@given(st.text(alphabet="athe cmsn.", max_size=30))
def test_encoding_applies_the_merges_in_the_order_they_were_learned(said):
    expected = []
    for word in BytePairs.WORD.findall(said):
        tokens = tuple(word.encode())
        for i, pair in enumerate(LEARNED.merges):
            tokens = apply(tokens, pair, 256 + i)
        expected += tokens
    assert LEARNED.encode(said).tolist() == expected


def test_no_token_crosses_the_end_of_a_word():
    assert not any(re.search(rb"\S\s", piece) for piece in LEARNED.pieces)
    assert LEARNED.vocab_size == 290
    assert len(LEARNED.encode(TALE)) < 0.5 * len(TALE)


# --- kept with a run


@pytest.mark.parametrize("made", [Characters(TALE), LEARNED])
def test_a_tokenizer_is_kept_in_a_file(made, tmp_path):
    text.save_tokenizer(tmp_path / "tokenizer.json", made)
    again = text.load_tokenizer(tmp_path / "tokenizer.json")
    assert type(again) is type(made)
    assert again.encode(TALE).tolist() == made.encode(TALE).tolist()
    assert again.state() == made.state()


def damaged(state):
    return state if isinstance(state, str) else json.dumps(state)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        {"kind": "words"},
        {"kind": "bpe"},
        {"kind": "bpe", "merges": [[1]]},
        {"kind": "char", "characters": 3},
    ],
)
def test_a_damaged_tokenizer_is_refused(content, tmp_path):
    (tmp_path / "tokenizer.json").write_text(damaged(content))
    with pytest.raises(RequestError, match=r"tokenizer.json is damaged"):
        text.load_tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"kind": "bpe", "merges": [[97, 98], [258, 97]]}, r"merge \(258, 97\) is of tokens that are not there"),
        ({"kind": "bpe", "merges": [[-1, 98]]}, r"merge \(-1, 98\)"),
        ({"kind": "char", "characters": ""}, "a vocabulary of no characters"),
    ],
)
def test_a_tokenizer_that_cannot_be_is_refused(content, why, tmp_path):
    (tmp_path / "tokenizer.json").write_text(damaged(content))
    with pytest.raises(RequestError, match=why):
        text.load_tokenizer(tmp_path / "tokenizer.json")


def test_what_is_asked_wrongly_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"the vocabulary has no '!', 'é'; it has 'abc'"):
        Characters("abc").encode("aébc!")
    with pytest.raises(RequestError, match="is not a run that trained a language model"):
        text.load_tokenizer(tmp_path / "tokenizer.json")
    for kind in ("word", "bpe", "bpe:", "bpe:x", "bpe:-300", "char:3"):
        with pytest.raises(RequestError, match=r"unknown tokenizer .*; there are char, and bpe:N"):
            text.tokenizer(kind, TALE, TALE)
    with pytest.raises(RequestError, match="cannot have 255"):
        text.tokenizer("bpe:255", TALE, TALE)
    with pytest.raises(RequestError, match="the text gives 3 merges, not the 44 of a vocabulary of 300"):
        BytePairs.train("abc abc", 300)


def test_byte_pairs_are_learned_from_the_training_text_and_characters_from_all():
    assert text.tokenizer("bpe:258", "abab", "xyxyxyxy").merges[0] == (ord("a"), ord("b"))
    assert text.tokenizer("char", "ab", "abc").vocab_size == 3


# --- Shakespeare


@pytest.fixture(scope="module")
def plays():
    folders = [os.environ.get("MINIRES_DATA"), Path(__file__).parents[2].parent / "shared" / "data"]
    for folder in folders:
        if folder and (Path(folder) / "tinyshakespeare" / "input.txt").is_file():
            return text.load_shakespeare(folder, download=False)
    pytest.skip("tinyshakespeare/input.txt is not here; MINIRES_DATA names its folder")


def test_shakespeare_is_cut_by_position(plays):
    whole = "".join(plays)
    assert len(whole) == 1_115_394
    assert [len(part) for part in plays] == [1_003_855, 55_769, 55_770]
    assert plays.train.startswith("First Citizen:\nBefore we proceed any further, hear me speak.")
    assert Characters(whole).vocab_size == 65


def test_a_damaged_text_is_refused(tmp_path):
    folder = tmp_path / "tinyshakespeare"
    folder.mkdir()
    (folder / "input.txt").write_text("First Citizen:")
    with pytest.raises(RequestError, match=r"input.txt is damaged, half downloaded or another file"):
        text.load_shakespeare(tmp_path)


def test_a_missing_text_is_asked_for(tmp_path):
    with pytest.raises(
        RequestError, match=r"tinyshakespeare: 1 of 1 files not found; fetch input.txt from https://raw"
    ):
        text.load_shakespeare(tmp_path, download=False)
