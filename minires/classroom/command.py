"""`minires class`: hand out, grade, report, solutions."""

from __future__ import annotations

import json
from pathlib import Path

from minires.classroom import assignment as registry
from minires.errors import RequestError


def show_assignments() -> None:
    """Prints what assignments there are."""
    for each in registry.assignments().values():
        print(f"{each.name}  {each.title:40} {each.minutes:>3} minutes  {each.max_score:g} points  {each.file}")
    print("\nnext: minires class hand-out A5 --to A5")


def hand_out(name: str, directory: Path) -> None:
    """Writes a student's folder."""
    from minires.classroom import handout

    assignment = registry.find(name)
    made = handout.hand_out(assignment, directory)
    print(f"made {directory}/: {made[0]} to edit, and {', '.join(made[1:])}")
    print(f"next: minires class grade {assignment.name} {directory}")


def grade(name: str, answer: Path, *, as_json: bool, seconds: float, memory_mb: int) -> bool:
    """Prints what an answer is worth and returns whether that is all there is to get."""
    from minires.classroom import grade as grader
    from minires.classroom import report

    assignment = registry.find(name)
    if not 0 < seconds < float("inf"):
        raise RequestError(f"--seconds {seconds:g} is no time; give a number above 0")
    if memory_mb < 256:
        raise RequestError(f"--memory {memory_mb} is too little for Python and NumPy; give 256 (MB) or more")
    result = grader.grade(assignment, answer, seconds=seconds, memory_mb=memory_mb)
    print(json.dumps(result.as_dict(), indent=1) if as_json else report.report(result, assignment))
    return result.complete


def report(results: Path, out: Path) -> None:
    """Writes the page of a class."""
    from minires.classroom import overview

    students, left_out = overview.collect(results)
    overview.write(out, students)
    for line in left_out:
        print(f"left out: {line}")
    print(f"made {out}: {len(students)} result{'' if len(students) == 1 else 's'}")


def solutions(name: str, directory: Path) -> None:
    """Writes the answer, for teachers."""
    from minires.classroom import solutions as answers

    assignment = registry.find(name)
    made = answers.solutions(assignment, directory)
    print(f"made {directory}/: {', '.join(made)}")
