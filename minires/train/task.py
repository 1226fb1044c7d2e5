"""What a data set asks of a model: its batches, its loss, what is counted, and by which figure runs are compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from minires import backend
from minires.backend import Array
from minires.data.arrays import ArrayLoader, Batch
from minires.engine import Tensor
from minires.nn import Module, evaluating


class Loader(Protocol):
    """Batches as tuples of NumPy arrays; an epoch is a function of one seed and can be taken up in the middle."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Any: ...

    def draw_seed(self) -> int: ...

    def epoch(self, seed: int, start: int = 0) -> Any: ...


class Task:
    """The base of every task; `minires train --data NAME` finds one by its name.

    Attributes
        names              the data sets that this task is made for
        options            what `--data-option` takes, with defaults
        uses               those options of every run that not every task has a use for; others are refused
        unit               what `size` counts, for the speed that is shown
        counts             sums that `loss` returns beside the mean loss
        judged             the same of `judge`, on validation and test data
        best               the validation figure that chooses the epoch, a key of `metrics` or "loss"
        higher_is_better   whether more of it is better
        words              what people call the figures whose keys do not say it
        loss_label         the loss and its unit, beside the learning curves
        best_label         the same of `best`, or of "acc" where the loss is the best figure
        decay_all          whether weight decay acts on biases and gains too, or on matrices and kernels alone
    """

    names: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[dict[str, Any]] = {}
    uses: ClassVar[tuple[str, ...]] = ("label_smoothing",)
    unit: ClassVar[str] = "images"
    counts: ClassVar[tuple[str, ...]] = ("correct",)
    judged: ClassVar[tuple[str, ...] | None] = None
    best: ClassVar[str] = "acc"
    higher_is_better: ClassVar[bool] = True
    words: ClassVar[dict[str, str]] = {"acc": "accuracy"}
    loss_label: ClassVar[str] = "cross-entropy"
    best_label: ClassVar[str] = "accuracy"
    decay_all: ClassVar[bool] = True

    def usual(self, name: str) -> dict[str, Any]:
        """What a data set is trained with unless the command line says otherwise; the rest is in `Config`."""
        raise NotImplementedError(f"{type(self).__name__} has no usual(name)")

    def build(self, config: Any) -> tuple[Module, Loader, Loader, Loader]:
        """The model, on `config.device`, and the loaders. Always in this order, so that a seed gives one start."""
        return self.model(config), *self.loaders(config)

    def loaders(self, config: Any) -> tuple[Loader, Loader, Loader]:
        """Training, validation and test batches. Training draws its seeds from `backend.generator()`."""
        raise NotImplementedError(f"{type(self).__name__} has no loaders(config)")

    def training_batches(
        self,
        arrays: Batch,
        config: Any,
        transform: Callable[[Batch, np.random.Generator], Batch] | None = None,
        prefetch: int = 2,
    ) -> ArrayLoader:
        """The arrays in a new order every epoch.

        A last batch that is smaller is left out, since one of two rows would shake batch norm; but where all rows are
        fewer than `batch_size`, they are one batch.
        """
        return ArrayLoader(
            arrays,
            config.batch_size,
            shuffle=True,
            drop_last=len(arrays[0]) >= config.batch_size,
            transform=transform,
            generator=backend.generator(),
            prefetch=prefetch,
        )

    def model(self, config: Any) -> Module:
        """The model for these data, on `config.device`. Raises RequestError when it does not fit them."""
        raise NotImplementedError(f"{type(self).__name__} has no model(config)")

    def loss(self, model: Module, *batch: Array, smoothing: float = 0.0) -> tuple[Tensor, list[Array]]:
        """(mean loss, one number for each of `counts`) of a batch on the model's device; must not wait for it."""
        raise NotImplementedError(f"{type(self).__name__} has no loss(model, *batch)")

    def judge(self, model: Module, *batch: Array) -> tuple[Tensor, list[Array]]:
        """The same on validation and test batches, one number for each of `judged`; the model is in evaluation mode."""
        return self.loss(model, *batch)

    def size(self, *batch: np.ndarray) -> int:
        """What the mean loss is a mean over: how many images, tokens or pixels of this batch are judged."""
        return len(batch[-1])

    def metrics(self, counts: dict[str, float], size: int) -> dict[str, float]:
        """The figures made of the sums over an epoch; they appear as train_..., val_... and test_..."""
        return {"acc": counts["correct"] / max(size, 1)}

    def prepare(self, config: Any, run: Path) -> None:
        """Leaves in a new run's directory what later commands need, such as a vocabulary."""

    def finish(self, model: Module, config: Any, run: Path) -> list[tuple[str, str]]:
        """After the test: makes pictures and samples, and returns (file name, what it shows) of each."""
        return []

    def next_commands(self, config: Any, run: Path) -> list[str]:
        """What the user may type next."""
        return [f"minires eval {run}"]

    def option(self, config: Any, name: str) -> Any:
        """An option of the data, or its default."""
        return config.data_options.get(name, self.options[name])


def answer(model: Module, *inputs: np.ndarray) -> Any:
    """What the model says to these inputs, in evaluation mode and without gradients.

    Asked before anything is written, so that a model that cannot take such data, and raises, is refused in time.
    """
    library = backend.find([next(model.parameters()).data])
    with evaluating(model):
        return model(*(library.asarray(x) for x in inputs))
