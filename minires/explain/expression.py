"""An expression such as "x + tanh(w * x)" as a program for the tape. Nothing but arithmetic and minires' ops runs."""

from __future__ import annotations

import ast
import difflib
import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from minires import functional
from minires.backend import Array
from minires.engine import Tensor
from minires.errors import RequestError

EXAMPLE = "x + tanh(w * x)"
DEEPEST = 120  # operations inside operations; Python's own limit is not far
LONG = 60  # characters of an expression that a message quotes
CONSTANTS = {"pi": math.pi}
_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.MatMult: operator.matmul,
}
_LITERALS = (int, float, str, bool, type(None))


class Expression:
    """A parsed expression.

    text         as given
    variables    its names that are neither functions nor constants, in order of appearance

    Raises RequestError, with what to write instead, for anything but numbers, names, + - * / ** @ and calls of
    `minires.functional`.
    """

    def __init__(self, text: str) -> None:
        self.text = " ".join(text.split())
        if not self.text:
            raise RequestError(f"explain: the expression is empty; write it as in {EXAMPLE!r}")
        try:
            self._tree = ast.parse(self.text, mode="eval").body
        except SyntaxError as error:
            at = f" at column {error.offset}" if error.offset else ""
            raise RequestError(
                f"explain: {_cut(self.text)} is no expression: {error.msg}{at}; write it as in {EXAMPLE!r}"
            ) from None
        except ValueError:  # what the terminal's encoding could not say, or a null byte
            raise RequestError(
                f"explain: {_cut(self.text)} has characters that cannot be read; name variables in plain letters"
            ) from None
        except (RecursionError, MemoryError):
            raise RequestError(f"explain: {_cut(self.text)} is no expression that can be read; shorten it") from None
        if _depth(self._tree) > DEEPEST:
            raise RequestError(f"explain: {_cut(self.text)} nests more than {DEEPEST} operations; shorten it")
        self.variables: list[str] = []
        self._look(self._tree)

    def __call__(self, values: Mapping[str, Tensor]) -> Any:
        """Runs it. Raises RequestError where an op refuses what it is given."""
        return self._run(self._tree, values)

    # --- what may stand there

    def _look(self, node: ast.expr, in_call: bool = False) -> None:
        match node:
            case ast.Constant(value=value) if type(value) in ((int, float) if not in_call else _LITERALS):
                pass
            case ast.Name(id=name):
                if name in _functions() and name not in CONSTANTS:
                    raise RequestError(f"explain: {name} is a function: write {name}(...), or take another name")
                if name not in CONSTANTS and name not in self.variables:
                    self.variables.append(name)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                self._look(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                self._look(left)
                self._look(right)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
                if name not in _functions():
                    raise RequestError(f"explain: no function is called {name}; {_nearest(name)}")
                for argument in (*arguments, *(k.value for k in keywords)):
                    self._look(argument, in_call=True)
            case ast.Tuple(elts=items) | ast.List(elts=items) if in_call:
                for item in items:
                    self._look(item, in_call=True)
            case _:
                raise RequestError(_refused(node, self.text))

    # --- running it

    def _run(self, node: ast.expr, values: Mapping[str, Tensor]) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return CONSTANTS.get(name, values.get(name))
            case ast.UnaryOp(op=sign, operand=operand):
                inner = self._run(operand, values)
                return self._made(node, (lambda x: -x) if isinstance(sign, ast.USub) else (lambda x: x), [inner], {})
            case ast.BinOp(left=left, op=op, right=right):
                sides = [self._run(left, values), self._run(right, values)]
                if not any(isinstance(side, Tensor) for side in sides):
                    sides = [float(side) for side in sides]  # so that 9**9**9 is too large instead of endless
                return self._made(node, _OPERATORS[type(op)], sides, {})
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
                given = [self._run(a, values) for a in arguments]
                options = {k.arg: self._run(k.value, values) for k in keywords if k.arg is not None}
                return self._made(node, getattr(functional, name), given, options)
            case ast.Tuple(elts=items):
                return tuple(self._run(item, values) for item in items)
            case ast.List(elts=items):
                return [self._run(item, values) for item in items]
        raise RequestError(_refused(node, self.text))

    def _made(self, node: ast.expr, f: Callable[..., Any], given: Sequence[Any], options: dict[str, Any]) -> Any:
        try:
            return f(*given, **options)
        except ZeroDivisionError:
            raise RequestError(f"explain: {_source(node)} divides by zero; choose other numbers") from None
        except (TypeError, ValueError, IndexError, OverflowError, AttributeError, MemoryError) as error:
            shapes = ", ".join(str(tuple(x.shape)) for x in given if isinstance(x, Tensor) and x.ndim)
            told = f" for arrays of shape {shapes}" if shapes else ""
            reason = str(error.args[-1] if error.args else "") or type(error).__name__  # behind an error number
            raise RequestError(f"explain: {_source(node)} cannot be computed{told}: {reason}") from None


def values_at(given: Sequence[str]) -> dict[str, Array]:
    """The numbers behind --at: ["x=0.5", "W=[[1, 2], [3, 4]]"] by name, as float64.

    Raises RequestError for what is no NAME=X.
    """
    found: dict[str, Array] = {}
    for each in given:
        name, equal, text = (part.strip() for part in each.partition("="))
        if not equal or not name.isidentifier():
            raise RequestError(f"--at takes NAME=X, as in x=0.5 or W=[[1,2],[3,4]], not {each!r}")
        if not text:
            raise RequestError(f"--at {name}= has no value; write {name}=0.5, or leave it out to have one drawn")
        if name in found:
            raise RequestError(f"--at gives {name} twice; leave one out")
        found[name] = _array(name, text)
    return found


def _array(name: str, text: str) -> Array:
    try:
        array = np.array(ast.literal_eval(text))
        if array.dtype.kind not in "iuf" or not array.size:
            raise ValueError
        array = array.astype(np.float64)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise RequestError(
            f"--at {name}={text}: that is no number and no array of numbers; write {name}=0.5 or {name}=[1,2,3]"
        ) from None
    if not np.all(np.isfinite(array)):
        raise RequestError(f"--at {name}={text}: the value must be finite")
    return array


def _functions() -> list[str]:
    return [
        name
        for name, f in vars(functional).items()
        if inspect.isfunction(f) and not name.startswith("_") and f.__module__.startswith(functional.__name__)
    ]


def _depth(tree: ast.expr) -> int:
    depth, level = 0, [tree]
    while level:
        depth += 1
        level = [child for node in level for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
    return depth


def _cut(text: str) -> str:
    return repr(text) if len(text) <= LONG else f"{text[:LONG]!r}..."


def _source(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= LONG else f"{text[:LONG]}..."


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name, _functions(), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else "it must be one of minires.functional, as tanh or relu"


def _refused(node: ast.expr, text: str) -> str:
    what = _source(node)
    if isinstance(node, ast.Attribute) or (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return f"explain: {what} reads an attribute; write functions by their name alone, as tanh(x) for x.tanh()"
    if isinstance(node, ast.BinOp):
        power = "; a power is x**2" if isinstance(node.op, ast.BitXor) else ""
        return f"explain: the operator in {what} is none of + - * / ** @{power}"
    return f"explain: {what} is no part of an expression here: numbers, names, + - * / ** @ and functions are"
