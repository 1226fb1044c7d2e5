"""Guessing hidden tokens of true sums, such as the 5 in 47+08=05_: what BERT is trained by, on a language of digits.

The holes are new in every epoch; those of validation and test are made once. Only the hidden tokens are judged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minires import backend, models
from minires import functional as F
from minires.backend import Array
from minires.data import sums
from minires.data.arrays import ArrayLoader, Batch
from minires.engine import Tensor
from minires.errors import RequestError
from minires.nn import Module
from minires.switches import no_grad
from minires.train.task import Loader, Task

SHOWN = 24  # sentences in the file of examples
EXAMPLES = "guesses.txt"
IGNORED = -100  # the label of a token that nobody asks for: F.cross_entropy leaves it out


class Masked(Task):
    """Batches of (what the model sees, the hidden tokens and IGNORED elsewhere), each (N, T)."""

    names = ("masked",)
    unit = "tokens"
    best_label = "hidden tokens guessed"
    loss_label = "cross-entropy per hidden token"
    decay_all = False

    def usual(self, name: str) -> dict[str, Any]:
        return USUAL

    def loaders(self, config: Any) -> tuple[Loader, Loader, Loader]:
        sentences = sums.load()
        batches = ArrayLoader(
            (sentences["train"],),
            config.batch_size,
            shuffle=True,
            drop_last=True,
            transform=_hidden,
            generator=backend.generator(),
        )
        once = np.random.default_rng(sums.SEED)
        validation, test = (_hidden((sentences[part],), once) for part in ("validation", "test"))
        return batches, ArrayLoader(validation, 250), ArrayLoader(test, 250)

    def model(self, config: Any) -> Module:
        if "head" not in models.info(config.model).options:
            raise RequestError(f"{config.model} does not guess hidden tokens, so it cannot learn masked; try bert_tiny")
        needed = {"vocab_size": len(sums.VOCABULARY), "context": sums.LENGTH}
        given = {**needed, "head": "masked", **config.model_options}
        if given["head"] != "masked" or any(given[name] < least for name, least in needed.items()):
            least = " and a ".join(f"{name} of {size}" for name, size in needed.items())
            raise RequestError(f"--option: masked needs head=masked, a {least}")
        return models.create(config.model, **given).to(config.device)

    def loss(self, model: Module, *batch: Array, smoothing: float = 0.0) -> tuple[Tensor, list[Array]]:
        shown, hidden = batch
        logits = model(shown)  # (N, T, V)
        loss = F.cross_entropy(
            F.reshape(logits, (-1, logits.shape[-1])),
            hidden.reshape(-1),
            ignore_index=IGNORED,
            label_smoothing=smoothing,
        )
        return loss, [(logits.data.argmax(-1) == hidden).sum()]

    def size(self, *batch: Any) -> int:
        return int((batch[-1] != IGNORED).sum())

    def finish(self, model: Module, config: Any, run: Path) -> list[tuple[str, str]]:
        library = backend.library_of(config.device)
        sentences = sums.load()["test"][:SHOWN]
        shown, hidden = _hidden((sentences,), np.random.default_rng(sums.SEED))
        model.eval()
        with no_grad():
            guessed = library.to_host(model(library.asarray(shown)).data).argmax(-1)
        lines = [f"{'what it saw':<16}{'what it guessed':<18}"]
        for before, after, true in zip(shown, np.where(hidden == IGNORED, shown, guessed), sentences, strict=True):
            mark = "" if np.array_equal(after, true) else f"not {sums.spell(true)}"
            lines.append(f"{sums.spell(before):<16}{sums.spell(after):<18}{mark}".rstrip())
        (run / EXAMPLES).write_text("\n".join(lines) + "\n", encoding="utf-8")
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
    "schedule": "one-cycle",
    "clip_norm": 1.0,
}

TASK = Masked()
