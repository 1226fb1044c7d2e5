"""Dropout, one number at a time, from random numbers that are given."""

from __future__ import annotations

import numpy as np

from minires.backend import Array


def dropout(x: Array, u: Array, p: float) -> Array:
    """y = x / (1 - p) where u >= p, else 0; u is x's shape, or has length 1 along axes that share a fate."""
    y = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        if u[tuple(0 if n == 1 else k for k, n in zip(i, u.shape, strict=True))] >= p:
            y[i] = x[i] / (1 - p)
    return y
