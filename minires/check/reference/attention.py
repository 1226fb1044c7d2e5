"""Attention index by index: one query, one score for each key, one weighted mean of the values."""

from __future__ import annotations

import math

import numpy as np

from minires.backend import Array


def scaled_dot_product_attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    drop: Array | None = None,
) -> Array:
    """q (*, T, E), k (*, S, E), v (*, S, D), mask (*, T, S) bool or float, leading axes equal. Returns (*, T, D).

    drop (*, T, S) is what dropout multiplies each weight by.
    """
    *batch, length, width = q.shape
    scale = 1 / math.sqrt(width) if scale is None else scale
    y = np.zeros((*batch, length, v.shape[-1]), np.result_type(q, k, v))
    for n in np.ndindex(*batch):
        for t in range(length):
            weights = {}
            for s in range(k.shape[-2]):
                hidden = (is_causal and s > t) or (mask is not None and mask.dtype == bool and not mask[*n, t, s])
                if hidden:
                    continue
                score = sum(q[*n, t, e] * k[*n, s, e] for e in range(width)) * scale
                if mask is not None and mask.dtype != bool:
                    score += mask[*n, t, s]
                weights[s] = np.exp(score)
            total = sum(weights.values())
            for s, weight in weights.items():
                kept = 1.0 if drop is None else drop[*n, t, s]
                for d in range(v.shape[-1]):
                    y[*n, t, d] += weight / total * kept * v[*n, s, d]
    return y
