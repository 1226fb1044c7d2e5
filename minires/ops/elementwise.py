"""Arithmetic, element by element. Inputs broadcast; the engine sums the gradients back to their shapes."""

from __future__ import annotations

import math
from typing import Any

from minires.backend import Array
from minires.engine import Function


class Add(Function):
    """A sum.

    Shapes    x, w: broadcast to y
    Forward   y = x + w
    Backward  gx = gy;  gw = gy
    Kinks     none
    Saved     nothing
    Source    the sum rule
    """

    broadcasts = True

    def forward(self, x: Array, w: Array) -> Array:
        return x + w

    def backward(self, gy: Array) -> Any:
        return gy, gy


class Sub(Function):
    """A difference.

    Shapes    x, w: broadcast to y
    Forward   y = x - w
    Backward  gx = gy;  gw = -gy
    Kinks     none
    Saved     nothing
    Source    the sum rule
    """

    broadcasts = True

    def forward(self, x: Array, w: Array) -> Array:
        return x - w

    def backward(self, gy: Array) -> Any:
        return gy, -gy if self.needs[1] else None


class Mul(Function):
    """A product.

    Shapes    x, w: broadcast to y
    Forward   y = x w
    Backward  gx = w gy;  gw = x gy
    Kinks     none
    Saved     w where gx is wanted, x where gw is wanted
    Source    the product rule
    """

    broadcasts = True

    def forward(self, x: Array, w: Array) -> Array:
        self.x = x if self.needs[1] else None
        self.w = w if self.needs[0] else None
        return x * w

    def backward(self, gy: Array) -> Any:
        return None if self.w is None else gy * self.w, None if self.x is None else gy * self.x


class Div(Function):
    """A quotient.

    Shapes    x, w: broadcast to y
    Forward   y = x / w
    Backward  gx = gy / w;  gw = -y gy / w
    Kinks     none; undefined at w = 0
    Saved     w; y where gw is wanted
    Source    the quotient rule, with x / w^2 written y / w
    """

    broadcasts = True

    def forward(self, x: Array, w: Array) -> Array:
        y = x / w
        self.w, self.y = w, y if self.needs[1] else None
        return y

    def backward(self, gy: Array) -> Any:
        gx = gy / self.w
        return gx, None if self.y is None else -(gx * self.y)


class Neg(Function):
    """The opposite.

    Shapes    x, y: equal
    Forward   y = -x
    Backward  gx = -gy
    Kinks     none
    Saved     nothing
    Source    the sum rule
    """

    def forward(self, x: Array) -> Array:
        return -x

    def backward(self, gy: Array) -> Array:
        return -gy


class Pow(Function):
    """A power, x^w.

    Shapes    x, w: broadcast to y
    Forward   y = x^w
    Backward  gx = w x^(w - 1) gy, and 0 where w = 0;  gw = y log(x) gy, and 0 where x = 0 and w >= 0
    Kinks     at x = 0 the slope in w is taken as 0 (the limit for w > 0). A negative x has a real power
              for an integer w only, and no gradient in w (NaN), as in PyTorch
    Saved     x, w; y where gw is wanted
    Source    x^w = exp(w log x)
    """

    broadcasts = True

    def forward(self, x: Array, w: Array) -> Array:
        self.x, self.w = x, w
        y = x**w
        self.y: Array = y if self.needs[1] else None
        return y

    def backward(self, gy: Array) -> Any:
        xp, x, w = self.xp, self.x, self.w
        gx = gw = None
        if self.needs[0]:
            if isinstance(w, (int, float, complex)):
                gx = gy * (w * x ** (w - 1)) if w != 0 else xp.zeros_like(gy)
            else:
                gx = gy * (w * x ** xp.where(w == 0, 0, w - 1))  # 0 x^0, since 0 x^-1 is NaN at x = 0
        if self.y is not None:
            x = xp.asarray(x, dtype=self.y.dtype)
            flat = (x.real == 0) & (w.real >= 0)
            gw = gy * (self.y * xp.log(xp.where(flat, 1, x)))
        return gx, gw


class Exp(Function):
    """The exponential, its own derivative.

    Shapes    x, y: equal
    Forward   y = exp(x)
    Backward  gx = y gy
    Kinks     none
    Saved     y
    Source    the definition of exp
    """

    def forward(self, x: Array) -> Array:
        self.y = self.xp.exp(x)
        return self.y

    def backward(self, gy: Array) -> Array:
        return gy * self.y


class Log(Function):
    """The natural logarithm.

    Shapes    x, y: equal
    Forward   y = log(x)
    Backward  gx = gy / x
    Kinks     none; undefined for x <= 0
    Saved     x
    Source    the inverse of exp
    """

    def forward(self, x: Array) -> Array:
        self.x = x
        return self.xp.log(x)

    def backward(self, gy: Array) -> Array:
        return gy / self.x


