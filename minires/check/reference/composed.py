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


def batch_norm(x: Any, w: Any, b: Any, eps: float = 1e-5) -> Tensor:
    """x (N, C, *) in training: statistics over every axis but the channels."""
    column = (1, x.shape[1], *[1] * (x.ndim - 2))
    xhat = standardize(x, (0, *range(2, x.ndim)), eps)
    return add(mul(xhat, reshape(w, column)), reshape(b, column))


def batch_norm_eval(x: Any, running_mean: Any, running_var: Any, w: Any, b: Any, eps: float = 1e-5) -> Tensor:
    """x (N, C, *) at rest: statistics are given."""
    column = (1, x.shape[1], *[1] * (x.ndim - 2))
    sigma = sqrt(add(reshape(running_var, column), eps))
    xhat = div(sub(x, reshape(running_mean, column)), sigma)
    return add(mul(xhat, reshape(w, column)), reshape(b, column))


def layer_norm(x: Any, normalized_shape: Sequence[int], w: Any, b: Any, eps: float = 1e-5) -> Tensor:
    """Statistics over the trailing axes."""
    return add(mul(standardize(x, tuple(range(-len(normalized_shape), 0)), eps), w), b)


def group_norm(x: Any, num_groups: int, w: Any, b: Any, eps: float = 1e-5) -> Tensor:
    """x (N, C, *): statistics over one group of channels of one sample."""
    column = (1, x.shape[1], *[1] * (x.ndim - 2))
    groups = reshape(x, (x.shape[0], num_groups, -1))  # (N, G, m)
    xhat = reshape(standardize(groups, (2,), eps), tuple(x.shape))
    return add(mul(xhat, reshape(w, column)), reshape(b, column))


def rms_norm(x: Any, normalized_shape: Sequence[int], w: Any, eps: float = 1e-5) -> Tensor:
    """x over the root of its mean square."""
    square = mean(mul(x, x), tuple(range(-len(normalized_shape), 0)), keepdim=True)
    return mul(div(x, sqrt(add(square, eps))), w)


def softmax(x: Any, dim: int) -> Tensor:
    """exp(x) / sum(exp(x))."""
    e = exp(x)
    return div(e, sum(e, dim, keepdim=True))


def log_softmax(x: Any, dim: int) -> Tensor:
    """x - log(sum(exp(x)))."""
    return sub(x, log(sum(exp(x), dim, keepdim=True)))


def scaled_dot_product_attention(q: Any, k: Any, v: Any, mask: Any = None) -> Tensor:
    """softmax(q k^T / sqrt(E) + mask) v, with a float mask."""
    scores = mul(matmul(q, transpose(k, -1, -2)), 1 / math.sqrt(q.shape[-1]))
    return matmul(softmax(scores if mask is None else add(scores, mask), -1), v)


def cross_entropy(x: Any, q: Any) -> Tensor:
    """The mean over the samples of -sum_c q log softmax(x), for x and q (N, C, *)."""
    return div(sum(mul(log_softmax(x, 1), q)), -(math.prod(x.shape) // x.shape[1]))


def binary_cross_entropy_with_logits(x: Any, t: Any) -> Tensor:
    """The mean of -(t log p + (1 - t) log(1 - p)), p = 1 / (1 + exp(-x))."""
    p = div(1.0, add(exp(mul(x, -1.0)), 1.0))
    return mul(mean(add(mul(t, log(p)), mul(sub(1.0, t), log(sub(1.0, p))))), -1.0)
