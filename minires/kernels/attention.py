"""Attention on NumPy, a few heads at a time: their scores stay in the cache from the product to the softmax to the next
product, and back again in backward. Where one head's scores are too many, they are taken some queries at a time; under
a causal mask, keys that none of these queries may see are left out.

The scores lie in memory as (*, S, T): a softmax over the keys then takes the largest and the sum of long columns, which
NumPy does several times as fast as of short rows, and BLAS reads either order alike. The heads' outputs lie side by
side, (N, T, H, D), so that to merge them, as a transformer does next, is free.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.memory import empty
from minires.kernels.threads import each, pays, scratch
from minires.ops.attention import ScaledDotProductAttention
from minires.ops.linear import swap

WORTH = 1 << 16  # scores below which blocks cost more than they save
BLOCK = 1 << 16  # scores in a block: three such arrays and their q, k and v fit in a core's cache together
FEWEST = 128  # queries in a block that holds part of a head under a causal mask, and half as many as in another

Index = tuple[Any, ...]


@kernel(ScaledDotProductAttention, "numpy")
class BlockedAttention(ScaledDotProductAttention):
    """`ScaledDotProductAttention`, blocked and threaded. Saved: q, k, v, p; which p were kept, one byte each."""

    kept: Array | None

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        q, k, v, mask = arrays
        scores = math.prod(q.shape[:-1]) * k.shape[-2]
        if scores == 0 or not v.size or not q.size or not pays(scores, WORTH):
            return False
        if np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2]) != q.shape[:-2]:
            return False
        same = q.dtype == k.dtype == v.dtype and (mask is None or mask.dtype.char == "?" or mask.dtype == q.dtype)
        return same and q.dtype.char in "fd"

    def forward(self, q: Array, k: Array, v: Array, mask: Array | None) -> Array:
        self.q, self.k, self.v = q, k, v
        leading = q.shape[:-2]
        q, k, v = (spread(x, leading) for x in (q, k, v))
        self.p = swap(empty((*leading, k.shape[-2], q.shape[-2]), q.dtype))  # (*, T, S)
        drawn = self.lib.uniform(self.p.shape, q.dtype) >= self.dropout_p if self.dropout_p else None  # as the formula
        self.kept = None if drawn is None else swap(np.empty(swap(self.p).shape, bool))
        mask = None if mask is None else np.broadcast_to(mask, self.p.shape)
        y = side_by_side((*leading, q.shape[-2], v.shape[-1]), q.dtype)  # (*, T, D)
        heads = self.heads()

        def work(i: int) -> None:
            for rows, keys in self.blocks():
                here = (*heads[i], rows, slice(0, keys))
                p = self.p[here]
                self.p[(*heads[i], rows, slice(keys, None))] = 0
                self.softmax(q[heads[i]][..., rows, :], k[heads[i]][..., :keys, :], here, mask, p)
                if drawn is not None and self.kept is not None:
                    self.kept[here] = drawn[here]
                np.matmul(self.dropped(here), v[heads[i]][..., :keys, :], out=y[heads[i]][..., rows, :])

        each(len(heads), work)
        return y

    def softmax(self, q: Array, k: Array, here: Index, mask: Array | None, p: Array) -> None:
        """p = softmax(scale q k^T + mask), zero for a query that may look nowhere."""
        scaled = np.multiply(q, self.scale, out=scratch("queries", q.shape, q.dtype))
        np.matmul(k, swap(scaled), out=swap(p))
        if self.is_causal:
            first, keys = here[-2].start, p.shape[-1]
            later = np.arange(keys) > np.arange(first, first + p.shape[-2])[:, None]
            np.copyto(p, -math.inf, where=later)
        if mask is not None and mask.dtype.kind == "b":
            np.copyto(p, -math.inf, where=~mask[here])
        elif mask is not None:
            p += mask[here]
        limits = np.finfo(p.dtype)
        top = p.max(axis=-1, keepdims=True)
        p -= np.maximum(top, limits.min, out=top)  # -inf less -inf would be no number
        np.exp(p, out=p)
        total = sums(p)
        np.maximum(total, limits.tiny, out=total)
        p *= np.reciprocal(total, out=total)

    def backward(self, gy: Array) -> Any:
        leading = self.p.shape[:-2]
        q, k, v, gy = (spread(x, leading) for x in (self.q, self.k, self.v, gy))
        need_q, need_k, need_v, need_mask = self.needs
        need_scores = need_q or need_k or need_mask
        gq, gk, gv = (
            side_by_side(x.shape, x.dtype) if n else None
            for x, n in zip((q, k, v), (need_q, need_k, need_v), strict=True)
        )
        gs = empty(self.p.shape, self.p.dtype) if need_mask else None
        heads = self.heads()

        def work(i: int) -> None:
            head = heads[i]
            for grown in (gk, gv):
                if grown is not None and (self.cut or self.is_causal):
                    grown[head] = 0
            for rows, keys in self.blocks():
                here, mine = (*head, rows, slice(0, keys)), gy[head][..., rows, :]
                if gv is not None:
                    self.gather(swap(self.dropped(here)), mine, gv[head][..., :keys, :])
                if not need_scores:
                    continue
                share = self.scores_gradient(mine, v[head][..., :keys, :], here)
                if gs is not None:
                    gs[(*head, rows, slice(keys, None))] = 0
                    gs[here] = share
                if gq is not None or gk is not None:
                    share *= self.scale
                if gq is not None:
                    np.matmul(share, k[head][..., :keys, :], out=gq[head][..., rows, :])
                if gk is not None:
                    self.gather(swap(share), q[head][..., rows, :], gk[head][..., :keys, :])

        each(len(heads), work)
        return gq, gk, gv, gs

    def scores_gradient(self, gy: Array, v: Array, here: Index) -> Array:
        """gs = p (gp - sum(gp p)) with gp = drop (gy v^T), in scratch memory."""
        p = self.p[here]
        gs, product = (like(p, name) for name in ("scores", "products"))
        np.matmul(v, swap(gy), out=swap(gs))
        if self.kept is not None:
            gs *= self.kept[here]
            gs *= self.gain
        gs -= sums(np.multiply(gs, p, out=product))
        gs *= p
        return gs

    def dropped(self, here: Index) -> Array:
        """drop p: p itself without dropout."""
        p = self.p[here]
        if self.kept is None:
            return p
        p = np.multiply(p, self.kept[here], out=like(p, "dropped"))
        p *= self.gain
        return p

    @property
    def gain(self) -> float:
        return 1 / (1 - self.dropout_p) if self.dropout_p < 1 else 0.0

    def gather(self, a: Array, b: Array, out: Array) -> None:
        """out = a b, or out += a b where the queries come in several blocks."""
        if self.cut:
            out += np.matmul(a, b, out=scratch("gathered", out.shape, out.dtype))
        else:
            np.matmul(a, b, out=out)

    @property
    def queries(self) -> int:
        """How many queries of a head are worked on at a time."""
        t, s = self.p.shape[-2:]
        most = max(2 * FEWEST, BLOCK // s)
        return min(t, max(FEWEST, t // 8), most) if self.is_causal else min(t, most)

    @property
    def cut(self) -> bool:
        return self.queries < self.p.shape[-2]

    def blocks(self) -> Iterator[tuple[slice, int]]:
        """Slices of a head's queries, and how many keys these may see."""
        t, s = self.p.shape[-2:]
        for start in range(0, t, self.queries):
            stop = min(t, start + self.queries)
            yield slice(start, stop), min(s, stop) if self.is_causal else s

    def heads(self) -> list[Index]:
        """Indices into the leading axes that take them apart into runs of heads with BLOCK scores or fewer."""
        leading, inner, axis = self.p.shape[:-2], self.queries * self.p.shape[-1], len(self.p.shape) - 2
        while axis and inner * leading[axis - 1] <= BLOCK:
            axis -= 1
            inner *= leading[axis]
        if not axis:
            return [(slice(None),) * len(leading)]
        step, rest = max(1, BLOCK // inner), (slice(None),) * (len(leading) - axis)
        starts = range(0, leading[axis - 1], step)
        return [(*outer, slice(i, i + step), *rest) for outer in np.ndindex(leading[: axis - 1]) for i in starts]


def spread(x: Array, leading: tuple[int, ...]) -> Array:
    """x with these leading axes, its rows contiguous, as BLAS wants them."""
    if x.strides[-1] != x.itemsize or x.strides[-2] % x.itemsize or x.strides[-2] < 0:
        x = np.ascontiguousarray(x)
    return np.broadcast_to(x, (*leading, *x.shape[-2:]))


def like(p: Array, name: str) -> Array:
    """Scratch memory for scores (*, T, S), in their order, (*, S, T)."""
    return swap(scratch(name, swap(p).shape, p.dtype))


def sums(p: Array) -> Array:
    """The sum over the keys of scores (*, T, S) in that order: (*, T, 1)."""
    return np.matmul(np.ones(p.shape[-1], p.dtype), swap(p))[..., None]


def side_by_side(shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialized array (..., H, T, D) that lies in memory as (..., T, H, D)."""
    if len(shape) < 3:
        return empty(shape, dtype)
    return empty((*shape[:-3], shape[-2], shape[-3], shape[-1]), dtype).swapaxes(-3, -2)
