"""What an assignment is, and which there are.

An assignment is one file `minires/classroom/assignments/NAME.py` that ends in `ASSIGNMENT = Assignment(...)`. It names
the functions of the library that are cut out (`blanks`), what stands above them in the student's file (`preamble`), and
the tests. There is no second copy of the solution: the library is the solution.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from minires.classroom.answer import Answer
from minires.errors import RequestError

FUNCTION = '''
class Function:
    """What an op is given here: xp, the array library, and needs, which of its inputs want a gradient."""

    xp = np
    needs = (True,) * 8

    def __init__(self, **options):
        self.__dict__.update(options)
'''
"""Source text of the base class of an op, for a preamble: the student's file stands on NumPy alone."""


@dataclass(frozen=True)
class Test:
    """One law that a right answer obeys.

    name      the law in words
    points    what it is worth
    run       judges: it asks `answer` (see `minires.classroom.answer`) for results and raises Failed where they are
              wrong. It runs in the grader's process; only the student's functions run in the other one.
    seconds   how long all its questions together may take
    """

    __test__ = False  # for pytest, which collects classes of this name

    name: str
    points: float
    run: Callable[[Answer], None]
    seconds: float = 10.0


@dataclass(frozen=True)
class Assignment:
    """A piece of the library to write, and how it is graded.

    name       "A5"
    title      a few words
    blanks     qualified names, such as "minires.ops.residual.ResidualAdd.backward": their bodies are cut out. Of a
               class with a blank in it all else is kept
    given      qualified names of classes and functions that are copied whole, such as helpers
    hide       sections of kept docstrings that would give the answer away, such as "Backward" and "Derivation"
    file       the one file the student edits, "residual_block.py"
    preamble   source text above the definitions: a docstring, imports (NumPy and the standard library, nothing else:
               the library cannot be imported where an answer runs), what is given
    statement  Markdown: what to do
    rubric     Markdown, for student and teacher: what earns how much
    guide      Markdown, for the teacher alone: how to mark what the grader cannot, with the answers
    hints      cause or test's name -> three hints, the first the vaguest
    tests      in the order of the report
    minutes    how long a student needs
    """

    name: str
    title: str
    blanks: tuple[str, ...]
    file: str
    preamble: str
    statement: str
    rubric: str
    hints: Mapping[str, tuple[str, ...]]
    tests: tuple[Test, ...]
    minutes: int
    given: tuple[str, ...] = ()
    hide: tuple[str, ...] = ()
    guide: str = ""

    @property
    def max_score(self) -> float:
        return sum(test.points for test in self.tests)


@dataclass(frozen=True)
class Cause:
    """A mistake that has a name: what it means in one line, where the derivation stands, three hints.

    `minires.classroom.causes.CAUSES` maps names to these. The machinery itself finds SYNTAX_ERROR, IMPORT_ERROR,
    MISSING_NAME, CHANGED_SIGNATURE, TIMEOUT, OUT_OF_MEMORY, CRASHED, READS_REFERENCE, FORBIDDEN_ACTION, NOT_WRITTEN
    and UNKNOWN; all others are found by an assignment's tests.
    """

    meaning: str
    place: str = ""
    hints: tuple[str, ...] = field(default=())


def assignments() -> dict[str, Assignment]:
    """All assignments by name, in order."""
    package = importlib.import_module("minires.classroom.assignments")
    found: dict[str, Assignment] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        held: Any = importlib.import_module(f"{package.__name__}.{module}")
        assignment = getattr(held, "ASSIGNMENT", None)
        if assignment is not None:
            found[assignment.name] = assignment
    return dict(sorted(found.items(), key=lambda item: (len(item[0]), item[0])))


def find(name: str) -> Assignment:
    """The assignment of this name, in capitals or not. Raises RequestError with the nearest names."""
    known = assignments()
    if name.upper() in known:
        return known[name.upper()]
    close = difflib.get_close_matches(name.upper(), known, n=2, cutoff=0.5) or list(known)
    raise RequestError(f"there is no assignment {name!r}; did you mean {' or '.join(close)}? See: minires class")


def causes() -> Mapping[str, Cause]:
    """What is known of each mistake, by the cause's name."""
    known: Mapping[str, Cause] = importlib.import_module("minires.classroom.causes").CAUSES
    return known
