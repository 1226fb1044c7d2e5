"""The loader of what is not images with labels: batches cut from arrays of one length, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minires.data.datasets import require_whole
from minires.data.loader import read_ahead
from minires.errors import RequestError

Batch = tuple[np.ndarray, ...]


class ArrayLoader:
    """Batches of the arrays' rows, as tuples of NumPy arrays.

    arrays       of one length: inputs first, targets last
    batch_size   rows a batch
    shuffle      a new order every epoch
    drop_last    leave out a last batch that is smaller
    transform    `transform(batch, generator) -> batch`, called in the background thread: augmentation, masking, or
                 cutting windows from a text
    generator    where each epoch's seed is drawn from, one draw an epoch; None for one of its own, seeded with 0
    prefetch     batches made ahead by a background thread; 0 makes them on demand, without a thread

    An epoch is a function of one seed, as with `DataLoader`: its order, and batch k's transform by the seed's k-th
    child. So an epoch can be taken up in the middle: `epoch(seed, start=k)`.

    Raises RequestError for values that cannot be. What `transform` raises comes out of the iteration.
    """

    def __init__(
        self,
        arrays: Batch,
        batch_size: int,
        shuffle: bool = False,
        drop_last: bool = False,
        transform: Callable[[Batch, np.random.Generator], Batch] | None = None,
        generator: np.random.Generator | None = None,
        prefetch: int = 2,
    ) -> None:
        require_whole("ArrayLoader: batch_size", batch_size, low=1)
        require_whole("ArrayLoader: prefetch", prefetch, low=0)
        lengths = {len(a) for a in arrays}
        if len(lengths) != 1 or lengths == {0}:
            raise RequestError(f"ArrayLoader: the arrays have lengths {[len(a) for a in arrays]}, not one above 0")
        self.arrays, self.length = arrays, lengths.pop()
        if drop_last and self.length < batch_size:
            raise RequestError(
                f"ArrayLoader: batch size {batch_size} is larger than the {self.length} rows, and drop_last would "
                "leave nothing; use a smaller batch size"
            )
        self.batch_size, self.shuffle, self.drop_last = batch_size, shuffle, drop_last
        self.transform, self.prefetch = transform, prefetch
        self.generator = np.random.default_rng(0) if generator is None else generator

    def __len__(self) -> int:
        whole, rest = divmod(self.length, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(self.draw_seed() if self.shuffle else 0)

    def draw_seed(self) -> int:
        """The next epoch's seed, from `generator`."""
        return int(self.generator.integers(2**63))

    def epoch(self, seed: int, start: int = 0) -> Iterator[Batch]:
        """The epoch that belongs to `seed`, from batch number `start` on; len(self) is its end."""
        require_whole("ArrayLoader: seed", seed, low=0)
        if require_whole("ArrayLoader: start", start, low=0) > len(self):
            raise RequestError(f"ArrayLoader: start is {start}, but an epoch has only {len(self)} batches")
        order: Any = np.arange(self.length)
        if self.shuffle:
            order = np.random.default_rng(seed).permutation(self.length)
        batches = (self._batch(order, seed, k) for k in range(start, len(self)))
        return read_ahead(batches, self.prefetch) if self.prefetch else batches

    def _batch(self, order: np.ndarray, seed: int, k: int) -> Batch:
        chosen = order[k * self.batch_size : (k + 1) * self.batch_size]
        batch = tuple(a[chosen] for a in self.arrays)
        if self.transform is None:
            return batch
        # a child of the seed, as in DataLoader: [seed, 0] would be the very stream that made the order
        return self.transform(batch, np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(k,))))
