"""The batch loader: shuffled, augmented, normalized, read ahead, and the same every time for the same seed."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from minires.data.datasets import Dataset
from minires.errors import RequestError

Batch = tuple[np.ndarray, np.ndarray]


class DataLoader:
    """Batches of (images (N, C, H, W) float32, labels (N,) int64), normalized by the data set's mean and std.

    dataset      what to read
    batch_size   images a batch
    shuffle      a new order every epoch
    drop_last    leave out a last batch that is smaller
    transform    augmentation: `transform(images uint8, generator) -> images uint8`
    generator    where each epoch's seed is drawn from
    prefetch     batches made ahead by a background thread; 0 makes them on demand

    An epoch is a function of one seed: its order, and batch k's augmentation by a generator seeded with (seed, k).
    So reading ahead changes nothing, and an epoch can be taken up in the middle: `epoch(seed, start=k)`.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 128,
        shuffle: bool = False,
        drop_last: bool = False,
        transform: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
        generator: np.random.Generator | None = None,
        prefetch: int = 2,
    ) -> None:
        if batch_size < 1:
            raise RequestError(f"batch size {batch_size} is not usable: it must be at least 1")
        if prefetch < 0:
            raise RequestError(f"prefetch {prefetch} is not usable: it must be at least 0")
        if drop_last and len(dataset) < batch_size:
            raise RequestError(
                f"batch size {batch_size} is larger than the {len(dataset)} images of {dataset.name}, and drop_last "
                "would leave nothing; use a smaller batch size"
            )
        self.dataset, self.batch_size, self.shuffle = dataset, batch_size, shuffle
        self.drop_last, self.transform, self.prefetch = drop_last, transform, prefetch
        self.generator = generator or np.random.default_rng(0)
        per_channel = (-1, 1, 1)
        std = np.asarray(dataset.std, np.float64).reshape(per_channel)
        mean = np.asarray(dataset.mean, np.float64).reshape(per_channel)
        self._gain = (1 / (dataset.scale * std)).astype(np.float32)
        self._offset = (-mean / std).astype(np.float32)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(self.draw_seed())

    def draw_seed(self) -> int:
        """The next epoch's seed, from `generator`."""
        return int(self.generator.integers(2**63))

    def epoch(self, seed: int, start: int = 0) -> Iterator[Batch]:
        """The epoch that belongs to `seed`, from batch number `start` on."""
        n = len(self.dataset)
        order = np.random.default_rng(seed).permutation(n) if self.shuffle else np.arange(n)
        batches = (self._batch(order, seed, k) for k in range(start, len(self)))
        return read_ahead(batches, self.prefetch) if self.prefetch else batches

    def _batch(self, order: np.ndarray, seed: int, k: int) -> Batch:
        chosen = order[k * self.batch_size : (k + 1) * self.batch_size]
        images = self.dataset.images[chosen]
        if self.transform is not None:
            images = self.transform(images, np.random.default_rng([seed, k]))
        x = images * self._gain  # (N, C, H, W) float32
        x += self._offset
        return x, self.dataset.labels[chosen]


def read_ahead(items: Iterable[Any], depth: int) -> Iterator[Any]:
    """The same items, made by a background thread that is at most `depth` ahead.

    What the thread raises is raised here. It ends with the last item, or as soon as the reader stops.
    """
    made: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stopped = threading.Event()

    def hand_over(kind: str, item: Any) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                made.put((kind, item), timeout=0.1)
                return

    def work() -> None:
        try:
            for item in items:
                hand_over("item", item)
                if stopped.is_set():
                    return
            hand_over("end", None)
        except BaseException as error:
            hand_over("error", error)

    thread = threading.Thread(target=work, name="minires-read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, item = made.get()
            if kind == "error":
                raise item
            if kind == "end":
                return
            yield item
    finally:
        stopped.set()
        thread.join()
