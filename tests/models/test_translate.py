"""Greedy and beam decoding against reading everything again, and against all sentences there are."""

import itertools

import numpy as np
import pytest

from minires import backend, models
from minires import functional as F
from minires.errors import RequestError
from minires.models.transformer import PAD
from minires.models.translate import BOS, EOS, Drafts, beam, greedy
from minires.switches import no_grad
from tests.devices import library as library  # the fixture

V, LIMIT = 6, 4  # PAD, BOS, EOS and three words


def model_of(seed, dtype=np.float64, **options):
    """A model with weights large enough for it to have opinions."""
    backend.manual_seed(seed)
    rng = np.random.default_rng(seed)
    sizes = {"width": 8, "heads": 2, "feedforward": 12, "encoder_layers": 1, "decoder_layers": 2}
    model = models.create("transformer_tiny", vocab_size=V, context=8, **{**sizes, **options}).to(dtype)
    with no_grad():
        for p in model.parameters():
            p.copy_(p.data + 0.5 * rng.standard_normal(p.shape))
    return model


def sources(seed, n=3):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, V, (n, 5))
    tokens[0, 2:] = PAD
    return tokens


def log_probabilities(model, source, target):
    """(N, T, V), by reading source and target as a whole."""
    with no_grad():
        logits = model(source, target).data.copy()
    logits[..., [PAD, BOS]] = -np.inf
    return F.log_softmax(logits, dim=-1).data


def every_sentence(model, source):
    """[(tokens, log-probability)] of every translation of one source that ends within the limit."""
    found = []
    for length in range(LIMIT):
        for words in itertools.product(range(3, V), repeat=length):
            target = np.array([[BOS, *words]])
            given = log_probabilities(model, source, target)[0]
            said = [*words, EOS]
            found.append((said, sum(given[t, token] for t, token in enumerate(said))))
    return found


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_reading_token_by_token_is_reading_the_whole(norm):
    model, source = model_of(1, norm=norm), sources(2)
    target = np.random.default_rng(3).integers(3, V, (3, 7))
    whole = log_probabilities(model.eval(), source, target)
    with no_grad():
        drafts = Drafts(model, source, 7)
        for t in range(7):
            given = drafts.read(target[:, t])
            assert np.allclose(given[:, 2:], whole[:, t, 2:], rtol=1e-12, atol=1e-12)
        assert np.all(np.isneginf(given[:, :2]))


