"""Matrix products. One fact serves them all: y = x w is linear in each factor, so gx = gy wᵀ and gw = xᵀ gy."""

from __future__ import annotations

import math
from typing import Any

from minires.backend import Array
from minires.engine import Function


class Matmul(Function):
    """The matrix product, y = x w, over any leading axes.

    Shapes    x: (*, T, K); w: (*, K, D); y: (*, T, D), where the leading axes broadcast.
              A 1-D x is one row, a 1-D w one column; the axis of length 1 is left out of y
    Forward   y[t, d] = sum_k x[t, k] w[k, d]
    Backward  gx = gy wᵀ,   gw = xᵀ gy         for each matrix; where a leading axis was repeated, the engine sums
    Derivation  dy = dx w + x dw. With <a, b> = sum(a b) = trace(aᵀ b), which may be turned in a circle,
              <gy, dx w> = <gy wᵀ, dx>   and   <gy, x dw> = <xᵀ gy, dw>.
              The shapes allow nothing else: (T, D)(D, K) is the one product of gy and w that looks like x.
    Kinks     none; the op is bilinear
    Saved     x, w
    Source    Giles 2008, An Extended Collection of Matrix Derivative Results, section 2.2
    """

    broadcasts = True

    def forward(self, x: Array, w: Array) -> Array:
        self.x, self.w = x, w
        return x @ w  # (*, T, D)

    def backward(self, gy: Array) -> Any:
        x, w = self.x, self.w
        if w.ndim == 1:
            w, gy = w[:, None], gy[..., None]  # (K, 1), (*, T, 1)
        if x.ndim == 1:
            x, gy = x[None, :], gy[..., None, :]  # (1, K), (*, 1, D)
        gx = gw = None
        if self.needs[0]:
            gx = gy @ swap(w)  # (*, T, K)
            gx = gx[..., 0, :] if self.x.ndim == 1 else gx
        if self.needs[1]:
            gw = rows(x).T @ rows(gy) if w.ndim == 2 else swap(x) @ gy  # (*, K, D)
            gw = gw[..., 0] if self.w.ndim == 1 else gw
        return gx, gw


class Linear(Function):
    """The linear layer, y = x wᵀ + b.

    Shapes    x: (*, D); w: (O, D); b: (O,) or None; y: (*, O). The leading axes are folded into rows, R of them
    Forward   y[r, o] = sum_d x[r, d] w[o, d] + b[o]
    Backward  gx = gy w,   gw = gyᵀ x,   gb = sum_r gy
    Derivation  `Matmul` with wᵀ for w. b is added to every row, so its gradient is the sum over the rows.
    Kinks     none
    Saved     x, w
    Source    Rumelhart, Hinton and Williams 1986, Learning Representations by Back-Propagating Errors, eq. 1 and 6-7
    """

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        self.x, self.w = x, w
        y = add_bias(rows(x) @ w.T, b)  # (R, O)
        return y.reshape(*x.shape[:-1], w.shape[0])  # (*, O)

    def backward(self, gy: Array) -> Any:
        gx = gw = gb = None
        if self.needs[0]:
            gx = (rows(gy) @ self.w).reshape(self.x.shape)  # (*, D)
        if self.needs[1]:
            gw = rows(gy).T @ rows(self.x)  # (O, D)
        if self.needs[2]:
            gb = rows(gy).sum(axis=0)  # (O,)
        return gx, gw, gb


def swap(x: Array) -> Array:
    """The transpose of each matrix: the last two axes exchanged."""
    return x.swapaxes(-1, -2)


def rows(x: Array) -> Array:
    """(*, D) as (R, D): every leading axis folded into one."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def add_bias(y: Array, b: Array | None) -> Array:
    """y + b, in place where y's dtype can hold the sum: y is the caller's own, and memory traffic is the cost."""
    if b is None:
        return y
    if b.dtype != y.dtype:
        return y + b
    y += b
    return y
