"""Losses index by index: one sample, one class, one number at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minires.backend import Array


def reduced(losses: Array, reduction: str, total: float) -> Any:
    """All losses, their sum, or their sum over `total`."""
    if reduction == "none":
        return losses
    added = sum(losses[i] for i in np.ndindex(losses.shape))
    return added if reduction == "sum" else added / total


def log_probabilities(scores: Sequence[Any]) -> list[Any]:
    """log softmax of one sample's scores."""
    total = sum(np.exp(s) for s in scores)
    return [np.log(np.exp(s) / total) for s in scores]


def factor(w: Array | None, at: Any) -> Any:
    """The weight at one place, where None stands for 1."""
    return 1.0 if w is None else w[at]


def nll_loss(x: Array, t: Array, w: Array | None = None, ignore_index: int = -100, reduction: str = "mean") -> Any:
    """x (N, C, *), t (N, *): minus the weighted entry of x at the target's class."""
    losses, total = np.zeros(t.shape, x.dtype), 0.0
    for n, *at in np.ndindex(t.shape):
        c = t[n, *at]
        if c != ignore_index:
            losses[n, *at] = -factor(w, c) * x[n, c, *at]
            total += factor(w, c)
    return reduced(losses, reduction, total)


def cross_entropy(
    x: Array,
    t: Array,
    w: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """x (N, C, *) logits, t (N, *) classes: minus the weighted log-probabilities, a smoothed share of each class."""
    losses, total = np.zeros(t.shape, x.dtype), 0.0
    classes = x.shape[1]
    for n, *at in np.ndindex(t.shape):
        if t[n, *at] == ignore_index:
            continue
        logp = log_probabilities([x[n, c, *at] for c in range(classes)])
        for c in range(classes):
            q = label_smoothing / classes + (1 - label_smoothing) * (c == t[n, *at])
            losses[n, *at] -= factor(w, c) * q * logp[c]
        total += factor(w, t[n, *at])
    return reduced(losses, reduction, total)


def cross_entropy_soft(
    x: Array, t: Array, w: Array | None = None, reduction: str = "mean", label_smoothing: float = 0.0
) -> Any:
    """x (N, C, *) logits, t (N, C, *) class probabilities."""
    classes = x.shape[1]
    losses = np.zeros((x.shape[0], *x.shape[2:]), np.result_type(x, t))
    for n, *at in np.ndindex(losses.shape):
        logp = log_probabilities([x[n, c, *at] for c in range(classes)])
        for c in range(classes):
            q = label_smoothing / classes + (1 - label_smoothing) * t[n, c, *at]
            losses[n, *at] -= factor(w, c) * q * logp[c]
    return reduced(losses, reduction, losses.size)


def mse_loss(x: Array, t: Array, reduction: str = "mean") -> Any:
    """(x - t)^2."""
    losses = np.empty_like(x)
    for i in np.ndindex(x.shape):
        losses[i] = (x[i] - t[i]) ** 2
    return reduced(losses, reduction, x.size)


def l1_loss(x: Array, t: Array, reduction: str = "mean") -> Any:
    """|x - t|."""
    losses = np.empty_like(x)
    for i in np.ndindex(x.shape):
        losses[i] = x[i] - t[i] if x[i] > t[i] else t[i] - x[i]
    return reduced(losses, reduction, x.size)


def smooth_l1_loss(x: Array, t: Array, reduction: str = "mean", beta: float = 1.0) -> Any:
    """A parabola for |x - t| < beta, straight lines of slope 1 beyond."""
    losses = np.empty_like(x)
    for i in np.ndindex(x.shape):
        d = abs(x[i] - t[i])
        losses[i] = d**2 / (2 * beta) if d < beta else d - beta / 2
    return reduced(losses, reduction, x.size)


def huber_loss(x: Array, t: Array, reduction: str = "mean", delta: float = 1.0) -> Any:
    """A parabola for |x - t| < delta, straight lines of slope delta beyond."""
    losses = np.empty_like(x)
    for i in np.ndindex(x.shape):
        d = abs(x[i] - t[i])
        losses[i] = d**2 / 2 if d < delta else delta * (d - delta / 2)
    return reduced(losses, reduction, x.size)


def binary_cross_entropy_with_logits(
    x: Array, t: Array, w: Array | None = None, pos_weight: Array | None = None, reduction: str = "mean"
) -> Any:
    """-w (pos_weight t log p + (1 - t) log(1 - p)) with p = 1 / (1 + exp(-x)); arrays that are given: like x."""
    losses = np.empty_like(x)
    for i in np.ndindex(x.shape):
        p = 1 / (1 + np.exp(-x[i]))
        losses[i] = -factor(w, i) * (factor(pos_weight, i) * t[i] * np.log(p) + (1 - t[i]) * np.log(1 - p))
    return reduced(losses, reduction, x.size)


def dice_loss(x: Array, t: Array, eps: float = 1.0, reduction: str = "mean") -> Any:
    """1 - (2 sum(x t) + eps) / (sum(x) + sum(t) + eps) for each sample and channel of (N, C, *)."""
    losses = np.empty(x.shape[:2], x.dtype)
    for n, c in np.ndindex(x.shape[:2]):
        both = either = 0.0
        for at in np.ndindex(x.shape[2:]):
            both += x[n, c, *at] * t[n, c, *at]
            either += x[n, c, *at] + t[n, c, *at]
        losses[n, c] = 1 - (2 * both + eps) / (either + eps)
    return reduced(losses, reduction, losses.size)
