"""Reductions index by index. `dim` is a tuple of axes; the reduced axes stay, with length 1.

For each place of y, `along` walks through the places of x that are reduced into it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from minires.backend import Array


def sum(x: Array, dim: tuple[int, ...]) -> Array:
    """y = Σ x."""
    y = np.zeros(kept(x, dim))
    for i in np.ndindex(y.shape):
        for j in along(x, i, dim):
            y[i] += x[j]
    return y


def mean(x: Array, dim: tuple[int, ...]) -> Array:
    """y = (Σ x) / n."""
    y = np.zeros(kept(x, dim))
    for i in np.ndindex(y.shape):
        n = 0
        for j in along(x, i, dim):
            y[i] += x[j]
            n += 1
        y[i] /= n
    return y


def var(x: Array, dim: tuple[int, ...], correction: float = 1) -> Array:
    """y = Σ (x - mean)^2 / (n - correction)."""
    y, m = np.zeros(kept(x, dim)), mean(x, dim)
    for i in np.ndindex(y.shape):
        n = 0
        for j in along(x, i, dim):
            y[i] += (x[j] - m[i]) ** 2
            n += 1
        y[i] /= n - correction
    return y


def std(x: Array, dim: tuple[int, ...], correction: float = 1) -> Array:
    """y = sqrt(var)."""
    return np.sqrt(var(x, dim, correction))


def amax(x: Array, dim: tuple[int, ...]) -> Array:
    """y = max x."""
    y = np.full(kept(x, dim), -math.inf)
    for i in np.ndindex(y.shape):
        for j in along(x, i, dim):
            if x[j] > y[i]:
                y[i] = x[j]
    return y


def amin(x: Array, dim: tuple[int, ...]) -> Array:
    """y = min x."""
    return -amax(-x, dim)


def argmax(x: Array, dim: int) -> Array:
    """The first place along one axis where x is largest."""
    y, largest = np.zeros(kept(x, (dim,)), np.int64), amax(x, (dim,))
    for i in np.ndindex(y.shape):
        for j in reversed(list(along(x, i, (dim,)))):
            if x[j] == largest[i]:
                y[i] = j[dim]
    return y


def argmin(x: Array, dim: int) -> Array:
    """The first place along one axis where x is smallest."""
    return argmax(-x, dim)


def logsumexp(x: Array, dim: tuple[int, ...]) -> Array:
    """y = log Σ exp(x): the textbook formula, without the shift that keeps exp from overflowing."""
    y = np.zeros(kept(x, dim))
    for i in np.ndindex(y.shape):
        for j in along(x, i, dim):
            y[i] += math.exp(x[j])
        y[i] = math.log(y[i])
    return y


def kept(x: Array, dim: tuple[int, ...]) -> tuple[int, ...]:
    """x's shape, with length 1 for the axes reduced over."""
    return tuple(1 if axis in dim else n for axis, n in enumerate(x.shape))


def along(x: Array, i: tuple[int, ...], dim: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Every place of x that is reduced into place i of y."""
    for j in np.ndindex(x.shape):
        if all(j[axis] == i[axis] for axis in range(x.ndim) if axis not in dim):
            yield j