def test_drafts_go_on_from_the_rows_that_are_kept():
    model, source = model_of(4).eval(), sources(5)
    target = np.random.default_rng(6).integers(3, V, (3, 3))
    rows = np.array([2, 0, 0, 1])
    with no_grad():
        drafts = Drafts(model, source, 3)
        drafts.read(target[:, 0])
        drafts.keep(rows)
        drafts.read(target[rows, 1])
        drafts.keep(rows[:3])
        given = drafts.read(target[rows[rows[:3]], 2])
    whole = log_probabilities(model, source[rows[rows[:3]]], target[rows[rows[:3]]])
    assert np.allclose(given[:, 2:], whole[:, 2, 2:], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_greedy_takes_the_likeliest_token_at_each_step_and_stops_at_the_end(seed):
    model, source = model_of(seed), sources(seed + 50, n=6)
    said = greedy(model, source, LIMIT)
    lengths = []
    for i, row in enumerate(source):
        text = [BOS]
        while len(text) <= LIMIT and text[-1] != EOS:
            text.append(int(log_probabilities(model, row[None], np.array([text]))[0, -1].argmax()))
        lengths.append(len(text) - 1)
        expected = np.array(text[1:] + [PAD] * (said.shape[1] - len(text) + 1))
        assert np.array_equal(said[i], expected)
    assert said.shape[1] == max(lengths)


def test_greedy_leaves_the_model_in_its_mode_and_without_gradients():
    model = model_of(7, dropout=0.5)
    first = greedy(model, sources(8), LIMIT)
    assert model.training
    assert np.array_equal(greedy(model, sources(8), LIMIT), first)
    greedy(model.eval(), sources(8), LIMIT)
    assert not model.training


@pytest.mark.parametrize(
    ("seed", "penalty"),
    [*((seed, penalty) for seed in range(3) for penalty in (0.0, 0.6, 2.0)), (11, 5.0)],  # 11: a late one wins
)
def test_a_beam_as_wide_as_all_drafts_finds_the_best_of_all_sentences(seed, penalty):
    model, source = model_of(seed), sources(seed + 20)
    tokens, scores = beam(model, source, LIMIT, width=4**LIMIT, penalty=penalty)
    for i, row in enumerate(source):
        judged = [(p / ((5 + len(said)) / 6) ** penalty, said) for said, p in every_sentence(model, row[None])]
        best, said = max(judged)
        assert np.isclose(scores[i], best, rtol=1e-12)
        assert tokens[i].tolist() == said + [PAD] * (tokens.shape[1] - len(said))


@pytest.mark.parametrize("seed", range(5))
def test_one_draft_is_no_worse_than_greedy_and_no_beam_better_than_the_best(seed):
    """One draft goes greedily, but keeps every ending that it passes: it may find an earlier, better one."""
    model, source = model_of(seed), sources(seed + 70)
    narrow = beam(model, source, LIMIT, width=1, penalty=0.0)[1]
    for row, said, score in zip(source, greedy(model, source, LIMIT).tolist(), narrow, strict=True):
        judged = {tuple(words): p for words, p in every_sentence(model, row[None])}
        if EOS in said:
            assert score >= judged[tuple(said[: said.index(EOS) + 1])] - 1e-12
        for width in (1, 2, 5):
            assert beam(model, row[None], LIMIT, width, 0.0)[1][0] <= max(judged.values()) + 1e-12


def test_a_row_of_a_batch_is_translated_as_if_it_were_alone():
    model, source = model_of(9), sources(10, n=5)
    tokens, scores = beam(model, source, LIMIT, width=3)
    for i in range(5):
        alone, score = beam(model, source[i : i + 1], LIMIT, width=3)
        assert np.isclose(score[0], scores[i], rtol=1e-12)
        assert np.array_equal(alone[0], tokens[i, : alone.shape[1]])
        assert not tokens[i, alone.shape[1] :].any()


def test_a_larger_penalty_prefers_longer_sentences():
    lengths = {}
    for penalty in (0.0, 3.0):
        said = [beam(model_of(seed), sources(seed), 8, 4, penalty)[0] for seed in range(6)]
        lengths[penalty] = sum(int((tokens != PAD).sum()) for tokens in said)
    assert lengths[3.0] > lengths[0.0]


def test_nothing_is_read_after_every_sentence_has_ended():
    model, source = model_of(11), sources(12)
    calls = []

    def ends_at_the_third(y):
        calls.append(y)
        return F.linear(y, model.embedding.weight) + 1e9 * (len(calls) == 3) * (np.arange(V) == EOS)

    model.logits = ends_at_the_third
    said = greedy(model, source, 8)
    assert len(calls) == said.shape[1] <= 3
    calls.clear()
    beam(model, source, 8, width=1, penalty=0.0)
    assert len(calls) <= 4


def test_what_never_ends_is_cut_at_the_limit():
    model, source = model_of(11), sources(12)
    model.logits = lambda y: F.linear(y, model.embedding.weight) - 1e9 * (np.arange(V) == EOS)
    said = greedy(model, source, LIMIT)
    assert said.shape == (3, LIMIT)
    assert np.all(said > EOS)
    tokens, scores = beam(model, source, LIMIT, width=2)
    assert tokens.shape == (3, LIMIT)
    assert np.all(tokens[:, :-1] > EOS)
    assert np.all(np.isfinite(scores))


def test_a_device_writes_the_same(library):
    source = sources(14, n=4)
    said = greedy(model_of(13), source, LIMIT)
    tokens, scores = beam(model_of(13), source, LIMIT, width=3)
    model = model_of(13).to(library.device)
    there = library.asarray(source)
    assert np.array_equal(library.to_host(greedy(model, there, LIMIT)), said)
    again, their_scores = beam(model, there, LIMIT, width=3)
    assert np.array_equal(again, tokens)
    assert np.allclose(their_scores, scores, rtol=1e-12)


def test_what_cannot_be_is_told():
    model, source = model_of(15), sources(16)
    for limit in (0, 9):
        with pytest.raises(RequestError, match=f"limit is {limit}, but must be from 1 to the model's context, 8"):
            greedy(model, source, limit)
    for write in (greedy, beam):
        with pytest.raises(RequestError, match="nothing to translate"):
            write(model, source[:0], LIMIT)
    for width, penalty in ((0, 0.6), (2, -1.0)):
        with pytest.raises(RequestError, match="must be at least 1 and 0"):
            beam(model, source, LIMIT, width, penalty)
