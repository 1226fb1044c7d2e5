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
    """A mask (*, T, S) of which every row shows one key at least."""
    mask = draw.mask(*shape)
    return mask | (np.arange(shape[-1]) == draw.integers(shape[-1], *shape[:-1], 1))


def masks(draw: Draw, scores: tuple[int, ...]) -> Array | None:
    """None, bool or float, shaped like the scores (*, T, S) or broadcasting to them; now and then a query sees none."""
    kind, shape = draw.choice(["none", "bool", "float", "hiding", "none", "blind"]), draw.broadcastable(scores)
    if kind == "none":
        return None
    if kind == "blind":
        return draw.mask(*shape)
    if kind == "bool":
        return visible(draw, *shape) if shape else np.asarray(True)
    mask = draw.normal(*shape)
    return np.where(visible(draw, *shape), mask, -math.inf) if kind == "hiding" and shape else mask


def dropping(shape: tuple[int, ...], p: float) -> Array | None:
    """What the op will multiply its weights by."""
    if not p:
        return None
    with steady():
        return (backend.generator().random(shape) >= p) / (1 - p)


@case(ScaledDotProductAttention)
def scaled_dot_product_attention(draw: Draw) -> Case:
    lead = draw.choice([(), (2,), (1, 2), (2, 2), (0,), (3,)])
    t, s, e, d = (draw.size(1, 3) for _ in range(4))
    q = draw.normal(*draw.broadcastable(lead), t, e)
    k = draw.normal(*draw.broadcastable(lead), s, e)
    v = draw.normal(*draw.broadcastable(lead), s, d)
    whole = (*np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2]), t, s)
    is_causal = draw.integer(0, 3) == 3
    mask = None if is_causal else masks(draw, whole)
    p, scale = draw.choice([0.0, 0.3, 0.0, 0.6]), draw.choice([1 / math.sqrt(e), 0.4, 1.5])
    looks = np.broadcast_shapes((*np.broadcast_shapes(q.shape[:-2], k.shape[:-2]), t, s), np.shape(mask))
    drop = dropping(looks, p)

    def reference(q: Array, k: Array, v: Array, mask: Array | None) -> Array:
        wide = [np.broadcast_to(x, (*whole[:-2], *x.shape[-2:])) for x in (q, k, v)]
        others = [None if x is None else np.broadcast_to(x, whole) for x in (mask, drop)]
        return loops.scaled_dot_product_attention(*wide, others[0], is_causal, scale, others[1])

    hidden = _hidden(mask, is_causal, (t, s))

    def by_parts(q: Any, k: Any, v: Any, mask: Any) -> Any:
        added = hidden if mask is None or mask.dtype == bool else mask
        return composed.scaled_dot_product_attention(q, k, v, added, scale, drop)

    def torch(q: Any, k: Any, v: Any, mask: Any) -> Any:
        import torch as peer
        from torch.nn import functional as F

        if drop is None:
            wide = [x.expand(*whole[:-2], *x.shape[-2:]) for x in (q, k, v)]
            return F.scaled_dot_product_attention(*wide, mask, 0.0, is_causal, scale=scale)
        scores = q @ k.transpose(-1, -2) * scale
        added = (
            mask if mask is not None and mask.dtype != peer.bool else None if hidden is None else peer.tensor(hidden)
        )
        scores = scores if added is None else scores + added
        return (scores.softmax(-1) * peer.tensor(drop)) @ v

    blind = hidden is not None and bool(np.any(np.all(hidden == -math.inf, axis=-1)))
    return Case(
        (q, k, v, mask),
        {"dropout_p": p, "is_causal": is_causal, "scale": scale},
        reference=reference,
        # a query that sees no key is 0 / 0 by parts
        composed=None if blind or s == 1 else by_parts,
        torch=None if blind or s == 1 or 0 in whole else torch,
    )


def _hidden(mask: Array | None, is_causal: bool, scores: tuple[int, int]) -> Array | None:
    """What a causal or bool mask adds to the scores: 0, or -inf where a query may not look."""
    shown = np.tri(*scores, dtype=bool) if is_causal else mask
    if shown is None or shown.dtype != bool:
        return None
    return np.where(np.broadcast_to(shown, np.broadcast_shapes(shown.shape, scores)), 0.0, -math.inf)
