"""Matrix products, one multiplication at a time."""

from __future__ import annotations

import numpy as np

from minires.backend import Array


def matmul(x: Array, w: Array) -> Array:
    """y[..., t, d] = sum_k x[..., t, k] w[..., k, d]; a 1-D x is one row, a 1-D w one column."""
    x2 = x[None, :] if x.ndim == 1 else x
    w2 = w[:, None] if w.ndim == 1 else w
    batch = np.broadcast_shapes(x2.shape[:-2], w2.shape[:-2])
    x2 = np.broadcast_to(x2, (*batch, *x2.shape[-2:]))
    w2 = np.broadcast_to(w2, (*batch, *w2.shape[-2:]))
    y = np.zeros((*batch, x2.shape[-2], w2.shape[-1]))
    for n in np.ndindex(batch):
        for t in range(x2.shape[-2]):
            for d in range(w2.shape[-1]):
                for k in range(x2.shape[-1]):
                    y[(*n, t, d)] += x2[(*n, t, k)] * w2[(*n, k, d)]
    if w.ndim == 1:
        y = y[..., 0]
    return y[..., 0] if x.ndim == w.ndim == 1 else y[..., 0, :] if x.ndim == 1 else y


def linear(x: Array, w: Array, b: Array | None = None) -> Array:
    """y[..., o] = sum_d x[..., d] w[o, d] + b[o]."""
    y = np.zeros((*x.shape[:-1], w.shape[0]))
    for n in np.ndindex(x.shape[:-1]):
        for o in range(w.shape[0]):
            for d in range(w.shape[1]):
                y[(*n, o)] += x[(*n, d)] * w[o, d]
            if b is not None:
                y[(*n, o)] += b[o]
    return y
