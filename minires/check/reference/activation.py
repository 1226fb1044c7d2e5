"""Activations number by number, as their papers write them."""

from __future__ import annotations

import math

from minires.backend import Array
from minires.check.reference.elementwise import each


def relu(x: Array) -> Array:
    """x where it is positive, else 0."""
    return each(lambda a: a if a > 0 else 0.0, x)


def leaky_relu(x: Array, slope: float) -> Array:
    """x where it is positive, else slope x."""
    return each(lambda a: a if a > 0 else slope * a, x)


def elu(x: Array, alpha: float) -> Array:
    """x where it is positive, else alpha (e^x - 1)."""
    return each(lambda a: a if a > 0 else alpha * (math.exp(a) - 1), x)


def tanh(x: Array) -> Array:
    """(e^x - e^-x) / (e^x + e^-x)."""
    return each(lambda a: (math.exp(a) - math.exp(-a)) / (math.exp(a) + math.exp(-a)), x)


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    return each(logistic, x)


def silu(x: Array) -> Array:
    """x sigmoid(x)."""
    return each(lambda a: a * logistic(a), x)


def softplus(x: Array, beta: float, threshold: float) -> Array:
    """log(1 + e^(beta x)) / beta, and x itself where beta x > threshold."""
    return each(lambda a: a if beta * a > threshold else math.log(1 + math.exp(beta * a)) / beta, x)


def hardtanh(x: Array, low: float, high: float) -> Array:
    """x between two bounds, and the bound beyond it."""
    return each(lambda a: low if a < low else high if a > high else a, x)


def hardswish(x: Array) -> Array:
    """0 up to -3, x from 3 on, and x (x + 3) / 6 between."""
    return each(lambda a: 0.0 if a <= -3 else a if a >= 3 else a * (a + 3) / 6, x)


def gelu(x: Array) -> Array:
    """x P(x), where P is the distribution function of the standard normal law."""
    return each(lambda a: a * (1 + math.erf(a / math.sqrt(2))) / 2, x)


def gelu_tanh(x: Array) -> Array:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2."""
    return each(lambda a: a * (1 + math.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3))) / 2, x)


def logistic(a: float) -> float:
    """1 / (1 + e^-a)."""
    return 1 / (1 + math.exp(-a))
