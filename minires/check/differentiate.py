"""Differentiation that knows nothing of backward: the complex step and central differences of eighth order.

complex step   g(i h).imag / h with h = 1e-30: no subtraction, so exact to rounding wherever g's formulas
               hold for complex numbers: tutorial 3, (3.8) (Squire and Trapp 1998, Using Complex Variables to
               Estimate Derivatives of Real Functions, eq. 6)
central        sum over k = 1..4 of c_k (g(k h) - g(-k h)) / h: its error is h^8 g^(9) / 630, so that
               h = 0.005 leaves 1e-12 where a plain difference quotient at its best leaves 1e-10: tutorial 3, (3.6)
               (Fornberg 1988, Generation of Finite Difference Formulas, table 1)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from minires.backend import Array

COMPLEX_STEP = 1e-30
CENTRAL_STEP = 5e-3  # reaches 0.02 to either side: kinks must be farther away than that
EIGHTH_ORDER = (4 / 5, -1 / 5, 4 / 105, -1 / 280)

Along = Callable[[complex], Sequence[Array]]  # the outputs at a step along some direction


def complex_step(along: Along) -> list[Array]:
    """The derivative of every output of `along` at 0."""
    return [np.imag(y) / COMPLEX_STEP for y in along(1j * COMPLEX_STEP)]


def central(along: Along, h: float = CENTRAL_STEP) -> list[Array]:
    """The same from real values alone."""
    total: list[Array] = []
    for k, c in enumerate(EIGHTH_ORDER, start=1):
        terms = [c * (a - b) / h for a, b in zip(along(k * h), along(-k * h), strict=True)]
        total = terms if not total else [t + new for t, new in zip(total, terms, strict=True)]
    return total
