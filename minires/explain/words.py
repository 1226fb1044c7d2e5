"""What an op's docstring says of its forward and backward, formula by formula, and the same in other letters.

So nothing is written twice: a step of a walk shows the op's own formula, with the names of the values that it read.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from minires.check import subjects
from minires.engine import Function

_HEAD = re.compile(r"^([A-Z][a-z]+)\s{2,}(.*)")
_CLAUSE = re.compile(r"^([A-Za-z_]\w*(?:\[(?:[^\[\]]|\[[^\]]*\])*\]|\(\w\))?) = (.+)")
_BETWEEN = re.compile(r"(;\s+|,\s{2,})")
_WORD = re.compile(r"(?<![A-Za-z0-9_.])[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Clause:
    """One formula of a docstring, `left = right`, and what is remarked beside it."""

    left: str
    right: str
    remark: str = ""

    @property
    def letter(self) -> str:
        """What it defines: "gx" for "gx[n, c] = ..."."""
        return re.split(r"[\[(]", self.left)[0]

    def __str__(self) -> str:
        return f"{self.left} = {self.right}"


@dataclass(frozen=True)
class Line:
    """A line of a docstring's "Forward" or "Backward", and the formulas in it; none where it goes on with words."""

    text: str
    clauses: tuple[Clause, ...] = ()


@dataclass(frozen=True)
class Section:
    """The "Forward" or the "Backward" of a docstring, line by line."""

    lines: tuple[Line, ...]

    @property
    def clauses(self) -> list[Clause]:
        """All formulas, in order."""
        return [clause for line in self.lines for clause in line.clauses]

    def of(self, letter: str) -> Clause | None:
        """The formula that defines this letter, the first where there are several."""
        return next((c for c in self.clauses if c.letter == letter), None)


def op_of(op: Function) -> type[Function]:
    """The op's class; for a kernel, that of the op it stands for."""
    return op.stands_for or type(op)


def name_of(op: Function) -> str:
    """As in `minires.functional`: "residual_add" for ResidualAdd; for an op of one's own, its class's name likewise."""
    kind = op_of(op)
    return _public_names().get(kind.__name__) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).lower()


@cache
def _public_names() -> dict[str, str]:
    return {subject.op.__name__: subject.name for subject in subjects()}


def letters_of(op: type[Function]) -> list[str]:
    """The names of forward's inputs; none where it takes any number of them."""
    parameters = list(inspect.signature(op.forward).parameters.values())[1:]
    return [] if any(p.kind is p.VAR_POSITIONAL for p in parameters) else [p.name for p in parameters]


def section(op: type[Function], head: str) -> Section:
    """The lines under "Forward" or "Backward" in the op's docstring; none where it has no such section."""
    return _section(inspect.getdoc(op) or "", head)


@cache
def _section(doc: str, head: str) -> Section:
    return Section(tuple(Line(line, _clauses(line)) for line in _lines(doc, head)))


def _clauses(line: str) -> tuple[Clause, ...]:
    """The formulas of one line. What follows after three spaces is a remark."""
    text, _, remark = (part.strip() for part in re.sub(r"(?<=[^;,.])\s{3,}", "\0", line).partition("\0"))
    first, *rest = _BETWEEN.split(text)
    joined = [first]
    for separator, part in zip(rest[::2], rest[1::2], strict=True):
        if _CLAUSE.match(part):
            joined.append(part)
        else:  # words that belong to the formula before them
            joined[-1] += separator + part
    found = [m for m in map(_CLAUSE.match, joined) if m]
    return tuple(Clause(m[1], m[2], remark if m is found[-1] else "") for m in found)


def _lines(doc: str, head: str) -> list[str]:
    inside, lines = False, []
    for line in doc.splitlines():
        match = _HEAD.match(line)
        if match:
            inside = match[1] == head
        elif not line.startswith(" "):
            inside = False
        if inside:
            lines.append((match[2] if match else line).strip())
    return lines


def gradient_name(name: str) -> str:
    """What the gradient of a value of this name is called: gx, gv1; g_loss where the name is a longer one."""
    return f"g{name}" if len(name) <= 3 else f"g_{name}"


def renaming(letters: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """From an op's letters, and those of their gradients, to the names of the values in their place."""
    pairs = list(zip(letters, names, strict=True))
    return dict(pairs) | {f"g{letter}": gradient_name(name) for letter, name in pairs}


def renamed(texts: Sequence[str], names: Mapping[str, str]) -> list[str] | None:
    """The formulas with other names in the letters' place; None where such a name means something else in them."""
    words = {word for text in texts for word in _WORD.findall(text)}
    kept = words - set(names)
    new = {name for letter, name in names.items() if letter in words and letter != name}
    if kept & {part for name in new for part in _WORD.findall(name)}:
        return None
    return [_WORD.sub(lambda m: names.get(m[0], m[0]), text) for text in texts]
