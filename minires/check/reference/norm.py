"""Normalization index by index: collect a set, take its mean and variance, normalize its members.

The twins below hold for complex arrays too, so nothing here takes a modulus: the variance is mean((x - mu)^2).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minires.backend import Array


def normalized(members: list[Any], eps: float) -> list[Any]:
    """The members of one set less their mean, over sigma = sqrt(variance + eps)."""
    mu = sum(members) / len(members)
    var = sum((x - mu) ** 2 for x in members) / len(members)
    sigma = np.sqrt(var + eps)
    return [(x - mu) / sigma for x in members]


def batch_norm(x: Array, w: Array, b: Array, eps: float = 1e-5) -> Array:
    """In training: a set is one channel, over every sample and every position."""
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        places = [(n, c, *at) for n in range(x.shape[0]) for at in np.ndindex(x.shape[2:])]
        for place, xhat in zip(places, normalized([x[p] for p in places], eps), strict=True):
            y[place] = w[c] * xhat + b[c]
    return y


def batch_norm_eval(x: Array, mean: Array, var: Array, w: Array, b: Array, eps: float = 1e-5) -> Array:
    """At rest: mean and variance are given, so every number goes its own way."""
    y = np.empty_like(x)
    for n, c, *at in np.ndindex(x.shape):
        y[n, c, *at] = w[c] * (x[n, c, *at] - mean[c]) / np.sqrt(var[c] + eps) + b[c]
    return y


def layer_norm(x: Array, normalized_shape: tuple[int, ...], w: Array, b: Array, eps: float = 1e-5) -> Array:
    """A set is one row: the trailing axes at one place of the leading ones."""
    y = np.empty_like(x)
    for row in np.ndindex(x.shape[: x.ndim - len(normalized_shape)]):
        places = list(np.ndindex(normalized_shape))
        for d, xhat in zip(places, normalized([x[row + d] for d in places], eps), strict=True):
            y[row + d] = w[d] * xhat + b[d]
    return y


def group_norm(x: Array, num_groups: int, w: Array, b: Array, eps: float = 1e-5) -> Array:
    """A set is one group of neighboring channels of one sample, over every position."""
    y = np.empty_like(x)
    width = x.shape[1] // num_groups
    for n in range(x.shape[0]):
        for g in range(num_groups):
            places = [(n, g * width + i, *at) for i in range(width) for at in np.ndindex(x.shape[2:])]
            for place, xhat in zip(places, normalized([x[p] for p in places], eps), strict=True):
                y[place] = w[place[1]] * xhat + b[place[1]]
    return y


def rms_norm(x: Array, normalized_shape: tuple[int, ...], w: Array, eps: float = 1e-5) -> Array:
    """A set is one row; its root mean square is divided out, its mean stays."""
    y = np.empty_like(x)
    for row in np.ndindex(x.shape[: x.ndim - len(normalized_shape)]):
        places = list(np.ndindex(normalized_shape))
        rms = np.sqrt(sum(x[row + d] ** 2 for d in places) / len(places) + eps)
        for d in places:
            y[row + d] = w[d] * x[row + d] / rms
    return y
