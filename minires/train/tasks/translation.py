"""Copying, reversing and sorting strings with an encoder and a decoder.

Two figures are given, and they are not the same. `acc` is the share of tokens that the decoder gets right when all
earlier ones are put into its mouth ("teacher forcing"). `exact` is the share of sentences that it writes from start to
end without a mistake when it hears only itself: the one that counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minires import backend, models
from minires import functional as F
from minires.backend import Array
from minires.data import sequences
from minires.data.arrays import ArrayLoader
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models.transformer import Transformer
from minires.models.translate import greedy
from minires.nn import Module
from minires.train.task import Loader, Task

SHOWN = 24  # sentences in the file of examples
EXAMPLES = "translations.txt"


class Translation(Task):
    """Batches of (source, what the decoder sees, what it should say), each (N, length)."""

    names = ("copy", "reverse", "sort", "copy-reverse-sort")
    unit = "tokens"
    counts = ("correct",)
    judged = ("correct", "exact", "sentences")
    best = "exact"
    best_label = "sentences written without a mistake"
    loss_label = "cross-entropy per token"
    decay_all = False

    def usual(self, name: str) -> dict[str, Any]:
        return USUAL[name]

    def loaders(self, config: Any) -> tuple[Loader, Loader, Loader]:
        pairs = sequences.load(*config.data.split("-"))
        train, validation, test = ((p.source, p.target_in, p.target_out) for p in pairs.values())
        batches = ArrayLoader(train, config.batch_size, shuffle=True, drop_last=True, generator=backend.generator())
        return batches, ArrayLoader(validation, 250), ArrayLoader(test, 250)

    def model(self, config: Any) -> Module:
        longest = sequences.LONGEST + 2  # with the rule's symbol and the end
        given = {"vocab_size": len(sequences.VOCABULARY), "context": longest, **config.model_options}
        if "decoder_layers" not in models.info(config.model).options:
            raise RequestError(
                f"{config.model} does not translate, so it cannot learn {config.data}; see minires models"
            )
        if given["vocab_size"] < len(sequences.VOCABULARY) or given["context"] < longest:
            raise RequestError(
                f"--option: {config.data} needs a vocab_size of {len(sequences.VOCABULARY)} and a context of {longest}"
            )
        return models.create(config.model, **given).to(config.device)

    def loss(self, model: Module, *batch: Array, smoothing: float = 0.0) -> tuple[Tensor, list[Array]]:
        source, target_in, target_out = batch
        logits = model(source, target_in)  # (N, T, V)
        loss = F.cross_entropy(
            F.reshape(logits, (-1, logits.shape[-1])),
            target_out.reshape(-1),
            ignore_index=sequences.PAD,
            label_smoothing=smoothing,
        )
        right = (logits.data.argmax(-1) == target_out) & (target_out != sequences.PAD)
        return loss, [right.sum()]

    def judge(self, model: Module, *batch: Array) -> tuple[Tensor, list[Array]]:
        source, _, target_out = batch
        assert isinstance(model, Transformer)
        loss, counts = self.loss(model, *batch)
        xp = backend.find((source,)).xp
        said = xp.zeros_like(target_out)
        written = greedy(model, source, target_out.shape[1])
        said[:, : written.shape[1]] = written
        return loss, [*counts, (said == target_out).all(-1).sum(), xp.asarray(len(source))]

    def size(self, *batch: Any) -> int:
        return int((batch[-1] != sequences.PAD).sum())

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
        lines = [f"{'source':<24}{'what the model wrote':<24}"]
        for source, wanted, said in zip(pairs.source, pairs.target_out, written, strict=False):
            mark = "" if sequences.spell(said) == sequences.spell(wanted) else f"not {sequences.spell(wanted)}"
            lines.append(f"{sequences.spell(source):<24}{sequences.spell(said):<24}{mark}".rstrip())
        (run / EXAMPLES).write_text("\n".join(lines) + "\n", encoding="utf-8")
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
        "schedule": "one-cycle",
        "clip_norm": 1.0,
    }
    for name, epochs in EPOCHS.items()
}

TASK = Translation()
