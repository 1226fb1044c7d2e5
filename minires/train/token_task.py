"""What all tasks of tokens share: the loss is the mean over the tokens that are asked for, and so is the accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import numpy as np

from minires import functional as F
from minires.backend import Array
from minires.engine import Tensor
from minires.nn import Module
from minires.train.task import Task

IGNORED = -100  # in place of a target that nobody asks for


class TokenTask(Task):
    """Batches (inputs..., targets), whose last array (N, T) holds tokens; the model scores every token, (N, T, V).

    ignored    the target that stands for none
    """

    ignored: ClassVar[int] = IGNORED
    unit = "tokens"
    decay_all = False

    def loss(self, model: Module, *batch: Array, smoothing: float = 0.0) -> tuple[Tensor, list[Array]]:
        *inputs, targets = batch
        logits = model(*inputs)  # (N, T, V)
        loss = F.cross_entropy(
            F.reshape(logits, (-1, logits.shape[-1])),
            targets.reshape(-1),
            ignore_index=self.ignored,
            label_smoothing=smoothing,
        )
        right = (logits.data.argmax(-1) == targets) & (targets != self.ignored)
        return loss, [right.sum()]

    def size(self, *batch: np.ndarray) -> int:
        return int((batch[-1] != self.ignored).sum())


def write_examples(path: Path, heads: tuple[str, str], rows: Iterable[tuple[str, str, str]]) -> None:
    """A table for people: (what the model was given, what it said, what was right) line by line, mistakes marked."""
    table = [(given, said, "" if said == right else f"not {right}") for given, said, right in rows]
    widths = [2 + max(map(len, column)) for column in zip(heads, *((a, b) for a, b, _ in table), strict=True)]
    lines = [f"{a:<{widths[0]}}{b:<{widths[1]}}{mark}".rstrip() for a, b, mark in ((*heads, ""), *table)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
