"""Activations: one number in, one number out. The slope at each point is the whole gradient."""

from __future__ import annotations

import math
from typing import Any

from minires.backend import Array
from minires.engine import Function
from minires.ops.elementwise import clipped


class Relu(Function):
    """The rectifier.

    Shapes    x, y: equal
    Forward   y = x where x > 0, else 0
    Backward  gx = gy where x > 0, else 0
    Kinks     at x = 0 any slope in [0, 1] is a subgradient; 0 is chosen, as in PyTorch
    Saved     where x > 0
    Source    Nair and Hinton 2010, Rectified Linear Units Improve Restricted Boltzmann Machines
    """

    def forward(self, x: Array) -> Array:
        self.positive = x.real > 0
        return self.xp.maximum(x, 0)

    def backward(self, gy: Array) -> Array:
        return gy * self.positive


class LeakyRelu(Function):
    """The rectifier with a slope left of zero.

    Shapes    x, y: equal
    Forward   y = x where x > 0, else slope x
    Backward  gx = gy where x > 0, else slope gy
    Kinks     at x = 0 `slope` is chosen, as in PyTorch
    Saved     where x > 0
    Source    Maas et al. 2013, Rectifier Nonlinearities Improve Neural Network Acoustic Models, eq. 2
    """

    slope: float

    def forward(self, x: Array) -> Array:
        self.positive = x.real > 0
        return self.xp.where(self.positive, x, x * self.slope)

    def backward(self, gy: Array) -> Array:
        return self.xp.where(self.positive, gy, gy * self.slope)


class Elu(Function):
    """The exponential linear unit.

    Shapes    x, y: equal
    Forward   y = x where x > 0, else alpha (exp(x) - 1)
    Backward  gx = gy where x > 0, else alpha exp(x) gy = (y + alpha) gy
    Kinks     at x = 0 unless alpha = 1; `alpha` is chosen, as in PyTorch
    Saved     y, and where x > 0
    Source    Clevert et al. 2016, Fast and Accurate Deep Network Learning by ELUs, eq. 15-16
    """

    alpha: float

    def forward(self, x: Array) -> Array:
        self.positive = x.real > 0
        low = self.alpha * self.xp.expm1(self.xp.where(self.positive, 0, x))
        self.y = self.xp.where(self.positive, x, low)
        return self.y

    def backward(self, gy: Array) -> Array:
        return gy * self.xp.where(self.positive, 1, self.y + self.alpha)


class Tanh(Function):
    """The hyperbolic tangent.

    Shapes    x, y: equal
    Forward   y = tanh(x)
    Backward  gx = (1 - y^2) gy
    Kinks     none
    Saved     y
    Source    tanh' = 1 - tanh^2
    """

    def forward(self, x: Array) -> Array:
        self.y = self.xp.tanh(x)
        return self.y

    def backward(self, gy: Array) -> Array:
        return gy * (1 - self.y * self.y)


class Sigmoid(Function):
    """The logistic function.

    Shapes    x, y: equal
    Forward   y = 1 / (1 + exp(-x)), computed as (1 + tanh(x / 2)) / 2, which cannot overflow
    Backward  gx = y (1 - y) gy
    Kinks     none
    Saved     y
    Source    sigmoid' = sigmoid (1 - sigmoid)
    """

    def forward(self, x: Array) -> Array:
        self.y = sigmoid(self.xp, x)
        return self.y

    def backward(self, gy: Array) -> Array:
        return gy * (self.y * (1 - self.y))


class Silu(Function):
    """The sigmoid-weighted linear unit, or swish.

    Shapes    x, y: equal
    Forward   y = x s, s = sigmoid(x)
    Backward  gx = (s + y (1 - s)) gy
    Derivation  the product rule: y' = s + x s' = s + x s (1 - s)
    Kinks     none
    Saved     s, y
    Source    Elfwing et al. 2018, Sigmoid-Weighted Linear Units, eq. 7-8
    """

    def forward(self, x: Array) -> Array:
        self.s = sigmoid(self.xp, x)
        self.y = x * self.s
        return self.y

    def backward(self, gy: Array) -> Array:
        return gy * (self.s + self.y * (1 - self.s))


