"""Small batches on NumPy, where the time goes into calls and not into numbers: the same formulas in fewer calls."""

from __future__ import annotations

from typing import Any

import numpy as np

from minires.backend import Array
from minires.engine import kernel
from minires.ops.linear import Linear
from minires.ops.loss import CrossEntropy


@kernel(Linear, "numpy")
class RowsLinear(Linear):
    """`Linear` of x (N, D): with no leading axes to fold. Saved: x, w."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        x, w, b = arrays
        return x.ndim == 2 and (b is None or x.dtype == w.dtype == b.dtype)

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        self.x, self.w = x, w
        y = x @ w.T  # (N, O)
        if b is not None:
            y += b
        return y

    def backward(self, gy: Array) -> Any:
        gx = gy @ self.w if self.needs[0] else None  # (N, D)
        gw = gy.T @ self.x if self.needs[1] else None  # (O, D)
        gb = np.add.reduce(gy, axis=0) if self.needs[2] else None  # (O,)
        return gx, gw, gb


@kernel(CrossEntropy, "numpy")
class ClassCrossEntropy(CrossEntropy):
    """`CrossEntropy` of (N, C) scores without weights and smoothing, summed or averaged.

    Saved: p = softmax(x), the targets' places, which samples count, and by what the sum is divided.
    """

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        x, _, w = arrays
        if w is not None or options["label_smoothing"] or options["reduction"] == "none":
            return False
        return x.ndim == 2 and x.size > 0 and x.dtype.char in "fd"

    def forward(self, x: Array, t: Array, w: Array | None) -> Array:
        t = t.astype(np.int64)
        kept = t != self.ignore_index
        count = np.count_nonzero(kept)
        self.kept = None if count == len(t) else kept
        self.place = (np.arange(len(t)), t if self.kept is None else np.where(kept, t, 0))
        self.divisor = x.dtype.type(count if self.reduction == "mean" else 1)
        z = x - np.maximum.reduce(x, axis=1, keepdims=True)  # (N, C)
        at_target = z[self.place]  # (N,)
        self.p = np.exp(z, out=z)
        sums = np.add.reduce(self.p, axis=1, keepdims=True)  # (N, 1)
        self.p /= sums
        losses = np.log(sums[:, 0]) - at_target
        if self.kept is not None:
            losses[~kept] = 0
        return np.add.reduce(losses) / self.divisor

    def backward(self, gy: Array) -> Any:
        gl = gy / self.divisor  # ()
        if self.kept is None:
            gx = self.p * gl  # (N, C)
        else:
            gl = np.where(self.kept, gl, 0)  # (N,)
            gx = self.p * gl[:, None]
        gx[self.place] -= gl
        return gx, None, None
