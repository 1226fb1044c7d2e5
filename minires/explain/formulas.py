"""The formulas of one op's docstring for one step of a walk: in the letters at hand, and with the numbers in them."""

from __future__ import annotations

import ast
from collections.abc import Sequence

import numpy as np

from minires import backend
from minires.backend import Array
from minires.engine import Function, sum_to
from minires.explain import words
from minires.explain.algebra import Formula, UnreadableError, Written
from minires.explain.walk import Shown, Value
from minires.ops.linear import Linear, Matmul

MATRICES = (Matmul, Linear)  # whose docstrings mean a matrix product where two letters stand side by side


class Formulas:
    """What the docstring of an op says, for these values.

    reads    the inputs, None for one that is absent or not known
    makes    the outputs
    gys      what arrived for each output
    """

    def __init__(
        self, op: Function, reads: Sequence[Value | None], makes: Sequence[Value], gys: Sequence[Array | None]
    ) -> None:
        self.op, self.kind = op, words.op_of(op)
        self.letters = words.letters_of(self.kind)
        self._forward = words.section(self.kind, "Forward")
        self._backward = words.section(self.kind, "Backward")
        self._numbers = self._known(reads, makes, gys)
        self._definitions = definitions(self._forward)
        self._names = self._renaming(reads, makes)
        self.legend = "" if self._names or not self.letters else self._pairs(reads, makes)

    # --- in which letters

    def _renaming(self, reads: Sequence[Value | None], makes: Sequence[Value]) -> dict[str, str]:
        """From the op's letters to the names of the values; empty where that would not be clear."""
        if not self.letters or len(makes) != 1:
            return {}
        present = [(letter, read.name) for letter, read in zip(self.letters, reads, strict=True) if read]
        names = words.renaming([letter for letter, _ in present] + ["y"], [n for _, n in present] + [makes[0].name])
        texts = [line.text for line in (*self._forward.lines, *self._backward.lines)]
        return names if words.renamed(texts, names) is not None else {}

    def _pairs(self, reads: Sequence[Value | None], makes: Sequence[Value]) -> str:
        pairs = [(letter, read.name) for letter, read in zip(self.letters, reads, strict=True) if read]
        pairs += [("y", makes[0].name)] if len(makes) == 1 else []
        return ", ".join(f"{letter} is {name}" for letter, name in pairs if letter != name)

    def _in_names(self, text: str) -> str:
        found = words.renamed([text], self._names)
        return text if found is None else found[0]

    # --- what is shown

    def forward(self, made: Value) -> tuple[Shown, ...]:
        """The lines of "Forward"; one that is the formula of y alone has its numbers."""
        lines = self._forward.lines
        if len(lines) == 1 and len(lines[0].clauses) == 1 and lines[0].clauses[0].letter == "y":
            clause = lines[0].clauses[0]
            numbers = None if made.array is None else self._with_numbers(clause, made.array)
            return (Shown(self._in_names(str(clause)), clause.remark, numbers, whole=True),)
        return tuple(Shown(self._in_names(line.text)) for line in lines)

    def term(self, index: int, gradient: Array) -> Shown | None:
        """The formula of one input's gradient."""
        clause = self._backward.of(f"g{self.letters[index]}") if self.letters else None
        if clause is None:
            return None
        numbers = self._with_numbers(clause, gradient)
        self._numbers.setdefault(clause.letter, gradient)  # another formula may build on it: gt = -gx
        return Shown(self._in_names(str(clause)), clause.remark, numbers, whole=True)

    def rest(self, wanted: Sequence[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The lines of "Backward" that are more than the formulas of the inputs with these numbers.

        Those that stand before the last of these formulas, which may need them; and those that stand behind.
        """
        shown = {f"g{self.letters[i]}" for i in wanted} if self.letters else set()
        idle = {f"g{letter}" for letter in self.letters} - shown
        lines = self._backward.lines
        last = max((k for k, line in enumerate(lines) if any(c.letter in shown for c in line.clauses)), default=-1)
        more = [not line.clauses or any(c.letter not in shown | idle for c in line.clauses) for line in lines]
        before = tuple(self._in_names(line.text) for k, line in enumerate(lines) if more[k] and k < last)
        return before, tuple(self._in_names(line.text) for k, line in enumerate(lines) if more[k] and k >= last)

    # --- with which numbers

    def _known(
        self, reads: Sequence[Value | None], makes: Sequence[Value], gys: Sequence[Array | None]
    ) -> dict[str, Array]:
        """By letter: what the op has saved, its options, its inputs and outputs, and what arrived."""
        numbers: dict[str, Array] = {}
        for name, value in vars(self.op).items():
            if isinstance(value, (int, float)) or backend.is_array(value):
                numbers[name] = np.asarray(value if isinstance(value, (int, float)) else backend.to_host(value))
        pairs = list(zip(self.letters, reads, strict=True)) if self.letters else []
        pairs += [("y", makes[0])] if len(makes) == 1 else []
        for letter, value in pairs:
            if value is not None and value.array is not None:
                numbers[letter] = value.array
        if len(gys) == 1 and gys[0] is not None:
            numbers["gy"] = gys[0]
        return {"pi": np.asarray(np.pi)} | self._counted(numbers) | numbers

    def _counted(self, numbers: dict[str, Array]) -> dict[str, Array]:
        """n, how many entries go into one, and gl, what a loss hands to each of its entries."""
        if not {"x", "y", "gy"} <= numbers.keys() or not numbers["y"].size:
            return {}
        n = np.asarray(numbers["x"].size / numbers["y"].size)
        return {"n": n, "gl": numbers["gy"] / n if vars(self.op).get("reduction") == "mean" else numbers["gy"]}

    def _with_numbers(self, clause: words.Clause, expected: Array) -> Written | None:
        """The right side with numbers in it, if it comes to what is expected."""
        if not all(np.issubdtype(a.dtype, np.number) or a.dtype == bool for a in self._numbers.values()):
            return None
        try:
            axes = vars(self.op).get("axes", vars(self.op).get("dim"))
            formula = Formula(clause.right, self.kind in MATRICES, self._definitions, axes)
            value, written = formula.value(self._numbers), formula.written(self._numbers)
            if value.shape != expected.shape and self.kind in MATRICES:
                value = value.reshape(expected.shape)
            summed = value.shape != expected.shape and self.op.broadcasts
            value = sum_to(value, expected.shape) if summed else np.broadcast_to(value, expected.shape)
        except (UnreadableError, ValueError, TypeError, KeyError, IndexError):
            return None
        if written is None or not agrees(value, expected) or (summed and written.entry is not None):
            return None
        return Written(written.text, written.entry, "summed over what was repeated" if summed else written.reason)


def definitions(section: words.Section) -> dict[str, ast.expr]:
    """What the letters of a section stand for, as far as that is arithmetic: s = sigmoid(x)."""
    found: dict[str, ast.expr] = {}
    for clause in section.clauses:
        try:
            formula = Formula(clause.right)
        except UnreadableError:
            continue
        found |= formula.definitions
        if clause.left == clause.letter != "y" and len(formula.cases) == 1:
            found[clause.letter] = formula.cases[0][0]
    return found


def agrees(value: Array, expected: Array) -> bool:
    """Whether a formula comes to what the tape holds, up to the rounding of the tape's dtype."""
    if not np.issubdtype(value.dtype, np.number) or not expected.size:
        return False
    tolerance = 1e-10 if expected.dtype == np.float64 else 1e-4
    with np.errstate(all="ignore"):
        size = float(np.max(np.abs(expected), initial=0.0))
        off = float(np.max(np.abs(value - expected), initial=0.0))
    return off <= tolerance * size or (off == 0 and size == 0)
