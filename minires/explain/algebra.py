"""A formula of a docstring as something to compute with: "gx = (1 - y^2) gy" with the numbers in it.

    formula = Formula("gy where x > 0, else 0")
    formula.value({"gy": 0.42, "x": 0.5})       what it comes to
    formula.written({"gy": 0.42, "x": 0.5})     how that reads with the numbers in the letters' place

Docstrings write mathematics, not Python: x y is a product, ^ a power, = in a condition a comparison. What cannot be
read so (sums over indices, words) is None, and no numbers are put in. Nothing here is trusted: a walk shows the
numbers only where the formula comes to what the tape holds.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from minires.backend import Array
from minires.explain.printing import nested

Numbers = Mapping[str, Array]

_TOKEN = re.compile(r"(\s*)(\d+\.?\d*(?:e-?\d+)?|[A-Za-z_][A-Za-z0-9_]*|<=|>=|[-+*/^()<>=,ᵀ])")
_APPLIED = re.compile(r"\b([A-Za-z])\(([a-z])\)")
_DEFINED = re.compile(r"^([A-Za-z_]\w*) = (.+)$")
_BOTH = "and"
_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.MatMult: operator.matmul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_COMPARED: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "sqrt": np.sqrt,
    "sign": np.sign,
    "min": np.minimum,
    "max": np.maximum,
    "sigmoid": lambda x: 0.5 * (1 + np.tanh(0.5 * x)),
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
}
_OVER_AXES: dict[str, Callable[..., Any]] = {"sum": np.sum, "mean": np.mean}
_CALLED = {*_FUNCTIONS, *_OVER_AXES}


class UnreadableError(ValueError):
    """The formula says something else than arithmetic, or a letter in it has no number."""


@dataclass(frozen=True)
class Written:
    """A formula with the numbers in it.

    text     as in "(1 - 0.7616^2) * 1"
    entry    of which entry of the result, where arrays are too large to be written out; else None
    reason   which case it is, where the formula has several, as in "0.5 > 0"
    """

    text: str
    entry: tuple[int, ...] | None = None
    reason: str = ""


class Formula:
    """The right side of a formula: one expression, or several cases, and definitions of letters beside them.

    text        as a docstring writes it
    matrices    whether a product is one of matrices
    beside      definitions of letters that stand elsewhere
    axes        what "sum" and "mean" run over; None for everything

    Raises UnreadableError for what is no arithmetic.
    """

    def __init__(
        self,
        text: str,
        matrices: bool = False,
        beside: Mapping[str, ast.expr] | None = None,
        axes: int | tuple[int, ...] | None = None,
    ) -> None:
        self.matrices, self.axes = matrices, axes
        self.definitions: dict[str, ast.expr] = dict(beside or {})
        self.cases = self._cases(text)

    def _cases(self, text: str) -> list[tuple[ast.expr, ast.expr | None]]:
        parts = _split(_APPLIED.sub(r"\1_of_\2", text))  # P(x) is one letter more
        for part in parts[1:]:
            match = _DEFINED.match(part)
            if match:
                self.definitions[match[1]] = self._value(match[2])
        value, _, condition = parts[0].partition(" where ")
        cases = [(self._value(value), self._read(condition) if condition else None)]
        for part in parts[1:]:
            value, _, condition = part.partition(" where ")
            value = value.removesuffix(" itself")
            if value.startswith("else "):
                cases.append((self._value(value.removeprefix("else ")), None))
            elif value.startswith("and ") and condition:  # an exception comes first
                cases.insert(0, (self._value(value.removeprefix("and ")), self._read(condition)))
            elif condition:
                cases.append((self._value(value), self._read(condition)))
            elif not _DEFINED.match(part):
                break  # words
        return cases

    def _read(self, text: str) -> ast.expr:
        try:
            return ast.parse(_python(text, "@" if self.matrices else "*"), mode="eval").body
        except SyntaxError:
            raise UnreadableError(text) from None

    def _value(self, text: str) -> ast.expr:
        """Up to a second "=", behind which stands the same once more."""
        return self._read(text.partition(" = ")[0])

    def value(self, numbers: Numbers) -> Array:
        """What it comes to. Raises UnreadableError for a letter without number."""
        with np.errstate(all="ignore"):
            given = self._given(numbers)
            result: Any = None
            for value, condition in reversed(self.cases):
                here = _evaluated(value, given, self.axes)
                result = (
                    here
                    if condition is None
                    else np.where(_evaluated(condition, given, self.axes), here, _or_zero(result))
                )
        return np.asarray(result)

    def _given(self, numbers: Numbers) -> dict[str, Any]:
        given: dict[str, Any] = {k: _column(a) if self.matrices else np.asarray(a) for k, a in numbers.items()}
        waiting = {k: v for k, v in self.definitions.items() if k not in given}
        while waiting:  # a definition may use another one that stands behind it
            known = [k for k, v in waiting.items() if _letters(v) <= given.keys()]
            if not known:
                break
            given.update({k: np.asarray(_evaluated(waiting.pop(k), given, self.axes)) for k in known})
        return given

    def written(self, numbers: Numbers) -> Written | None:
        """With the numbers in it; for larger arrays, those of its largest entry. None where that is not possible."""
        result = self.value(numbers)
        given = self._given(numbers)
        used = self._used(given)
        simple = all(given[k].size <= 4 for k in used) and result.size <= 4
        if simple and (result.size == 1 or len(self.cases) == 1):
            return self._filled({**given, **numbers}, None)  # a vector is written as one, also where it is a column
        over_axes = any(
            _calls(v) & _OVER_AXES.keys() for v in (*(v for v, _ in self.cases), *self.definitions.values())
        )
        if self.matrices or over_axes or not result.size:
            return None
        try:
            here = np.unravel_index(int(np.argmax(np.abs(result))), result.shape)
            entry = tuple(int(i) for i in here)
            at = {k: np.broadcast_to(given[k], result.shape)[entry] for k in used}
        except ValueError:
            return None
        return self._filled(at, entry)

    def _used(self, given: Mapping[str, Any]) -> set[str]:
        letters = set().union(*(_letters(v) | (_letters(c) if c else set()) for v, c in self.cases))
        return {k for k in letters if k in given}

    def _filled(self, given: Mapping[str, Any], entry: tuple[int, ...] | None) -> Written:
        reason = ""
        for value, condition in self.cases:
            if condition is None or bool(np.all(_evaluated(condition, given, self.axes))):
                reason = reason if condition is None else _unparsed(condition, given)
                return Written(_unparsed(value, given), entry, reason)
            reason = f"not {_unparsed(condition, given)}"
        return Written("0", entry, reason)


# --- from a docstring's mathematics to Python's syntax


def _split(text: str) -> list[str]:
    """At commas and semicolons outside of brackets."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if c in ",;" and not depth:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]


