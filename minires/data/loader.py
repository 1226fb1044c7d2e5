"""The batch loader: shuffled, augmented, normalized, read ahead, and the same every time for the same seed."""

from __future__ import annotations

import numpy as np

from minires.data.augment import Normalize, Transform
from minires.data.datasets import Dataset
from minires.data.epochs import Epochs
from minires.errors import RequestError

Batch = tuple[np.ndarray, np.ndarray]


class DataLoader(Epochs):
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
        rows = f"images of {dataset.name}"
        super().__init__(len(dataset), batch_size, shuffle, drop_last, transform, generator, prefetch, rows)
        self.dataset = dataset
        self.channels_last = channels_last
        channels = len(dataset.mean)
        mean, std = (dataset.mean, dataset.std) if normalize else ((0.0,) * channels, (1.0,) * channels)
        self._normalize = Normalize(mean, std, dataset.scale)

    def batch(self, chosen: np.ndarray, child: np.random.SeedSequence) -> Batch:
        """(images, labels) of these rows of the data set."""
        images = self.dataset.images[chosen]
        if self.transform is not None:
            images = self.transform(images, np.random.default_rng(child))
            if not isinstance(images, np.ndarray) or images.ndim != 4 or len(images) != len(chosen):
                got = images.shape if isinstance(images, np.ndarray) else type(images).__name__
                raise RequestError(f"DataLoader: transform must return ({len(chosen)}, C, H, W) images, not {got}")
        x = self._normalize(images) if images.dtype == np.uint8 else images.astype(np.float32, copy=False)
        return x if self.channels_last else np.ascontiguousarray(x), self.dataset.labels[chosen]
