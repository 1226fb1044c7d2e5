"""Measuring the derivative of a function at a point: which method, at which step, at which elements.

The complex step needs no choice but whether it holds. Central differences need a step: too long and it cuts the
curve short or reaches across a kink, too short and rounding drowns the difference. The right one is where an
estimate agrees best with that at half the step.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minires.backend import Array
from minires.check.differentiate import COMPLEX_STEP, central
from minires.check.draw import MARGIN
from minires.check.evidence import Evidence
from minires.check.kinks import STEPS, Sides, unit
from minires.check.point import Answer, Moves, Point, UncheckableError

EVERY_ELEMENT = 256  # a variable of up to this many is measured element by element
ALL_TOGETHER = 1024  # as long as those of all variables are not more than this many
DIRECTIONS = 24  # beyond, along so many random directions
LADDER = tuple(0.8 * MARGIN / 4 / 2**k for k in range(14))  # the longest reaches less than MARGIN; the shortest is 1e-6
AGREES = 1e-5  # of the outputs' change: how well the complex step must agree with differences on one direction


@dataclass(frozen=True)
class Way:
    """How slopes are measured.

    Attributes
        method   "complex" or "central"
        step     for central differences the step, or None where it is to be found
        why      why the complex step does not hold
    """

    method: str
    step: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Measured:
    """One variable's evidence, and the step that it was measured at."""

    evidence: Evidence
    step: float


def choose(point: Point, given: Answer, moves: Moves, seen: Sides, method: str, step: float | None) -> Way:
    """The way to measure. Raises UncheckableError when a complex step is asked for that does not hold."""
    if method == "central" or step is not None:
        return Way("central", step)
    why = _not_analytic(point, given, moves, seen)
    if why and method == "complex":
        raise UncheckableError(f'the complex step does not hold for f: {why}; use method="central"')
    return Way("central", None, why) if why else Way("complex")


def measure(
    point: Point, given: Answer, way: Way, rng: np.random.Generator, kinked: dict[int, list[int]]
) -> list[Measured]:
    """Every variable's derivative; at an element that has none (`kinked`) backward's own answer stands."""
    sizes = [v.value.size for v in point.variables]
    by_element = [n <= EVERY_ELEMENT for n in sizes]
    if sum(n for n, each in zip(sizes, by_element, strict=True) if each) > ALL_TOGETHER:
        by_element = [n <= DIRECTIONS for n in sizes]
    measured = []
    for k, v in enumerate(point.variables):
        g, skip = given.gradients[k], kinked.get(k, [])
        if not by_element[k]:
            directions = rng.uniform(-1.0, 1.0, (DIRECTIONS, v.value.size))
            directions[:, skip] = 0.0
        step = _step(point, given, way, k, rng, skip)
        if by_element[k]:
            expected = np.array(
                [
                    g.reshape(-1)[j] if j in skip else slope(point, given, {k: unit(point, k, j)}, way, step)
                    for j in range(v.value.size)
                ]
            ).reshape(v.value.shape)
            measured.append(Measured(Evidence(v.name, g, expected), step))
        else:
            moves: list[Moves] = [{k: d.reshape(v.value.shape)} for d in directions]
            expected = np.array([slope(point, given, each, way, step) for each in moves])
            measured.append(Measured(Evidence(v.name, g, expected, directions), step))
    return measured


def slope(point: Point, given: Answer, moves: Moves, way: Way, step: float) -> float:
    """<gy, J v>."""
    if way.method == "complex":
        slopes = [np.imag(y) / COMPLEX_STEP for y in point.outputs(moves, 1j * COMPLEX_STEP)]
    else:
        slopes = central(lambda t: point.outputs(moves, t), step)
    return float(sum(np.sum(gy * dy) for gy, dy in zip(given.gys, slopes, strict=True)))


