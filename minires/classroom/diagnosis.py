"""What was done wrong: an answer's error is fitted against known mistakes, and named where one of them explains it.

Two instruments, and a rule for both.

    fit       least squares of an answer on known directions. For a residual block, gx = a g + b J_F^T g: (1, 1) is
              right, (0, 1) has lost the skip. The assignment names the coefficients.
    suspects  wrong versions of the op, from the bug zoo and the assignment, run on the same inputs. An answer equal to
              a suspect's has that suspect's mistake.

The rule: a name is given only where the fit's residual is below `EXACT`, on several random inputs at once, and where
no suspect of another name fits as well. Everything else is UNKNOWN, and is said to be.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from minires.backend import NUMPY, Array
from minires.check import bugs
from minires.classroom.answer import Answer, Failed, Reply
from minires.classroom.child.steps import Opaque
from minires.engine import Function

RIGHT = 1e-5  # an answer is right within this part of its largest entry: float32 is enough
EXACT = 1e-9  # a fit is exact below this, in float64
EXACT_IN_FLOAT32 = 1e-5
UNKNOWN = "UNKNOWN"


# --- equal, or how far off


def off(got: Any, expected: Array) -> float:
    """The largest error, as a part of the largest expected entry (of 1, if that is 0); inf for another shape."""
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape or got.dtype.kind not in "fiub":
        return float("inf")
    if not expected.size:
        return 0.0
    size = float(np.max(np.abs(expected)))
    error = float(np.max(np.abs(np.asarray(got, dtype=float) - expected))) / (size or 1.0)
    return error if np.isfinite(error) else float("inf")


def right(got: Any, expected: Array) -> bool:
    """Whether the answer is right, in float32 or better."""
    return off(got, expected) < RIGHT


def exactness(arrays: Iterable[Any]) -> float:
    """How small a residual must be, given the precision that the answer was computed in."""
    single = any(np.asarray(a).dtype in (np.float32, np.float16) for a in arrays)
    return EXACT_IN_FLOAT32 if single else EXACT


# --- the fit


@dataclass(frozen=True)
class Fit:
    """An answer as a sum of known directions.

    Attributes
        names           of the directions, as in ("g", "J^T g")
        coefficients    one a direction
        residual        the norm of what is left, as a part of the answer's; inf where the directions depend on one
                        another, so that the coefficients mean nothing
        exact           whether the residual is no more than rounding
    """

    names: tuple[str, ...]
    coefficients: tuple[float, ...]
    residual: float
    exact: bool

    def is_(self, *coefficients: float) -> bool:
        """Whether the fit is exact and these are its coefficients."""
        return self.exact and bool(np.allclose(self.coefficients, coefficients, rtol=0, atol=1e-6))

    def __str__(self) -> str:
        terms = ", ".join(f"{c + 0.0:.2f} {name}" for c, name in zip(self.coefficients, self.names, strict=True))
        return f"{terms}, residual {self.residual:.0e}".replace("-0.00", "0.00")


def fit(targets: Sequence[Array], directions: Mapping[str, Sequence[Array]], tolerance: float = EXACT) -> Fit:
    """The coefficients, the same for all cases, that come closest: targets[k] = sum of c[name] directions[name][k].

    targets       one array a case: an answer, or its error
    directions    for each name one array a case, of the targets' shapes
    tolerance     how small the residual of an exact fit is
    """
    target = np.concatenate([np.ravel(np.asarray(a, dtype=float)) for a in targets])
    columns = [np.concatenate([np.ravel(np.asarray(d, dtype=float)) for d in each]) for each in directions.values()]
    matrix, names = np.stack(columns, axis=1), tuple(directions)
    if matrix.shape[0] != target.size or not np.isfinite(target).all():
        return Fit(names, (float("nan"),) * len(names), float("inf"), False)
    found, _, rank, _ = np.linalg.lstsq(matrix, target, rcond=1e-6)
    left = float(np.linalg.norm(matrix @ found - target))
    size = max(float(np.linalg.norm(target)), float(np.linalg.norm(matrix)) * 1e-3)
    residual = left / size if rank == len(names) and target.size > len(names) else float("inf")
    return Fit(names, tuple(float(c) for c in found), residual, residual < tolerance)


# --- the suspects


@dataclass(frozen=True)
class Suspect:
    """A wrong version of an op, and the name of its mistake.

    Attributes
        cause     as in "SKIP_DROPPED"; its meaning, place and hints stand in `causes.py`
        formula   what it computes, in a line
        op        the class, with the wrong forward or backward
    """

    cause: str
    formula: str
    op: type[Function]


def suspect(cause: str, op: type[Function]) -> Suspect:
    """A suspect that is described by the first line of its docstring."""
    return Suspect(cause, (op.__doc__ or "").strip().split("\n")[0].rstrip("."), op)


def from_the_zoo(op: type[Function], causes: dict[str, str]) -> list[Suspect]:
    """The bugs of an op that the zoo keeps, under the causes' names; {"skip_dropped": "SKIP_DROPPED", ...}."""
    return [suspect(causes[each.name], each.wrong) for each in bugs(op) if each.name in causes]


