"""What a run measures: sums over an epoch, and the gradient's norm from layer to layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from minires import backend
from minires.nn import Module


@dataclass
class Tally:
    """Sums so far, over all that was seen. Plain sums, so that a resumed epoch adds up the same.

    Attributes
        loss      each batch's mean loss times its size
        counts    what the task counts, in its order, such as right answers
        size      images, tokens or pixels seen
    """

    loss: float = 0.0
    counts: list[float] = field(default_factory=list)
    size: int = 0

    def add(self, loss: float, counts: Sequence[float], size: int) -> None:
        """Counts one batch: its mean loss, its counts, and how much of what is judged it holds."""
        self.loss += loss * size
        self.counts = [a + b for a, b in zip(self.counts or [0.0] * len(counts), counts, strict=True)]
        self.size += size

    @property
    def mean_loss(self) -> float:
        return self.loss / max(self.size, 1)


def gradient_norms(model: Module) -> dict[str, float]:
    """|dL/dW| (Frobenius) of every weight matrix and convolution, from the input to the output.

    Biases and the gains of normalizations are left out: a layer's weight speaks for its depth.
    """
    norms = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and parameter.grad is not None:
            g = backend.to_host(parameter.grad)
            norms[name] = math.sqrt(float((g * g).sum(dtype="float64")))
    return norms
