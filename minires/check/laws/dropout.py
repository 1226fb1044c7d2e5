"""Laws of dropout: one mask both ways, unbiased, and drawn for the units it is meant for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minires import functional as F
from minires.backend import Array
from minires.check.draw import Draw
from minires.check.law import law, pull, require, same, same_bits
from minires.check.oracles import steady
from minires.ops.dropout import Dropout

MANY = 4000
SIGMAS = 6.0  # a fair mask strays so far once in 500 million draws


@law(Dropout)
def dropout_uses_one_mask_forward_and_backward(draw: Draw) -> None:
    """y = m x and gx = m gy with the same m, of zeros and 1 / (1 - p) alone. What was silent learns nothing."""
    p = draw.choice([0.5, 0.2, 0.7])
    x, gy = draw.away(4, 4, 3, 3), draw.away(4, 4, 3, 3)
    for f in (F.dropout, F.dropout2d, F.drop_path):
        y, gx = _dropped(draw, f, x, p, gy)
        m = y / x
        off = np.minimum(np.abs(m), np.abs(m - 1 / (1 - p)))
        same(off, np.zeros_like(off), f"{f.__name__}: y / x is 0 or 1 / (1 - p)", scale=1.0)
        same(gx / gy, m, f"{f.__name__}: gx / gy = y / x", scale=1.0)


@law(Dropout)
def dropout_is_unbiased_forward_and_backward(draw: Draw) -> None:
    """E[y] = x and E[gx] = gy: E[m] = (1 - p) / (1 - p) = 1, with variance p / (1 - p), within 6 sigma of many draws.

    Srivastava et al. 2014, section 10.
    """
    p = draw.choice([0.2, 0.7, 0.35])  # not 0.5, where p and 1 - p look alike
    x, gy = draw.away(MANY, 1), draw.away(MANY, 1)
    sigma = math.sqrt(p / (1 - p) / MANY)
    for f in (F.dropout, F.drop_path):
        y, gx = _dropped(draw, f, x, p, gy)
        for ratio, what in ((y / x, "y / x"), (gx / gy, "gx / gy")):
            off = abs(float(ratio.mean()) - 1)
            require(off <= SIGMAS * sigma, f"{f.__name__} with p = {p}: the mean of {what} is off by {off:.3g}")


@law(Dropout)
def dropout_decides_for_elements_maps_or_whole_samples(draw: Draw) -> None:
    """Elements fall alone (dropout), a map falls as a whole (dropout2d), a sample falls as a whole (drop_path).

    And each unit falls by itself: of many, some stay and some do not. Huang et al. 2016, section 3.
    """
    x = draw.away(40, 5, 3, 3)
    for f, unit in ((F.dropout, 0), (F.dropout2d, 2), (F.drop_path, 3)):
        y, gx = _dropped(draw, f, x, 0.5, x)
        for kept in (y != 0, gx != 0):
            units = kept.reshape(math.prod(x.shape[: x.ndim - unit]), -1)
            require(np.all(units == units[:, :1]), f"{f.__name__}: what falls together must fall together")
            within = units[:, 0].reshape(40, -1)
            require(np.any(within[1:] != within[:1]), f"{f.__name__}: samples must fall independently")
            require(unit == 3 or np.any(within != within[:, :1]), f"{f.__name__}: units of one sample, too")


@law(Dropout)
def dropping_nothing_is_the_identity_and_dropping_everything_is_silence(draw: Draw) -> None:
    """p = 0, or evaluation: y = x and gx = gy bit for bit. p = 1: y = 0 and gx = 0, not NaN."""
    x, gy = draw.normal(3, 2, 2, 2), draw.normal(3, 2, 2, 2)
    for f in (F.dropout, F.dropout2d, F.drop_path):
        for kept in (lambda x, f=f: f(x, 0.0), lambda x, f=f: f(x, 0.7, training=False)):
            y, (gx,) = pull(lambda x, kept=kept: F.mul(kept(x), 1.0), x, gy=gy)
            same_bits(y, x, f"{f.__name__} that drops nothing")
            same_bits(gx, gy, f"the gradient of {f.__name__} that drops nothing")
        y, gx = _dropped(draw, f, x, 1.0, gy)
        require(np.all(y == 0) and np.all(gx == 0), f"{f.__name__} with p = 1 leaves nothing")


def _dropped(draw: Draw, f: Callable[..., Any], x: Array, p: float, gy: Array) -> tuple[Array, Array]:
    """y and gx for a mask from a seed that is drawn, the caller's generator left as it was."""
    with steady(int(draw.rng.integers(2**31))):
        y, (gx,) = pull(lambda x: f(x, p), x, gy=gy)
    return y, gx
