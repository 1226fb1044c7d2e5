"""Rows of a table by number, and numbers as rows of zeros and a one."""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.engine import Function


class Embedding(Function):
    """A table that is looked up: y = w[indices].

    Shapes    w: (V, D); indices: any shape (...), integers in 0 ... V - 1; y: (..., D)
    Forward   y[..., d] = w[indices[...], d]
    Backward  gw[v, d] = sum of gy[..., d] over all places where indices[...] = v; the row padding_idx gets 0
    Derivation  y = onehot(indices) w is a matrix product, so gw = onehot(indices)^T gy. A row of the one-hot
              matrix holds a single 1, so the product is a scatter that adds; neither pass builds the matrix.
    Kinks     none; the op is linear in w, and integers have no gradient
    Saved     w.shape, indices
    Source    Bengio et al. 2003, A Neural Probabilistic Language Model, section 2 (the matrix C)
    """

    padding_idx: int | None

    def forward(self, w: Array, indices: Array) -> Array:
        self.shape, self.indices = w.shape, indices
        return w[indices]  # (..., D)

    def backward(self, gy: Array) -> Any:
        gw = self.xp.zeros(self.shape, gy.dtype)
        self.lib.add_at(gw, self.indices, gy)
        if self.padding_idx is not None:
            gw[self.padding_idx] = 0
        return gw, None


class OneHot(Function):
    """Class numbers as rows of zeros and a one. Integers in, integers out: there is no gradient.

    Shapes    indices: (...); y: (..., classes), int64
    Forward   y[..., k] = 1 where k = indices[...], else 0
    """

    classes: int

    def forward(self, indices: Array) -> Array:
        return (indices[..., None] == self.xp.arange(self.classes)).astype("int64")  # (..., classes)
