"""Is this gradient right? Backward's answer against differentiation that knows nothing of backward.

The cotangent is always random. A check seeded with ones (`y.sum().backward()`) cannot see a wrong
batch norm, layer norm or softmax, because there the true gradient of the sum is zero: tutorial 3, (3.11). How the
tolerances were chosen stands in tutorial 3, (3.12).

    complex step   exact to rounding wherever f's formulas hold for complex numbers
    central        eighth-order differences, at a step that is chosen by itself, where they do not

How both work stands in `differentiate.py`, what is moved in `point.py`, the choice of method and step in `slopes.py`,
and how a kink is told from a curve in `kinks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from minires.backend import Array
from minires.check.differentiate import COMPLEX_STEP
from minires.check.evidence import TOLERANCE as OF_ORACLES
from minires.check.evidence import Evidence
from minires.check.kinks import Kink, Sites, anywhere, find, sides, unit
from minires.check.point import Answer, GradcheckError, Moves, Point, UncheckableError, answer, locate
from minires.check.slopes import (
    DIRECTIONS,
    EVERY_ELEMENT,
    LADDER,
    Measured,
    Way,
    best_central,
    choose,
    direction,
    measure,
    refine,
    slope,
    worst_element,
)

TOLERANCE = {"complex": OF_ORACLES["complex-step"], "central": 1e-8}  # of the largest derivative of the variable
VANISHED = {"complex": 1e-12, "central": 1e-10}  # of the largest derivative anywhere: below it, a gradient is zero
MOST_KINKS = 64

__all__ = [
    "DIRECTIONS",
    "EVERY_ELEMENT",
    "Entry",
    "GradcheckError",
    "KinkError",
    "Report",
    "UncheckableError",
    "gradcheck",
]


class KinkError(GradcheckError):
    """f has no derivative at this point: a kink, a jump, or the edge of its domain."""


@dataclass(frozen=True)
class Entry:
    """What was found out about one input or parameter.

    Attributes
        name            "input 0 (x)", or the parameter's name
        shape           its shape
        directions      along how many random directions it was measured; None: element by element
        max_rel_error   the largest error, relative to the largest true derivative of this variable
        step            of the differentiation
        worst           the worst element, what was expected and what backward gave
    """

    name: str
    shape: tuple[int, ...]
    directions: int | None
    max_rel_error: float
    step: float
    worst: str


@dataclass(frozen=True)
class Report:
    """A check that passed.

    Attributes
        max_rel_error   the largest error over all variables, relative to the largest true derivative of each
        method          "complex" or "central"
        step            the step of the differentiation, for the variable with the largest error
        worst           that variable, the worst element, what was expected and what backward gave
        tolerance       what the error had to stay below
        entries         one for each input and parameter that was checked
        note            why the complex step was not used, or which kinks were left out
    """

    max_rel_error: float
    method: str
    step: float = 0.0
    worst: str = ""
    tolerance: float = 0.0
    entries: tuple[Entry, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        how = "complex step" if self.method == "complex" else f"central differences, step {self.step:.2g}"
        lines = [
            f"gradcheck passed: largest relative error {self.max_rel_error:.2g}, allowed {self.tolerance:.0e} ({how})"
        ]
        wide = max((len(e.name) for e in self.entries), default=0)
        for e in self.entries:
            what = f"{e.directions} directions" if e.directions else f"{int(np.prod(e.shape))} elements"
            worst = e.worst.removeprefix(f"{e.name} ")
            lines.append(f"  {e.name:{wide}}  {e.shape!s:16} {what:14} {e.max_rel_error:8.2g}  {worst}".rstrip())
        return "\n".join([*lines, *([f"  {self.note}"] if self.note else [])])


def gradcheck(
    f: Callable[..., Any],
    *inputs: Any,
    method: str = "auto",
    step: float | None = None,
    tolerance: float | None = None,
    seed: int = 0,
    may_vanish: bool | Collection[str] = False,
    parameters: Any = None,
    at_kinks: str = "refuse",
) -> Report:
    """Checks backward through `f` at `inputs` against independent differentiation.

    f           a function or Module: takes Tensors, returns a Tensor or a tuple of them; must be deterministic. A
                Module's parameters are checked too, each by its name
    inputs      float64 arrays (and Tensors that require a gradient) are differentiated; the rest is passed on as it is
    method      "complex", "central", or "auto": the complex step where f allows it, else central differences
    step        of central differences; without it, the one whose estimate agrees best with that at half the step
    tolerance   relative to the largest true derivative of a variable: 1e-10, with central differences 1e-8
    seed        of the cotangent and the random directions
    may_vanish  True, or names of variables: allow a true gradient of zero, which no check can tell from a missing one
    parameters  what f closes over: a Module, {name: Tensor}, or a list of Tensors
    at_kinks    "refuse", or "between": at a kink accept anything between the one-sided derivatives

    Every element is perturbed in a variable of up to 256, if there are up to 1024 in all; a larger variable is measured
    along 24 random directions. Parameters are checked in float64 whatever they are, and put back as they were,
    with buffers, training flags, `.grad` and the state of the random generator.

    Also required: inputs and cotangents unchanged, gradients of the input's shape and dtype, no memory shared; and that
    the check would have rejected the same gradient scaled by 1.1, negated or permuted.

    Raises GradcheckError naming the variable, the worst element, what was expected and what came; KinkError where f has
    no derivative; UncheckableError (also a RequestError) for integers, float32, randomness, hidden state, or
    values that are not finite.
    """
    if method not in ("auto", "complex", "central") or at_kinks not in ("refuse", "between"):
        raise UncheckableError(
            f'method={method!r}, at_kinks={at_kinks!r}: the methods are "auto", "complex" and "central"; '
            'at_kinks is "refuse" or "between"'
        )
    if step is not None and (method == "complex" or not step > 0):
        raise UncheckableError(f"step={step!r}: central differences take a positive step, the complex step takes none")
    point = locate(f, inputs, parameters)
    vanishing = _named(may_vanish, point)
    with point.held():
        return _check(point, method, step, tolerance, seed, vanishing, at_kinks == "between")


def _check(
    point: Point,
    method: str,
    step: float | None,
    tolerance: float | None,
    seed: int,
    may_vanish: frozenset[str],
    any_subgradient: bool,
) -> Report:
    rng = np.random.default_rng(seed)
    given = answer(point, rng)
    sites, moves = anywhere(point, rng)
    seen = sides(point, given, moves)
    kinks = [] if seen.what == "smooth" else _kinks(point, given, sites, moves, rng, any_subgradient)
    kinked: dict[int, list[int]] = {}
    for kink in kinks:
        kinked.setdefault(kink.variable, []).append(kink.element)

    def judged(way: Way) -> tuple[Judge, list[Measured]]:
        allowed = TOLERANCE[way.method] if tolerance is None else tolerance
        judge = Judge(point, given, way, allowed, may_vanish, seen.rounding)
        return judge, measure(point, given, way, np.random.default_rng(seed + 1), kinked)

    judge, measured = judged(choose(point, given, moves, seen, method, step))
    if method == "auto" and judge.way.method == "complex" and (why := judge.differences_disagree(measured)):
        judge, measured = judged(Way("central", None, why))
    entries = judge.passed(measured)
    notes = [f"no complex step: {judge.way.why}"] if judge.way.why else []
    notes += [f"at kinks ({len(kinks)} elements) any subgradient was accepted"] if kinks else []
    worst = max(entries, key=lambda e: e.max_rel_error)
    return Report(
        worst.max_rel_error,
        judge.way.method,
        worst.step,
        worst.worst,
        judge.tolerance,
        tuple(entries),
        "; ".join(notes),
    )


def _named(may_vanish: bool | Collection[str], point: Point) -> frozenset[str]:
    """The variables whose gradient may be zero. "input 0" and "x" both stand for "input 0 (x)"."""
    names = {short: v.name for v in point.variables for short in (v.name, *v.name.rstrip(")").split(" ("))}
    if isinstance(may_vanish, bool):
        return frozenset(names.values() if may_vanish else ())
    asked = {may_vanish} if isinstance(may_vanish, str) else may_vanish
    if unknown := [name for name in asked if name not in names]:
        known = ", ".join(v.name for v in point.variables)
        raise UncheckableError(f"may_vanish names {', '.join(map(repr, unknown))}, but what is checked is {known}")
    return frozenset(names[name] for name in asked)


def _kinks(
    point: Point, given: Answer, sites: Sites, moves: Moves, rng: np.random.Generator, allowed: bool
) -> list[Kink]:
    """The kinks that backward answered with a subgradient. Raises KinkError for any other, or all if not allowed."""
    found = []
    for kink in find(point, given, sites, moves):
        name, at = point.variables[kink.variable].name, point.place(kink.variable, kink.element)
        got, s = float(given.gradients[kink.variable].reshape(-1)[kink.element]) + 0.0, kink.sides
        room = 1e-6 * max(abs(s.left), abs(s.right))
        within = min(s.left, s.right) - room <= got <= max(s.left, s.right) + room
        if s.what == "jump":
            raise KinkError(f"{name} at {at}: f jumps here, so it has no derivative; move the input away")
        if s.what == "edge":
            raise KinkError(
                f"{name} at {at}: f is not finite on one side of here, the edge of its domain; move the input inwards"
            )
        told = (
            f"{name} at {at}: f has a kink here. Its derivative is {s.left:.6g} from the left and {s.right:.6g} "
            f"from the right; backward gave {got:.6g}"
        )
        if not within:
            raise KinkError(
                f"{told}, which is not between them: it is wrong, or several kinks meet here; move the input away"
            )
        if not allowed:
            raise KinkError(
                f"{told}. Any value between is a legitimate subgradient, so no check can tell a right one; "
                'move the input away from the kink, or accept them all with at_kinks="between"'
            )
        found.append(kink)
        if len(found) > MOST_KINKS:
            raise KinkError(f"{told}. There are more than {MOST_KINKS} such elements: choose another input")
    if not found and sides(point, given, anywhere(point, rng)[1]).what != "smooth":
        raise KinkError("f has a kink here along a random direction, though along no single element; move the inputs")
    return found


@dataclass(frozen=True)
class Judge:
    """Says of what was measured whether backward is right."""

    point: Point
    given: Answer
    way: Way
    tolerance: float
    may_vanish: frozenset[str]
    rounding: float  # of f's values

    def passed(self, measured: list[Measured]) -> list[Entry]:
        """An entry for each variable. Raises GradcheckError when one is wrong, or cannot be seen to be right."""
        gone = self._vanished(measured)
        if self.way.method == "central" and self.way.step is None:
            measured = [
                m if gone[k] else refine(self.point, self.given, m, k, self.tolerance) for k, m in enumerate(measured)
            ]
        errors = [0.0 if gone[k] else m.evidence.error() for k, m in enumerate(measured)]
        wrong = [int(k) for k in np.argsort(errors)[::-1] if not errors[k] <= self.tolerance]
        if wrong:
            self._accuse(measured[wrong[0]].evidence, wrong[0], [measured[k].evidence.name for k in wrong[1:]])
        for m, vanished in zip(measured, gone, strict=True):
            self._must_see(m.evidence, vanished)
        return [
            Entry(
                m.evidence.name,
                m.evidence.gradient.shape,
                None if m.evidence.directions is None else len(m.evidence.directions),
                errors[k],
                m.step,
                m.evidence.told() if m.evidence.expected.size and not gone[k] else "",
            )
            for k, m in enumerate(measured)
        ]

    def differences_disagree(self, measured: list[Measured]) -> str:
        """Why the complex step is wrong: where it contradicts backward, differences side with backward. "" if not."""
        gone = self._vanished(measured)
        errors = [0.0 if gone[k] else m.evidence.error() for k, m in enumerate(measured)]
        k = int(np.argmax(errors))
        if errors[k] <= self.tolerance:
            return ""
        element, expected, got = self._site(measured[k].evidence, k)
        value, _, doubt = best_central(self.point, self.given, {k: unit(self.point, k, element)})
        if max(abs(value - got), doubt) < 0.01 * abs(expected - got):
            return "f is not analytic, for differences give another derivative (abs, conj or real?)"
        return ""

    def _vanished(self, measured: list[Measured]) -> list[bool]:
        """Which gradients are zero up to rounding, truly and by backward: a relative error means nothing there."""
        reach = max(1.0, *(_largest(v.value) for v in self.point.variables))
        least = VANISHED[self.way.method]
        largest = max(_largest(m.evidence.expected) for m in measured)
        gone = []
        for m in measured:
            noise = self.rounding / (m.step if self.way.method == "central" else reach)
            floor = max(least * largest, noise, least if m.evidence.name in self.may_vanish else 0.0)
            gone.append(max(_largest(m.evidence.expected), _largest(m.evidence.answered())) <= floor)
        return gone

    def _site(self, evidence: Evidence, k: int) -> tuple[int, float, float]:
        """The worst element (flat), its true derivative, and backward's."""
        j = int(np.argmax(evidence.errors()))
        g = evidence.gradient.reshape(-1)
        if evidence.directions is None:
            return j, float(evidence.expected.reshape(-1)[j]), float(g[j])
        step = COMPLEX_STEP if self.way.method == "complex" else self.way.step or LADDER[3]

        def off(part: Array) -> float:
            expected = slope(self.point, self.given, {k: part}, self.way, step)
            return abs(expected - float(np.sum(evidence.gradient * part)))

        element = worst_element(off, direction(self.point, evidence, k, j))
        expected = slope(self.point, self.given, {k: unit(self.point, k, element)}, self.way, step)
        return element, expected, float(g[element])

    def _accuse(self, evidence: Evidence, k: int, others: list[str]) -> None:
        """Raises GradcheckError, unless it is the measurement that is wrong: that is said then."""
        element, expected, got = self._site(evidence, k)
        alone = {k: unit(self.point, k, element)}
        where = f"{evidence.name} at {self.point.place(k, element)}"
        value, best, doubt = best_central(self.point, self.given, alone)
        if self.way.method == "central":
            self._measurable(where, alone, got, (value, best, doubt))
            expected = value if self.way.step is None else expected
        if self.way.method == "complex":
            how = f"complex step; central differences give {value:.6g}"
        else:
            how = f"central differences, step {self.way.step or best:.2g}"
        told = f"{where}: expected {expected:.12g}, backward gave {got:.12g} "
        told += f"(relative error {evidence.error():.2g}, {how})"
        also = f"; also wrong: {', '.join(others[:5])}{' ...' if len(others) > 5 else ''}" if others else ""
        raise GradcheckError(told + _symptom(evidence, self.given) + also)

    def _measurable(self, where: str, alone: Moves, got: float, best: tuple[float, float, float]) -> None:
        """Raises the error that says so when differences cannot tell the derivative here."""
        value, step, doubt = best
        near = sides(self.point, self.given, alone, steps=(1e-3, 1e-4, 1e-5))
        if near.what == "kink" and min(near.left, near.right) - doubt <= got <= max(near.left, near.right) + doubt:
            raise KinkError(
                f"{where}: f has a kink nearer than 1e-5. Its derivative is {near.left:.6g} to the left and "
                f"{near.right:.6g} to the right; backward gave {got:.6g}; move the input away from the kink"
            )
        if self.way.step is not None and abs(value - got) <= max(self.tolerance * abs(value), 2 * doubt):
            raise UncheckableError(
                f"{where}: step {self.way.step:.2g} is not right for f here; at step {step:.2g} differences give what "
                "backward gave. Leave the step out to have it chosen"
            )
        if not 3 * doubt < abs(value - got):
            raise UncheckableError(
                f"{where}: differences cannot tell the derivative of f here, for from one step to the next they "
                f"differ by {doubt:.2g}; f is rough or loses digits, so pass a larger tolerance or a smoother f"
            )

    def _must_see(self, evidence: Evidence, vanished: bool) -> None:
        """Raises GradcheckError when a wrong gradient would have passed as well."""
        if not evidence.expected.size or (vanished and evidence.name in self.may_vanish):
            return
        if vanished:
            raise GradcheckError(
                f"{evidence.name}: this check cannot see your gradient. The true one is zero here, and so is 1.1 times "
                "it: f does not depend on it, or only elsewhere; move the inputs, give f an output that depends on it, "
                "or allow it with may_vanish"
            )
        if how := evidence.blind_to(self.tolerance):
            raise GradcheckError(
                f"{evidence.name}: this check cannot see your gradient: {how} it would pass too, for tolerance is "
                f"{self.tolerance:.2g}; choose a smaller tolerance or another input"
            )


def _symptom(evidence: Evidence, given: Answer) -> str:
    """What kind of wrong it looks like, where that can be told."""
    got, expected = evidence.answered().reshape(-1), evidence.expected.reshape(-1)
    if not np.any(got):
        lost = f"; output {given.cut[0]} of f carries no gradient: .detach(), .data or no_grad()?" if given.cut else ""
        return f"; backward gave zero everywhere{lost}"
    ratio = float(got @ expected / (expected @ expected)) if np.any(expected) else 0.0
    if len(got) > 1 and np.max(np.abs(got - ratio * expected)) <= 1e-3 * np.max(np.abs(got - expected)):
        return f"; everywhere it is {ratio:.6g} times the true gradient"
    if evidence.error() < 1e-6 and np.array_equal(evidence.gradient, evidence.gradient.astype(np.float32)):
        return "; every number fits into float32: something in backward narrows it"
    if evidence.directions is None and len(got) > 1 and np.allclose(np.sort(got), np.sort(expected), 1e-7, 0):
        return "; the right numbers in the wrong places: permuted or transposed?"
    return ""


def _largest(x: Array) -> float:
    return float(np.max(np.abs(x), initial=0.0))
