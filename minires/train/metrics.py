"""What a run measures: loss, accuracy, and the gradient's norm from layer to layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from minires import backend
from minires.engine import Tensor
from minires.nn import Module


@dataclass
class Tally:
    """Loss and accuracy so far, over all images seen. Plain sums, so that a resumed epoch adds up the same.

    Attributes
        loss       sum of the images' losses
        correct    images whose highest score is their label's
        images     images seen
    """

    loss: float = 0.0
    correct: int = 0
    images: int = 0

    def add(self, loss: float, scores: Tensor, labels: Any) -> None:
        """Counts one batch: its mean loss, the scores (N, classes) and the labels (N,), both on one device."""
        self.loss += loss * len(labels)
        self.correct += int((scores.data.argmax(1) == labels).sum())
        self.images += len(labels)

    @property
    def mean_loss(self) -> float:
        return self.loss / max(self.images, 1)

    @property
    def accuracy(self) -> float:
        return self.correct / max(self.images, 1)


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
