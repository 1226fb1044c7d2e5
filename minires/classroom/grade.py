"""Grading an answer: every test of the assignment, on the student's file, in a process of its own."""

from __future__ import annotations

import hashlib
import io
import time
import tokenize
from pathlib import Path

import minires
from minires.classroom.answer import Answer, Failed
from minires.classroom.assignment import Assignment, Cause, Test, causes
from minires.classroom.result import Result, TestResult
from minires.classroom.sandbox import Remote
from minires.errors import RequestError

LARGEST = 2**20  # bytes of an answer
SECONDS, MEMORY_MB = 60.0, 1024


def grade(assignment: Assignment, path: Path, *, seconds: float = SECONDS, memory_mb: int = MEMORY_MB) -> Result:
    """What the answer in `path`, a student's folder or the one file in it, is worth.

    seconds     for all that the answer does, starting its process not included
    memory_mb   of its process, Python and NumPy included

    Raises RequestError when there is no such file, or it is far too large.
    """
    began = time.perf_counter()
    file = locate(assignment, path)
    held = file.read_bytes()
    if len(held) > LARGEST:
        raise RequestError(f"{file} has {len(held) >> 20} MB; an answer is a file of Python of at most 1 MB")
    try:
        source = held.decode(_encoding(held))
        tests = _judged(assignment, source, seconds, memory_mb)
    except UnicodeDecodeError as error:
        line = held[: error.start].count(b"\n") + 1
        damaged = Failed(f"{assignment.file}:{line}: no UTF-8 text; save the file as UTF-8", "SYNTAX_ERROR")
        tests = [_result(assignment, test, damaged) for test in assignment.tests]
    return Result(
        assignment=assignment.name,
        tests=tuple(tests),
        file=assignment.file,
        file_sha256=hashlib.sha256(held).hexdigest(),
        minires=minires.__version__,
        seconds=time.perf_counter() - began,
    )


def _encoding(held: bytes) -> str:
    """As Python has it: UTF-8, or what one of the first two lines declares."""
    try:
        return tokenize.detect_encoding(io.BytesIO(held).readline)[0]
    except SyntaxError:  # no UTF-8, or no such encoding; decoding tells where
        return "utf-8-sig"


def locate(assignment: Assignment, path: Path) -> Path:
    """The student's file. Raises RequestError with what is there instead."""
    if path.is_file():
        if path.suffix != ".py":
            raise RequestError(f"{path} is no file of Python; name {assignment.file}, or the folder that holds it")
        return path
    if not path.is_dir():
        raise RequestError(f"there is no folder {path}; name the one that holds {assignment.file}")
    file = path / assignment.file
    if not file.is_file():
        others = sorted(each.name for each in path.glob("*.py"))
        held = f"it holds {', '.join(others[:3])}" if others else "it holds no Python file"
        raise RequestError(f"{path} has no {assignment.file}, which {assignment.name} is graded by; {held}")
    return file


def _judged(assignment: Assignment, source: str, seconds: float, memory_mb: int) -> list[TestResult]:
    with Remote(source, assignment.file, seconds=seconds, memory_mb=memory_mb) as answer:
        return [_result(assignment, test, answer.begin(test.seconds) or run(test, answer)) for test in assignment.tests]


def run(test: Test, answer: Answer) -> Failed | None:
    """Why the answer fails the test, or None. What the test itself stumbles over is a failure of unknown cause."""
    try:
        test.run(answer)
    except Failed as failure:
        return failure
    except Exception as error:  # what an answer returns may be of any kind and shape
        told = " ".join(str(error).split())
        return Failed(f"the test cannot judge what the answer returns ({type(error).__name__}: {told})")
    return None


def _result(assignment: Assignment, test: Test, failure: Failed | None) -> TestResult:
    if failure is None:
        return TestResult(test.name, True, None, "", None, test.points, test.points)
    cause = causes().get(failure.cause, Cause(""))
    hints = assignment.hints.get(failure.cause) or cause.hints or assignment.hints.get(test.name) or ("",)
    return TestResult(
        name=test.name,
        passed=False,
        cause=failure.cause,
        message=failure.message,
        counterexample=failure.counterexample,
        points=0.0,
        max_points=test.points,
        place=failure.place or cause.place,
        hint=hints[0],
    )
