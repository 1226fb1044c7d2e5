"""Attention on CuPy: two batched products, and one kernel between them for scale, mask and softmax.

Launches: 3 forward and 5 backward, and one more for each of q, k, v, gy whose heads do not lie evenly in memory (heads
split off a wider axis do not) and is copied; dropout adds 3. The scores are written once and read back twice: memory
grows with T S, as in the formula.
"""

from __future__ import annotations

import math
from typing import Any

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.cuda.gemm import batches, product, strides, turn
from minires.kernels.cuda.layout import row_block
from minires.kernels.cuda.softmax import each_row
from minires.kernels.cuda.source import Source, takes
from minires.ops.attention import ScaledDotProductAttention


@kernel(ScaledDotProductAttention, "cupy")
class CudaAttention(ScaledDotProductAttention):
    """`ScaledDotProductAttention` of q, k and v with the same leading axes. Saved: q, k, v, p; drop."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        q, k, v, mask = arrays
        alike = q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
        sized = k.size > 0 and v.size > 0 and q.size // q.shape[-1] * k.shape[-2] < 2**31
        masked = mask is None or mask.dtype.kind == "b" or mask.dtype == q.dtype
        return takes(q, k, v) and alike and sized and masked

    def forward(self, q: Array, k: Array, v: Array, mask: Array | None) -> Array:
        xp, leading = self.xp, q.shape[:-1]
        self.q, self.k, self.v = batches(q), batches(k), batches(v)  # (B, T, E), (B, S, E), (B, S, D)
        s = product(xp, self.q, turn(self.k), self.scale)  # (B, T, S)
        self.p = self.weights(s, mask, q.shape[:-2])
        self.scores = (*leading, k.shape[-2])
        self.drop = self.draw() if self.dropout_p else None
        y = product(xp, self.p if self.drop is None else self.p * self.drop, self.v)
        return y.reshape(*leading, v.shape[-1])  # (*, T, D)

    def weights(self, s: Array, mask: Array | None, leading: tuple[int, ...]) -> Array:
        """The scores masked and through softmax, in place."""
        outer, heads = (math.prod(leading[:-1]), leading[-1]) if leading else (1, 1)
        t, d = s.shape[1:]
        steps: tuple[int, ...] = (0, 0, 0, 0)
        if mask is not None:
            mask = self.xp.ascontiguousarray(mask)
            seen = self.xp.broadcast_to(mask, (*leading, t, d))
            if len(leading) > 2:  # more axes than the kernel has strides for
                mask = seen = self.xp.ascontiguousarray(seen).reshape(outer, heads, t, d)
            steps = (0, 0, *strides(seen))[-4:]
        boolean = mask is not None and mask.dtype.kind == "b"
        masks = (mask, None) if boolean else (None, mask)
        run = Source(self.xp, "softmax", s.dtype)
        given = s, *masks, heads, t, d, int(self.is_causal), *steps
        run("attention_weights", (s.size // d,), row_block(d), *given)
        return s

    def backward(self, gy: Array) -> Any:
        xp, p, g = self.xp, self.p, batches(gy)  # (B, T, S), (B, T, D)
        gq = gk = gv = gs = None
        if self.needs[2]:
            gv = product(xp, turn(p if self.drop is None else p * self.drop), g)  # (B, S, D)
        if self.needs[0] or self.needs[1] or self.needs[3]:
            gs = product(xp, g, turn(self.v))  # (B, T, S): gp, and in place
            each_row(xp, "softmax_gradient", gs, p, gs, self.drop, gs)
        if self.needs[0]:
            gq = product(xp, gs, self.k, self.scale)  # (B, T, E)
        if self.needs[1]:
            gk = product(xp, turn(gs), self.q, self.scale)  # (B, S, E)
        leading = self.scores[:-2]
        shaped = [None if a is None else a.reshape(*leading, *a.shape[1:]) for a in (gq, gk, gv, gs)]
        return tuple(shaped)
