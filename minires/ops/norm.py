"""Normalization: batch, layer, group, RMS. One derivation serves them all.

Take a set of m numbers x_1..x_m (for batch norm: one channel over the whole batch) and let

    mu = mean(x),   var = mean((x - mu)^2),   sigma = sqrt(var + eps),   xhat = (x - mu) / sigma

Disturb x by dx. Then dmu = mean(dx) and, since sigma^2 = var + eps, dsigma = mean(xhat dx), so that

    dxhat = (dx - mean(dx) - xhat mean(xhat dx)) / sigma

The matrix in front of dx is symmetric, so backward multiplies by the same one:

    gx = (gxhat - mean(gxhat) - xhat mean(gxhat xhat)) / sigma

In words: a projection, tutorial 6, (6.7). Normalizing forgets the input's offset and its scale, so no gradient may
flow along ones (the offset) and, for eps = 0, none along xhat (the scale). RMS norm forgets the scale only and loses
the middle term. Each op below differs from the others in which m numbers form a set, and nothing else.

The variance is computed in two passes, mean((x - mu)^2). The one-pass mean(x^2) - mu^2 cancels in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from minires.backend import Array
from minires.engine import Function


class BatchNorm(Function):
    """Batch norm in training: every channel is normalized over the batch and all positions.

    Shapes    x, y: (N, C, *); w, b: (C,) or None. A set is one channel: m = N L numbers, L positions
    Forward   xhat = (x - mu) / sigma;  y = w xhat + b
    Backward  gb = sum(gy);  gw = sum(gy xhat)
              gx = (w / sigma) (gy - gb / m - xhat gw / m)
    Derivation  tutorial 6, (6.5): the projection at the top of this file, with gxhat = w gy. As w is constant on a
              set it can be drawn out, and the two means left inside are gb / m and gw / m: the sums that backward
              needs anyway.
    Kinks     none for eps > 0
    Saved     xhat, 1 / sigma, w
    Source    Ioffe and Szegedy 2015, Batch Normalization, algorithm 1 and section 3

    `observe(mean, var)` is shown the batch's mean and biased variance, each (C,): running statistics are its
    business. It may be None.
    """

    eps: float
    observe: Callable[[Array, Array], None] | None

    def forward(self, x: Array, w: Array | None, b: Array | None) -> Array:
        xp, x3 = self.xp, by_channel(x)  # (N, C, L)
        self.m = max(x3.shape[0] * x3.shape[2], 1)  # an empty batch has sums of 0, and no mean
        mean = sum_channels(xp, x3) / self.m  # (C,)
        self.xhat = x3 - column(mean)  # (N, C, L)
        var = dot_channels(xp, self.xhat, self.xhat) / self.m  # (C,)
        if self.observe is not None:
            self.observe(mean, var)
        self.inv = column(1 / xp.sqrt(var + self.eps))  # (1, C, 1)
        self.xhat *= self.inv
        self.w = None if w is None else column(w)
        return affine(xp, self.xhat, self.w, None if b is None else column(b)).reshape(x.shape)

    def backward(self, gy: Array) -> Any:
        shape, gy = gy.shape, by_channel(gy)  # (N, C, L)
        gb = sum_channels(self.xp, gy)
        gw = dot_channels(self.xp, gy, self.xhat)
        gx = None
        if self.needs[0]:
            gx = self.xhat * column(gw / -self.m)
            gx -= column(gb / self.m)
            gx += gy
            gx *= self.inv if self.w is None else self.w * self.inv
            gx = gx.reshape(shape)  # (N, C, *)
        return gx, gw, gb


class BatchNormEval(Function):
    """Batch norm at rest: the running statistics are constants, so the op is affine, channel by channel.

    Shapes    x, y: (N, C, *); w, b: (C,) or None; mean, var: (C,)
    Forward   y = w (x - mean) / sigma + b,   sigma = sqrt(var + eps)
    Backward  gx = (w / sigma) gy      no projection: nothing in sigma depends on x
              gw = sum(gy (x - mean)) / sigma;  gb = sum(gy);  mean and var get none
    Derivation  tutorial 6, (6.9)
    Kinks     none for var + eps > 0
    Saved     x - mean, 1 / sigma, w
    Source    Ioffe and Szegedy 2015, Batch Normalization, algorithm 2
    """

    eps: float

    def forward(self, x: Array, w: Array | None, b: Array | None, mean: Array, var: Array) -> Array:
        xp = self.xp
        self.centered = by_channel(x) - column(mean)  # (N, C, L)
        self.inv = column(1 / xp.sqrt(var + self.eps))  # (1, C, 1)
        self.w = None if w is None else column(w)
        scale = self.inv if w is None else self.w * self.inv
        return affine(xp, self.centered, scale, None if b is None else column(b)).reshape(x.shape)

    def backward(self, gy: Array) -> Any:
        gy3 = by_channel(gy)  # (N, C, L)
        gx = gw = gb = None
        if self.needs[0]:
            gx = (gy3 * (self.inv if self.w is None else self.w * self.inv)).reshape(gy.shape)
        if self.needs[1]:
            gw = dot_channels(self.xp, gy3, self.centered) * self.inv.reshape(-1)  # (C,)
        if self.needs[2]:
            gb = sum_channels(self.xp, gy3)
        return gx, gw, gb, None, None


class LayerNorm(Function):
    """Layer norm: every sample, or token, is normalized over its own features.

    Shapes    x, y: (*, D...) with D... = normalized_shape; w, b: D... or None. A set is one row of m = |D| numbers
    Forward   xhat = (x - mu) / sigma;  y = w xhat + b
    Backward  gb = sum(gy), gw = sum(gy xhat) over the rows;  gxhat = w gy
              gx = (gxhat - mean(gxhat) - xhat mean(gxhat xhat)) / sigma
    Derivation  tutorial 6, (6.10): the projection at the top of this file. Here w varies within a set, so it stays
              inside the means.
    Kinks     none for eps > 0
    Saved     xhat, 1 / sigma, w
    Source    Ba, Kiros and Hinton 2016, Layer Normalization, eq. 3
    """

    normalized_shape: tuple[int, ...]
    eps: float

    def forward(self, x: Array, w: Array | None, b: Array | None) -> Array:
        rows = x.reshape(-1, math.prod(self.normalized_shape))  # (R, D)
        self.xhat, self.inv = standardize(self.xp, rows, self.eps)
        self.w = None if w is None else w.reshape(-1)  # (D,)
        return affine(self.xp, self.xhat, self.w, None if b is None else b.reshape(-1)).reshape(x.shape)

    def backward(self, gy: Array) -> Any:
        rows = gy.reshape(self.xhat.shape)  # (R, D)
        gx = gw = gb = None
        if self.needs[0]:
            gxhat = rows if self.w is None else rows * self.w
            gx = project(self.xp, gxhat, self.xhat, self.inv).reshape(gy.shape)
        if self.needs[1]:
            gw = self.xp.einsum("rd,rd->d", rows, self.xhat).reshape(self.normalized_shape)
        if self.needs[2]:
            gb = rows.sum(axis=0).reshape(self.normalized_shape)
        return gx, gw, gb


class GroupNorm(Function):
    """Group norm: the channels of each sample are normalized in groups, so the batch size does not matter.

    Shapes    x, y: (N, C, *); w, b: (C,) or None. A set is one group of one sample: m = C / groups * L numbers
    Forward   xhat = (x - mu) / sigma;  y = w xhat + b
    Backward  gb = sum(gy), gw = sum(gy xhat) over N and the positions;  gxhat = w gy
              gx = (gxhat - mean(gxhat) - xhat mean(gxhat xhat)) / sigma
    Derivation  tutorial 6, (6.10): the projection at the top of this file; w varies from channel to channel within
              a set.
    Kinks     none for eps > 0
    Saved     xhat, 1 / sigma, w
    Source    Wu and He 2018, Group Normalization, eq. 1-2 and 7
    """

    num_groups: int
    eps: float

    def forward(self, x: Array, w: Array | None, b: Array | None) -> Array:
        n, c = x.shape[:2]
        rows = x.reshape(n * self.num_groups, math.prod(x.shape[1:]) // self.num_groups)  # (N G, m)
        xhat, self.inv = standardize(self.xp, rows, self.eps)
        self.rows = rows.shape
        self.xhat = xhat.reshape(n, c, math.prod(x.shape[2:]))  # (N, C, L)
        self.w = None if w is None else column(w)
        return affine(self.xp, self.xhat, self.w, None if b is None else column(b)).reshape(x.shape)

    def backward(self, gy: Array) -> Any:
        gy3 = by_channel(gy)  # (N, C, L)
        gx = gw = gb = None
        if self.needs[0]:
            gxhat = gy3 if self.w is None else gy3 * self.w
            gx = project(self.xp, gxhat.reshape(self.rows), self.xhat.reshape(self.rows), self.inv).reshape(gy.shape)
        if self.needs[1]:
            gw = dot_channels(self.xp, gy3, self.xhat)
        if self.needs[2]:
            gb = sum_channels(self.xp, gy3)
        return gx, gw, gb


class RmsNorm(Function):
    """RMS norm: layer norm without the mean. Only the scale of a row is forgotten.

    Shapes    x, y: (*, D...) with D... = normalized_shape; w: D... or None. A set is one row of m = |D| numbers
    Forward   r = sqrt(mean(x^2) + eps);  xhat = x / r;  y = w xhat
    Backward  gw = sum(gy xhat) over the rows;  gxhat = w gy
              gx = (gxhat - xhat mean(gxhat xhat)) / r
    Derivation  tutorial 6, (6.11): dr = mean(x dx) / r = mean(xhat dx), so dxhat = (dx - xhat mean(xhat dx)) / r,
              which is symmetric.
    Kinks     none for eps > 0
    Saved     xhat, 1 / r, w
    Source    Zhang and Sennrich 2019, Root Mean Square Layer Normalization, eq. 4
    """

    normalized_shape: tuple[int, ...]
    eps: float

    def forward(self, x: Array, w: Array | None) -> Array:
        xp, rows = self.xp, x.reshape(-1, math.prod(self.normalized_shape))  # (R, D)
        self.inv = 1 / xp.sqrt(mean_of_products(xp, rows, rows) + self.eps)  # (R, 1)
        self.xhat = rows * self.inv
        self.w = None if w is None else w.reshape(-1)  # (D,)
        return affine(xp, self.xhat, self.w, None).reshape(x.shape)

    def backward(self, gy: Array) -> Any:
        xp, rows = self.xp, gy.reshape(self.xhat.shape)  # (R, D)
        gx = gw = None
        if self.needs[0]:
            gxhat = rows if self.w is None else rows * self.w
            gx = self.xhat * -mean_of_products(xp, gxhat, self.xhat)
            gx += gxhat
            gx *= self.inv
            gx = gx.reshape(gy.shape)
        if self.needs[1]:
            gw = xp.einsum("rd,rd->d", rows, self.xhat).reshape(self.normalized_shape)
        return gx, gw


# --- one set a row: (R, D) ------------------------------------------------------------------------


def standardize(xp: Any, rows: Array, eps: float) -> tuple[Array, Array]:
    """Every row less its mean, over its sigma: xhat (R, D), and 1 / sigma (R, 1)."""
    xhat = rows - rows.mean(axis=1, keepdims=True)
    inv = 1 / xp.sqrt(mean_of_products(xp, xhat, xhat) + eps)  # (R, 1)
    xhat *= inv
    return xhat, inv


def project(xp: Any, gxhat: Array, xhat: Array, inv: Array) -> Array:
    """Backward of `standardize`, row by row.

    Backward  gx = (gxhat - mean(gxhat) - xhat mean(gxhat xhat)) / sigma
    """
    gx = xhat * -mean_of_products(xp, gxhat, xhat)
    gx -= gxhat.mean(axis=1, keepdims=True)
    gx += gxhat
    gx *= inv
    return gx


def mean_of_products(xp: Any, a: Array, b: Array) -> Array:
    """mean(a b) of every row, (R, 1), without an array of the products."""
    return (xp.einsum("rd,rd->r", a, b) / a.shape[1])[:, None]


# --- one set a channel: (N, C, L), all positions in one long axis ---------------------------------


def by_channel(x: Array) -> Array:
    """(N, C, *) as (N, C, L): a view wherever strides allow, channels-last memory included."""
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))


def column(v: Array) -> Array:
    """(C,) as (1, C, 1), to stand beside (N, C, L)."""
    return v.reshape(1, -1, 1)


def sum_channels(xp: Any, x: Array) -> Array:
    """sum over N and L, (C,). The matrix product with ones is a sum too, and quick in any memory order."""
    return (x @ xp.ones(x.shape[2], x.dtype)).sum(axis=0)


def dot_channels(xp: Any, a: Array, b: Array) -> Array:
    """sum(a b) over N and L, (C,), without an array of the products; in two steps, as short float32 sums are better."""
    return xp.einsum("ncl,ncl->nc", a, b).sum(axis=0)


def affine(xp: Any, xhat: Array, w: Array | None, b: Array | None) -> Array:
    """w xhat + b, where None stands for 1 and 0; the sum is in place, as memory traffic is what a norm costs."""
    if w is None:
        return xhat if b is None else xhat + b
    y = xhat * w
    if b is None:
        return y
    return xp.add(y, b, out=y) if xp.result_type(y, b) == y.dtype else y + b
