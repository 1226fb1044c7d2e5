"""Looking at a model without changing it: evaluation mode and no gradients, for as long as it takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from minires.nn.module import Module
from minires.switches import no_grad


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Evaluation mode without gradients. Afterwards every module is in the mode it was in, each in its own.

    `model.train(model.training)` would not do: it wakes up a batch norm that somebody froze with `eval()`.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
