"""A backward pass, step by step, as plain data: what every op read, made, received, and handed on to whom.

The gradients are the tape's own, edge by edge. The formulas are those of the ops' docstrings, in the letters of the
values at hand; numbers are put into a formula only where it then comes to what the tape holds.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from minires.backend import Array
from minires.errors import RequestError
from minires.explain.algebra import Written

LIMIT = 200


@dataclass(frozen=True, eq=False)
class Value:
    """A leaf, a constant, or what a step made.

    array    None where it was not recorded: a tape keeps no more than backward needs
    step     the number of the step that made it; 0 for a leaf or a constant
    """

    name: str
    shape: tuple[int, ...]
    array: Array | None
    step: int = 0


@dataclass(frozen=True, eq=False)
class Shown:
    """A formula in the letters at hand, a remark of its docstring, and how it reads with the numbers in it.

    whole    whether its left side is the very value that it is shown for, and not a letter on the way there
    """

    text: str
    remark: str = ""
    numbers: Written | None = None
    whole: bool = False


@dataclass(frozen=True, eq=False)
class Term:
    """One contribution to a gradient: what step `step` hands back through its input `index`, and to whom.

    role       "skip" or "branch" along the ways of a residual sum, else ""
    formula    None where the docstring has no formula for this input
    """

    step: int
    op: str
    index: int
    receiver: str
    gradient: Array
    role: str = ""
    formula: Shown | None = None


@dataclass(frozen=True, eq=False)
class Step:
    """One op, forward and backward.

    number     in the order of the forward pass; backward takes the steps from the last to the first
    about      the first line of its docstring
    reads      the names of its inputs, None for an absent one
    makes      its outputs
    forward    its formulas, and lines of words between them
    legend     which value stands for which letter, where the formulas are in the op's own letters; else ""
    gys        what arrived for each output, None for nothing
    before     what the docstring says of backward ahead of the formulas of the terms, which may build on it
    after      and behind them
    terms      what it hands on
    """

    number: int
    op: str
    about: str
    reads: tuple[str | None, ...]
    makes: tuple[Value, ...]
    forward: tuple[Shown, ...]
    legend: str
    gys: tuple[Array | None, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    terms: tuple[Term, ...]


@dataclass(frozen=True, eq=False)
class Walk:
    """A backward pass.

    title    what was walked through
    steps    in the order of the forward pass, each op once
    values   every leaf, constant and result by name
    roots    where the walk began: the names of the results
    seeds    what arrived there from outside
    limit    how many steps the text shows from either end
    """

    title: str
    steps: tuple[Step, ...]
    values: Mapping[str, Value]
    roots: tuple[str, ...]
    seeds: Mapping[str, Array]
    limit: int = LIMIT
    totals: Mapping[str, Array] = field(default_factory=dict)

    def into(self, name: str) -> list[Term]:
        """The contributions to the gradient of the value of this name, in the order of arrival."""
        return self._terms.get(name, [])

    @cached_property
    def _terms(self) -> dict[str, list[Term]]:
        found: dict[str, list[Term]] = {}
        for step in reversed(self.steps):
            for term in step.terms:
                found.setdefault(term.receiver, []).append(term)
        return found

    def gradient(self, name: str) -> Array:
        """The gradient of the value of this name: the sum of its contributions, added as backward adds them.

        Raises RequestError, with the nearest names, for a name that has none.
        """
        if name not in self.totals:
            close = difflib.get_close_matches(name, self.totals, n=3, cutoff=0.5) or self.leaves[:5]
            raise RequestError(f"explain: nothing with a gradient is called {name!r}; as {' or '.join(close)} is")
        return self.totals[name]

    @property
    def leaves(self) -> list[str]:
        """The names of what has a gradient and was made by no step."""
        return [name for name, value in self.values.items() if value.step == 0 and name in self.totals]

    def __str__(self) -> str:
        from minires.explain.terminal import text

        return text(self)

    def svg(self) -> str:
        """The graph: values flow down along gray lines, gradients up along colored ones. A whole SVG document."""
        from minires.explain.graph import svg

        return svg(self)

    def page(self) -> str:
        """A whole HTML page that needs nothing else."""
        from minires.explain.page import page

        return page(self)

    def _repr_html_(self) -> str:
        from minires.explain.page import fragment

        return fragment(self)
