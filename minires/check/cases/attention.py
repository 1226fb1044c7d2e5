"""Attention with T != S, batches and heads that broadcast, every kind of mask, and dropout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minires import backend
from minires.backend import Array
from minires.check.case import Case, case
from minires.check.draw import Draw
from minires.check.oracles import steady
from minires.check.reference import attention as loops
from minires.check.reference import composed
from minires.ops.attention import ScaledDotProductAttention


def visible(draw: Draw, *shape: int) -> Array:
    """A mask (*, T, S) of which every row shows two keys at least, where there are two."""
    first = draw.integers(shape[-1], *shape[:-1], 1)
    seen = np.arange(shape[-1])
    return draw.mask(*shape) | (seen == first) | (seen == (first + 1) % shape[-1])


def masks(draw: Draw, scores: tuple[int, ...]) -> Array | None:
    """None, bool or float, shaped like the scores (*, T, S) or broadcasting to them; now and then a query sees none.

    A float mask is not repeated along S, nor given for a single key: then its gradient is zero.
    """
    kind = draw.choice(["none", "float", "bool", "hiding", "float", "blind", "float"])
    if kind == "none":
        return None
    if kind == "blind":
        return draw.mask(*draw.broadcastable(scores))
    if kind == "bool" or scores[-1] == 1 or 0 in scores:
        return visible(draw, *draw.broadcastable(scores[:-1]), scores[-1])
    shape = (*draw.broadcastable(scores[:-1]), scores[-1])
    mask = draw.normal(*shape)
    return np.where(visible(draw, *shape), mask, -math.inf) if kind == "hiding" else mask


def dropping(shape: tuple[int, ...], p: float) -> Array | None:
    """What the op will multiply its weights by."""
    if not p:
        return None
    with steady():
        return (backend.generator().random(shape) >= p) / (1 - p)


@case(ScaledDotProductAttention)
def scaled_dot_product_attention(draw: Draw) -> Case:
    lead = draw.choice([(), (2,), (1, 2), (2, 2), (0,), (3,)])
    t, s, e, d = draw.size(1, 3), draw.choice([2, 3, 1, 3]), draw.size(1, 3), draw.size(1, 3)
    q = draw.normal(*draw.broadcastable(lead), t, e)
    k = draw.normal(*draw.broadcastable(lead), s, e)
    v = draw.normal(*draw.broadcastable(lead), s, d)
    whole = (*np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2]), t, s)
    is_causal = draw.integer(0, 4) == 4
    mask = None if is_causal else masks(draw, whole)
    p, scale = draw.choice([0.0, 0.3, 0.0, 0.6]), draw.choice([1 / math.sqrt(e), 0.4, 1.5])
    looks = np.broadcast_shapes(
        (*np.broadcast_shapes(q.shape[:-2], k.shape[:-2]), t, s), () if mask is None else mask.shape
    )
    drop = dropping(looks, p)

    def reference(q: Array, k: Array, v: Array, mask: Array | None) -> Array:
        wide: list[Any] = [np.broadcast_to(x, (*whole[:-2], *x.shape[-2:])) for x in (q, k, v)]
        others = [None if x is None else np.broadcast_to(x, whole) for x in (mask, drop)]
        return loops.scaled_dot_product_attention(wide[0], wide[1], wide[2], others[0], is_causal, scale, others[1])

    shown = np.tri(t, s, dtype=bool) if is_causal else mask if mask is not None and mask.dtype == bool else None
    added = mask if shown is None else np.where(np.broadcast_to(shown, looks), 0.0, -math.inf)
    keys = np.full(t, s) if added is None else np.sum(np.broadcast_to(added, looks) > -math.inf, axis=-1)

    def by_parts(q: Any, k: Any, v: Any, mask: Any) -> Any:
        return composed.scaled_dot_product_attention(q, k, v, mask if shown is None else added, scale, drop)

    def torch(q: Any, k: Any, v: Any, mask: Any) -> Any:
        import torch as peer
        from torch.nn import functional as F

        if drop is None:
            q, k, v = (x.expand(*whole[:-2], *x.shape[-2:]) for x in (q, k, v))
            return F.scaled_dot_product_attention(q, k, v, mask, 0.0, is_causal, scale=scale)
        scores = q @ k.transpose(-1, -2) * scale
        bias = mask if shown is None else peer.tensor(added)
        return ((scores if bias is None else scores + bias).softmax(-1) * peer.tensor(drop)) @ v

    # 0 / 0 by parts where a query sees no key; where none sees two, gq and gk are 0, and rounding errors by parts
    apt = keys.size > 0 and keys.min() > 0 and keys.max() > 1
    return Case(
        (q, k, v, mask),
        {"dropout_p": p, "is_causal": is_causal, "scale": scale},
        reference=reference,
        composed=by_parts if apt else None,
        torch=torch if apt else None,
    )
