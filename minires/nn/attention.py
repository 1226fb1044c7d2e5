"""Multi-head attention: `F.scaled_dot_product_attention` between a projection in and a projection out."""

from __future__ import annotations

import math
from typing import Any

from minires import backend
from minires import functional as F
from minires.backend import Array
from minires.engine import Tensor
from minires.errors import RequestError
from minires.nn import init
from minires.nn.linear import Linear
from minires.nn.module import Module, Parameter, empty


class MultiheadAttention(Module):
    """out = concat(head_1, ..., head_H) Woᵀ + bo with head_h = softmax(q_h k_hᵀ / sqrt(D) + mask) v_h, D = E / H.

    Shapes    query: (L, N, E), key, value: (S, N, E); with batch_first=True (N, L, E) and (N, S, E);
              without a batch (L, E) and (S, E)
    Keys      in_proj_weight (3 E, E), in_proj_bias (3 E), out_proj.weight (E, E), out_proj.bias (E)
    Start     Xavier uniform for the projection in, torch's linear start for the one out, biases zero
    Differs   from torch: is_causal=True works without an attn_mask, and a query that may look nowhere gets zeros,
              not NaN. kdim, vdim, add_bias_kv and add_zero_attn are not offered.
    Source    Vaswani et al. 2017, Attention Is All You Need, section 3.2.2
    """

    in_proj_bias: Parameter | None

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, *, batch_first: bool = False
    ) -> None:
        if num_heads < 1 or embed_dim % num_heads:
            raise RequestError(f"MultiheadAttention: {num_heads} heads must divide embed_dim, {embed_dim}")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.in_proj_weight = Parameter(empty(3 * embed_dim, embed_dim))
        self.in_proj_bias = Parameter(empty(3 * embed_dim)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.xavier_uniform_(self.in_proj_weight)
        for b in (self.in_proj_bias, self.out_proj.bias):
            if b is not None:
                init.zeros_(b)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attends; returns (out, weights), the weights None with need_weights=False, which is faster.

        key_padding_mask    (N, S), or (S) without a batch: True where a key is padding, or numbers to add
        attn_mask           (L, S) or (N H, L, S): True where a query must NOT look, or numbers to add to the scores
        weights             (N, L, S), or (N, H, L, S) with average_attn_weights=False; no N without a batch
        """
        batched = query.ndim == 3
        inputs = self._batch_first(query, key, value)
        q, k, v = (self._heads(x) for x in self._project(*inputs))  # (N, H, L, D), (N, H, S, D), (N, H, S, D)
        p = self.dropout if self.training else 0.0
        alone = is_causal and attn_mask is None and key_padding_mask is None and not need_weights
        mask = None if alone else self._mask(q, k, attn_mask, key_padding_mask, is_causal)
        weights = None
        if need_weights:
            weights = F.dropout(_weights(q, k, mask), p)  # (N, H, L, S)
            heads = F.matmul(weights, v)  # (N, H, L, D)
            weights = F.mean(weights, dim=1) if average_attn_weights else weights
        else:
            heads = F.scaled_dot_product_attention(q, k, v, mask, p, is_causal=alone)
        n, _, length, _ = heads.shape
        merged = F.reshape(F.transpose(heads, 1, 2), (n, length, self.embed_dim))
        out = self.out_proj(merged)  # (N, L, E)
        if not batched:
            return F.squeeze(out, 0), None if weights is None else F.squeeze(weights, 0)
        return out if self.batch_first else F.transpose(out, 0, 1), weights

    def _batch_first(self, *inputs: Any) -> list[Any]:
        for name, x in zip(("query", "key", "value"), inputs, strict=True):
            if x.ndim not in (2, 3) or x.ndim != inputs[0].ndim or x.shape[-1] != self.embed_dim:
                shapes = ", ".join(str(tuple(i.shape)) for i in inputs)
                raise RequestError(
                    f"MultiheadAttention: query, key and value are {shapes}, but all need 3 axes (2 without a batch), "
                    f"the last of them embed_dim, {self.embed_dim}; {name} does not fit"
                )
        same = {id(x): x for x in inputs}  # self-attention passes one tensor three times: keep it one
        for i, x in same.items():
            if x.ndim == 2:
                same[i] = F.unsqueeze(x, 0)
            elif not self.batch_first:
                same[i] = F.transpose(x, 0, 1)
        return [same[id(x)] for x in inputs]

    def _project(self, query: Any, key: Any, value: Any) -> list[Tensor]:
        """One matrix product where query, key and value are the same tensor, three where they are not."""
        if query is key and key is value:
            return list(F.chunk(F.linear(query, self.in_proj_weight, self.in_proj_bias), 3, dim=-1))
        weights = F.chunk(self.in_proj_weight, 3, dim=0)
        biases = (None,) * 3 if self.in_proj_bias is None else F.chunk(self.in_proj_bias, 3, dim=0)
        return [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]

    def _heads(self, x: Tensor) -> Tensor:
        n, length, e = x.shape
        split = F.reshape(x, (n, length, self.num_heads, e // self.num_heads))
        return F.transpose(split, 1, 2)  # (N, H, L, D)

    def _mask(self, q: Tensor, k: Tensor, attn_mask: Any, key_padding_mask: Any, is_causal: bool) -> Array | None:
        """The three masks as one array of numbers to add to the scores, broadcastable to (N, H, L, S), or None."""
        n, h, length, s = *q.shape[:3], k.shape[2]
        lib = backend.find((q.data,))
        total = None
        allowed: dict[str, list[tuple[int, ...]]] = {
            "key_padding_mask": [(n, s)],
            "attn_mask": [(length, s), (n * h, length, s)],
        }
        if n == 1:
            allowed["key_padding_mask"].append((s,))
        for name, mask in (("key_padding_mask", key_padding_mask), ("attn_mask", attn_mask)):
            if mask is None:
                continue
            plain = lib.asarray(mask.data if isinstance(mask, Tensor) else mask)
            if plain.shape not in allowed[name]:
                raise RequestError(
                    f"MultiheadAttention: {name} is {plain.shape}, but must be {' or '.join(map(str, allowed[name]))}"
                )
            if name == "key_padding_mask":
                plain = plain.reshape(n, 1, 1, s)
            elif plain.ndim == 3:
                plain = plain.reshape(n, h, length, s)
            added = _additive(lib.xp, plain, q.dtype)
            total = added if total is None else total + added
        if is_causal:
            later = lib.xp.arange(s) > lib.xp.arange(length)[:, None]  # (L, S)
            added = _additive(lib.xp, later, q.dtype)
            total = added if total is None else total + added
        return total

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}, dropout={self.dropout}, batch_first={self.batch_first}"


def _weights(q: Tensor, k: Tensor, mask: Array | None) -> Tensor:
    """softmax(q kᵀ / sqrt(D) + mask). As in F.scaled_dot_product_attention, who may look nowhere gets zeros."""
    scores = F.matmul(q, F.transpose(k, -2, -1)) * (1.0 / math.sqrt(q.shape[-1]))  # (N, H, L, S)
    if mask is None:
        return F.softmax(scores, dim=-1)
    xp = backend.find((mask,)).xp
    blind = mask.max(axis=-1, keepdims=True) == -math.inf
    zero = xp.zeros((), mask.dtype)
    return F.softmax(scores + xp.where(blind, zero, mask), dim=-1) * xp.where(blind, zero, zero + 1)


def _additive(xp: Any, mask: Array, dtype: Any) -> Array:
    """A mask as numbers to add: -inf where a boolean one is True. Never complex, for -inf times 1j is not a number."""
    dtype = xp.zeros((), dtype).real.dtype
    if mask.dtype == bool:
        return xp.where(mask, xp.asarray(-math.inf, dtype), xp.asarray(0.0, dtype))
    return mask.astype(dtype)
