"""Every mutant of every backward in `minires.ops`, and of the helpers that backward uses."""

from __future__ import annotations
import __future__ as future

import ast
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

from minires.check.case import Subject, subjects
from minires.check.mutation.operators import Change, changes
from minires.engine import Function


@dataclass(frozen=True)
class Place:
    """A function that takes part in a backward: where it stands, and whom it serves."""

    module: ModuleType
    owner: type | None  # the class, for a method
    name: str
    served: tuple[Subject, ...]

    @property
    def qualified(self) -> str:
        """As in "conv.Conv2d.backward"."""
        family = self.module.__name__.rpartition(".")[2]
        return ".".join([family, *([] if self.owner is None else [self.owner.__name__]), self.name])

    @property
    def function(self) -> FunctionType:
        """The function as it is."""
        return vars(self.owner if self.owner is not None else self.module)[self.name]

    def tree(self) -> ast.FunctionDef:
        """Its syntax tree, with the file's line numbers."""
        lines, start = inspect.getsourcelines(self.function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
        ast.increment_lineno(tree, start - 1)
        node = tree.body[0]
        assert isinstance(node, ast.FunctionDef)
        return node


@dataclass(frozen=True)
class Mutant:
    """One change at one place."""

    place: Place
    change: Change

    def __str__(self) -> str:
        change = self.change
        return f"{self.place.qualified}:{change.line} [{change.operator}] {change.before} -> {change.after}"

    @property
    def key(self) -> tuple[str, str, str]:
        """What stays the same when lines move: the place, the line before and after."""
        return self.place.qualified, self.change.before, self.change.after


def places() -> list[Place]:
    """Every backward of an op under check and what it calls in `minires.ops`, each once."""
    served: dict[tuple[ModuleType, type | None, str], list[Subject]] = {}
    for subject in subjects():
        for key in _reached(subject.op):
            served.setdefault(key, []).append(subject)
    return [Place(*key, tuple(users)) for key, users in served.items()]


def mutants(of: set[str] | None = None) -> list[Mutant]:
    """All mutants, or those of the ops with these names."""
    found = [p for p in places() if of is None or of & {s.name for s in p.served}]
    return [Mutant(place, change) for place in found for change in changes(place.tree())]


@contextmanager
def mutated(mutant: Mutant) -> Iterator[None]:
    """With the changed function in place of the right one, wherever it was imported."""
    place, right = mutant.place, mutant.place.function
    wrong = _compiled(mutant)
    holders: list[Any] = [place.owner]
    if place.owner is None:
        ours = [m for n, m in list(sys.modules.items()) if n.startswith("minires.ops")]
        holders = [m for m in ours if vars(m).get(place.name) is right]
    try:
        for holder in holders:
            setattr(holder, place.name, wrong)
        yield
    finally:
        for holder in holders:
            setattr(holder, place.name, right)


def fingerprint(op_places: list[Place]) -> str:
    """Changes when the code of any of these places does."""
    text = "\n".join(ast.unparse(place.tree()) for place in op_places)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _compiled(mutant: Mutant) -> Any:
    module = ast.Module([mutant.change.function], [])
    flags = future.annotations.compiler_flag
    code = compile(module, mutant.place.module.__file__ or "", "exec", flags=flags, dont_inherit=True)
    found: dict[str, Any] = {}
    exec(code, vars(mutant.place.module), found)
    return found[mutant.place.name]


def _reached(op: type[Function]) -> Iterator[tuple[ModuleType, type | None, str]]:
    """Backward and, transitively, the methods and functions of `minires.ops` that it names."""
    pending, seen = [_method(op, "backward")], set()
    while pending:
        found = pending.pop()
        if found is None or found in seen:
            continue
        seen.add(found)
        yield found
        module, owner, name = found
        function = vars(owner if owner is not None else module)[name]
        for node in ast.walk(Place(*found, ()).tree()):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
                pending.append(_method(op, node.attr))
            elif isinstance(node, ast.Name):
                pending.append(_helper(function.__globals__.get(node.id)))


def _method(op: type[Function], name: str) -> tuple[ModuleType, type | None, str] | None:
    for owner in op.__mro__:
        if name in vars(owner):
            ours = owner.__module__.startswith("minires.ops.") and inspect.isfunction(vars(owner)[name])
            return (sys.modules[owner.__module__], owner, name) if ours else None
    return None


def _helper(value: Any) -> tuple[ModuleType, type | None, str] | None:
    if inspect.isfunction(value) and value.__module__.startswith("minires.ops."):
        return sys.modules[value.__module__], None, value.__name__
    return None
