"""Layer norm row by row, and GELU, compiled: each number is read once and written once.

exp and tanh are left to NumPy, which computes many at a time; what comes before and after them is one loop each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from minires.backend import Array
from minires.kernels.gelu import ARTANH, DENSITY
from minires.kernels.layout import total
from minires.kernels.memory import empty
from minires.kernels.rows import each_block
from minires.kernels.threads import scratch

A0, A1, A2, A3, A4, A5, A6 = (np.float32(a) for a in ARTANH)
HALF, P0 = np.float32(0.5), np.float32(DENSITY)


def layer_norm(rows: Array, w: Array | None, b: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """y = w xhat + b, xhat, and 1 / sigma: (R, D), (R, D) and (R,) from (R, D), (D,) and (D,)."""
    y, xhat, inv = empty(rows.shape, rows.dtype), empty(rows.shape, rows.dtype), np.empty(len(rows), rows.dtype)
    w = np.ones(rows.shape[1], rows.dtype) if w is None else w
    b = np.zeros(rows.shape[1], rows.dtype) if b is None else b
    each_block(rows, lambda i: _layer_norm(rows[i], w, b, rows.dtype.type(eps), y[i], xhat[i], inv[i]))
    return y, xhat, inv


def layer_norm_backward(g: Array, xhat: Array, inv: Array, w: Array | None) -> tuple[Array, Array, Array]:
    """gx, gw and gb: (R, D), (D,) and (D,)."""
    gx, d = empty(g.shape, g.dtype), g.shape[1]
    w = np.ones(d, g.dtype) if w is None else w
    sums: dict[int, Array] = {}

    def work(block: slice) -> None:
        sums[block.start] = np.zeros((2, d), g.dtype)
        _layer_norm_backward(g[block], xhat[block], inv[block], w, gx[block], *sums[block.start])

    each_block(g, work)
    gw, gb = total(sums).astype(g.dtype)
    return gx, gw, gb


def gelu(x: Array, y: Array, slope: Array | None) -> None:
    """y = x P(x) and slope = P(x) + x p(x), as `minires.kernels.gelu` does, for contiguous float32."""
    t, e = (scratch(name, x.shape, x.dtype) for name in ("square", "density"))
    with np.errstate(over="ignore"):  # beyond |x| = 5000, where tanh has long been 1
        _before(x, t, e)
    np.tanh(t, out=t)
    if slope is None:
        _value(x, t, y)
    else:
        np.exp(e, out=e)
        _value_and_slope(x, t, e, y, slope)


# --- loops --------------------------------------------------------------------------------------------
# `reassoc` lets the compiler sum a row in several lanes; the lanes are the same in each run.


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _layer_norm(x: Array, w: Array, b: Array, eps: Any, y: Array, xhat: Array, inv: Array) -> None:
    d = x.shape[1]
    for r in range(x.shape[0]):
        mean = x.dtype.type(0)
        for j in range(d):
            mean += x[r, j]
        mean /= x.dtype.type(d)
        var = x.dtype.type(0)
        for j in range(d):
            t = x[r, j] - mean
            xhat[r, j] = t
            var += t * t
        s = x.dtype.type(1) / np.sqrt(var / x.dtype.type(d) + eps)
        inv[r] = s
        for j in range(d):
            t = xhat[r, j] * s
            xhat[r, j] = t
            y[r, j] = t * w[j] + b[j]


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _layer_norm_backward(g: Array, xhat: Array, inv: Array, w: Array, gx: Array, gw: Array, gb: Array) -> None:
    d = g.shape[1]
    for r in range(g.shape[0]):
        plain, weighted = g.dtype.type(0), g.dtype.type(0)
        for j in range(d):
            t = g[r, j] * w[j]
            plain += t
            weighted += t * xhat[r, j]
            gb[j] += g[r, j]
            gw[j] += g[r, j] * xhat[r, j]
        plain /= g.dtype.type(d)
        weighted /= g.dtype.type(d)
        for j in range(d):
            gx[r, j] = (g[r, j] * w[j] - plain - xhat[r, j] * weighted) * inv[r]


@njit(nogil=True, cache=True)
def _before(x: Array, t: Array, e: Array) -> None:
    for i in range(x.size):
        q = x[i] * x[i]
        e[i] = -HALF * q
        t[i] = x[i] * (A0 + q * (A1 + q * (A2 + q * (A3 + q * (A4 + q * (A5 + q * A6))))))


@njit(nogil=True, cache=True)
def _value(x: Array, t: Array, y: Array) -> None:
    for i in range(x.size):
        y[i] = x[i] * (HALF + HALF * t[i])


@njit(nogil=True, cache=True)
def _value_and_slope(x: Array, t: Array, e: Array, y: Array, slope: Array) -> None:
    for i in range(x.size):
        cdf = HALF + HALF * t[i]
        y[i] = x[i] * cdf
        slope[i] = cdf + x[i] * (P0 * e[i])


def warm_up(dtype: type) -> None:
    """Compiles everything here for one dtype, or takes it from the cache."""
    x: Array = np.ones((2, 4), dtype)
    v: Array = np.ones(4, dtype)
    y, xhat, inv = layer_norm(x, v, v, 1e-5)
    layer_norm_backward(y, xhat, inv, v)
    if dtype == np.float32:
        gelu(v, np.empty_like(v), np.empty_like(v))
        gelu(v, np.empty_like(v), None)
