"""Augmentation of uint8 batches (N, C, H, W), each image by draws of its own from the generator it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minires.errors import RequestError

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class PadCrop:
    """Pads by `padding` zeros on every side, then cuts a window of the old size at a random place.

    Source: Lee et al. 2015, Deeply-Supervised Nets; He et al. 2015, section 4.2 (padding 4 on CIFAR-10).
    """

    padding: int = 4

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        p, (n, _, h, w) = self.padding, images.shape
        padded = np.pad(images, ((0, 0), (0, 0), (p, p), (p, p)))  # (N, C, H + 2p, W + 2p)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (h, w), axis=(2, 3))
        top, left = generator.integers(0, 2 * p + 1, (2, n))
        return windows[np.arange(n), :, top, left]  # (N, C, H, W)


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirrors each image with probability `p`."""

    p: float = 0.5

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        flipped = generator.random(len(images)) < self.p
        return np.where(flipped[:, None, None, None], images[..., ::-1], images)


@dataclass(frozen=True)
class Cutout:
    """Blanks a square of `size` pixels around a random center, clipped at the border.

    Source: DeVries and Taylor 2017, Improved Regularization with Cutout, section 3.
    """

    size: int = 16

    def __post_init__(self) -> None:
        if self.size < 1:
            raise RequestError(f"cutout size {self.size} is not usable: it must be at least 1")

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        n, _, h, w = images.shape
        y = generator.integers(0, h, (n, 1)) - self.size // 2
        x = generator.integers(0, w, (n, 1)) - self.size // 2
        rows = (np.arange(h) >= y) & (np.arange(h) < y + self.size)  # (N, H)
        columns = (np.arange(w) >= x) & (np.arange(w) < x + self.size)  # (N, W)
        return images * ~(rows[:, None, :, None] & columns[:, None, None, :])


@dataclass(frozen=True)
class Compose:
    """One transform after the other."""

    transforms: tuple[Transform, ...]

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        for transform in self.transforms:
            images = transform(images, generator)
        return images


def augmentation(name: str) -> Transform | None:
    """What is usually done to the training images of a data set; None for the digits, which are not disturbed."""
    usual: dict[str, Transform] = {
        "mnist": PadCrop(2),
        "fashion-mnist": Compose((PadCrop(2), HorizontalFlip())),
        "cifar10": Compose((PadCrop(4), HorizontalFlip())),
        "cifar100": Compose((PadCrop(4), HorizontalFlip())),
    }
    return usual.get(name)