def _python(text: str, times: str) -> str:
    written: list[str] = []
    ended = False  # whether an operand has just ended, so that another one right behind it means a product
    tokens = _tokens(text)
    for k, (spaced, token) in enumerate(tokens):
        is_operand = token[0].isascii() and (token[0].isalnum() or token[0] == "_")
        following = tokens[k + 1][1] if k + 1 < len(tokens) else ""
        called = k > 0 and tokens[k - 1][1] in _CALLED  # sqrt 2, or exp(x)
        if called and token != "(":
            written.append(f"({token})")
        elif ended and (token == "(" or is_operand) and token != _BOTH:
            if token == "(" and not spaced:  # a function that is not known here
                raise UnreadableError(text)
            written += [times, token]
        else:
            written.append({"^": "**", "=": "==", "ᵀ": ".T", _BOTH: " and "}.get(token, token))
        ended = token in (")", "ᵀ") or (is_operand and token != _BOTH and token not in _CALLED)
        if token in _CALLED and following != "(" and not following[:1].isalnum():
            raise UnreadableError(text)
    return "".join(written)


def _tokens(text: str) -> list[tuple[bool, str]]:
    """(whether white space stands before it, token)."""
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            raise UnreadableError(text)
        found.append((bool(match[1]), match[2]))
        at = match.end()
    return found


# --- what it comes to, and how it reads


def _evaluated(node: ast.expr, given: Mapping[str, Any], axes: Any) -> Any:
    def inner(part: ast.expr) -> Any:
        return _evaluated(part, given, axes)

    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.Name(id=name):
            if name not in given:
                raise UnreadableError(f"{name} has no number here")
            return given[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -inner(operand)
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](inner(left), inner(right))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            values = [inner(a) for a in arguments]
            return (
                _OVER_AXES[name](*values, axis=axes, keepdims=True) if name in _OVER_AXES else _FUNCTIONS[name](*values)
            )
        case ast.Attribute(value=value, attr="T"):
            return np.swapaxes(inner(value), -1, -2)
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = [inner(side) for side in (left, *others)]
            pairs = zip(ops, sides, sides[1:], strict=False)
            return np.logical_and.reduce([_COMPARED[type(op)](a, b) for op, a, b in pairs])
        case ast.BoolOp(op=ast.And(), values=values):
            return np.logical_and.reduce([inner(v) for v in values])
    raise UnreadableError(ast.unparse(node))


def _unparsed(node: ast.expr, given: Mapping[str, Any]) -> str:
    """With numbers in the letters' place. Python's own writer sets the brackets that precedence needs."""

    class Filled(ast.NodeTransformer):
        def visit_Call(self, call: ast.Call) -> ast.Call:
            call.args = [self._number(a) if isinstance(a, ast.Name) else self.visit(a) for a in call.args]
            return call

        def visit_Name(self, name: ast.Name) -> ast.Name:
            number = self._number(name)
            return ast.Name(f"({number.id})") if number.id.startswith("-") and name is not root else number

        def _number(self, name: ast.Name) -> ast.Name:
            return ast.Name(nested(np.asarray(given[name.id])))

    root = ast.parse(ast.unparse(node), mode="eval").body  # a copy of its own, to put numbers into
    return ast.unparse(Filled().visit(root)).replace(" ** ", "^").replace(" == ", " = ").replace(".T", "ᵀ")


def _letters(node: ast.expr) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} - _calls(node)


def _calls(node: ast.expr) -> set[str]:
    return {n.func.id for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}


def _column(a: Array) -> Array:
    return a.reshape(-1, 1) if a.ndim == 1 else a


def _or_zero(a: Any) -> Any:
    return 0.0 if a is None else a
