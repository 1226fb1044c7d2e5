"""Answers that write into gy, the gradient that arrives, and are right for what they have made of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minires.classroom.answer import Reply
from minires.classroom.diagnosis import Case, Finding, Question, pick, right, run


def written(question: Question, replies: Sequence[Reply]) -> bool:
    """Whether the answer has written to gy, in every case."""
    pairs = zip(question.cases, replies, strict=True)
    return not any(np.array_equal(case.gy, reply.inputs_after["gy"]) for case, reply in pairs)


def from_written(question: Question, replies: Sequence[Reply]) -> Finding | None:
    """ALIASED_ADD where the gradient in question was taken of what had been written into gy; a signature."""
    if not question.output or not written(question, replies):
        return None
    for case, reply in zip(question.cases, replies, strict=True):
        taken = Case(case.arrays, np.asarray(reply.inputs_after["gy"], dtype=float), case.options)
        if not right(pick(reply, question), run(question.truth, taken)[question.output]):
            return None
    told = f"your {question.symbol} is right for what you have written into gy, not for gy as it came"
    return Finding("ALIASED_ADD", told)
