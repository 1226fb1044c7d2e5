"""Loss and figures of a model on data that it does not learn from."""

from __future__ import annotations

from collections.abc import Callable

from minires import backend
from minires.nn import Module, evaluating
from minires.train import tasks
from minires.train.metrics import Tally
from minires.train.task import Loader, Task


def evaluate(
    model: Module, loader: Loader, after_batch: Callable[[], None] | None = None, task: Task | None = None
) -> dict[str, float]:
    """{"loss": mean loss, and the task's figures} of `model` over all batches of `loader`, in evaluation mode.

    loader         yields tuples of NumPy arrays; they are moved to the model's device
    after_batch    called after every batch; may raise, to stop
    task           what is judged; None for the classification of images, whose figure is "acc"

    The model is left in the mode it was in.
    """
    task = task or tasks.find("digits")
    library = backend.find([next(model.parameters()).data])
    names = task.counts if task.judged is None else task.judged
    tally = Tally()
    with evaluating(model):
        for batch in loader:
            loss, counts = task.judge(model, *(library.asarray(a) for a in batch))
            tally.add(loss.item(), [float(library.to_host(c)) for c in counts], task.size(*batch))
            if after_batch:
                after_batch()
    return {"loss": tally.mean_loss, **task.metrics(dict(zip(names, tally.counts, strict=True)), tally.size)}
