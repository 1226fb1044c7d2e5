"""The little language in which a test asks an answer: steps, and what runs them.

Everything the student's code could replace later (methods of NumPy, of builtins) is taken in hand here, at import,
before that code is loaded.
"""

from __future__ import annotations

import builtins
import copy
import linecache
import operator
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np

globals()["__builtins__"] = dict(vars(builtins))  # as in `guard`

OPERATORS: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
    "@": operator.matmul,
    "neg": operator.neg,
}
MOST = 128 * 2**20  # bytes of an array that leaves the process
_array, _shares_memory, _clock = np.array, np.shares_memory, time.perf_counter


@dataclass(frozen=True)
class Ref:
    """As an argument: what was kept under this name."""

    name: str


@dataclass(frozen=True)
class Opaque:
    """In a reply: an object of a class that only the answer's process knows."""

    kind: str


@dataclass(frozen=True)
class Step:
    """One step: keeps under `result` what comes of `do` with `target`, as told by the functions below."""

    result: str
    do: str
    target: str
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def call(result: str, target: str, *arguments: Any, **options: Any) -> Step:
    """result = target(*arguments, **options); the target begins with a kept name or a name of the student's file."""
    return Step(result, "call", target, arguments, options)


def operate(result: str, sign: str, *operands: Any) -> Step:
    """result = a + b, for a sign of `OPERATORS`."""
    return Step(result, "operate", sign, operands)


def get(result: str, target: str, *index: Any) -> Step:
    """result = target, or target[index]."""
    return Step(result, "get", target, index)


def put(target: str, value: Any) -> Step:
    """target = value, for an attribute of what was kept: "a.grad"."""
    return Step("", "put", target, (value,))


def pack(result: str, target: str) -> Step:
    """result = target as a tuple, also where it is one thing."""
    return Step(result, "pack", target)


@dataclass(frozen=True)
class Trouble:
    """Why the answer could not be run: the cause's name, one line with file and line, the exception's class."""

    cause: str
    message: str
    exception: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of a script; see `minires.classroom.answer.Reply`."""

    values: dict[str, Any]
    inputs_after: dict[str, Any]
    shares: list[tuple[str, str]]
    seconds: float
    trouble: Trouble | None = None


class _Unknown(Exception):
    """A name that the answer does not have: the cause's name, and a line."""


def load(source: str, file: str) -> ModuleType | Trouble:
    """The student's file as a module, or why it cannot be one."""
    module = ModuleType(file.removesuffix(".py"))
    module.__file__ = file
    vars(module)["__builtins__"] = builtins
    sys.modules[module.__name__] = module  # dataclasses and pickle look there for the classes of a file
    lines = source.splitlines(keepends=True)
    linecache.cache[file] = (len(source), None, lines, file)  # tracebacks and inspect.getsource find the text here
    try:
        exec(compile(source, file, "exec", dont_inherit=True), vars(module))
    except SyntaxError as error:
        return Trouble("SYNTAX_ERROR", f"{file}:{error.lineno}: {error.msg}", type(error).__name__)
    except BaseException as error:
        return _trouble(error, file)
    return module


