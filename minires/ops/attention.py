"""Scaled dot-product attention: every query takes a weighted mean of the values."""

from __future__ import annotations

import math
from typing import Any

from minires.backend import Array
from minires.engine import Function
from minires.ops.linear import swap


class ScaledDotProductAttention(Function):
    """y = softmax(scale q k^T + mask) v, in one op.

    Shapes    q: (*, T, E); k: (*, S, E); v: (*, S, D); y: (*, T, D); leading axes broadcast (batch, heads)
              mask: broadcasts to (*, T, S); bool (True: may look) or float (added to the scores), or None
    Forward   s = scale q k^T, then -inf where a query may not look, or + mask
              p = softmax(s) along S
              y = (drop p) v, where drop is 0 with probability dropout_p, else 1 / (1 - dropout_p)
    Backward  gv = (drop p)^T gy
              gp = drop (gy v^T)
              gs = p (gp - sum(gp p))         softmax's own backward, along S
              gq = scale gs k;  gk = scale gs^T q;  gmask = gs for a float mask
    Derivation  y = p v is linear in each factor: gp = gy v^T, gv = p^T gy. Likewise s = scale q k^T.
              Between the two stands softmax, whose Jacobian is diag(p) - p p^T for each query.
              A masked p is exactly 0, hence gs is exactly 0: not one bit of gradient comes from the future.
    Kinks     none. A query that may look nowhere has no distribution; its y is 0, without gradient, as in PyTorch
    Saved     q, k, v, p; drop when dropout_p > 0
    Source    Vaswani et al. 2017, Attention Is All You Need, eq. 1; causal mask: section 3.2.3
    """

    broadcasts = True
    dropout_p: float
    is_causal: bool
    scale: float

    def forward(self, q: Array, k: Array, v: Array, mask: Array | None) -> Array:
        xp = self.xp
        s = (q * self.scale) @ swap(k)  # (*, T, S), scaled before any -inf is put in
        if self.is_causal:
            s = xp.where(xp.tri(*s.shape[-2:], dtype=bool), s, -math.inf)
        if mask is not None:
            s = xp.where(mask, s, -math.inf) if mask.dtype.kind == "b" else s + mask
        top = s.real.max(axis=-1, keepdims=True)  # (*, T, 1)
        s -= xp.where(top == -math.inf, 0.0, top)  # s is this op's own array by now, so it becomes p in place
        self.p = xp.exp(s, out=s)
        total = self.p.sum(axis=-1, keepdims=True)
        self.p /= xp.where(total == 0, 1.0, total)
        self.q, self.k, self.v = q, k, v
        self.drop = self.draw() if self.dropout_p else None
        return (self.p if self.drop is None else self.p * self.drop) @ v  # (*, T, D)

    def draw(self) -> Array:
        """0 with probability dropout_p, else 1 / (1 - dropout_p), so that the mean is 1."""
        kept = self.lib.uniform(self.p.shape, self.p.real.dtype) >= self.dropout_p
        return kept.astype(self.p.real.dtype) * (1 / (1 - self.dropout_p) if self.dropout_p < 1 else 0.0)

    def backward(self, gy: Array) -> Any:
        p, dropped = self.p, self.p if self.drop is None else self.p * self.drop
        gv = swap(dropped) @ gy if self.needs[2] else None  # (*, S, D)
        if not (self.needs[0] or self.needs[1] or self.needs[3]):
            return None, None, gv, None
        gp = gy @ swap(self.v)  # (*, T, S)
        if self.drop is not None:
            gp = gp * self.drop
        gs = p * (gp - (gp * p).sum(axis=-1, keepdims=True))  # (*, T, S)
        gq = (gs @ self.k) * self.scale if self.needs[0] else None  # (*, T, E)
        gk = (swap(gs) @ self.q) * self.scale if self.needs[1] else None  # (*, S, E)
        return gq, gk, gv, gs