@dataclass(frozen=True, eq=False)
class Case:
    """One input of an op: its arrays (None: absent), the gradient of its output, and its options."""

    arrays: tuple[Array | None, ...]
    gy: Array
    options: dict[str, Any]


def made(op: type[Function], **options: Any) -> Function:
    """The op, as the engine would make it for arrays of NumPy, all gradients wanted."""
    it = op()
    for name, value in {"xp": np, "lib": NUMPY, "needs": (True,) * 8, **options}.items():
        setattr(it, name, value)
    return it


def run(op: type[Function], case: Case) -> tuple[Array, ...]:
    """(y, gx, ...): what the op answers, on copies of the case's arrays."""
    it = made(op, **case.options)
    y = it.forward(*(None if x is None else x.copy() for x in case.arrays))
    found = it.backward(case.gy.copy())
    return (y, *(found if isinstance(found, tuple) else (found,)))


@functools.cache
def _wrong(guilty: Suspect, case: Case) -> tuple[Array, ...]:
    return run(guilty.op, case)


def named(answers: Sequence[Any], cases: Sequence[Case], suspects: Sequence[Suspect], output: int) -> Suspect | None:
    """The one whose output equals the answer in every case; None where there is none, or two of different causes.

    answers    the student's, one a case: a wrong answer, so that a suspect whose output is right does not equal it
    output     which one: 0 is y, 1 the gradient of the first input, ...
    """
    tolerance = exactness(answers)
    found = [
        each
        for each in suspects
        if all(off(a, _wrong(each, case)[output]) < tolerance for a, case in zip(answers, cases, strict=True))
    ]
    return found[0] if len({each.cause for each in found}) == 1 else None


# --- asking, and telling what was found


@dataclass(frozen=True)
class Finding:
    """A mistake that was found: its name, and what shows it."""

    cause: str
    message: str


@dataclass(frozen=True)
class Question:
    """One output of one op of the student's file, and what it is compared with.

    Attributes
        op          the class in the student's file
        truth       the library's
        output      0 for y, 1 for the gradient of the first input, ...
        inputs      what the statement calls the inputs, ("x", "w", "b")
        suspects    wrong versions of the op
        ladder      small cases, the smallest first: the first that fails is shown
        cases       random ones, by which a mistake is named
        signature   looks at the replies to `cases` before the suspects are compared: a fit, arrays written to, ...
                    A finding called UNKNOWN is told where no suspect fits
        absent      {"gws": cause} where an answer that leaves this gradient out makes more than a slip
    """

    op: str
    truth: type[Function]
    output: int
    inputs: tuple[str, ...]
    suspects: Sequence[Suspect]
    ladder: Sequence[Case]
    cases: Sequence[Case]
    signature: Callable[[Question, Sequence[Reply]], Finding | None] | None = None
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def symbol(self) -> str:
        """What the output is called: y, gx, gw, ..."""
        return f"g{self.inputs[self.output - 1]}" if self.output else "y"

    @functools.cached_property
    def right(self) -> tuple[list[Array], list[Array]]:
        """The right output for each case of the ladder, and for each random one."""
        ladder, cases = ([run(self.truth, case)[self.output] for case in some] for some in (self.ladder, self.cases))
        return ladder, cases


