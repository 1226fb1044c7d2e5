"""Sampling: which tokens may come, with which chance, from which window of the text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minires as mr
from minires import backend, models, nn
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models.generate import Reader, distribution, draw, generate
from minires.switches import is_grad_enabled
from tests.models.small.gpt import SIZES

rng = np.random.default_rng(41)

scores = st.lists(st.integers(-6, 6), min_size=1, max_size=9).map(lambda xs: np.array(xs, float) / 2)


def small(context=6, dtype=np.float64, **options):
    mr.manual_seed(8)
    model = models.create("gpt2", **{**SIZES, "context": context, **options}).to(dtype)
    for p in model.parameters():  # far from the start, where all tokens are equally likely
        nn.init.normal_(p, 0.0, 0.5)
    return model


# --- the distribution


@given(scores, st.floats(0.2, 5.0))
def test_without_cuts_it_is_softmax(logits, temperature):
    p = np.exp(logits / temperature)
    assert np.allclose(distribution(logits, temperature), p / p.sum(), rtol=1e-12, atol=0)


@given(scores, st.integers(1, 10), st.floats(0.2, 5.0))
def test_top_k_keeps_the_k_likeliest_and_their_proportions(logits, k, temperature):
    p, whole = distribution(logits, temperature, top_k=k), distribution(logits, temperature)
    kept = np.flatnonzero(p)
    assert len(kept) == min(k, len(logits))
    assert logits[kept].min() >= np.delete(logits, kept).max(initial=-np.inf)
    assert np.allclose(p[kept], whole[kept] / whole[kept].sum(), rtol=1e-12, atol=0)


@given(scores, st.floats(0.01, 1.0))
def test_top_p_keeps_as_few_as_reach_it(logits, share):
    p, whole = distribution(logits, top_p=share), distribution(logits)
    kept = np.flatnonzero(p)
    assert len(kept) >= 1
    assert whole[kept].sum() >= share - 1e-12
    assert whole[kept].sum() - whole[kept].min() < share + 1e-12
    assert np.allclose(p[kept], whole[kept] / whole[kept].sum(), rtol=1e-12, atol=0)


@given(scores, st.integers(1, 9), st.floats(0.05, 1.0))
def test_top_p_counts_in_what_top_k_left(logits, k, share):
    first = distribution(logits, top_k=k)
    with np.errstate(divide="ignore"):
        assert np.allclose(distribution(logits, 1.0, k, share), distribution(np.log(first), top_p=share), atol=1e-12)


def test_of_equals_the_lower_comes_first():
    assert np.flatnonzero(distribution(np.array([0.0, 1.0, 1.0, 1.0]), top_k=2)).tolist() == [1, 2]
    assert np.flatnonzero(distribution(np.tile([1.0, 2.0], 200), top_k=3)).tolist() == [1, 3, 5]


def test_logits_of_any_size_give_numbers():
    p = distribution(np.array([1e300, -1e300, 0.0]), 1e-3)
    assert p.tolist() == [1.0, 0.0, 0.0]


def test_tokens_come_as_often_as_they_should():
    p = np.array([0.0, 0.5, 0.2, 0.0, 0.3, 0.0])
    generator, n = np.random.default_rng(2), 20_000
    counts = np.bincount([draw(p, generator) for _ in range(n)], minlength=6)
    assert np.all(counts[p == 0] == 0)
    assert np.all(np.abs(counts - n * p) <= 5 * np.sqrt(n * p * (1 - p)))


class Always:
    """A generator whose every number is this one."""

    def __init__(self, number):
        self.number = number

    def random(self):
        return self.number


@settings(max_examples=30)
@given(scores, st.integers(1, 4))
def test_no_uniform_number_draws_a_token_that_may_not_come(logits, k):
    p = distribution(logits, top_k=k)
    for number in (0.0, np.nextafter(1.0, 0.0)):
        assert p[draw(p, Always(number))] > 0


# --- the stream


@pytest.mark.parametrize("options", [{"greedy": True}, {"temperature": 1.3}, {"top_k": 3}, {"top_p": 0.7}])
def test_a_cache_changes_no_token_also_beyond_the_context(options):
    model = small()
    a, b = (
        list(generate(model, [1, 4], 25, generator=np.random.default_rng(5), cache=cache, **options))
        for cache in (True, False)
    )
    assert a == b
    assert len(a) == 25


def test_every_token_is_drawn_given_the_window_before_it():
    model, generator = small(), np.random.default_rng(5)
    text = [1, 4]
    for token in generate(model, text, 12, temperature=0.9, generator=np.random.default_rng(5)):
        with mr.no_grad():
            logits = model(np.array([text[-6:]])).data[0, -1]
        assert token == draw(distribution(logits, 0.9), generator)
        text.append(token)


def test_greedy_takes_the_likeliest_and_draws_nothing():
    generator = np.random.default_rng(5)
    model, text = small(), [3]
    for token in generate(model, text, 9, greedy=True, temperature=9.0, top_k=1, generator=generator):
        with mr.no_grad():
            assert token == model(np.array([text[-6:]])).data[0, -1].argmax()
        text.append(token)
    assert generator.random() == np.random.default_rng(5).random()


def test_the_seed_decides():
    model = small()

    def text(seed):
        return list(generate(model, [1], 30, generator=np.random.default_rng(seed)))

    assert text(1) == text(1)
    assert text(1) != text(2)
    assert list(generate(model, [1], 30)) == text(0)


class Counting(nn.Module):
    """Says that the token after t is t + 1; notes what it was shown. It knows nothing of caches."""

    context = 4

    def __init__(self):
        self.weight = nn.Parameter(np.zeros(1))
        self.shown = []

    def forward(self, tokens):
        self.shown.append(tokens[0].tolist())
        return Tensor(np.eye(10)[(tokens + 1) % 10])


def test_any_model_with_a_context_writes_and_its_window_slides():
    model = Counting()
    assert list(generate(model, [0, 1], 5, greedy=True)) == [2, 3, 4, 5, 6]
    assert model.shown == [[0, 1], [0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]]


@pytest.mark.parametrize("name", ["attnres_gpt", "hyper_gpt"])
def test_a_gpt_that_has_no_cache_writes_as_well(name):
    model = models.create(name, **SIZES)
    text = list(generate(model, [1, 2], 9, greedy=True))
    with mr.no_grad():
        assert text[3] == model(np.array([[1, 2, *text[:3]]])).data[0, -1].argmax()
    assert len(text) == 9


def test_a_prompt_longer_than_the_context_is_read_from_its_end():
    model = Counting()
    assert list(generate(model, [9, 9, 1, 2, 3, 4], 1, greedy=True)) == [5]
    assert model.shown == [[1, 2, 3, 4]]
    gpt = small()
    long = rng.integers(0, 7, 10).tolist()
    assert list(generate(gpt, long, 8)) == list(generate(gpt, long[-6:], 8, cache=False))


def test_with_a_cache_each_token_is_read_once():
    model = small(context=9)
    reader, read, forward = Reader(model), [], model.forward
    model.forward = lambda tokens, cache: read.append(tokens.shape[1]) or forward(tokens, cache)
    text = [1, 2, 3]
    for token in (4, 5, 6):
        reader.read(text)
        text.append(token)
    assert read == [3, 1, 1]


def test_between_two_tokens_the_caller_has_gradients_and_the_model_its_mode():
    model = small(dropout=0.5)
    for _ in generate(model, [1], 3):
        assert is_grad_enabled()
        assert model.training
    assert list(generate(model, [1], 9)) == list(generate(model.eval(), [1], 9))  # and no dropout meanwhile
    assert not model.training


# --- what is refused


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"prompt": []}, "a prompt of at least one token"),
        ({"count": -1}, "-1 tokens cannot be made"),
        ({"temperature": 0.0}, "temperature is 0.0, .* ask for greedy"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
    ],
)
def test_values_that_cannot_be_are_refused_at_once(given, why):
    with pytest.raises(RequestError, match=why):
        generate(small(), **{"prompt": [1], "count": 3, **given})


def test_a_prompt_outside_the_vocabulary_is_refused():
    with pytest.raises(RequestError, match="token 7 is outside the vocabulary"):
        next(generate(small(), [7], 1))


def test_text_on_a_device_is_numpys(library):
    def text(lib):
        return list(generate(small().to(lib.device), [1, 2], 12, generator=np.random.default_rng(3)))

    assert text(library) == text(backend.NUMPY)
