"""Looking rows up, one number at a time."""

from __future__ import annotations

import numpy as np

from minires.backend import Array


def embedding(indices: Array, w: Array) -> Array:
    """y[..., d] = w[indices[...], d]."""
    y = np.empty((*indices.shape, w.shape[1]), w.dtype)
    for i in np.ndindex(indices.shape):
        for d in range(w.shape[1]):
            y[(*i, d)] = w[indices[i], d]
    return y


def one_hot(indices: Array, num_classes: int) -> Array:
    """y[..., k] = 1 where k = indices[...], else 0."""
    y = np.zeros((*indices.shape, num_classes), np.int64)
    for i in np.ndindex(indices.shape):
        for k in range(num_classes):
            if k == indices[i]:
                y[(*i, k)] = 1
    return y
