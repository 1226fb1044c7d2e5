"""GELU on NumPy, blocked and threaded. The slope is made in the forward pass, where all of it lies in the cache, and
saved in the place of x: backward is one product.

The formula's erf comes from SciPy, or where that is missing from a call of the C library for each number. Here the
normal distribution function P is a polynomial, fitted to P itself by reweighted least squares (Lawson 1961):

    float32   P(x) = (1 + tanh(x a(x^2))) / 2, which is 7e-8 from the truth at most, even times x
    float64   1 - P(u) = p(u) m(t) for u >= 0, t = 1 / (1 + 0.3 u): p is the normal density and m stands for Mills'
              ratio (1 - P) / p, as in Abramowitz and Stegun 1964, 26.2.17, with more terms: 1e-17 from the truth
              before rounding, 1e-15 after
"""

from __future__ import annotations

import math

import numpy as np

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.slope import SavedSlope
from minires.kernels.threads import scratch
from minires.ops.activation import Gelu, GeluTanh

DENSITY = 1 / math.sqrt(2 * math.pi)

ARTANH = (
    *(0.7978845361, 0.03633378078, -3.284936309e-5, -5.531246036e-5, 3.978298698e-6, -1.339992229e-7),
    *(1.818047649e-9,),
)
MILLS = (
    *(3.2442836679428565e-05, 0.29922501240709565, 0.3086146339209432, 0.21392049092099294, 0.4982951743059667),
    *(-0.8172820513220815, 2.558478706840801, -4.913651355375443, 7.360833996390296, -8.43948188560883),
    *(7.030133166054039, -4.1640279252728805, 1.7187737350481784, -0.4730444641678725, 0.07844878835039702),
    *(-0.005954328012781896,),
)


@kernel(Gelu, "numpy")
class BlockedGelu(SavedSlope, Gelu):
    """`Gelu`, blocked and threaded, without SciPy. Saved: dy/dx."""

    def forward(self, x: Array) -> Array:
        return self.with_slope(gelu, x, self.needs[0])


@kernel(GeluTanh, "numpy")
class BlockedGeluTanh(SavedSlope, GeluTanh):
    """`GeluTanh`, blocked and threaded. Saved: dy/dx."""

    def forward(self, x: Array) -> Array:
        return self.with_slope(gelu_tanh, x, self.needs[0])


def gelu(x: Array, y: Array, slope: Array | None) -> None:
    """y = x P(x) and slope = P(x) + x p(x)."""
    square, density = (scratch(name, x.shape, x.dtype) for name in ("square", "density"))
    np.multiply(x, x, out=square)
    single = x.dtype == np.float32
    if slope is not None or not single:
        np.multiply(square, -0.5, out=density)
        np.exp(density, out=density)
        density *= DENSITY
    cdf = cdf_single(x, square) if single else cdf_double(x, density)
    np.multiply(x, cdf, out=y)
    if slope is not None:
        np.multiply(x, density, out=slope)
        slope += cdf


def gelu_tanh(x: Array, y: Array, slope: Array | None) -> None:
    """y = x (1 + t) / 2 and slope = (1 + t) / 2 + x (1 - t^2) c (1 + 3 a x^2) / 2, with t = tanh(c (x + a x^3))."""
    square, cdf = (scratch(name, x.shape, x.dtype) for name in ("square", "cdf"))
    c, a = GeluTanh.C, GeluTanh.A
    np.multiply(x, x, out=square)
    np.multiply(square, c * a, out=cdf)
    cdf += c
    cdf *= x
    np.tanh(cdf, out=cdf)
    if slope is not None:
        square *= 1.5 * c * a
        square += 0.5 * c
        square *= x
        np.multiply(cdf, cdf, out=slope)
        np.subtract(1, slope, out=slope)
        slope *= square
    cdf *= 0.5
    cdf += 0.5
    np.multiply(x, cdf, out=y)
    if slope is not None:
        slope += cdf


def cdf_single(x: Array, square: Array) -> Array:
    """P(x) in scratch memory, for float32."""
    cdf = scratch("cdf", x.shape, x.dtype)
    with np.errstate(over="ignore"):  # beyond |x| = 5000, where tanh has long been 1
        polynomial(ARTANH, square, out=cdf)
        cdf *= x
    np.tanh(cdf, out=cdf)
    cdf *= 0.5
    cdf += 0.5
    return cdf


def cdf_double(x: Array, density: Array) -> Array:
    """P(x) in scratch memory, for float64."""
    t, cdf = (scratch(name, x.shape, x.dtype) for name in ("square", "cdf"))
    np.abs(x, out=t)
    t *= 0.3
    t += 1
    np.reciprocal(t, out=t)
    polynomial(MILLS, t, out=cdf)
    cdf *= density  # 1 - P(|x|)
    np.subtract(0.5, cdf, out=cdf)
    np.copysign(cdf, x, out=cdf)
    cdf += 0.5
    return cdf


def polynomial(coefficients: tuple[float, ...], x: Array, out: Array) -> None:
    """out = sum_k coefficients[k] x^k, by Horner's rule."""
    np.multiply(x, coefficients[-1], out=out)
    out += coefficients[-2]
    for c in coefficients[-3::-1]:
        out *= x
        out += c
