"""Laws of reductions: what is spread, what is shared, and what adds up."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minires import functional as F
from minires.backend import Array
from minires.check.draw import Draw
from minires.check.law import law, pull, require, same, same_bits
from minires.ops.reduce import Amax, Amin, Logsumexp, Max, Mean, Min, Sum, Var
from minires.ops.shape import Expand

Axes = tuple[int, ...]


@law(Sum, Expand)
def sum_and_expand_are_each_others_gradient(draw: Draw) -> None:
    """The gradient of y = sum(x) is expand(gy), and that of y = expand(x) is sum(gy): <sum x, u> = <x, expand u>."""
    shape, axes = _reduced(draw)
    narrow = tuple(1 if a in axes else n for a, n in enumerate(shape))
    x, u = draw.normal(*shape), draw.normal(*narrow)
    y, (gx,) = pull(lambda x: F.sum(x, axes, keepdim=True), x, gy=u)
    back, (gu,) = pull(lambda u: F.expand(u, shape), u, gy=x)
    same_bits(gx, back, "what the sum hands back is its cotangent, expanded")
    same(gu, y, "what expand hands back is its cotangent, summed")
    _, (gx,) = pull(lambda x: F.sum(x, axes), x, gy=u.squeeze(axes))
    same_bits(gx, back, "the same where the summed axes disappear")


@law(Mean)
def the_gradient_of_a_mean_is_even_and_adds_up_to_gy(draw: Draw) -> None:
    """gx = gy / n at each of the n numbers: gx - mean(gx) = 0 and Σ gx = gy. Moving all by t moves the mean by t."""
    shape, axes = _reduced(draw)
    _, _, gy, gx = _pulled(draw, F.mean, draw.normal(*shape), axes)
    same(gx.sum(axis=axes), gy, "Σ gx = gy")
    same(gx, np.broadcast_to(gx.mean(axis=axes, keepdims=True), shape), "gx is the same for each number of a mean")


@law(Var)
def var_gx_sums_to_zero_along_the_reduced_axes(draw: Draw) -> None:
    """Σ gx = 0: var(x + t) = var(x), so the gradient is orthogonal to (1, ..., 1)."""
    shape, axes = _reduced(draw)
    x = draw.apart(*shape) + 2.0
    _, _, _, gx = _pulled(draw, lambda x, dim: F.var(x, dim, correction=0.5), x, axes)
    same(gx.sum(axis=axes), np.zeros(gx.sum(axis=axes).shape), "Σ gx = 0", scale=float(np.max(np.abs(gx))))


@law(Var)
def var_is_of_degree_two(draw: Draw) -> None:
    """<gx, x> = 2 <gy, y> with the n - correction of forward: var(t x) = t^2 var(x). Euler's homogeneity theorem."""
    shape, axes = _reduced(draw)
    correction = draw.choice([1, 0, 0.5])
    x, y, gy, gx = _pulled(draw, lambda x, dim: F.var(x, dim, correction=correction), draw.apart(*shape), axes)
    same((gx * x).sum(axis=axes), 2 * gy * y, "Σ gx x = 2 gy y")


@law(Amax, Amin)
def the_extreme_takes_the_gradient_and_nobody_else(draw: Draw) -> None:
    """gx = gy where x = y, 0 elsewhere: so Σ gx = gy, and Σ gx x = gy y (degree one: max(t x) = t max(x), t > 0)."""
    shape, axes = _reduced(draw)
    for f in (F.amax, F.amin):
        x, y, gy, gx = _pulled(draw, f, draw.apart(*shape), axes)
        same(gx.sum(axis=axes), gy, f"{f.__name__}: Σ gx = gy")
        same((gx * x).sum(axis=axes), gy * y, f"{f.__name__}: Σ gx x = gy y")
        lost = x != np.expand_dims(y, axes)
        require(np.all(gx[lost] == 0), f"{f.__name__}: who is not the extreme gets nothing")


@law(Amax, Amin)
def equal_extremes_share_the_gradient_evenly(draw: Draw) -> None:
    """Where k numbers reach the extreme, each gets gy / k, the mean of the k one-sided slopes. As in torch.amax."""
    shape, axes = _reduced(draw)
    ties = draw.integer(2, math.prod(shape[a] for a in axes))
    for f, sign in ((F.amax, 1.0), (F.amin, -1.0)):
        rows, restore = _rows(sign * draw.normal(*shape), axes)
        winners = np.zeros(rows.shape, bool)
        for row, won in zip(rows, winners, strict=True):
            won[draw.rng.permutation(len(row))[:ties]] = True
            row[won] = sign * (np.max(sign * row) + 0.5)
        _, _, gy, gx = _pulled(draw, f, restore(rows), axes)
        same(_rows(gx, axes)[0], winners * gy.reshape(-1, 1) / ties, f"{f.__name__}: gy / k at each of k ties")


