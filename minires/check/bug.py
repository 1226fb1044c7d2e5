"""Wrong gradients and broken engines on purpose: how one is described, and how it is put in the right one's place.

A bug is a subclass of an op that overrides `backward` (or what it uses) with a documented mistake; `planted` makes
`op.apply` take it for the length of a `with` block, kernels or not. A broken engine replaces functions of
`minires.engine` by wrong ones.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from minires import engine
from minires.backend import Library
from minires.engine import Function

C = TypeVar("C", bound=type)


@dataclass(frozen=True)
class Bug:
    """A mistake somebody makes.

    Attributes
        name        as in "skip_dropped"
        what        its docstring: what is wrong, with the formula, and where it has been seen
        symptom     what its user notices
        killed_by   the oracle, invariant or law that catches it
        op          the op it is a wrong version of; None for a broken engine
        wrong       the class that holds the wrong code
    """

    name: str
    what: str
    symptom: str
    killed_by: str
    op: type[Function] | None
    wrong: type


_bugs: dict[str, Bug] = {}


def bug(of: type[Function] | None, *, symptom: str, killed_by: str) -> Callable[[C], C]:
    """Registers a class as a bug: of an op, which it subclasses; or of the engine (None).

    An engine bug's static methods stand in for the functions of `minires.engine` of the same names; what a class
    nested in it defines, for the methods of the engine's class of that name.
    """

    def register(wrong: C) -> C:
        name = "".join(("_" if c.isupper() and i else "") + c.lower() for i, c in enumerate(wrong.__name__))
        if name in _bugs and _bugs[name].wrong.__module__ != wrong.__module__:
            raise TypeError(f"two bugs are called {name}; give one of them another name")
        _bugs[name] = Bug(name, inspect.getdoc(wrong) or "", symptom, killed_by, of, wrong)
        return wrong

    return register


def bugs(op: type[Function] | None = None) -> list[Bug]:
    """The whole zoo, or the bugs of one op."""
    zoo = importlib.import_module("minires.check.zoo")
    for found in sorted(module.name for module in pkgutil.iter_modules(zoo.__path__)):
        importlib.import_module(f"minires.check.zoo.{found}")
    return [each for each in _bugs.values() if op is None or each.op is op]


@contextmanager
def planted(found: Bug) -> Iterator[None]:
    """With this bug in place of what is right."""
    if found.op is not None:
        with substituted(found.op, found.wrong):
            yield
        return
    replaced = list(_replaced(found.wrong))
    kept = [(holder, name, vars(holder)[name]) for holder, name, _ in replaced]
    try:
        for holder, name, wrong in replaced:
            setattr(holder, name, wrong)
        yield
    finally:
        for holder, name, right in kept:
            setattr(holder, name, right)


def _replaced(wrong: type) -> Iterator[tuple[Any, str, Any]]:
    """Where a broken engine differs: module or class, name, and what is put there."""
    for name, value in vars(wrong).items():
        if isinstance(value, staticmethod):
            yield engine, name, value.__func__
        elif isinstance(value, type):
            methods = (n for n in vars(value) if not n.startswith("__"))
            yield from ((getattr(engine, name), n, vars(value)[n]) for n in methods)


@contextmanager
def substituted(right: type[Function], wrong: type[Function]) -> Iterator[None]:
    """`right.apply` runs `wrong`, whatever kernels there are."""
    choose = engine._choose
    wrong.stands_for = right  # the ledger and error messages call it by the op's name

    def instead(op: type[Function], lib: Library, arrays: Sequence[Any], options: dict[str, Any]) -> type[Function]:
        return wrong if op is right else choose(op, lib, arrays, options)

    engine._choose = instead
    try:
        yield
    finally:
        engine._choose = choose


@contextmanager
def misread(op: Function, **wrong: Any) -> Iterator[None]:
    """With other values in place of what `op` saved, put back afterwards: a retained graph is walked again."""
    right = {name: getattr(op, name) for name in wrong}
    vars(op).update(wrong)
    try:
        yield
    finally:
        vars(op).update(right)
