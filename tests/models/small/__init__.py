"""One row for every model at its smallest, and the published parameter counts: what the tables of tests run over.

Each file here holds the rows of one family: `SMALL`, a list of `Small`, and `COUNTS`, a list of (name, options, exact
number of parameters), where options may hold num_classes and in_channels.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minires import functional as F


def classify(model, *batch):
    """Cross-entropy of the model's scores (N, classes) against the labels that end the batch."""
    *inputs, labels = batch
    return F.cross_entropy(model(*inputs), labels)


@dataclass(frozen=True)
class Small:
    """A model at a width that a test can afford.

    name      in the registry
    options   for `create`, num_classes and in_channels among them
    batch     batch(rng) -> (inputs..., targets), NumPy arrays; float inputs in float64, which the tests convert
    loss      loss(model, *batch) -> Tensor, 0-d
    lr        at which Adam makes the loss fall within `steps`
    inputs    how many of the batch go into the model, from the first on; the rest are targets
    may_vanish    endings of the parameters whose true gradient is zero, such as a key's bias before a softmax
    """

    name: str
    options: dict[str, Any]
    batch: Callable[[np.random.Generator], tuple[np.ndarray, ...]]
    loss: Callable[..., Any] = classify
    lr: float = 0.01
    steps: int = 8
    inputs: int = 1
    may_vanish: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def images(classes=3, channels=3, size=8, n=6):
    """A batch of random images with random labels."""

    def batch(rng):
        return rng.standard_normal((n, channels, size, size)), rng.integers(0, classes, n)

    return batch


def tokens(vocabulary=7, length=6, n=4):
    """A batch of random tokens (N, T) with random next tokens (N, T)."""

    def batch(rng):
        return rng.integers(0, vocabulary, (n, length)), rng.integers(0, vocabulary, (n, length))

    return batch


def rows(what):
    """The lists `what` of all the files here, joined in the order of the files' names."""
    files = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [row for name in files for row in getattr(importlib.import_module(f"{__name__}.{name}"), what, [])]