def judge(answer: Answer, question: Question) -> None:
    """Asks, compares, and raises Failed with the mistake's name, or UNKNOWN, and the smallest input that shows it."""
    replies = [ask(answer, question, case) for case in question.cases]
    answers = [pick(reply, question) for reply in replies]
    expected = question.right[1]
    smallest, error = _smallest(answer, question)
    wrong = [not right(got, want) for got, want in zip(answers, expected, strict=True)]
    if not any(wrong):
        if error is not None:
            raise Failed(error.message, error.cause, smallest, error.place, error.exception)
        if smallest is None:
            return
    shown = smallest or next(
        _shown(question, case, got, want)
        for case, got, want, bad in zip(question.cases, answers, expected, wrong, strict=True)
        if bad
    )
    found = (_missing(question, replies, expected) or _found(question, replies, answers)) if any(wrong) else None
    if found is None:
        worst = max(off(got, want) for got, want in zip(answers, expected, strict=True))
        found = Finding(UNKNOWN, f"your {question.symbol} is wrong{how_far(worst)}; it fits no mistake known here")
    raise Failed(found.message, found.cause, shown)


_replies: WeakKeyDictionary[Answer, dict[tuple[str, int, bool], Reply]] = WeakKeyDictionary()


def ask(answer: Answer, question: Question, case: Case, tolerate: bool = False) -> Reply:
    """Forward, and backward where a gradient is asked for. What went well is asked once, whatever output is judged."""
    kept = _replies.setdefault(answer, {})
    key = (question.op, id(case), question.output > 0)
    if key in kept:
        return kept[key]
    gy = case.gy if question.output else None
    reply = answer.op(question.op, case.arrays, gy, tolerate=tolerate, **case.options)
    if reply.error is None:
        kept[key] = reply
    return reply


def pick(reply: Reply, question: Question) -> Any:
    """The output in question; None where the answer returned fewer."""
    if not question.output:
        return reply["y"]
    found = reply["gradients"]
    return found[question.output - 1] if len(found) >= question.output else None


def how_far(error: float) -> str:
    """ " by up to 43 % of its largest entry", where that can be said."""
    return f" by up to {error:.2g} times its largest entry" if np.isfinite(error) else ""


def _missing(question: Question, replies: Sequence[Reply], expected: Sequence[Array]) -> Finding | None:
    """Too few gradients, or an output that is no array of the right shape."""
    pairs = [(pick(reply, question), want) for reply, want in zip(replies, expected, strict=True)]
    for reply, case in zip(replies, question.cases, strict=True):
        if question.output and len(reply["gradients"]) != len(question.inputs):
            return _miscounted(question, reply["gradients"], case)
    if all(isinstance(got, np.ndarray) and right(got.T, want) for got, want in pairs):
        return Finding("TRANSPOSED", f"your {question.symbol} is the transpose of the right one")
    absent = question.absent.get(question.symbol, "NOTHING_RETURNED")
    found = (malformed(question.symbol, got, want, absent) for got, want in pairs)
    return next(filter(None, found), None)


def _miscounted(question: Question, gradients: tuple[Any, ...], case: Case) -> Finding:
    """Too few gradients, or too many; where the shapes tell which one is left out, it is named."""
    if len(gradients) == 1 and gradients[0] is None:
        return Finding("NOTHING_RETURNED", "backward returns None")
    count = f"{len(gradients)} gradient{'s' * (len(gradients) != 1)}"
    told = f"backward returns {count}; {question.op} has {len(question.inputs)} inputs"
    shapes, given = [np.shape(x) for x in case.arrays if x is not None], [np.shape(g) for g in gradients]
    left_out = [f"g{name}" for i, name in enumerate(question.inputs) if given == shapes[:i] + shapes[i + 1 :]]
    if len(left_out) == 1:
        told += f"; by their shapes it is {left_out[0]} that is missing"
        return Finding(question.absent.get(left_out[0], "NOTHING_RETURNED"), told)
    return Finding("NOTHING_RETURNED", told)


