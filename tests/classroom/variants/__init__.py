"""Right answers, each written in another way: a grader that accuses one of them is wrong.

`variants(name, count)` draws whole files. For each function it picks one of several ways to write it, and for each of
these ways of computing the same: einsum or products, means or sums over m, loops, other orders of summation, float32
inside, work in place on arrays of its own, helper functions, keyword arguments, names of the student's choice.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minires.classroom.assignment import find
from tests.classroom.mistakes import written
from tests.classroom.variants.a1 import engine
from tests.classroom.variants.a4 import norms
from tests.classroom.variants.a5 import block

WRITERS = {"A1": engine, "A4": norms, "A5": block}


def variants(name: str, count: int, seed: int = 0) -> Iterator[str]:
    """That many right answers to an assignment, no two the same."""
    assignment, rng = find(name), np.random.default_rng(seed)
    seen: set[str] = set()

    def pick(*options: str) -> str:
        return options[int(rng.integers(0, len(options)))]

    while len(seen) < count:
        functions, top = WRITERS[name](pick)
        text = written(assignment, functions, top)
        if text not in seen:
            seen.add(text)
            yield text
