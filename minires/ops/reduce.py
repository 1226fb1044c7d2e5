"""Reductions: many numbers into one. `axes` is a tuple of non-negative axes; keepdim leaves them with length 1."""

from __future__ import annotations

import math
from typing import Any

from minires.backend import Array
from minires.engine import Function


class Sum(Function):
    """A sum over `axes`.

    Shapes    x: any; y: x's without `axes`
    Forward   y = Σ x
    Backward  gx = gy, repeated along `axes`: the adjoint of summing is spreading
    Kinks     none
    Saved     x.shape
    Source    the sum rule
    """

    axes: tuple[int, ...]
    keepdim: bool

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x.sum(axis=self.axes, keepdims=self.keepdim)

    def backward(self, gy: Array) -> Array:
        return spread(self.xp, gy, self.shape, self.axes)


class Mean(Function):
    """A mean over `axes`, n numbers each.

    Shapes    x: any; y: x's without `axes`
    Forward   y = (Σ x) / n
    Backward  gx = gy / n, repeated along `axes`
    Kinks     none
    Saved     x.shape
    Source    the sum rule
    """

    axes: tuple[int, ...]
    keepdim: bool

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x.mean(axis=self.axes, keepdims=self.keepdim)

    def backward(self, gy: Array) -> Array:
        return spread(self.xp, gy / count(self.shape, self.axes), self.shape, self.axes)


class Var(Function):
    """The variance over `axes`, n numbers each, divided by n - correction.

    Shapes    x: any; y: x's without `axes`
    Forward   y = (Σ d^2) / (n - correction), d = x - mean(x)
    Backward  gx = 2 d gy / (n - correction)
    Derivation  dy = 2 / (n - correction) Σ_j d_j (dx_j - dm), m being the mean.
              The last term is dm Σ_j d_j = 0, for deviations from a mean sum to zero: so the mean
              may be taken as a constant, though it is none.
    Kinks     none
    Saved     d
    Source    Bessel's correction is correction = 1
    """

    axes: tuple[int, ...]
    keepdim: bool
    correction: float

    def forward(self, x: Array) -> Array:
        self.d = x - x.mean(axis=self.axes, keepdims=True)
        self.freedom = max(count(x.shape, self.axes) - self.correction, 0)
        return (self.d * self.d).sum(axis=self.axes, keepdims=self.keepdim) / self.freedom

    def backward(self, gy: Array) -> Array:
        return self.d * spread(self.xp, gy * 2 / self.freedom, self.d.shape, self.axes)


class Amax(Function):
    """The largest value over `axes`.

    Shapes    x: any; y: x's without `axes`
    Forward   y = max x
    Backward  gx = gy / k where x = y, else 0; k is how often x = y along `axes`
    Kinks     where the maximum is reached k times, the mean of the k one-sided slopes, as in torch.amax
    Saved     where x = y
    Source    by cases
    """

    axes: tuple[int, ...]
    keepdim: bool

    def forward(self, x: Array) -> Array:
        y = x.max(axis=self.axes, keepdims=True)
        self.reached = x.real == y.real
        return y if self.keepdim else y.reshape(kept(x.shape, self.axes, keepdim=False))

    def backward(self, gy: Array) -> Array:
        return share_evenly(gy, self.reached, self.axes)


class Amin(Function):
    """The smallest value over `axes`.

    Shapes    x: any; y: x's without `axes`
    Forward   y = min x
    Backward  gx = gy / k where x = y, else 0; k is how often x = y along `axes`
    Kinks     where the minimum is reached k times, the mean of the k one-sided slopes, as in torch.amin
    Saved     where x = y
    Source    by cases
    """

    axes: tuple[int, ...]
    keepdim: bool

    def forward(self, x: Array) -> Array:
        y = x.min(axis=self.axes, keepdims=True)
        self.reached = x.real == y.real
        return y if self.keepdim else y.reshape(kept(x.shape, self.axes, keepdim=False))

    def backward(self, gy: Array) -> Array:
        return share_evenly(gy, self.reached, self.axes)


class Max(Function):
    """The largest value along one axis, and where it stands.

    Shapes    x: any; y, i: x's without `axis`
    Forward   i = argmax x, the first of equals;  y = x[i]
    Backward  gx[j] = gy where j = i, else 0; i carries no gradient
    Kinks     among equal largest values the first takes all, as in torch.max(x, dim)
    Saved     i
    Source    by cases
    """

    axis: int
    keepdim: bool

    def forward(self, x: Array) -> Any:
        self.shape = x.shape
        self.chosen = self.xp.expand_dims(x.real.argmax(axis=self.axis), self.axis)
        return picked(self.xp, x, self.chosen, self.axis, self.keepdim)

    def backward(self, gy: Array, gi: Array) -> Array:
        return put_back(self.xp, gy, self.chosen, self.shape, self.axis)