def malformed(symbol: str, got: Any, want: Array, absent: str = "NOTHING_RETURNED") -> Finding | None:
    """What is wrong with an output before its numbers are looked at: None, no array, a wrong shape, nan."""
    if got is None:
        return Finding(absent, f"your {symbol} is None; it should be an array of shape {want.shape}")
    if not isinstance(got, (np.ndarray, np.generic, int, float)):
        kind = got.kind if isinstance(got, Opaque) else type(got).__name__
        return Finding("WRONG_SHAPE", f"your {symbol} is no array of numbers, but {kind}")
    if np.shape(got) != want.shape:
        return Finding("WRONG_SHAPE", f"your {symbol} has shape {np.shape(got)}; it should be {want.shape}")
    if not np.isfinite(np.asarray(got, dtype=float)).all():
        return Finding("NOT_FINITE", f"your {symbol} holds nan or inf")
    return None


def _found(question: Question, replies: Sequence[Reply], answers: Sequence[Any]) -> Finding | None:
    """By the assignment's signature, else by the suspects."""
    found = question.signature(question, replies) if question.signature else None
    if found is not None and found.cause != UNKNOWN:
        return found
    guilty = named(answers, question.cases, question.suspects, question.output)
    if guilty is None:
        return found
    left = max(off(a, _wrong(guilty, case)[question.output]) for a, case in zip(answers, question.cases, strict=True))
    equal = f"to {left:.0e}" if left else "exactly"
    return Finding(guilty.cause, f"{guilty.formula} (your {question.symbol} is that, {equal})")


def _smallest(answer: Answer, question: Question) -> tuple[dict[str, Any] | None, Failed | None]:
    """The first case of the ladder that fails, and the error where it raises."""
    for case, want in zip(question.ladder, question.right[0], strict=True):
        reply = ask(answer, question, case, tolerate=True)
        if reply.error is not None:
            return _shown(question, case, reply.error.exception or reply.error.cause, want), reply.error
        got = pick(reply, question)
        if not right(got, want):
            return _shown(question, case, got, want), None
    return None, None


def _shown(question: Question, case: Case, got: Any, want: Array) -> dict[str, Any]:
    """A counterexample: the inputs by name, what came, and what was expected."""
    shown = {name: plain(x) for name, x in zip(question.inputs, case.arrays, strict=True) if x is not None}
    if question.output:
        shown["gy"] = plain(case.gy)
    shown |= {name: option for name, option in case.options.items() if option is not None}
    return {**shown, "yours": plain(got), "expected": plain(want)}


def judge_inputs(answer: Answer, question: Question) -> None:
    """Raises Failed where the answer has written to an array that it was handed."""
    for case in (*question.ladder, *question.cases):
        reply = ask(answer, question, case)
        names = dict(zip(map(str, range(len(case.arrays))), question.inputs, strict=True)) | {"gy": "gy"}
        for key, after in reply.inputs_after.items():
            before = case.gy if key == "gy" else case.arrays[int(key)]
            if before is not None and not np.array_equal(before, after, equal_nan=True):
                name = names[key]
                cause = "ALIASED_ADD" if name == "gy" else "INPUT_OVERWRITTEN"
                told = f"{question.op} writes into {name}, which belongs to the caller"
                raise Failed(told, cause, {f"{name} before": plain(before), f"{name} after": plain(after)})


def plain(value: Any) -> Any:
    """Arrays as lists of numbers, as a counterexample keeps them."""
    if value is None or isinstance(value, (str, bool)):
        return value
    try:
        return np.asarray(value, dtype=float).round(12).tolist()
    except (TypeError, ValueError):
        return repr(value)


# --- inputs


def small(shapes: Callable[[int, int], tuple[tuple[int, ...], ...]], rng: np.random.Generator) -> list[list[Array]]:
    """Small integers in small shapes, the smallest first: ones, then from 1 to 3, then from -3 to 3 without 0.

    shapes    (n, d) -> the shapes of all arrays of a case with n rows and width d
    """
    found = []
    for n, d in ((1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2)):
        sizes = shapes(n, d)
        found.append([np.ones(size) for size in sizes])
        found.append([rng.integers(1, 4, size).astype(float) for size in sizes])
        found += [[rng.choice([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0], size) for size in sizes] for _ in range(2)]
    return found
