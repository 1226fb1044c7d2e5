"""Copying, reversing and sorting strings with an encoder and a decoder.

Two figures are given, and they are not the same. `acc` is the share of tokens that the decoder gets right when all
earlier ones are put into its mouth ("teacher forcing"). `exact` is the share of sentences that it writes from start to
end without a mistake when it hears only itself: the one that counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from minires import backend, models
from minires.backend import Array
from minires.data import sequences
from minires.data.arrays import ArrayLoader
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models.transformer import Transformer
from minires.models.translate import greedy
from minires.nn import Module
from minires.train.task import Loader
from minires.train.token_task import TokenTask, write_examples

SHOWN = 24  # sentences in the file of examples
EXAMPLES = "translations.txt"


class Translation(TokenTask):
    """Batches of (source, what the decoder sees, what it should say), each (N, length)."""

    names = ("copy", "reverse", "sort", "copy-reverse-sort")
    ignored = sequences.PAD
    judged = ("correct", "exact", "sentences")
    best = "exact"
    words: ClassVar[dict[str, str]] = {
        "acc": "token accuracy",
        "exact": "exact sentences",
    }
    best_label = "share of sentences without a mistake"
    loss_label = "cross-entropy, per token"

    def usual(self, name: str) -> dict[str, Any]:
        return USUAL[name]

    def loaders(self, config: Any) -> tuple[Loader, Loader, Loader]:
        pairs = sequences.load(*config.data.split("-"))
        train, validation, test = ((p.source, p.target_in, p.target_out) for p in pairs.values())
        return self.training_batches(train, config), ArrayLoader(validation, 250), ArrayLoader(test, 250)

    def model(self, config: Any) -> Module:
        longest = sequences.LONGEST + 2  # with the rule's symbol and the end
        given = {"vocab_size": len(sequences.VOCABULARY), "context": longest, **config.model_options}
        if "decoder_layers" not in models.info(config.model).options:
            raise RequestError(
                f"{config.model} does not translate, so it cannot learn {config.data}; see minires models"
            )
        with backend.device(config.device):
            model = models.create(config.model, **given).to(config.device)  # which refuses sizes that are no numbers
        if given["vocab_size"] < len(sequences.VOCABULARY) or given["context"] < longest:
            raise RequestError(
                f"--option: {config.data} needs a vocab_size of {len(sequences.VOCABULARY)} and a context of {longest}"
            )
        return model

    def judge(self, model: Module, *batch: Array) -> tuple[Tensor, list[Array]]:
        source, _, target_out = batch
        assert isinstance(model, Transformer)
        loss, counts = self.loss(model, *batch)
        xp = backend.find((source,)).xp
        said = xp.zeros_like(target_out)
        written = greedy(model, source, target_out.shape[1])
        said[:, : written.shape[1]] = written
        return loss, [*counts, (said == target_out).all(-1).sum(), xp.asarray(len(source))]

    def metrics(self, counts: dict[str, float], size: int) -> dict[str, float]:
        figures = super().metrics(counts, size)
        if "exact" in counts:
            figures["exact"] = counts["exact"] / max(counts["sentences"], 1)
        return figures

    def finish(self, model: Module, config: Any, run: Path) -> list[tuple[str, str]]:
        assert isinstance(model, Transformer)
        pairs = sequences.load(*config.data.split("-"))["test"]
        library = backend.library_of(config.device)
        written = library.to_host(greedy(model, library.asarray(pairs.source[:SHOWN]), sequences.LONGEST + 1))
        shown = (pairs.source[:SHOWN], written, pairs.target_out[:SHOWN])
        rows = zip(*(map(sequences.spell, tokens) for tokens in shown), strict=True)
        write_examples(run / EXAMPLES, ("source", "what the model wrote"), rows)
        return [(EXAMPLES, f"the first {SHOWN} test sentences and what the model wrote for them")]


EPOCHS = {"copy": 4, "reverse": 6, "sort": 6, "copy-reverse-sort": 10}
USUAL: dict[str, dict[str, Any]] = {
    name: {
        "model": "transformer_tiny",
        "epochs": epochs,
        "batch_size": 128,
        "optimizer": "adamw",
        "lr": 2e-3,
        "weight_decay": 0.01,
        "clip_norm": 1.0,
    }
    for name, epochs in EPOCHS.items()
}

TASK = Translation()
