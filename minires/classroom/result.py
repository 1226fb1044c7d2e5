"""What grading gives, and the JSON in which it is kept: one object a student.

    {"assignment", "score", "max_score", "tests": [{"name", "passed", "cause", "message", "counterexample", ...}], ...}

After these keys more may follow; here they are a test's points, place and hint, and the answer's SHA-256, the version
of minires and the seconds it took.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np


@dataclass(frozen=True)
class TestResult:
    """One test: `cause`, `message`, `counterexample`, `place` and `hint` are None or "" where it is passed."""

    __test__ = False  # for pytest, which collects classes of this name

    name: str
    passed: bool
    cause: str | None
    message: str
    counterexample: Mapping[str, Any] | None
    points: float
    max_points: float
    place: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Result:
    """What one answer is worth, and why.

    file_sha256   of the file that was graded, so that a report can be told from another one's
    seconds       what grading took
    """

    assignment: str
    tests: tuple[TestResult, ...]
    file: str
    file_sha256: str
    minires: str
    seconds: float

    @property
    def score(self) -> float:
        return sum(test.points for test in self.tests)

    @property
    def max_score(self) -> float:
        return sum(test.max_points for test in self.tests)

    @property
    def complete(self) -> bool:
        """Whether every test is passed."""
        return all(test.passed for test in self.tests)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "assignment": self.assignment,
            "score": _whole(self.score),
            "max_score": _whole(self.max_score),
            "tests": [_test_dict(test) for test in self.tests],
            "file": self.file,
            "file_sha256": self.file_sha256,
            "minires": self.minires,
            "seconds": round(self.seconds, 3),
        }


def _test_dict(test: TestResult) -> dict[str, Any]:
    points = {"points": _whole(test.points), "max_points": _whole(test.max_points)}
    return {**vars(test), "counterexample": plain(test.counterexample), **points}


def _whole(x: float) -> float:
    """3 instead of 3.0."""
    return int(x) if x == int(x) else x


def load(text: str) -> Result:
    """The result in a JSON text. Raises ValueError, in one line, for anything else."""
    try:
        held = json.loads(text)
        found = Result(
            assignment=_text(held["assignment"]),
            tests=tuple(_test(each) for each in held["tests"]),
            file=str(held.get("file", "")),
            file_sha256=str(held.get("file_sha256", "")),
            minires=str(held.get("minires", "")),
            seconds=_number(held.get("seconds", 0.0)),
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON ({error.msg}, line {error.lineno})") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        missing = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"no result of minires class grade --json ({' '.join(missing.split())})") from None
    if not math.isclose(found.score, _number(held.get("score", found.score)), abs_tol=1e-9):
        raise ValueError(f"its score is {held['score']}, but its tests add up to {found.score:g}")
    return found


def _test(held: Any) -> TestResult:
    passed = held["passed"]
    if not isinstance(passed, bool):
        raise ValueError(f"passed is {passed!r}, not true or false")
    worth = _number(held.get("max_points", 1.0))
    return TestResult(
        name=_text(held["name"]),
        passed=passed,
        cause=None if held["cause"] is None else _text(held["cause"]),
        message=_text(held["message"]),
        counterexample=held["counterexample"],
        points=_number(held.get("points", worth if passed else 0.0)),
        max_points=worth,
        place=str(held.get("place", "")),
        hint=str(held.get("hint", "")),
    )


def _text(x: Any) -> str:
    if not isinstance(x, str):
        raise ValueError(f"{x!r} is no text")
    return x


def _number(x: Any) -> float:
    if isinstance(x, bool) or not isinstance(x, (int, float)) or not math.isfinite(x):
        raise ValueError(f"{x!r} is no number")
    return x


def plain(x: Any) -> Any:
    """x with nothing in it that JSON lacks: arrays as lists, fractions and what is not finite as text."""
    if isinstance(x, Mapping):
        return {str(name): plain(each) for name, each in x.items()}
    if isinstance(x, (list, tuple)):
        return [plain(each) for each in x]
    if isinstance(x, (np.ndarray, np.generic)):
        return plain(x.tolist())
    if isinstance(x, float) and not math.isfinite(x):
        return str(x)
    if x is None or isinstance(x, (bool, int, float, str)):
        return x
    return str(x) if isinstance(x, (Fraction, complex)) else repr(x)
