"""Loss and accuracy of a model on a data set, which it does not learn from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minires import backend
from minires import functional as F
from minires.nn import Module
from minires.switches import no_grad
from minires.train.metrics import Tally


def evaluate(model: Module, loader: Any, after_batch: Callable[[], None] | None = None) -> tuple[float, float]:
    """(mean cross-entropy, accuracy) of `model` over all images of `loader`, in evaluation mode.

    loader         yields (images (N, C, H, W), labels (N,)) as NumPy arrays; they are moved to the model's device
    after_batch    called after every batch; may raise, to stop

    The model is left in the mode it was in.
    """
    library = backend.find([next(model.parameters()).data])
    tally = Tally()
    training = model.training
    model.eval()
    try:
        with no_grad():
            for images, labels in loader:
                targets = library.asarray(labels)
                scores = model(library.asarray(images))
                tally.add(F.cross_entropy(scores, targets).item(), scores, targets)
                if after_batch:
                    after_batch()
    finally:
        model.train(training)
    return tally.mean_loss, tally.accuracy
