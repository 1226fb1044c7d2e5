"""Where a function has no derivative: kinks, jumps, and the edge of its domain.

On either side of a point the derivative is measured from values of that side alone,

    right = (4 d(h) - d(2h)) / 2h        left = -(4 d(-h) - d(-2h)) / 2h        d(t) = <gy, f(x + t v) - f(x)>

to second order (Fornberg 1988, table 3). For a smooth function right - left is O(h^3), however large its curvature:
a hundred times smaller a step, a million times smaller a gap. At a kink the gap stays what it is, at a jump it
grows as 1/h, and rounding grows so too but at random. So three steps tell them apart.

One random direction through all elements of all variables shows whether there is a kink anywhere, for twelve
evaluations of f; halving the elements again and again then finds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from minires.backend import Array
from minires.check.point import Answer, Moves, Point

STEPS = (1e-5, 1e-6, 1e-7)
EPS = float(np.finfo(np.float64).eps)
ALIKE = 0.1  # gaps this near to each other are one gap
FAINT = 1e-7  # of what all outputs together change by: a gap below is rounding


@dataclass(frozen=True)
class Sides:
    """What f does on either side of a point along a direction.

    Attributes
        what          "smooth", "kink", "jump" or "edge" (not finite on one side)
        left, right   the one-sided derivatives
        slopes        two-sided ones, one for each step
        size          how much the outputs change, all counted as positive: what a slope is to be compared with
        rounding      how much the outputs may change by rounding alone
    """

    what: str
    left: float
    right: float
    slopes: tuple[float, ...]
    size: float
    rounding: float


@dataclass(frozen=True)
class Kink:
    """A variable, one of its elements, and f's sides there."""

    variable: int
    element: int
    sides: Sides


Sites = tuple[Array, Array]  # the variables and the elements (flat) of some places


def sides(point: Point, given: Answer, moves: Moves, steps: Sequence[float] = STEPS) -> Sides:
    """f's sides along one direction."""
    rounding = 16 * EPS * sum(float(np.sum(np.abs(gy * y))) for gy, y in _pairs(given))
    rights, lefts, slopes, sizes, finite = [], [], [], [], True
    for h in steps:
        at = {t: _change(point, given, moves, t * h) for t in (1, 2, -1, -2)}
        finite &= bool(np.all(np.isfinite(list(at.values()))))
        d = {t: change for t, (change, _) in at.items()}
        rights.append((4 * d[1] - d[2]) / (2 * h))
        lefts.append(-(4 * d[-1] - d[-2]) / (2 * h))
        slopes.append((8 * (d[1] - d[-1]) - (d[2] - d[-2])) / (12 * h))
        sizes.append((at[1][1] + at[-1][1]) / (2 * h))
    gaps = np.array(rights) - np.array(lefts)
    loud = np.abs(gaps) > FAINT * np.array(sizes) + rounding / np.array(steps)
    if not finite:
        what = "edge"
    elif np.all(loud) and _alike(gaps):
        what = "kink"
    elif np.all(loud) and _alike(gaps * np.array(steps)):
        what = "jump"
    else:
        what = "smooth"
        rounding = max(rounding, 10 * float(np.max(np.abs(gaps[1:]) * np.array(steps[1:]))))
    return Sides(what, lefts[0] + 0.0, rights[0] + 0.0, tuple(slopes), float(np.min(sizes)), rounding)


def anywhere(point: Point, rng: np.random.Generator) -> tuple[Sites, Moves]:
    """All elements of all variables, and a random direction through them in which none stands still."""
    sizes = [v.value.size for v in point.variables]
    sites = np.repeat(np.arange(len(sizes)), sizes), np.concatenate([np.arange(n) for n in sizes])
    weights = rng.uniform(0.5, 1.0, sum(sizes)) * rng.choice([-1.0, 1.0], sum(sizes))
    bounds = np.cumsum(sizes)[:-1]
    return sites, {
        k: w.reshape(point.variables[k].value.shape) for k, w in enumerate(np.split(weights, bounds)) if w.size
    }


def find(point: Point, given: Answer, sites: Sites, moves: Moves) -> Iterator[Kink]:
    """Every element at which f is not smooth, by halving the places that are left."""
    waiting = [sites]
    while waiting:
        variables, elements = waiting.pop()
        if len(variables) == 1:
            k, element = int(variables[0]), int(elements[0])
            alone = sides(point, given, {k: unit(point, k, element)})
            if alone.what != "smooth":
                yield Kink(k, element, alone)
        elif sides(point, given, _only(moves, variables, elements)).what != "smooth":
            half = len(variables) // 2
            waiting += [(variables[half:], elements[half:]), (variables[:half], elements[:half])]


def unit(point: Point, k: int, element: int) -> Array:
    """The direction along one element of variable k."""
    v = np.zeros(point.variables[k].value.shape)
    v.reshape(-1)[element] = 1.0
    return v


def _only(moves: Moves, variables: Array, elements: Array) -> Moves:
    """The direction through some of the places only."""
    kept = {}
    for k in np.unique(variables):
        here = elements[variables == k]
        v = np.zeros(moves[k].shape)
        v.reshape(-1)[here] = moves[k].reshape(-1)[here]
        kept[int(k)] = v
    return kept


def _change(point: Point, given: Answer, moves: Moves, step: float) -> tuple[float, float]:
    """<gy, f(x + step v) - f(x)>, and the same with every product counted as positive."""
    moved = point.outputs(moves, step)
    with np.errstate(invalid="ignore"):  # inf - inf
        products = [gy * (y - y0) for (gy, y0), y in zip(_pairs(given), moved, strict=True)]
    return float(sum(np.sum(p) for p in products)), float(sum(np.sum(np.abs(p)) for p in products))


def _pairs(given: Answer) -> list[tuple[Array, Array]]:
    return list(zip(given.gys, given.outputs, strict=True))


def _alike(values: Array) -> bool:
    return bool(np.max(values) - np.min(values) <= ALIKE * np.max(np.abs(values)))
