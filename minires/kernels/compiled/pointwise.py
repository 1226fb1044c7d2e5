"""The rectifier and the skip connection's sum, compiled: each number is read once and written once."""

from __future__ import annotations

import numpy as np
from numba import njit

from minires.backend import Array
from minires.kernels.layout import in_slices
from minires.kernels.memory import empty

LEAST = 1 << 16  # numbers in a share of an array
SHARES = 8  # at most; each call takes the interpreter's lock for a moment


def share(size: int) -> int:
    """How many of an array's numbers one call is given."""
    return max(LEAST, -(-size // SHARES))


def relu(x: Array) -> Array:
    """y = x where x > 0 or x is NaN, else 0. x: flat and contiguous."""
    y = empty(x.shape, x.dtype)
    in_slices(x.size, share(x.size), lambda i: _relu(x[i], y[i]), blas=False)
    return y


def relu_backward(gy: Array, y: Array) -> Array:
    """gx = gy where y > 0, else 0 gy, which keeps a NaN as the formula does. All flat and contiguous."""
    gx = empty(gy.shape, gy.dtype)
    in_slices(gy.size, share(gy.size), lambda i: _relu_backward(gy[i], y[i], gx[i]), blas=False)
    return gx


def add(x: Array, f: Array) -> Array:
    """y = x + f. All flat and contiguous."""
    y = empty(x.shape, x.dtype)
    in_slices(x.size, share(x.size), lambda i: _add(x[i], f[i], y[i]), blas=False)
    return y


@njit(nogil=True, cache=True)
def _relu(x: Array, y: Array) -> None:
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = zero if x[i] <= zero else x[i]


@njit(nogil=True, cache=True)
def _relu_backward(gy: Array, y: Array, gx: Array) -> None:
    one, zero = gy.dtype.type(1), gy.dtype.type(0)
    for i in range(gy.size):
        gx[i] = gy[i] * (one if y[i] > zero else zero)


@njit(nogil=True, cache=True)
def _add(x: Array, f: Array, y: Array) -> None:
    for i in range(x.size):
        y[i] = x[i] + f[i]


def warm_up(dtype: type) -> None:
    """Compiles everything here for one dtype, or takes it from the cache."""
    x: Array = np.ones(4, dtype)
    relu_backward(add(x, x), relu(x))
