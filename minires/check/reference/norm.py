"""Normalization index by index: collect a set, take its mean and variance, normalize its members.

The twins below hold for complex arrays too, so nothing here takes a modulus: the variance is mean((x - mu)^2).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minires.backend import Array


def normalized(members: list[Any], eps: float) -> list[Any]:
    """The members of one set, if it has any, less their mean, over sigma = sqrt(variance + eps)."""
    if not members:
        return []
    mu = sum(members) / len(members)
    var = sum((x - mu) ** 2 for x in members) / len(members)
    sigma = np.sqrt(var + eps)
    return [(x - mu) / sigma for x in members]


def affine(xhat: Any, w: Array | None, b: Array | None, at: Any) -> Any:
    """w xhat + b with the gain and bias at one place, where None stands for 1 and 0."""
    return (1.0 if w is None else w[at]) * xhat + (0.0 if b is None else b[at])


def batch_norm(x: Array, w: Array | None = None, b: Array | None = None, eps: float = 1e-5) -> Array:
    """In training: a set is one channel, over every sample and every position."""
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        places = [(n, c, *at) for n in range(x.shape[0]) for at in np.ndindex(x.shape[2:])]
        for place, xhat in zip(places, normalized([x[p] for p in places], eps), strict=True):
            y[place] = affine(xhat, w, b, c)
    return y


def batch_norm_eval(
    x: Array, mean: Array, var: Array, w: Array | None = None, b: Array | None = None, eps: float = 1e-5
) -> Array:
    """At rest: mean and variance are given, so every number goes its own way."""
    y = np.empty_like(x)
    for n, c, *at in np.ndindex(x.shape):
        y[n, c, *at] = affine((x[n, c, *at] - mean[c]) / np.sqrt(var[c] + eps), w, b, c)
    return y


def layer_norm(
    x: Array, normalized_shape: tuple[int, ...], w: Array | None = None, b: Array | None = None, eps: float = 1e-5
) -> Array:
    """A set is one row: the trailing axes at one place of the leading ones."""
    y = np.empty_like(x)
    for row in np.ndindex(x.shape[: x.ndim - len(normalized_shape)]):
        places = list(np.ndindex(normalized_shape))
        for d, xhat in zip(places, normalized([x[row + d] for d in places], eps), strict=True):
            y[row + d] = affine(xhat, w, b, d)
    return y


def group_norm(x: Array, num_groups: int, w: Array | None = None, b: Array | None = None, eps: float = 1e-5) -> Array:
    """A set is one group of neighboring channels of one sample, over every position."""
    y = np.empty_like(x)
    width = x.shape[1] // num_groups
    for n in range(x.shape[0]):
        for g in range(num_groups):
            places = [(n, g * width + i, *at) for i in range(width) for at in np.ndindex(x.shape[2:])]
            for place, xhat in zip(places, normalized([x[p] for p in places], eps), strict=True):
                y[place] = affine(xhat, w, b, place[1])
    return y


def rms_norm(x: Array, normalized_shape: tuple[int, ...], w: Array | None = None, eps: float = 1e-5) -> Array:
    """A set is one row; its root mean square is divided out, its mean stays."""
    y = np.empty_like(x)
    for row in np.ndindex(x.shape[: x.ndim - len(normalized_shape)]):
        places = list(np.ndindex(normalized_shape))
        rms = np.sqrt(sum(x[row + d] ** 2 for d in places) / len(places) + eps)
        for d in places:
            y[row + d] = affine(x[row + d] / rms, w, None, d)
    return y