def best_central(point: Point, given: Answer, moves: Moves) -> tuple[float, float, float]:
    """(slope, step, doubt) at the step whose estimate agrees best with that at half of it; doubt is how well."""
    found = []
    before = np.nan
    for h in LADDER:
        here = slope(point, given, moves, Way("central"), h)
        if (doubt := abs(here - before)) == doubt:
            found.append((doubt, -h, here))
        before = here
        best = min(found, default=(np.inf, 0.0, 0.0))
        if best[0] <= 1e-7 * abs(best[2]) and best[1] < -4 * h:
            break  # two rungs on, it has only become worse
    doubt, h, value = min(found, default=(np.inf, -LADDER[0], np.nan))
    return value, -h, doubt


def refine(point: Point, given: Answer, measured: Measured, k: int, tolerance: float) -> Measured:
    """The elements (or directions) that differ from backward once more, each at a step of its own.

    A kink within the step's reach spoils an element, not the gradient. It ends with the first that differs still.
    """
    evidence = measured.evidence
    errors = evidence.errors().reshape(-1)
    expected = evidence.expected.reshape(-1).copy()
    room = tolerance * float(np.max(np.abs(expected), initial=0.0))
    for j in np.argsort(-errors):
        if errors[j] <= tolerance:
            break
        expected[j] = best_central(point, given, {k: direction(point, evidence, k, int(j))})[0]
        if not abs(expected[j] - evidence.answered().reshape(-1)[j]) <= room:
            break
    again = Evidence(evidence.name, evidence.gradient, expected.reshape(evidence.expected.shape), evidence.directions)
    return Measured(again, measured.step)


def direction(point: Point, evidence: Evidence, k: int, j: int) -> Array:
    """The direction in which quantity j of the evidence was measured."""
    if evidence.directions is None:
        return unit(point, k, j)
    return evidence.directions[j].reshape(point.variables[k].value.shape)


def worst_element(off: Callable[[Array], float], v: Array) -> int:
    """The element that a wrong slope along v comes from: the half that is more wrong, again and again."""
    elements = np.arange(v.size)
    while len(elements) > 1:
        halves = np.array_split(elements, 2)
        wrong = []
        for half in halves:
            part = np.zeros(v.size)
            part[half] = v.reshape(-1)[half]
            wrong.append(off(part.reshape(v.shape)))
        elements = halves[int(wrong[1] > wrong[0])]
    return int(elements[0])


def _step(point: Point, given: Answer, way: Way, k: int, rng: np.random.Generator, skip: list[int]) -> float:
    """The step for variable k."""
    if way.method == "complex":
        return COMPLEX_STEP
    if way.step is not None:
        return way.step
    v = rng.uniform(0.5, 1.0, point.variables[k].value.shape) * rng.choice([-1.0, 1.0], point.variables[k].value.shape)
    v.reshape(-1)[skip] = 0.0
    return best_central(point, given, {k: v})[1]


def _not_analytic(point: Point, given: Answer, moves: Moves, seen: Sides) -> str:
    """Why the complex step does not give the derivative along one direction through everything; "" if it does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            outputs = point.outputs(moves, 1j * COMPLEX_STEP)
    except Exception as error:  # f may refuse complex numbers in any way
        return f"it does not take complex numbers ({type(error).__name__}: {error})"
    for y, y0 in zip(outputs, given.outputs, strict=True):
        if np.max(np.abs(y.real - y0), initial=0.0) > 1e-9 * np.max(np.abs(y0), initial=0.0) + 1e-12:
            return "its real part is another for complex numbers (abs, sorting or a norm?)"
    c = float(sum(np.sum(gy * np.imag(y)) for gy, y in zip(given.gys, outputs, strict=True)) / COMPLEX_STEP)
    doubt = 10 * abs(seen.slopes[0] - seen.slopes[1]) + seen.rounding / STEPS[0]
    if seen.what == "smooth" and min(abs(c - s) for s in seen.slopes) > AGREES * seen.size + doubt:
        return "it is not analytic, for differences give another derivative (abs, conj or real?)"
    return ""
