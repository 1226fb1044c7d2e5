"""Guessing hidden tokens of true sums, such as the 5 in 47+08=05_: what BERT is trained by, on a language of digits.

The holes are new in every epoch; those of validation and test are made once. Only the hidden tokens are judged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from minires import backend, models
from minires.data import sums
from minires.data.arrays import ArrayLoader, Batch
from minires.errors import RequestError
from minires.nn import Module
from minires.train.task import Loader, answer
from minires.train.token_task import IGNORED, TokenTask, write_examples

SHOWN = 24  # sentences in the file of examples
EXAMPLES = "guesses.txt"


class Masked(TokenTask):
    """Batches of (what the model sees, the hidden tokens and IGNORED elsewhere), each (N, T)."""

    names = ("masked",)
    words: ClassVar[dict[str, str]] = {"acc": "hidden tokens guessed"}
    best_label = "share of hidden tokens guessed"
    loss_label = "cross-entropy, per hidden token"

    def usual(self, name: str) -> dict[str, Any]:
        return USUAL

    def loaders(self, config: Any) -> tuple[Loader, Loader, Loader]:
        sentences = sums.load()
        batches = self.training_batches((sentences["train"],), config, _hidden)
        once = np.random.default_rng(sums.SEED)
        validation, test = (_hidden((sentences[part],), once) for part in ("validation", "test"))
        return batches, ArrayLoader(validation, 250), ArrayLoader(test, 250)

    def model(self, config: Any) -> Module:
        if "head" not in models.info(config.model).options:
            raise RequestError(f"{config.model} does not guess hidden tokens, so it cannot learn masked; try bert_tiny")
        needed = {"vocab_size": len(sums.VOCABULARY), "context": sums.LENGTH}
        given = {**needed, "head": "masked", **config.model_options}
        with backend.device(config.device):
            model = models.create(config.model, **given).to(config.device)  # which refuses sizes that are no numbers
        if given["head"] != "masked" or any(given[name] < least for name, least in needed.items()):
            least = " and a ".join(f"{name} of {size}" for name, size in needed.items())
            raise RequestError(f"--option: masked needs head=masked, a {least}")
        return model

    def finish(self, model: Module, config: Any, run: Path) -> list[tuple[str, str]]:
        sentences = sums.load()["test"][:SHOWN]
        shown, hidden = _hidden((sentences,), np.random.default_rng(sums.SEED))
        guessed = backend.to_host(answer(model, shown).data).argmax(-1)
        filled = np.where(hidden == IGNORED, shown, guessed)
        rows = zip(*(map(sums.spell, tokens) for tokens in (shown, filled, sentences)), strict=True)
        write_examples(run / EXAMPLES, ("what it saw", "what it guessed"), rows)
        return [(EXAMPLES, f"{SHOWN} test sentences with holes, and how the model filled them")]


def _hidden(batch: Batch, rng: np.random.Generator) -> Batch:
    """(what the model sees, labels) of sentences."""
    (sentences,) = batch
    shown, asked = sums.hide(sentences, rng)
    return shown, np.where(asked, sentences, IGNORED)


USUAL: dict[str, Any] = {
    "model": "bert_tiny",
    "epochs": 30,
    "batch_size": 128,
    "optimizer": "adamw",
    "lr": 3e-3,
    "weight_decay": 0.01,
    "clip_norm": 1.0,
}

TASK = Masked()
