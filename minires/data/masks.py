"""Images with a mask of what is to be found in each, and what is done to both before a model sees them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from minires.data.datasets import require_whole
from minires.errors import RequestError

TEST_SHARE = 0.2
TEST_SEED = 0  # the test set never changes, whatever the seed of a run


@dataclass(frozen=True, eq=False)  # two sets of arrays have no one truth value
class MaskedImages:
    """Gray images, and which of their pixels belong to what is sought.

    Attributes
        images     (N, 1, H, W) uint8
        masks      (N, 1, H, W) bool, true where it is
        ids        (N,) what the publisher calls each image
        name       of the data set

    Raises RequestError when these do not fit together.
    """

    images: np.ndarray
    masks: np.ndarray
    ids: np.ndarray
    name: str

    def __post_init__(self) -> None:
        shape = self.images.shape
        if len(shape) != 4 or shape[1] != 1 or self.images.dtype != np.uint8:
            raise RequestError(f"{self.name}: images must be (N, 1, H, W) uint8, not {shape} {self.images.dtype}")
        if self.masks.shape != shape or self.masks.dtype != bool:
            raise RequestError(
                f"{self.name}: images {shape} need bool masks of that shape, not {self.masks.shape} {self.masks.dtype}"
            )
        if self.ids.shape != shape[:1]:
            raise RequestError(f"{self.name}: {shape[0]} images need as many ids, not {self.ids.shape}")

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: np.ndarray) -> MaskedImages:
        """The images at `indices`, in that order."""
        return replace(self, images=self.images[indices], masks=self.masks[indices], ids=self.ids[indices])


def split(data: MaskedImages, val_fraction: float, seed: int) -> tuple[MaskedImages, MaskedImages, MaskedImages]:
    """(training, validation, test) images, no image in two of them, each in the order of `data`.

    The test set is a fifth of all, and always the same; `val_fraction` of the rest, chosen by `seed`, validates.
    Raises RequestError when one of the three would be empty.
    """
    order = np.random.default_rng(TEST_SEED).permutation(len(data))
    tested = round(TEST_SHARE * len(data))
    rest = np.sort(order[tested:])
    validated = round(val_fraction * len(rest))
    if min(tested, validated, len(rest) - validated) < 1:
        raise RequestError(
            f"{data.name}: {len(data)} images leave {len(rest) - validated} for training, {validated} for validation "
            f"and {tested} for the test; each needs at least one"
        )
    rest = rest[np.random.default_rng(seed).permutation(len(rest))]
    parts = rest[validated:], rest[:validated], order[:tested]
    train, validation, test = (data.subset(np.sort(part)) for part in parts)
    return train, validation, test


def standardize(images: np.ndarray) -> np.ndarray:
    """Each image (1, H, W) of (N, 1, H, W) minus its own mean, over its own standard deviation; float32.

    Microscopes and exposures differ by more than a factor of ten in brightness, so one mean for all would not do.
    """
    x = images.astype(np.float32)
    x -= x.mean((1, 2, 3), keepdims=True)
    x /= np.maximum(x.std((1, 2, 3), keepdims=True), 1e-3)  # an image of one gray level becomes zeros
    return x


@dataclass(frozen=True)
class CropTurnFlip:
    """A window of `side` pixels from a random place of each image, turned by a multiple of 90 degrees and mirrored.

    The same is done to the image and to its mask. Seen through a microscope, no direction is special, so each of the
    square's eight symmetries is as likely. Raises RequestError for images smaller than the window.
    """

    side: int

    def __post_init__(self) -> None:
        require_whole("the crop's side", self.side, low=1)

    def __call__(self, batch: tuple[np.ndarray, ...], generator: np.random.Generator) -> tuple[np.ndarray, ...]:
        n, _, height, width = batch[0].shape
        if self.side > min(height, width):
            raise RequestError(f"a crop of {self.side} pixels does not fit images of {height} x {width}; choose less")
        tops = generator.integers(0, height - self.side + 1, n)
        lefts = generator.integers(0, width - self.side + 1, n)
        turns = generator.integers(0, 4, (n,))
        mirrored = generator.random((n,)) < 0.5
        cut = []
        for arrays in batch:
            windows = np.empty((n, arrays.shape[1], self.side, self.side), arrays.dtype)
            for i, (top, left) in enumerate(zip(tops, lefts, strict=True)):
                window = arrays[i, :, top : top + self.side, left : left + self.side]
                window = np.rot90(window, turns[i], axes=(1, 2))
                windows[i] = window[:, :, ::-1] if mirrored[i] else window
            cut.append(windows)
        return tuple(cut)