class Sqrt(Function):
    """The square root.

    Shapes    x, y: equal
    Forward   y = sqrt(x)
    Backward  gx = gy / (2 y)
    Kinks     at x = 0 the slope is infinite
    Saved     y
    Source    y^2 = x, differentiated
    """

    def forward(self, x: Array) -> Array:
        self.y = self.xp.sqrt(x)
        return self.y

    def backward(self, gy: Array) -> Array:
        return gy / (2 * self.y)


class Abs(Function):
    """The absolute value (of the real part's sign, so that it stays differentiable by complex step).

    Shapes    x, y: equal
    Forward   y = x where x > 0, -x where x < 0
    Backward  gx = sign(x) gy
    Kinks     at x = 0 any slope in [-1, 1] is a subgradient; 0 is chosen, as in PyTorch
    Saved     sign(x)
    Source    by cases
    """

    def forward(self, x: Array) -> Array:
        self.sign = self.xp.sign(x.real)
        return x * self.sign

    def backward(self, gy: Array) -> Array:
        return gy * self.sign


class Clip(Function):
    """Values held between two bounds.

    Shapes    x, y: equal; low, high: numbers, -inf and inf for no bound
    Forward   y = min(max(x, low), high)
    Backward  gx = gy where low <= x <= high, else 0
    Kinks     at x = low and x = high slopes in [0, 1] are subgradients; 1 is chosen, as in torch.clamp
    Saved     where low <= x <= high
    Source    by cases
    """

    low: float
    high: float

    def forward(self, x: Array) -> Array:
        self.within = (x.real >= self.low) & (x.real <= self.high)
        return clipped(self.xp, x, self.low, self.high)

    def backward(self, gy: Array) -> Array:
        return gy * self.within


class Maximum(Function):
    """The larger of two.

    Shapes    x, w: broadcast to y
    Forward   y = max(x, w)
    Backward  gx = gy where x > w, else 0;  gw = gy where w > x, else 0
    Kinks     where x = w each gets gy / 2, as in PyTorch
    Saved     where x > w, and where w > x
    Source    by cases
    """

    broadcasts = True

    def forward(self, x: Array, w: Array) -> Array:
        self.x_wins, self.w_wins = x.real > w.real, w.real > x.real
        return self.xp.maximum(x, w)

    def backward(self, gy: Array) -> Any:
        return to_the_winner(self.xp, gy, self.x_wins, self.w_wins)


class Minimum(Function):
    """The smaller of two.

    Shapes    x, w: broadcast to y
    Forward   y = min(x, w)
    Backward  gx = gy where x < w, else 0;  gw = gy where w < x, else 0
    Kinks     where x = w each gets gy / 2, as in PyTorch
    Saved     where x < w, and where w < x
    Source    by cases
    """

    broadcasts = True

    def forward(self, x: Array, w: Array) -> Array:
        self.x_wins, self.w_wins = x.real < w.real, w.real < x.real
        return self.xp.minimum(x, w)

    def backward(self, gy: Array) -> Any:
        return to_the_winner(self.xp, gy, self.x_wins, self.w_wins)


class Where(Function):
    """A choice, element by element.

    Shapes    c (bool), x, w: broadcast to y
    Forward   y = x where c, else w
    Backward  gx = gy where c, else 0;  gw = 0 where c, else gy
    Kinks     none; c is a constant
    Saved     c
    Source    by cases
    """

    broadcasts = True

    def forward(self, c: Array, x: Array, w: Array) -> Array:
        self.c = c
        return self.xp.where(c, x, w)

    def backward(self, gy: Array) -> Any:
        return None, self.xp.where(self.c, gy, 0), self.xp.where(self.c, 0, gy)


class Cast(Function):
    """The same values in another dtype.

    Shapes    x, y: equal
    Forward   y = x, rounded to `dtype`
    Backward  gx = gy, which the engine rounds back to x's dtype
    Kinks     none: the rounding is passed over
    Saved     nothing
    Source    the identity
    """

    dtype: Any

    def forward(self, x: Array) -> Array:
        return x.astype(self.dtype)

    def backward(self, gy: Array) -> Array:
        return gy


def clipped(xp: Any, x: Array, low: float, high: float) -> Array:
    """min(max(x, low), high), by the real part; NaN stays NaN."""
    y = x if low == -math.inf else xp.where(x.real < low, low, x)
    return y if high == math.inf else xp.where(y.real > high, high, y)


def to_the_winner(xp: Any, gy: Array, x_wins: Array, w_wins: Array) -> tuple[Array, Array]:
    """gy to the one that was taken, and half to each where they tie."""
    half = xp.where(x_wins | w_wins, gy, gy * 0.5)
    return xp.where(w_wins, 0, half), xp.where(x_wins, 0, half)
