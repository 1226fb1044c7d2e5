"""The report of one answer, for a terminal: every test, and of a failure what came of it and where to go on."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import numpy as np

from minires.classroom.assignment import Assignment, causes
from minires.classroom.result import Result, TestResult

WIDTH = 100
NAME, LABEL = 19, 9  # columns: where a test's name begins, and the labels under it


def report(result: Result, assignment: Assignment) -> str:
    """The whole report: at most 100 columns, and nothing is said by color alone."""
    score = f"{result.score:g} of {result.max_score:g} points"
    lines = [f"{result.assignment}  {assignment.title:{WIDTH - len(result.assignment) - len(score) - 3}} {score}"]
    lines += [f"graded {result.file}, SHA-256 {result.file_sha256}", ""]
    for _, alike in groupby(result.tests, key=lambda test: (test.passed, test.cause, test.message)):
        tests = list(alike)
        lines += [_verdict(test) for test in tests]
        if not tests[0].passed:
            lines += [*_why(tests[0], assignment), ""]
    passed = sum(test.passed for test in result.tests)
    if result.complete:
        lines += ["", f"All {passed} tests passed."]
    else:
        lines += ([""] if lines[-1] else []) + [f"{passed} of {len(result.tests)} tests passed."]
    return "\n".join(lines)


def _verdict(test: TestResult) -> str:
    first, *rest = textwrap.wrap(test.name, WIDTH - NAME) or [""]
    head = f"  {'passed' if test.passed else 'FAILED':8} {test.points:>3.3g}/{test.max_points:<3.3g} {first}"
    return "\n".join([head, *(" " * NAME + line for line in rest)])


def _why(test: TestResult, assignment: Assignment) -> Iterator[str]:
    cause = test.cause or "UNKNOWN"
    meaning = causes()[cause].meaning if cause in causes() else ""
    if cause == "UNKNOWN":
        meaning = "this is wrong, but what the mistake is, the grader can't tell"
    yield from _entry("cause", f"{cause}: {meaning}" if meaning else cause)
    yield from _entry("what", test.message)
    if test.counterexample:
        yield from _entry("smallest", told(test.counterexample))
    if test.place:
        yield from _entry("see", test.place)
    if test.hint:
        tiers = len(assignment.hints.get(cause, ()))
        yield from _entry("hint", test.hint + (f"  (1 of {tiers}; the others are in HINTS.md)" if tiers > 1 else ""))


def _entry(label: str, text: str) -> Iterator[str]:
    """A label and its text beside it, wrapped."""
    lines = [
        part
        for line in text.splitlines()
        for part in textwrap.wrap(line, WIDTH - NAME, subsequent_indent="  ", break_on_hyphens=False) or [""]
    ]
    for i, line in enumerate(lines):
        yield f"{'':{LABEL}}{label if i == 0 else '':{NAME - LABEL}}{line}"


def told(counterexample: Mapping[str, Any]) -> str:
    """A counterexample in words: the inputs on one line, and what came and should have come below."""
    last = ("yours", "expected")
    inputs = ", ".join(f"{name} = {number(x)}" for name, x in counterexample.items() if name not in last)
    outputs = [f"{name} {number(counterexample[name])}" for name in last if name in counterexample]
    short = ", ".join(outputs)
    return "\n".join(part for part in (inputs, *([short] if len(short) <= WIDTH - NAME else outputs)) if part)


def number(x: Any) -> str:
    """A number or array, short: 6 digits, and of a large array its shape too."""
    if isinstance(x, np.ndarray) and x.size > 24:
        shown = np.array2string(x, precision=4, threshold=6, separator=", ")
        return f"{' '.join(shown.split())} of shape {x.shape}"
    if isinstance(x, (np.ndarray, np.generic)):
        return number(x.tolist())
    if isinstance(x, (list, tuple)):
        return f"[{', '.join(map(number, x))}]"
    if isinstance(x, float):
        return f"{x:.6g}"
    return str(x)
