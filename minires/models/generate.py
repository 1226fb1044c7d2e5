"""Text from a language model, one token after the other: `generate(model, prompt, count, ...)` is a stream of tokens.

A language model here is a Module with `context`, the longest text that it can look at, and with `model(tokens (N, T))`
= logits (N, T, vocab_size). One whose `new_cache()` gives a cache for `model(tokens, cache)`, as GPT's does, reads each
token once.

Every token is drawn from the model's distribution given the last `context` tokens. Once there are more than that, the
window slides: each token's position in it changes with every step, so nothing remembered holds, and the whole window
is read again for each new token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minires import backend
from minires.errors import RequestError
from minires.nn import Module, evaluating


def generate(
    model: Module,
    prompt: Sequence[int] | np.ndarray,
    count: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    greedy: bool = False,
    generator: np.random.Generator | None = None,
    cache: bool = True,
) -> Iterator[int]:
    """The `count` tokens that follow `prompt`, as they come; the model is in evaluation mode for each of them.

    temperature, top_k, top_p    as `distribution` takes them
    greedy                       always the likeliest token, the lowest of equals; the other three then say nothing
    generator                    what tokens are drawn with, one number each; None for one seeded with 0
    cache                        whether to remember what was read, where the model can. It only saves time

    Raises RequestError, at once, for an empty prompt and for values that cannot be.
    """
    if len(prompt) == 0:
        raise RequestError("there is nothing to go on from: give a prompt of at least one token")
    if count < 0:
        raise RequestError(f"{count} tokens cannot be made; give 0 or more")
    check(temperature, top_k, top_p)
    drawn = np.random.default_rng(0) if generator is None else generator

    def stream() -> Iterator[int]:
        reader = Reader(model, cache)
        text = [int(token) for token in prompt]
        for _ in range(count):
            logits = reader.read(text)  # (vocab_size,)
            token = int(logits.argmax()) if greedy else draw(distribution(logits, temperature, top_k, top_p), drawn)
            text.append(token)
            yield token

    return stream()


class Reader:
    """What comes after a text that grows, from a model with or without a cache."""

    def __init__(self, model: Any, cache: bool = True) -> None:
        self.model = model
        self.library = backend.find([next(model.parameters()).data])
        self.cache = model.new_cache() if cache and hasattr(model, "new_cache") else None
        self.known = 0  # tokens in the cache

    def read(self, text: Sequence[int]) -> np.ndarray:
        """The logits (vocab_size,), float64, of the token after `text`, which goes on from the text of the last call.

        Raises RequestError for tokens outside the vocabulary.
        """
        window = text[-self.model.context :]
        with evaluating(self.model):
            if self.cache is not None and len(text) <= self.model.context:
                y = self.model(self.tokens(text[self.known :]), self.cache)
                self.known = len(text)
            else:
                y = self.model(self.tokens(window))
        return self.library.to_host(y.data[0, -1]).astype(np.float64)

    def tokens(self, window: Sequence[int]) -> Any:
        return self.library.asarray(np.array([window], np.int64))  # (1, T)


def distribution(
    logits: np.ndarray, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> np.ndarray:
    """The probabilities (vocab_size,) that a token is drawn by: softmax(logits / temperature), cut short.

    temperature    below 1 makes likely tokens likelier, above 1 evens all out
    top_k          only the k likeliest may come
    top_p          only the likeliest, as few as together reach this probability (after top_k); never fewer than one

    Of equally likely tokens the lower comes first. What is left is scaled to 1.
    Source    top_k: Fan et al. 2018, Hierarchical Neural Story Generation, section 5.4; top_p: Holtzman et al. 2020,
              The Curious Case of Neural Text Degeneration, section 3.1 (nucleus sampling)
    """
    check(temperature, top_k, top_p)
    scaled = (logits - logits.max()) / temperature
    order = np.argsort(-scaled, kind="stable")  # the likeliest first
    p = np.exp(scaled[order])
    if top_k is not None:
        p[top_k:] = 0
    p /= p.sum()
    if top_p is not None:
        before = np.concatenate([[0.0], np.cumsum(p)[:-1]])  # what the likelier ones reach together
        p[before >= top_p] = 0
        p /= p.sum()
    probabilities = np.empty_like(p)
    probabilities[order] = p
    return probabilities


def draw(probabilities: np.ndarray, generator: np.random.Generator) -> int:
    """One token: the first whose cumulated probability passes a uniform number in [0, 1)."""
    reached = np.cumsum(probabilities)
    return int(np.searchsorted(reached, generator.random() * reached[-1], side="right"))


def check(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raises RequestError for a temperature, top_k or top_p that cannot be."""
    if not 0 < temperature < float("inf"):
        raise RequestError(
            f"temperature is {temperature}, but must be above 0; for the likeliest token, ask for greedy"
        )
    if top_k is not None and top_k < 1:
        raise RequestError(f"top_k is {top_k}, but at least 1 token must be left to draw")
    if top_p is not None and not 0 < top_p <= 1:
        raise RequestError(f"top_p is {top_p}, but must be above 0 and at most 1")
