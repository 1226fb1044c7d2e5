"""What every loader is: epochs of batches, each epoch a function of one seed, made ahead by a background thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from minires.data.datasets import require_whole
from minires.errors import RequestError


class Epochs:
    """Batches of `length` rows in the order of a seed; a subclass says what a batch is.

    rows         what to call the rows, in the error for a batch that is too large
    transform    whether batches draw numbers of their own; others are given below as the loaders take them

    An epoch is a function of one seed: its order, and what batch k draws by the seed's k-th child. So reading ahead
    changes nothing, and an epoch can be taken up in the middle: `epoch(seed, start=k)`.

    Raises RequestError for values that cannot be.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        transform: Any,
        generator: np.random.Generator | None,
        prefetch: int,
        rows: str = "rows",
    ) -> None:
        self._name = type(self).__name__
        require_whole(f"{self._name}: batch_size", batch_size, low=1)
        require_whole(f"{self._name}: prefetch", prefetch, low=0)
        if generator is not None and not isinstance(generator, np.random.Generator):
            raise RequestError(
                f"{self._name}: generator is {generator!r}, not a NumPy generator; for a seed, give "
                "numpy.random.default_rng(seed)"
            )
        if drop_last and length < batch_size:
            raise RequestError(
                f"batch size {batch_size} is larger than the {length} {rows}, and drop_last would leave nothing; "
                "use a smaller batch size"
            )
        self.length, self.batch_size, self.shuffle = length, batch_size, shuffle
        self.drop_last, self.transform, self.prefetch = drop_last, transform, prefetch
        self.generator = np.random.default_rng(0) if generator is None else generator

    def __len__(self) -> int:
        whole, rest = divmod(self.length, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        draws = self.shuffle or self.transform is not None
        return self.epoch(self.draw_seed() if draws else 0)

    def draw_seed(self) -> int:
        """The next epoch's seed, from `generator`."""
        return int(self.generator.integers(2**63))

    def epoch(self, seed: int, start: int = 0) -> Iterator[Any]:
        """The epoch that belongs to `seed`, from batch number `start` on; len(self) is its end."""
        require_whole(f"{self._name}: seed", seed, low=0)
        if require_whole(f"{self._name}: start", start, low=0) > len(self):
            raise RequestError(f"{self._name}: start is {start}, but an epoch has only {len(self)} batches")
        order = np.random.default_rng(seed).permutation(self.length) if self.shuffle else np.arange(self.length)
        # Not [seed, k]: NumPy takes [seed, 0] for seed, the very stream that made the order.
        batches = (
            self.batch(
                order[k * self.batch_size : (k + 1) * self.batch_size], np.random.SeedSequence(seed, spawn_key=(k,))
            )
            for k in range(start, len(self))
        )
        return read_ahead(batches, self.prefetch) if self.prefetch else batches

    def batch(self, chosen: np.ndarray, child: np.random.SeedSequence) -> tuple[np.ndarray, ...]:
        """The rows `chosen`; what is drawn for them comes from `child` alone."""
        raise NotImplementedError(f"{self._name} has no batch(chosen, child)")


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