def copied(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs of their own, so that an answer that writes to them does not reach the test's."""
    return {name: x.copy() if type(x) is np.ndarray else copy.deepcopy(x) for name, x in inputs.items()}


def run(module: ModuleType, steps: Sequence[Step], inputs: dict[str, Any], keep: Sequence[str]) -> Outcome:
    """Runs the steps on the student's module and returns what is to be kept, as far as it got."""
    kept: dict[str, Any] = dict(inputs)
    file = str(module.__file__)
    trouble, began = None, _clock()
    try:
        for step in steps:
            _take(step, kept, module)
    except _Unknown as error:
        trouble = Trouble(error.args[0], f"{file}: {error.args[1]}")
    except BaseException as error:
        trouble = _trouble(error, file) if not _misfits(error) else _changed(error, step, kept, module)
    seconds = _clock() - began
    found = [name for name in keep if name in kept]
    shares = _overlaps({name: kept[name] for name in (*inputs, *found)}, set(inputs) - set(found))
    try:
        values, after = {name: portable(kept[name]) for name in found}, {n: portable(x) for n, x in inputs.items()}
    except BaseException as error:  # an array subclass of the student's own, or too little memory for a copy
        return Outcome({}, {}, [], seconds, trouble or _trouble(error, file))
    return Outcome(values, after, shares, seconds, trouble)


def _take(step: Step, kept: dict[str, Any], module: ModuleType) -> None:
    arguments = [_resolved(a, kept) for a in step.arguments]
    if step.do == "call":
        options = {k: _resolved(v, kept) for k, v in step.options.items()}
        kept[step.result] = _find(step.target, kept, module)(*arguments, **options)
    elif step.do == "operate":
        kept[step.result] = OPERATORS[step.target](*arguments)
    elif step.do == "put":
        owner, _, name = step.target.rpartition(".")
        setattr(_find(owner, kept, module), name, arguments[0])
    elif step.do == "pack":
        found = _find(step.target, kept, module)
        kept[step.result] = tuple(found) if isinstance(found, (tuple, list)) else (found,)
    else:
        found = _find(step.target, kept, module)
        for index in arguments:
            found = found[index]
        kept[step.result] = found


def _resolved(argument: Any, kept: Mapping[str, Any]) -> Any:
    if isinstance(argument, Ref):
        return kept[argument.name]
    if isinstance(argument, (tuple, list)):
        return type(argument)(_resolved(a, kept) for a in argument)
    return argument


def _find(target: str, kept: Mapping[str, Any], module: ModuleType) -> Any:
    first, *rest = target.split(".")
    if first in kept:
        found = kept[first]
    elif first in vars(module):
        found = vars(module)[first]
    else:
        raise _Unknown("MISSING_NAME", f"there is no {first} any more; write it as it was handed out")
    for name in rest:
        owner = found
        try:
            found = getattr(owner, name)
        except AttributeError:
            raise _lacks(owner, name, module) from None
    return found


def _lacks(owner: Any, name: str, module: ModuleType) -> _Unknown:
    kind = owner if isinstance(owner, type) else type(owner)
    if owner is None:
        return _Unknown("NOTHING_RETURNED", f"None came, where something that has {name} was to be returned")
    if kind.__module__ != module.__name__:
        return _Unknown("CRASHED", f"{kind.__name__} has no {name}; an object of one of your classes was to come")
    return _Unknown("MISSING_NAME", f"{kind.__name__} has no {name}; write it as it was handed out")


# --- what leaves the process


def portable(x: Any) -> Any:
    """x as plain data: arrays copied, subclasses as what they subclass, all that is of another kind as Opaque."""
    if isinstance(x, (np.ndarray, np.generic)):
        if x.nbytes > MOST:
            raise MemoryError(f"an array of {x.nbytes >> 20} MB")
        plain = _array(x, copy=True, subok=False)
        return plain if plain.dtype.kind in "biufc" else Opaque(f"array of {plain.dtype}")
    if x is None or isinstance(x, (bool, int, float, complex, str)):
        return next((_of(kind, x) for kind in (bool, int, float, complex, str) if isinstance(x, kind)), None)
    if isinstance(x, Fraction):
        return Fraction(int(x.numerator), int(x.denominator))
    if isinstance(x, (tuple, list)):
        return tuple(portable(each) for each in x) if isinstance(x, tuple) else [portable(each) for each in x]
    return Opaque(type(x).__name__)


def _of(kind: Any, x: Any) -> Any:
    """x as exactly this kind: a subclass of int could be anything, and wrap anything."""
    return x if type(x) is kind else kind(x)


def _overlaps(held: Mapping[str, Any], apart: Set[str]) -> list[tuple[str, str]]:
    """Pairs of names whose arrays share memory, those `apart` not with each other; "name[0]" is in a tuple."""
    leaves: list[tuple[str, str, Any]] = []
    for name, x in held.items():
        if isinstance(x, np.ndarray):
            leaves.append((name, name, x))
        elif isinstance(x, (tuple, list)):
            leaves += [(name, f"{name}[{i}]", each) for i, each in enumerate(x) if isinstance(each, np.ndarray)]
    return [
        (a, b)
        for i, (one, a, left) in enumerate(leaves)
        for other, b, right in leaves[i + 1 :]
        if not (one in apart and other in apart) and left.size and right.size and _shares_memory(left, right)
    ]


# --- what went wrong


def _trouble(error: BaseException, file: str) -> Trouble:
    kind = type(error).__name__
    if isinstance(error, NotImplementedError):
        return Trouble("NOT_WRITTEN", _told(error) or "not written yet", kind)
    if isinstance(error, MemoryError):
        return Trouble("OUT_OF_MEMORY", f"{_where(error, file)}too much for its memory ({_told(error) or kind})", kind)
    told = _told(error)
    if isinstance(error, ImportError):
        return Trouble("IMPORT_ERROR", _where(error, file) + told, kind)
    return Trouble("CRASHED", f"{_where(error, file)}{kind}{': ' if told else ''}{told}", kind)


def _told(error: BaseException) -> str:
    """What the error says, in one line that is not too long."""
    try:
        line = " ".join(str(error).split())
    except BaseException:  # its __str__ is the student's
        line = ""
    return line if len(line) <= 200 else line[:197] + "..."


def _where(error: BaseException, file: str) -> str:
    """ "file:line: " of the innermost line of the student's file that the error passed, or ""."""
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
    return f"{file}:{lines[-1]}: " if lines else ""


def _misfits(error: BaseException) -> bool:
    """Whether a call did not even begin: a TypeError that no frame but `_take`'s saw."""
    frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
    return isinstance(error, TypeError) and frames[-1] == "_take"


def _changed(error: BaseException, step: Step, kept: Mapping[str, Any], module: ModuleType) -> Trouble:
    told = f"{type(error).__name__}: {_told(error)}"
    if step.do != "call" and "positional argument" in told:
        return Trouble(
            "CHANGED_SIGNATURE", f"{module.__file__}: {_told(error)}; give it its parameters back", "TypeError"
        )
    if step.do != "call":
        return Trouble("CRASHED", told, type(error).__name__)
    code = getattr(_find(step.target, kept, module), "__code__", None)
    line = f":{code.co_firstlineno}" if code is not None else ""
    message = f"{module.__file__}{line}: {_told(error)}; give it the parameters it was handed out with"
    return Trouble("CHANGED_SIGNATURE", message, type(error).__name__)
