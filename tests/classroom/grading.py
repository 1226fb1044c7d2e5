"""Grading in this process, for tests of the assignments: fast, and with what each test found."""

from __future__ import annotations

import numpy as np

from minires.classroom.answer import Failed, Local
from minires.classroom.assignment import Assignment
from minires.classroom.grade import run


def failures(assignment: Assignment, source: str) -> dict[str, Failed]:
    """What each test of the assignment that fails has to say of this answer."""
    answer = Local.of(source, assignment.file)
    with np.errstate(all="ignore"):  # a student's own infinities warn in the student's process
        found = {test.name: run(test, answer) for test in assignment.tests}
    return {name: failed for name, failed in found.items() if failed is not None}


def causes(assignment: Assignment, source: str) -> set[str]:
    """The names that are said of this answer."""
    return {failed.cause for failed in failures(assignment, source).values()}
