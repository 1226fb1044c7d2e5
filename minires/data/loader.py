"""The batch loader: shuffled, augmented, normalized, read ahead, and the same every time for the same seed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from minires.data.augment import Normalize, Transform
from minires.data.datasets import Dataset, require_whole
from minires.errors import RequestError

Batch = tuple[np.ndarray, np.ndarray]


class DataLoader:
    """Batches of (images (N, C, H, W) float32, labels (N,) int64), normalized by the data set's mean and std.

    dataset      what to read
    batch_size   images a batch
    shuffle      a new order every epoch
    drop_last    leave out a last batch that is smaller
    transform    augmentation: `transform(images uint8, generator) -> images uint8`, called in the background thread.
                 Images that it returns as floats are handed on as they are
    generator    where each epoch's seed is drawn from, one draw an epoch; None for one of its own, seeded with 0
    prefetch     batches made ahead by a background thread; 0 makes them on demand, without a thread
    normalize    (images / scale - mean) / std; else only images / scale, in [0, 1]
    channels_last  keep a pixel's channels side by side in memory, as the NumPy kernels do; else the images are
                 contiguous (N, C, H, W), for a device they are copied to. Shape and values are the same

    An epoch is a function of one seed: its order, and batch k's augmentation by the seed's k-th child.
    So reading ahead changes nothing, and an epoch can be taken up in the middle: `epoch(seed, start=k)`.

    Raises RequestError for values that cannot be. What `transform` raises comes out of the iteration.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 128,
        shuffle: bool = False,
        drop_last: bool = False,
        transform: Transform | None = None,
        generator: np.random.Generator | None = None,
        prefetch: int = 2,
        normalize: bool = True,
        channels_last: bool = True,
    ) -> None:
        require_whole("DataLoader: batch_size", batch_size, low=1)
        require_whole("DataLoader: prefetch", prefetch, low=0)
        if generator is not None and not isinstance(generator, np.random.Generator):
            raise RequestError(
                f"DataLoader: generator is {generator!r}, not a NumPy generator; for a seed, give "
                "numpy.random.default_rng(seed)"
            )
        if drop_last and len(dataset) < batch_size:
            raise RequestError(
                f"batch size {batch_size} is larger than the {len(dataset)} images of {dataset.name}, and drop_last "
                "would leave nothing; use a smaller batch size"
            )
        self.dataset, self.batch_size, self.shuffle = dataset, batch_size, shuffle
        self.drop_last, self.transform, self.prefetch = drop_last, transform, prefetch
        self.channels_last = channels_last
        self.generator = np.random.default_rng(0) if generator is None else generator
        channels = len(dataset.mean)
        mean, std = (dataset.mean, dataset.std) if normalize else ((0.0,) * channels, (1.0,) * channels)
        self._normalize = Normalize(mean, std, dataset.scale)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(self.draw_seed())

    def draw_seed(self) -> int:
        """The next epoch's seed, from `generator`."""
        return int(self.generator.integers(2**63))

    def epoch(self, seed: int, start: int = 0) -> Iterator[Batch]:
        """The epoch that belongs to `seed`, from batch number `start` on; len(self) is its end."""
        require_whole("DataLoader: seed", seed, low=0)
        if require_whole("DataLoader: start", start, low=0) > len(self):
            raise RequestError(f"DataLoader: start is {start}, but an epoch has only {len(self)} batches")
        n = len(self.dataset)
        order = np.random.default_rng(seed).permutation(n) if self.shuffle else np.arange(n)
        batches = (self._batch(order, seed, k) for k in range(start, len(self)))
        return read_ahead(batches, self.prefetch) if self.prefetch else batches

    def _batch(self, order: np.ndarray, seed: int, k: int) -> Batch:
        chosen = order[k * self.batch_size : (k + 1) * self.batch_size]
        images = self.dataset.images[chosen]
        if self.transform is not None:
            # Not [seed, k]: NumPy takes [seed, 0] for seed, the very stream that made the order.
            child = np.random.SeedSequence(seed, spawn_key=(k,))
            images = self.transform(images, np.random.default_rng(child))
            if not isinstance(images, np.ndarray) or images.ndim != 4 or len(images) != len(chosen):
                got = images.shape if isinstance(images, np.ndarray) else type(images).__name__
                raise RequestError(f"DataLoader: transform must return ({len(chosen)}, C, H, W) images, not {got}")
        x = self._normalize(images) if images.dtype == np.uint8 else images.astype(np.float32, copy=False)
        return x if self.channels_last else np.ascontiguousarray(x), self.dataset.labels[chosen]


def read_ahead(items: Iterable[Any], depth: int) -> Iterator[Any]:
    """The same items, made by a background thread that is at most `depth` ahead.

    What the thread raises is raised here. It ends with the last item, or as soon as the reader stops.
    """
    room = threading.Semaphore(depth)
    made: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    stopped = threading.Event()

    def work() -> None:
        try:
            room.acquire()
            for item in items:
                made.put(("item", item))
                room.acquire()
                if stopped.is_set():
                    return
            made.put(("end", None))
        except BaseException as error:
            made.put(("error", error))

    thread = threading.Thread(target=work, name="minires-read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, item = made.get()
            if kind == "error":
                raise item
            if kind == "end":
                return
            room.release()
            yield item
    finally:
        stopped.set()
        room.release()  # the thread may be waiting for it
        if thread is not threading.current_thread():  # the garbage collector closes iterators from any thread
            thread.join()
