"""Language modelling: Tiny Shakespeare, from which a GPT learns what comes next.

A training batch is `batch_size` windows that begin anywhere in the training text, and an "epoch" is a stretch of
`steps` batches, after which the model is validated. Validation and test text are read whole, in windows that follow
each other without overlap, so that every token but the first is predicted exactly once.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from minires import backend, models
from minires.backend import Array
from minires.data import text
from minires.data.arrays import ArrayLoader
from minires.data.datasets import require_whole
from minires.data.fetch import data_dir
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models.generate import generate
from minires.nn import Module
from minires.train.task import Loader, answer
from minires.train.token_task import IGNORED, TokenTask

TOKENIZER = "tokenizer.json"  # in the run's directory, so that `minires generate` needs no data set
SAMPLE = "sample.txt"
JUDGED_AT_ONCE = 64  # windows


@dataclass(frozen=True)
class Corpus:
    """A text in three stretches, as tokens (n,), and what made them."""

    tokenizer: text.Tokenizer
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


class Language(TokenTask):
    """Tokens (N, T) and those that follow them (N, T), with the cross-entropy in nats a token.

    On validation and test text also `bits` a character, and, where a token is not a character, `char_loss`, the nats a
    character: figures that are the same scale for every tokenizer.

    Options    tokenizer   char, or bpe:N for N byte-pair tokens, learned from the training text
               steps       batches between two validations
    """

    names = ("shakespeare",)
    options: ClassVar[dict[str, Any]] = {"tokenizer": "char", "steps": 200}
    judged = ("correct", "nats", "characters")
    best = "loss"
    higher_is_better = False
    words: ClassVar[dict[str, str]] = {
        "acc": "token accuracy",
        "bits": "bits a character",
        "char_loss": "nats a character",
    }
    loss_label = "cross-entropy, nats per token"
    best_label = "share of tokens foretold"

    def usual(self, name: str) -> dict[str, Any]:
        return USUAL

    def model(self, config: Any) -> Module:
        tokenizer = self.corpus(config).tokenizer
        return build_model(config.model, config.model_options, tokenizer, config.device)

    def loaders(self, config: Any) -> tuple[Loader, Loader, Loader]:
        read = self.corpus(config)
        context = {**models.info(config.model).options, **config.model_options}["context"]
        steps = require_whole("--data-option steps", self.option(config, "steps"), low=1)
        for name, part in (("training", read.train), ("validation", read.validation), ("test", read.test)):
            if len(part) <= context:
                raise RequestError(
                    f"{config.data}: the {name} text has {len(part)} tokens, too few for a context of {context}; "
                    "use a smaller one, as in --option context=128"
                )
        train = ArrayLoader(
            (np.zeros(steps * config.batch_size, np.int64),),
            config.batch_size,
            transform=lambda slots, drawn: cut(read.train, len(slots[0]), context, drawn),
            generator=backend.generator(),
        )
        lengths = read.tokenizer.lengths()
        validation, test = (
            ArrayLoader(windows(part, context, lengths), JUDGED_AT_ONCE) for part in (read.validation, read.test)
        )
        return train, validation, test

    def judge(self, model: Module, *batch: Array) -> tuple[Tensor, list[Array]]:
        tokens, targets, lengths = batch
        loss, (correct,) = self.loss(model, tokens, targets)
        return loss, [correct, loss.data * (targets != IGNORED).sum(), lengths.sum()]

    def size(self, *batch: np.ndarray) -> int:
        return super().size(*batch[:2])  # judged batches hold lengths besides

    def metrics(self, counts: dict[str, float], size: int) -> dict[str, float]:
        found = {"acc": counts["correct"] / max(size, 1)}
        characters = counts.get("characters")
        if characters:
            if characters != size:
                found["char_loss"] = counts["nats"] / characters
            found["bits"] = counts["nats"] / characters / math.log(2)
        return found

    def prepare(self, config: Any, run: Path) -> None:
        text.save_tokenizer(run / TOKENIZER, self.corpus(config).tokenizer)

    def finish(self, model: Module, config: Any, run: Path) -> list[tuple[str, str]]:
        tokenizer = self.corpus(config).tokenizer
        tokens = generate(model, tokenizer.encode("\n"), 600, generator=np.random.default_rng(config.seed))
        (run / SAMPLE).write_text(tokenizer.decode(tokens), encoding="utf-8")
        return [(SAMPLE, "600 tokens that it wrote"), (TOKENIZER, "its vocabulary")]

    def next_commands(self, config: Any, run: Path) -> list[str]:
        return [*super().next_commands(config, run), f"minires generate {run} --prompt ROMEO:"]

    def corpus(self, config: Any) -> Corpus:
        """Tiny Shakespeare in the tokens that the data's options name.

        Raises RequestError when the text cannot be had or the tokenizer is unknown.
        """
        return _corpus(str(self.option(config, "tokenizer")), data_dir())


# --- the text


@functools.lru_cache(maxsize=2)
def _corpus(kind: str, root: Path) -> Corpus:
    """Read once, since byte pairs take seconds to learn."""
    splits = text.load_shakespeare(root)
    made = text.tokenizer(kind, splits.train, "".join(splits))
    return Corpus(made, *(made.encode(part) for part in splits))


def cut(tokens: np.ndarray, count: int, context: int, drawn: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """`count` windows from anywhere in a text: tokens (count, context) and, one place on, their targets."""
    starts = drawn.integers(0, len(tokens) - context, count)
    taken = tokens[starts[:, None] + np.arange(context + 1)]  # (count, context + 1)
    return np.ascontiguousarray(taken[:, :-1]), np.ascontiguousarray(taken[:, 1:])


def windows(tokens: np.ndarray, context: int, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A whole text, (k, context) three times: its tokens, those that follow, and how many characters these write.

    lengths    (vocab_size,), the characters of each token

    The rest of the last window has tokens 0, targets IGNORED and no characters.
    """
    rows = -(-(len(tokens) - 1) // context)

    def rows_of(values: np.ndarray, fill: int) -> np.ndarray:
        padded = np.full(rows * context, fill, np.int64)
        padded[: len(values)] = values
        return padded.reshape(rows, context)

    return rows_of(tokens[:-1], 0), rows_of(tokens[1:], IGNORED), rows_of(lengths[tokens[1:]], 0)


# --- the model


def build_model(name: str, options: dict[str, Any], tokenizer: text.Tokenizer, device: str) -> Module:
    """A language model with the tokenizer's vocabulary, on a device.

    Raises RequestError for a model of another kind, one that looks ahead among them, and for options that contradict
    the tokenizer.
    """
    takes = models.info(name).options
    if "vocab_size" not in takes or "context" not in takes:
        raise RequestError(f"{name} does not write text: it has no vocabulary and context; try gpt_char")
    size = tokenizer.vocab_size
    if options.get("vocab_size", size) != size:
        raise RequestError(
            f"--option vocab_size={options['vocab_size']}, but the tokenizer has {size} tokens; drop the option, or "
            "choose another tokenizer, as in --data-option tokenizer=bpe:512"
        )
    with backend.device(device):
        model = models.create(name, **{**options, "vocab_size": size}).to(device)
    _require_no_looking_ahead(name, model, size, {**takes, **options}["context"])
    return model


def _require_no_looking_ahead(name: str, model: Module, size: int, context: int) -> None:
    """Raises RequestError for a model whose scores at a token change with a later one: it would copy, not foretell."""
    texts = np.array([[0, 0], [0, size - 1]])[:, -context:]  # alike but for the last token
    try:
        said = answer(model, texts)
    except (ValueError, TypeError) as error:
        raise RequestError(f"{name} does not write text ({error}); try gpt_char") from None
    if not isinstance(said, Tensor) or said.shape != (*texts.shape, size):
        raise RequestError(f"{name} does not write text: it does not score each token that may follow; try gpt_char")
    scores = backend.to_host(said.data)  # (2, T, V)
    if not np.allclose(scores[0, :-1], scores[1, :-1], rtol=1e-4, atol=1e-5):
        raise RequestError(f"{name} sees the tokens that it should foretell, so it would learn to copy; try gpt_char")


# One cycle to a rate that is high for a transformer, since it is small and the run short; clipping keeps the first
# steps at that rate from going astray. Weight decay acts on matrices only.
USUAL: dict[str, Any] = {
    "model": "gpt_char",
    "epochs": 10,
    "batch_size": 16,
    "lr": 4e-3,
    "optimizer": "adamw",
    "weight_decay": 0.1,
    "pct_start": 0.1,
    "clip_norm": 1.0,
}

TASK = Language()
