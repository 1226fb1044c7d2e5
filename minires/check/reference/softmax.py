"""Softmax index by index: the textbook formula, without the shift that keeps exp from overflowing."""

from __future__ import annotations

import numpy as np

from minires.backend import Array


def softmax(x: Array, dim: int) -> Array:
    """exp(x) over the sum of exp(x) along `dim`."""
    y = np.empty_like(x)
    dim %= x.ndim
    for i in np.ndindex(x.shape):
        total = sum(np.exp(x[*i[:dim], j, *i[dim + 1 :]]) for j in range(x.shape[dim]))
        y[i] = np.exp(x[i]) / total
    return y


def log_softmax(x: Array, dim: int) -> Array:
    """The logarithm of `softmax`."""
    return np.log(softmax(x, dim))
