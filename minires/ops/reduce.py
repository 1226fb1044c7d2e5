"""Reductions: many numbers in, one out. Backward hands the one gradient back to the many.

`dim` is a tuple of axes, each at least 0; `keepdim` keeps them with length 1. `regrow` puts a reduced array's axes
back, so that it broadcasts against the input again.
"""

from __future__ import annotations

import math
from typing import Any

from minires.backend import Array
from minires.engine import Function


class Reduction(Function):
    """What all reductions share: the axes, and the way back to the input's shape."""

    dim: tuple[int, ...]
    keepdim: bool

    def regrow(self, y: Array) -> Array:
        return y if self.keepdim else y.reshape([1 if i in self.dim else n for i, n in enumerate(self.shape)])

    def count(self) -> int:
        return math.prod(self.shape[i] for i in self.dim)

    shape: tuple[int, ...]


class Sum(Reduction):
    """The sum over some axes.

    Shapes    x: (*); y: x without the axes `dim`
    Forward   y = sum(x)
    Backward  gx = gy, repeated along `dim`
    Kinks     none
    Saved     x.shape
    Source    the adjoint of repeating is summing, and the other way round
    """

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x.sum(axis=self.dim, keepdims=self.keepdim)

    def backward(self, gy: Array) -> Array:
        return self.xp.broadcast_to(self.regrow(gy), self.shape)


class Mean(Reduction):
    """The mean over some axes, m numbers each.

    Shapes    x: (*); y: x without the axes `dim`
    Forward   y = sum(x) / m
    Backward  gx = gy / m, repeated along `dim`
    Kinks     none
    Saved     x.shape
    Source    the sum, scaled
    """

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x.mean(axis=self.dim, keepdims=self.keepdim)

    def backward(self, gy: Array) -> Array:
        return self.xp.broadcast_to(self.regrow(gy) / max(self.count(), 1), self.shape)


class Var(Reduction):
    """The variance over some axes, m numbers each.

    Shapes    x: (*); y: x without the axes `dim`
    Forward   d = x - mean(x);  y = sum(d^2) / (m - correction)
    Backward  gx = 2 d gy / (m - correction)
    Derivation  the mean moves with x too, but its term is -2 mean(dx) sum(d) gy / (m - correction), and sum(d) = 0
    Kinks     none
    Saved     d
    Source    Bessel's correction: correction = 1
    """

    correction: float

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        self.d = x - x.mean(axis=self.dim, keepdims=True)
        self.n = self.count() - self.correction
        return (self.d * self.d).sum(axis=self.dim, keepdims=self.keepdim) / self.n

    def backward(self, gy: Array) -> Array:
        return self.d * (self.regrow(gy) * (2 / self.n))


class Extreme(Reduction):
    """The largest (or smallest) value over some axes, ties sharing.

    Shapes    x: (*); y: x without the axes `dim`
    Forward   y = max(x), or min(x) where `smallest`
    Backward  gx = gy / k at the k places where x = y, else 0
    Kinks     where k > 1 any split is a subgradient; equal shares are chosen, as in PyTorch's amax
    Saved     the share of each x: 1 / k or 0
    Source    by cases
    """

    smallest: bool

    def forward(self, x: Array) -> Array:
        self.shape, key = x.shape, x.real
        top = (key.min if self.smallest else key.max)(axis=self.dim, keepdims=True)
        here = (key == top).astype(key.dtype)
        self.share = here / here.sum(axis=self.dim, keepdims=True)
        if x is key or x.dtype == key.dtype:
            return top if self.keepdim else top.reshape([n for i, n in enumerate(x.shape) if i not in self.dim])
        return (x * self.share).sum(axis=self.dim, keepdims=self.keepdim)

    def backward(self, gy: Array) -> Array:
        return self.regrow(gy) * self.share


class Pick(Reduction):
    """The value at one index along one axis: what `max(x, dim)` and `min(x, dim)` return.

    Shapes    x: (*); index: x with length 1 along the axis; y: x without the axis
    Forward   y = x[index]
    Backward  gx[index] = gy, else 0
    Kinks     where there are ties the first is picked, by argmax, as in PyTorch
    Saved     index
    Source    by cases
    """

    def forward(self, x: Array, index: Array) -> Array:
        self.shape, self.index = x.shape, index
        y = self.xp.take_along_axis(x, index, axis=self.dim[0])
        return y if self.keepdim else y.squeeze(self.dim[0])

    def backward(self, gy: Array) -> Any:
        places = self.xp.arange(self.shape[self.dim[0]]).reshape(
            [-1 if i in self.dim else 1 for i in range(len(self.shape))]
        )
        return self.regrow(gy) * (places == self.index), None


class Logsumexp(Reduction):
    """The logarithm of a sum of exponentials: a smooth maximum.

    Shapes    x: (*); y: x without the axes `dim`
    Forward   y = t + log(sum(exp(x - t))), t = max(x), so that nothing overflows
    Backward  gx = exp(x - y) gy, the softmax of x
    Derivation  dy = sum(exp(x) dx) / sum(exp(x)); t cancels, so it is treated as a constant
    Kinks     none. A set of -inf gives -inf, and no gradient
    Saved     softmax(x)
    Source    Blanchard et al. 2021, Accurately computing the log-sum-exp and softmax functions
    """

    def forward(self, x: Array) -> Array:
        xp, self.shape = self.xp, x.shape
        top = x.real.max(axis=self.dim, keepdims=True)
        top = xp.where(xp.isfinite(top), top, 0)
        e = xp.exp(x - top)
        total = e.sum(axis=self.dim, keepdims=True)
        empty = total == 0
        self.p = e / xp.where(empty, 1, total)
        y = xp.where(empty, -math.inf, xp.log(xp.where(empty, 1, total))) + top
        return y if self.keepdim else y.reshape([n for i, n in enumerate(x.shape) if i not in self.dim])

    def backward(self, gy: Array) -> Array:
        return self.regrow(gy) * self.p
