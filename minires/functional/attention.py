"""Attention under torch's name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minires.engine import Tensor
from minires.errors import RequestError
from minires.ops.attention import ScaledDotProductAttention

__all__ = ["scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale query key^T + mask) value: every query's weighted mean of the values, (*, T, D).

    query        (*, T, E); key (*, S, E); value (*, S, D). Leading axes, such as batch and heads, broadcast
    attn_mask    broadcasts to (*, T, S). Bool: True where a query may look. Float: added to the scores, and
                 differentiated if it requires a gradient
    dropout_p    the probability with which a weight is dropped. Always applied: pass 0.0 in evaluation
    is_causal    query t looks at keys 0..t only; not together with attn_mask
    scale        1 / sqrt(E) unless given

    A query that may look nowhere gets zeros. Raises RequestError for shapes that do not fit, and for is_causal
    together with attn_mask.
    """
    name = "scaled_dot_product_attention"
    shapes = f"query is {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise RequestError(f"{name}: {shapes}, but each needs two axes at least, (..., length, features)")
    if query.shape[-1] != key.shape[-1]:
        raise RequestError(f"{name}: {shapes}; query and key must agree in their last axis, the features")
    if key.shape[-2] != value.shape[-2]:
        raise RequestError(f"{name}: {shapes}; key and value must agree in their last axis but one, the length")
    try:
        leading = np.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    except ValueError:
        raise RequestError(f"{name}: {shapes}, whose leading axes do not broadcast") from None
    if attn_mask is not None:
        if is_causal:
            raise RequestError(
                f"{name}: attn_mask and is_causal=True were both given; put the causal part into the mask"
            )
        _check_mask(name, attn_mask, query, (*leading, query.shape[-2], key.shape[-2]))
    if not 0 <= dropout_p <= 1:
        raise RequestError(f"{name}: dropout_p is {dropout_p}, but a probability lies between 0 and 1")
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
    return ScaledDotProductAttention.apply(
        query, key, value, attn_mask, dropout_p=float(dropout_p), is_causal=bool(is_causal), scale=scale
    )


def _check_mask(name: str, mask: Any, query: Any, scores: tuple[int, ...]) -> None:
    if mask.dtype.kind not in "bfc":
        raise TypeError(
            f"{name}: attn_mask is of dtype {mask.dtype}, but must be bool (True: may look) or float (added)"
        )
    if mask.dtype.kind in "fc" and np.finfo(mask.dtype).dtype != np.finfo(query.dtype).dtype:
        raise TypeError(f"{name}: attn_mask is of dtype {mask.dtype}, but must be bool or query's {query.dtype}")
    try:
        fits = np.broadcast_shapes(mask.shape, scores) == scores
    except ValueError:
        fits = False
    if not fits:
        raise RequestError(
            f"{name}: attn_mask is {tuple(mask.shape)}, which does not broadcast to the scores, {scores}"
        )