class Min(Function):
    """The smallest value along one axis, and where it stands.

    Shapes    x: any; y, i: x's without `axis`
    Forward   i = argmin x, the first of equals;  y = x[i]
    Backward  gx[j] = gy where j = i, else 0; i carries no gradient
    Kinks     among equal smallest values the first takes all, as in torch.min(x, dim)
    Saved     i
    Source    by cases
    """

    axis: int
    keepdim: bool

    def forward(self, x: Array) -> Any:
        self.shape = x.shape
        self.chosen = self.xp.expand_dims(x.real.argmin(axis=self.axis), self.axis)
        return picked(self.xp, x, self.chosen, self.axis, self.keepdim)

    def backward(self, gy: Array, gi: Array) -> Array:
        return put_back(self.xp, gy, self.chosen, self.shape, self.axis)


class Logsumexp(Function):
    """The logarithm of a sum of exponentials over `axes`: a smooth maximum.

    Shapes    x: any; y: x's without `axes`
    Forward   y = m + log Σ exp(x - m), m = max x: no exponential overflows, and one of them is 1
    Backward  gx = softmax(x) gy, softmax(x) = exp(x - m) / Σ exp(x - m)
    Derivation  dy/dx_j = exp(x_j) / Σ exp(x), and the shift m cancels
    Kinks     none. Where x = -inf throughout, y = -inf, and the gradient is 0 (the limit does not exist)
    Saved     exp(x - m) and its sum
    Source    Blanchard et al. 2021, Accurately Computing the Log-Sum-Exp and Softmax Functions, eq. 1.1-1.4
    """

    axes: tuple[int, ...]
    keepdim: bool

    def forward(self, x: Array) -> Array:
        xp = self.xp
        m = x.real.max(axis=self.axes, keepdims=True)
        m = xp.where(xp.isfinite(m), m, 0)  # -inf - -inf would be NaN
        self.e = xp.exp(x - m)
        total = self.e.sum(axis=self.axes, keepdims=True)
        nothing = total.real == 0
        self.total = xp.where(nothing, 1, total)
        y = xp.where(nothing, -math.inf, xp.log(self.total) + m)
        return y.reshape(kept(x.shape, self.axes, self.keepdim))

    def backward(self, gy: Array) -> Array:
        return spread(self.xp, gy, self.e.shape, self.axes) * (self.e / self.total)


# --- shapes of a reduction


def count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """How many numbers become one."""
    return math.prod(shape[i] for i in axes)


def kept(shape: tuple[int, ...], axes: tuple[int, ...], keepdim: bool) -> tuple[int, ...]:
    """`shape` after a reduction over `axes`."""
    if keepdim:
        return tuple([1 if i in axes else n for i, n in enumerate(shape)])
    return tuple([n for i, n in enumerate(shape) if i not in axes])


def spread(xp: Any, gy: Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """gy, with or without the reduced axes, repeated along them to `shape` (a view)."""
    return xp.broadcast_to(gy.reshape(kept(shape, axes, keepdim=True)), shape)


def share_evenly(gy: Array, reached: Array, axes: tuple[int, ...]) -> Array:
    """gy in equal parts to the places that reached the extreme."""
    ties = reached.sum(axis=axes, keepdims=True).astype(gy.dtype)
    return reached * (gy.reshape(ties.shape) / ties)


def picked(xp: Any, x: Array, chosen: Array, axis: int, keepdim: bool) -> tuple[Array, Array]:
    """x at the `chosen` indices along `axis`, and the indices."""
    y = xp.take_along_axis(x, chosen, axis=axis)
    return (y, chosen.copy()) if keepdim else (y.squeeze(axis), chosen.squeeze(axis).copy())


def put_back(xp: Any, gy: Array, chosen: Array, shape: tuple[int, ...], axis: int) -> Array:
    """gy at the `chosen` indices along `axis`, and 0 elsewhere."""
    along = [1] * len(shape)
    along[axis] = shape[axis]
    here = xp.arange(shape[axis]).reshape(along) == chosen
    return xp.where(here, gy.reshape(chosen.shape), 0)
