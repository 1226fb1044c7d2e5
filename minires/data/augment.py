"""Augmentation of uint8 batches (N, C, H, W), each image by draws of its own from the generator it is given.

Every transform takes images in any order of memory and returns channels-last ones (`layout.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from minires.data.datasets import require_known, require_whole
from minires.data.layout import channels_last, logical
from minires.errors import RequestError

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class PadCrop:
    """Pads by `padding` zeros on every side, then cuts a window of the old size at a random place.

    Source: Lee et al. 2015, Deeply-Supervised Nets; He et al. 2015, section 4.2 (padding 4 on CIFAR-10).
    """

    padding: int = 4

    def __post_init__(self) -> None:
        require_whole("PadCrop: padding", self.padding, low=0)

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        p, (n, c, h, w) = self.padding, images.shape
        top, left = generator.integers(0, 2 * p + 1, (2, n))
        padded = np.zeros((n, h + 2 * p, w + 2 * p, c), images.dtype)
        padded[:, p : p + h, p : p + w] = channels_last(images)
        rows = padded.reshape(n, h + 2 * p, (w + 2 * p) * c)  # so that a window's row is one run of bytes
        windows = np.lib.stride_tricks.sliding_window_view(rows, (h, w * c), axis=(1, 2))
        y = windows[np.arange(n), top, left * c]  # (N, H, W C)
        return logical(y.reshape(n, h, w, c))  # (N, C, H, W)


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirrors each image with probability `p`."""

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise RequestError(f"HorizontalFlip: p is {self.p!r}, but a probability lies between 0 and 1")

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        n, c, h, w = images.shape
        flipped = np.flatnonzero(generator.random(n) < self.p)
        y = channels_last(images).copy()  # (N, H, W, C)
        rows = y[flipped].reshape(len(flipped), h, w * c)
        mirrored = np.arange(w * c).reshape(w, c)[::-1].ravel()  # the pixels backward, each one's channels forward
        y[flipped] = rows.take(mirrored, axis=2).reshape(len(flipped), h, w, c)
        return logical(y)


@dataclass(frozen=True)
class Cutout:
    """Blanks a square of `size` pixels around a random center, clipped at the border.

    Source: DeVries and Taylor 2017, Improved Regularization with Cutout, section 3.
    """

    size: int = 16

    def __post_init__(self) -> None:
        require_whole("Cutout: size", self.size, low=1)

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        n, _, h, w = images.shape
        y = generator.integers(0, h, (n, 1)) - self.size // 2
        x = generator.integers(0, w, (n, 1)) - self.size // 2
        rows = (np.arange(h) >= y) & (np.arange(h) < y + self.size)  # (N, H)
        columns = (np.arange(w) >= x) & (np.arange(w) < x + self.size)  # (N, W)
        blank = rows[:, :, None] & columns[:, None, :]  # (N, H, W)
        return logical(channels_last(images) * ~blank[..., None])


@dataclass(frozen=True)
class Compose:
    """One transform after the other."""

    transforms: Sequence[Transform]

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        for transform in self.transforms:
            images = transform(images, generator)
        return images


@dataclass(frozen=True)
class Normalize:
    """(images / scale - mean) / std for each channel, in float32. It draws nothing.

    A DataLoader does this by itself, after its transform and with its data set's numbers.
    """

    mean: Sequence[float]
    std: Sequence[float]
    scale: float = 255.0

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std) or min(self.std) <= 0 or self.scale <= 0:
            raise RequestError(
                "Normalize: mean and std need one number a channel, std and scale above 0; "
                f"they are {self.mean}, {self.std} and {self.scale}"
            )

    def __call__(self, images: np.ndarray, generator: np.random.Generator | None = None) -> np.ndarray:
        n, c, h, w = images.shape
        if c != len(self.mean):
            raise RequestError(f"Normalize: {len(self.mean)} means do not fit images of {c} channels")
        std, mean = np.array(self.std, np.float64), np.array(self.mean, np.float64)  # (C,)
        gain, shift = (1 / (self.scale * std)).astype(np.float32), (mean / std).astype(np.float32)
        y = channels_last(images).reshape(n, h * w * c).astype(np.float32)
        y *= np.tile(gain, h * w)  # one product and one difference a pixel, where the
        y -= np.tile(shift, h * w)  # formula has two quotients and a difference
        return logical(y.reshape(n, h, w, c))


def augmentation(name: str) -> Transform | None:
    """What is usually done to the training images of a data set; None for the digits, which are not disturbed.

    Raises RequestError for an unknown name.
    """
    require_known(name)
    usual: dict[str, Transform] = {
        "mnist": PadCrop(2),
        "fashion-mnist": Compose((PadCrop(2), HorizontalFlip())),
        "cifar10": Compose((PadCrop(4), HorizontalFlip())),
        "cifar100": Compose((PadCrop(4), HorizontalFlip())),
    }
    return usual.get(name)
