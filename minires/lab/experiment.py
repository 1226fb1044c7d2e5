"""What an experiment is: it measures one seed, judges published claims, draws one figure and tells it in words.

An experiment is a file of this folder that ends in `EXPERIMENT = Experiment(...)`; `experiments()` finds them all.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minires.errors import RequestError

SCALES = ("smoke", "full")

Tick = Callable[[str], None]
Results = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Verdict:
    """Whether a published claim is seen here.

    Attributes
        claim       the published sentence, in short
        source      paper, and section, figure or equation
        observed    what was seen instead of or as well as it, with its numbers
        holds       whether that bears the claim out at this scale
        expected    whether it should: False for a popular sentence that is known to be wrong
    """

    claim: str
    source: str
    observed: str
    holds: bool
    expected: bool = True

    @property
    def word(self) -> str:
        """The verdict in a word or two."""
        if self.holds:
            return "holds"
        return "does not hold at this scale" if self.expected else "does not hold"


@dataclass(frozen=True)
class Table:
    """Numbers behind a figure. The first column names its row; numbers are rounded to four digits when shown."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | float]]

    def cells(self) -> list[list[str]]:
        """The rows as text."""
        return [[cell if isinstance(cell, str) else f"{cell:.4g}" for cell in row] for row in self.rows]

    def words(self) -> list[bool]:
        """Which columns hold words alone, and so begin on the left."""
        return [all(isinstance(row[k], str) for row in self.rows) for k in range(len(self.header))]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A question about residual networks, and how it is answered.

    Attributes
        name        what `minires lab` calls it: its file's name
        title       of the page and the figure
        question    one line
        about       a paragraph: what is measured, how, and what it does not show
        measure     (scale, seed, tick) -> the numbers of one seed, plain enough for JSON; it seeds itself, so that the
                    same seed gives the same numbers, and calls tick("what it has done") as often as `ticks` says
        judge       all seeds' results -> one Verdict a claim
        tables      all seeds' results -> the numbers behind the figure; the first one is also shown in the terminal
        draw        (all seeds' results, a matplotlib Figure with constrained layout): sets its size, and fills it
        alt         all seeds' results -> the figure in words, with its numbers
        ticks       scale -> how often `measure` ticks
        seeds       scale -> how many seeds it takes to judge
        seconds     scale -> about how long all of them take on two cores
    """

    name: str
    title: str
    question: str
    about: str
    measure: Callable[[str, int, Tick], dict[str, Any]]
    judge: Callable[[Results], list[Verdict]]
    tables: Callable[[Results], list[Table]]
    draw: Callable[[Results, Any], None]
    alt: Callable[[Results], str]
    ticks: Callable[[str], int]
    seeds: Mapping[str, int]
    seconds: Mapping[str, float]


@functools.cache
def experiments() -> dict[str, Experiment]:
    """Every experiment there is, by name."""
    from minires import lab

    modules = [importlib.import_module(f"{lab.__name__}.{m.name}") for m in pkgutil.iter_modules(lab.__path__)]
    found: list[Experiment] = [m.EXPERIMENT for m in modules if hasattr(m, "EXPERIMENT")]
    return {experiment.name: experiment for experiment in found}


def find(name: str) -> Experiment:
    """The experiment of that name. Raises RequestError, with the nearest names, where there is none."""
    known = experiments()
    if name not in known:
        close = difflib.get_close_matches(name.lower(), [*known, "all"], n=2, cutoff=0.5) or [*known, "all"]
        raise RequestError(f"there is no experiment {name!r}; type minires lab {' or '.join(close)}")
    return known[name]
