"""A stand-in for microscope images that needs no file: bright ellipses under uneven light, noise and specks."""

from __future__ import annotations

import numpy as np

from minires.data.masks import MaskedImages

COUNT, SIDE = 600, 64
SEED = 2018


def load_blobs(count: int = COUNT, side: int = SIDE, seed: int = SEED) -> MaskedImages:
    """`count` images of `side` x `side` pixels, always the same for the same seed.

    An image holds 2 to 9 ellipses of its own range of brightness, with soft edges, on a background that rises to one
    side, sometimes above the dimmest of them; then camera noise, and specks as bright as an ellipse that belong to
    none. So no threshold on brightness finds them, and a model must learn what a blob looks like.
    """
    generator = np.random.default_rng(seed)
    pictures = [_picture(side, generator) for _ in range(count)]
    images, masks = (np.stack(part)[:, None] for part in zip(*pictures, strict=True))  # (N, 1, H, W)
    return MaskedImages(images, masks, np.array([f"blobs-{i}" for i in range(count)]), "blobs")


def _picture(side: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One image (H, W) uint8 and its mask (H, W) bool."""
    y, x = np.mgrid[0:side, 0:side] / side  # in [0, 1)
    light = np.zeros((side, side))
    mask = np.zeros((side, side), bool)
    brightness = generator.uniform(40, 110)
    for _ in range(generator.integers(2, 10)):
        center_y, center_x = generator.uniform(0, 1, 2)
        long, angle = generator.uniform(0.06, 0.16), generator.uniform(0, np.pi)
        short = long * generator.uniform(0.5, 1.0)
        along = (x - center_x) * np.cos(angle) + (y - center_y) * np.sin(angle)
        across = (y - center_y) * np.cos(angle) - (x - center_x) * np.sin(angle)
        radius = np.sqrt((along / long) ** 2 + (across / short) ** 2)  # 1 on the edge
        own = brightness * generator.uniform(0.5, 1.5)
        light = np.maximum(light, own / (1 + np.exp((radius - 1) * 14)))
        mask |= radius < 1
    direction = generator.uniform(0, 2 * np.pi)
    slope = (x - 0.5) * np.cos(direction) + (y - 0.5) * np.sin(direction)
    light += 15 + brightness * generator.uniform(0.2, 0.8) * (slope + 0.7)
    light += generator.normal(0, 0.12 * brightness, light.shape)
    rows, columns = generator.integers(0, side, (2, generator.integers(0, 12)))
    light[rows, columns] += 1.2 * brightness
    return np.clip(light, 0, 255).astype(np.uint8), mask