class Softplus(Function):
    """A smooth rectifier.

    Shapes    x, y: equal
    Forward   y = log(1 + exp(beta x)) / beta, and x itself where beta x > threshold
    Backward  gx = sigmoid(beta x) gy, and gy where beta x > threshold
    Derivation  log(1 + e^z) = max(z, 0) + log(1 + e^-|z|) keeps the exponential from overflowing
    Kinks     none, but for a jump of exp(-threshold) / beta at the threshold
    Saved     the slope at each x
    Source    Dugas et al. 2001, Incorporating Second-Order Functional Knowledge
    """

    beta: float
    threshold: float

    def forward(self, x: Array) -> Array:
        xp, z = self.xp, x * self.beta
        linear = z.real > self.threshold
        self.slope = xp.where(linear, 1, sigmoid(xp, z))
        positive = z.real > 0
        smooth = xp.where(positive, z, 0) + xp.log1p(xp.exp(xp.where(positive, -z, z)))
        return xp.where(linear, x, smooth / self.beta)

    def backward(self, gy: Array) -> Array:
        return gy * self.slope


class Hardtanh(Function):
    """A straight line between two bounds, and flat beyond; with bounds 0 and 6, ReLU6.

    Shapes    x, y: equal; low, high: numbers
    Forward   y = min(max(x, low), high)
    Backward  gx = gy where low < x < high, else 0
    Kinks     at x = low and x = high 0 is chosen, as in torch's hardtanh and relu6; its clamp, `Clip`, chooses 1
    Saved     where low < x < high
    Source    by cases
    """

    low: float
    high: float

    def forward(self, x: Array) -> Array:
        self.inside = (x.real > self.low) & (x.real < self.high)
        return clipped(self.xp, x, self.low, self.high)

    def backward(self, gy: Array) -> Array:
        return gy * self.inside


class Hardswish(Function):
    """Swish made of straight pieces.

    Shapes    x, y: equal
    Forward   y = x g, g = min(max(x + 3, 0), 6) / 6
    Backward  gx = (g + x / 6) gy where -3 < x < 3, else g gy
    Derivation  the product rule, with g' = 1 / 6 between the kinks and 0 beyond
    Kinks     at x = -3 (slopes 0 and -1/2) 0 is chosen, at x = 3 (slopes 3/2 and 1) 1, as in PyTorch
    Saved     the slope at each x
    Source    Howard et al. 2019, Searching for MobileNetV3, section 5.2
    """

    def forward(self, x: Array) -> Array:
        xp = self.xp
        g = clipped(xp, x + 3, 0.0, 6.0) * (1 / 6)
        self.slope = xp.where((x.real > -3) & (x.real < 3), g + x * (1 / 6), g)
        return x * g

    def backward(self, gy: Array) -> Array:
        return gy * self.slope


class Gelu(Function):
    """The Gaussian error linear unit: x times the chance that a standard normal number lies below x.

    Shapes    x, y: equal
    Forward   y = x P(x), P(x) = (1 + erf(x / sqrt 2)) / 2
    Backward  gx = (P(x) + x p(x)) gy, p(x) = exp(-x^2 / 2) / sqrt(2 pi)
    Derivation  the product rule, with P' = p, the normal density
    Kinks     none
    Saved     x, P(x)
    Source    Hendrycks and Gimpel 2016, Gaussian Error Linear Units, section 2

    erf needs SciPy to hold for complex arrays, so this op is checked by central differences.
    """

    def forward(self, x: Array) -> Array:
        self.x = x
        self.cdf = 0.5 * (1 + self.lib.erf(x * math.sqrt(0.5)))
        return x * self.cdf

    def backward(self, gy: Array) -> Array:
        density = self.xp.exp(self.x * self.x * -0.5) * (1 / math.sqrt(2 * math.pi))
        return gy * (self.cdf + self.x * density)


class GeluTanh(Function):
    """GELU with tanh in the place of erf.

    Shapes    x, y: equal
    Forward   y = x (1 + t) / 2, t = tanh(c (x + a x^3)), c = sqrt(2 / pi), a = 0.044715
    Backward  gx = ((1 + t) / 2 + x (1 - t^2) c (1 + 3 a x^2) / 2) gy
    Derivation  the product rule, and t' = (1 - t^2) times the inner slope c (1 + 3 a x^2)
    Kinks     none
    Saved     x, t
    Source    Hendrycks and Gimpel 2016, Gaussian Error Linear Units, section 2
    """

    C = math.sqrt(2 / math.pi)
    A = 0.044715

    def forward(self, x: Array) -> Array:
        self.x = x
        self.t = self.xp.tanh(self.C * (x + self.A * (x * x * x)))
        return 0.5 * x * (1 + self.t)

    def backward(self, gy: Array) -> Array:
        x, t = self.x, self.t
        inner = self.C * (1 + 3 * self.A * (x * x))
        return gy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner)


def sigmoid(xp: Any, x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow, complex or real."""
    return 0.5 * (1 + xp.tanh(0.5 * x))
