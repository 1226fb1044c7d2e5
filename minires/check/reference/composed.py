"""Fused ops taken apart: the same formulas out of elementary ops, each of which brings its own backward.

A fused op and its composition must agree in value and in every gradient. So the hand-derived backward of a
fused op is checked against the chain rule at work, with nothing derived by hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minires.engine import Tensor
from minires.functional.elementwise import add, div, exp, log, mul, sqrt, sub
from minires.functional.linear import matmul
from minires.functional.reduce import mean, sum
from minires.functional.shape import reshape, transpose


def standardize(x: Any, dims: Sequence[int], eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) over `dims`."""
    centered = sub(x, mean(x, dims, keepdim=True))
    var = mean(mul(centered, centered), dims, keepdim=True)
    return div(centered, sqrt(add(var, eps)))


def affine(xhat: Any, w: Any, b: Any, shape: Sequence[int]) -> Tensor:
    """w xhat + b, the gain and the bias in `shape`; None stands for 1 and 0."""
    y = xhat if w is None else mul(xhat, reshape(w, shape))
    return y if b is None else add(y, reshape(b, shape))


def batch_norm(x: Any, w: Any = None, b: Any = None, eps: float = 1e-5) -> Tensor:
    """x (N, C, *) in training: statistics over every axis but the channels."""
    return affine(standardize(x, (0, *range(2, x.ndim)), eps), w, b, column(x))


def batch_norm_eval(
    x: Any, running_mean: Any, running_var: Any, w: Any = None, b: Any = None, eps: float = 1e-5
) -> Tensor:
    """x (N, C, *) at rest: statistics are given."""
    sigma = sqrt(add(reshape(running_var, column(x)), eps))
    return affine(div(sub(x, reshape(running_mean, column(x))), sigma), w, b, column(x))


def layer_norm(x: Any, normalized_shape: Sequence[int], w: Any = None, b: Any = None, eps: float = 1e-5) -> Tensor:
    """Statistics over the trailing axes."""
    return affine(standardize(x, tuple(range(-len(normalized_shape), 0)), eps), w, b, normalized_shape)


def group_norm(x: Any, num_groups: int, w: Any = None, b: Any = None, eps: float = 1e-5) -> Tensor:
    """x (N, C, *): statistics over one group of channels of one sample."""
    groups = reshape(x, (x.shape[0], num_groups, math.prod(x.shape[1:]) // num_groups))  # (N, G, m)
    return affine(reshape(standardize(groups, (2,), eps), tuple(x.shape)), w, b, column(x))


def rms_norm(x: Any, normalized_shape: Sequence[int], w: Any = None, eps: float = 1e-5) -> Tensor:
    """x over the root of its mean square."""
    square = mean(mul(x, x), tuple(range(-len(normalized_shape), 0)), keepdim=True)
    return affine(div(x, sqrt(add(square, eps))), w, None, normalized_shape)


def column(x: Any) -> tuple[int, ...]:
    """The shape in which one number a channel stands beside x (N, C, *)."""
    return (1, x.shape[1], *[1] * (x.ndim - 2))


def softmax(x: Any, dim: int) -> Tensor:
    """exp(x) / sum(exp(x))."""
    e = exp(x)
    return div(e, sum(e, dim, keepdim=True))


def log_softmax(x: Any, dim: int) -> Tensor:
    """x - log(sum(exp(x)))."""
    return sub(x, log(sum(exp(x), dim, keepdim=True)))


def scaled_dot_product_attention(
    q: Any, k: Any, v: Any, mask: Any = None, scale: float | None = None, drop: Any = None
) -> Tensor:
    """(drop softmax(scale q k^T + mask)) v, with a float mask, which may hold -inf."""
    scores = mul(matmul(q, transpose(k, -1, -2)), 1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    p = softmax(scores if mask is None else add(scores, mask), -1)
    return matmul(p if drop is None else mul(p, drop), v)


def cross_entropy(x: Any, q: Any, reduction: str = "mean", total: float | None = None) -> Tensor:
    """-sum_c q log softmax(x) of every sample, for x and q (N, C, *) or (C,); the mean is over `total` samples."""
    classes = min(x.ndim - 1, 1)
    losses = mul(sum(mul(log_softmax(x, classes), q), classes), -1.0)
    return reduced(losses, reduction, total)


def binary_cross_entropy_with_logits(x: Any, t: Any, w: Any = None, u: Any = None, reduction: str = "mean") -> Tensor:
    """-w (u t log p + (1 - t) log(1 - p)), p = 1 / (1 + exp(-x))."""
    p = div(1.0, add(exp(mul(x, -1.0)), 1.0))
    yes = mul(t, log(p))
    losses = mul(add(yes if u is None else mul(yes, u), mul(sub(1.0, t), log(sub(1.0, p)))), -1.0)
    return reduced(losses if w is None else mul(losses, w), reduction)


def reduced(losses: Any, reduction: str, total: float | None = None) -> Tensor:
    """All losses, their sum, or their sum over `total`, which is their number unless given."""
    if reduction == "none":
        return losses
    return sum(losses) if reduction == "sum" else div(sum(losses), losses.size if total is None else total)
