"""The languages that are made: every translation and every sum is right, nothing is in two sets, holes are BERT's."""

import numpy as np
import pytest

from minires.data import sequences, sums
from minires.errors import RequestError

TRUE = {"copy": lambda s: s, "reverse": lambda s: "".join(reversed(s)), "sort": lambda s: "".join(sorted(s))}


@pytest.fixture(scope="module")
def mixed():
    return sequences.load("copy", "reverse", "sort")


@pytest.mark.parametrize("rule", TRUE)
def test_every_row_is_a_string_and_what_the_rule_makes_of_it(rule):
    pairs = sequences.load(rule)
    assert {name: len(part) for name, part in pairs.items()} == sequences.SIZES
    for part in pairs.values():
        for source, seen, said in zip(part.source[:300], part.target_in, part.target_out, strict=False):
            text = sequences.spell(source)
            assert 1 <= len(text) <= sequences.LONGEST
            assert text.isalpha()
            assert sequences.spell(seen) == sequences.spell(said) == TRUE[rule](text)
            n = len(text)
            assert source[n] == said[n] == sequences.EOS
            assert seen[0] == sequences.BOS
            assert np.array_equal(seen[1 : n + 1], said[:n])
            assert not source[n + 1 :].any()
            assert not seen[n + 1 :].any()
            assert not said[n + 1 :].any()


def test_several_rules_come_in_turn_each_with_its_symbol(mixed):
    for part in mixed.values():
        for i, (source, said) in enumerate(zip(part.source[:300], part.target_out, strict=False)):
            rule, text = sequences.spell(source)[1:].split(">")
            assert rule == list(TRUE)[i % 3]
            assert sequences.spell(said) == TRUE[rule](text)


def test_no_string_is_twice_and_none_in_two_sets(mixed):
    texts = [sequences.spell(row).split(">")[1] for part in mixed.values() for row in part.source]
    assert len(set(texts)) == len(texts) == sum(sequences.SIZES.values())


def test_every_length_and_letter_occurs_in_every_set(mixed):
    for part in mixed.values():
        lengths = np.bincount([len(sequences.spell(row)) for row in part.target_out], minlength=13)
        assert np.all(lengths[3:] > 0.7 * len(part) / 12)
        assert set("".join(sequences.spell(row) for row in part.target_out)) == set(sequences.LETTERS)


def test_the_same_seed_makes_the_same_language_and_another_another(mixed):
    again = sequences.load("copy", "reverse", "sort")
    assert all(np.array_equal(mixed[name].source, again[name].source) for name in mixed)
    other = sequences.load("copy", "reverse", "sort", seed=1)
    assert not np.array_equal(mixed["train"].source, other["train"].source)


def test_an_unknown_rule_is_refused():
    for rules in (("copy", "shuffle"), ()):
        with pytest.raises(RequestError, match="there are copy, reverse, sort"):
            sequences.load(*rules)


# --- sums


def test_every_sum_is_true_none_is_twice_and_none_in_two_sets():
    parts = sums.load()
    assert {name: len(part) for name, part in parts.items()} == sums.SIZES
    sentences = [sums.spell(row) for part in parts.values() for row in part]
    assert len(set(sentences)) == len(sentences)
    for sentence in sentences:
        a, b, c = sentence.replace("=", "+").split("+")
        assert (len(a), len(b), len(c)) == (2, 2, 3)
        assert int(a) + int(b) == int(c)
    rows = parts["train"]
    assert rows.shape[1] == sums.LENGTH
    assert np.all(rows[:, 0] == sums.CLS)
    assert np.all(rows[:, -1] == sums.SEP)


def test_holes_are_a_sixth_of_the_tokens_and_shown_as_mask_random_or_themselves():
    rows = sums.load()["train"]
    shown, asked = sums.hide(rows, np.random.default_rng(3))
    assert np.array_equal(shown[~asked], rows[~asked])
    assert not asked[rows <= sums.MASK].any()
    assert asked.any(axis=1).all()
    words = rows > sums.MASK
    none = 0.85 ** words[0].sum()  # where chance asks for nothing in a sentence, one token is asked for
    assert abs(asked[words].mean() - 0.15 - none / words[0].sum()) < 0.003
    hidden = shown[asked]
    assert abs((hidden == sums.MASK).mean() - 0.8) < 0.015
    kept = (hidden == rows[asked]).mean()
    assert abs(kept - (0.1 + 0.1 / 12)) < 0.015
    random = hidden[(hidden != sums.MASK) & (hidden != rows[asked])]
    assert set(random) == set(range(sums.MASK + 1, len(sums.VOCABULARY)))
    assert asked[:, 1].std() > 0.3  # every place has its turn
    assert np.all(abs(asked[:, 1:-1].mean(axis=0) - asked[words].mean()) < 0.02)


def test_holes_are_drawn_anew_from_another_seed_and_the_share_is_as_told():
    rows = sums.load()["test"]
    first, again, other = (sums.hide(rows, np.random.default_rng(s))[1] for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert abs(sums.hide(rows, np.random.default_rng(1), share=0.5)[1][:, 1:-1].mean() - 0.5) < 0.02
