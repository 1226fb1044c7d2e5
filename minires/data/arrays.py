"""The loader of what is not images with labels: batches cut from arrays of one length, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minires.data.epochs import Epochs
from minires.errors import RequestError

Batch = tuple[np.ndarray, ...]


class ArrayLoader(Epochs):
    """Batches of the arrays' rows, as tuples of NumPy arrays.

    arrays       of one length: inputs first, targets last
    batch_size   rows a batch
    shuffle      a new order every epoch
    drop_last    leave out a last batch that is smaller
    transform    `transform(batch, generator) -> batch`, called in the background thread: augmentation, masking, or
                 cutting windows from a text
    generator    where each epoch's seed is drawn from, one draw an epoch; None for one of its own, seeded with 0
    prefetch     batches made ahead by a background thread; 0 makes them on demand, without a thread

    An epoch is a function of one seed, and can be taken up in the middle: see `Epochs`.

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
        lengths = {len(a) for a in arrays}
        if len(lengths) != 1 or lengths == {0}:
            raise RequestError(f"ArrayLoader: the arrays have lengths {[len(a) for a in arrays]}, not one above 0")
        super().__init__(lengths.pop(), batch_size, shuffle, drop_last, transform, generator, prefetch)
        self.arrays = arrays

    def batch(self, chosen: np.ndarray, child: np.random.SeedSequence) -> Batch:
        """These rows of every array, transformed."""
        batch = tuple(a[chosen] for a in self.arrays)
        if self.transform is None:
            return batch
        return self.transform(batch, np.random.default_rng(child))
