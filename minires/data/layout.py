"""Images in memory: shape (N, C, H, W), but with the channels of a pixel side by side, as the NumPy kernels keep them.

A window of an image is then a few long runs of bytes, and what is done to each channel a long row's work.
"""

from __future__ import annotations

import numpy as np


def channels_last(images: np.ndarray) -> np.ndarray:
    """The images (N, C, H, W) as a contiguous (N, H, W, C) array: a view where memory allows, else a copy."""
    seen = images.transpose(0, 2, 3, 1)
    if seen.flags.c_contiguous:
        return seen
    copy = np.empty(seen.shape, images.dtype)  # (N, H, W, C)
    for channel in range(seen.shape[3]):  # half the time of one copy, whose inner loop would be the channels
        copy[..., channel] = seen[..., channel]
    return copy


def logical(images: np.ndarray) -> np.ndarray:
    """(N, H, W, C) seen as (N, C, H, W)."""
    return images.transpose(0, 3, 1, 2)