@law(Max, Min)
def max_and_min_along_an_axis_hand_the_gradient_to_the_one_they_name(draw: Draw) -> None:
    """values = x[indices], gx[indices] = gy and 0 elsewhere: as if x[indices] had been written. As in torch.max."""
    shape, axis = _along(draw)
    for f in (F.max, F.min):
        x = draw.apart(*shape)
        y, where = f(x, axis)
        gy = draw.normal(*y.shape)
        _, (gx,) = pull(lambda x, f=f: f(x, axis).values, x, gy=gy)
        at = np.expand_dims(where.data, axis)
        same_bits(np.take_along_axis(x, at, axis).squeeze(axis), y.data, f"{f.__name__}: the indices name the values")
        same_bits(np.take_along_axis(gx, at, axis).squeeze(axis), gy, f"{f.__name__}: gy where the indices point")
        same(np.abs(gx).sum(axis=axis), np.abs(gy), f"{f.__name__}: nothing anywhere else")


@law(Max, Min)
def max_and_min_along_an_axis_give_all_to_the_first_of_equals(draw: Draw) -> None:
    """Among equal extremes, one slope of the k one-sided ones: gy for the first, 0 for the others. As in torch.max."""
    shape, axis = _along(draw)
    for f, sign in ((F.max, 1.0), (F.min, -1.0)):
        x = sign * draw.integers(2, *shape).astype(np.float64)
        gy = draw.normal(*shape[:axis], *shape[axis + 1 :])
        _, (gx,) = pull(lambda x, f=f: f(x, axis).values, x, gy=gy)
        earlier = np.cumsum(sign * x, axis=axis) - sign * x  # how many ones stand before
        none = np.broadcast_to((sign * x).sum(axis=axis, keepdims=True) == 0, shape)
        first = np.where(none, np.indices(shape)[axis] == 0, (sign * x == 1) & (earlier == 0))
        same(gx, first * np.expand_dims(gy, axis), f"{f.__name__}: gy for the first of equals")


@law(Logsumexp)
def logsumexp_hands_gy_out_in_the_proportions_of_softmax(draw: Draw) -> None:
    """gx = softmax(x) gy, so Σ gx = gy: logsumexp(x + t) = logsumexp(x) + t."""
    shape, axes = _reduced(draw)
    x, _, gy, gx = _pulled(draw, F.logsumexp, 2.0 * draw.normal(*shape), axes)
    same(gx.sum(axis=axes), gy, "Σ gx = gy")
    total = np.exp(x).sum(axis=axes, keepdims=True)
    same(gx, np.exp(x) / total * np.expand_dims(gy, axes), "gx = exp(x) / Σ exp(x) gy")


@law(Logsumexp)
def logsumexp_holds_where_exp_overflows_or_everything_is_minus_infinity(draw: Draw) -> None:
    """With t = ±5000: logsumexp(x + t) = logsumexp(x) + t, the same gx. Of -inf alone: y = -inf and gx = 0."""
    n, d = draw.size(), draw.size(2, 4)
    x, t = draw.normal(n, d), draw.choice([5000.0, -5000.0])
    gy = draw.normal(n)
    y, (gx,) = pull(lambda x: F.logsumexp(x, 1), x, gy=gy)
    far, (gfar,) = pull(lambda x: F.logsumexp(x, 1), x + t, gy=gy)
    same(far - t, y, "logsumexp(x + t) = logsumexp(x) + t", tolerance=1e-11, scale=abs(t))
    same(gfar, gx, "the gradient does not change with t", tolerance=1e-11 * abs(t))
    x[0] = -np.inf
    y, (gx,) = pull(lambda x: F.logsumexp(x, 1), x, gy=gy)
    require(y[0] == -np.inf and np.all(np.isfinite(y[1:])), "logsumexp of -inf alone is -inf")
    require(np.all(gx[0] == 0), "and its gradient is 0")


# --- what the laws draw


def _reduced(draw: Draw) -> tuple[tuple[int, ...], Axes]:
    """A shape and some of its axes, with at least two numbers along them; about half the shapes have equal axes."""
    n = draw.size(2, 3)
    shape = (n, n, draw.size(2, 3)) if draw.flag() else (n, draw.size(2, 4))
    axes = tuple(a for a in range(len(shape)) if draw.flag())
    return shape, axes or (0,)


def _along(draw: Draw) -> tuple[tuple[int, ...], int]:
    """A shape of two or three axes, at least two numbers along each, and one of the axes."""
    shape = tuple(draw.size(2, 3) for _ in range(draw.integer(2, 3)))
    return shape, draw.integer(0, len(shape) - 1)


def _pulled(draw: Draw, f: Callable[..., Any], x: Array, axes: Axes) -> tuple[Array, Array, Array, Array]:
    """x, y = f(x, axes), a random gy and gx."""
    gy = draw.normal(*[n for a, n in enumerate(x.shape) if a not in axes])
    y, (gx,) = pull(lambda x: f(x, axes), x, gy=gy)
    return x, y, gy, gx


def _rows(x: Array, axes: Axes) -> tuple[Array, Callable[[Array], Array]]:
    """x as (results, numbers that become one), and the way back."""
    others = [a for a in range(x.ndim) if a not in axes]
    order = [*others, *axes]
    turned = x.transpose(order)
    shape = turned.shape
    rows = turned.reshape(math.prod(x.shape[a] for a in others), -1).copy()
    return rows, lambda rows: rows.reshape(shape).transpose(np.argsort(order))
