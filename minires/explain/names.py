"""What the values of a walk are called: as the user says, else by the step that made them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from minires import backend
from minires.engine import Function, Tensor
from minires.errors import RequestError
from minires.explain.printing import nested
from minires.explain.tape import Key
from minires.nn import Module

Names = Mapping[str, Any] | Module | None


class Namer:
    """Names for leaves, results and constants, each given once.

    given    name -> Tensor or array, or a Module, whose parameters keep their names
    ops      in the order in which they were made
    roots    what the walk begins at
    """

    def __init__(self, given: Names, ops: Sequence[Function], roots: Sequence[Tensor]) -> None:
        self._held = dict(_pairs(given))
        self.given = tuple(self._held)
        self._by_key: dict[Key, str] = {}
        self._by_array: dict[int, str] = {}
        for name, value in self._held.items():
            if isinstance(value, Tensor):
                self._by_key[key_of(value)] = name
            self._by_array[id(value.data if isinstance(value, Tensor) else value)] = name
        self._taken = set(self._held)
        self._number = {op: k for k, op in enumerate(ops, start=1)}
        self._letter = next(c for c in "vuzhs" if not any(n[0] == c and n[1:].isdigit() for n in self._taken))
        several = len(roots) > 1
        for k, root in enumerate(roots):
            self._by_key.setdefault(key_of(root), self._free(f"y_{k}" if several else "y"))

    def of(self, receiver: Function | Tensor, output: int) -> str:
        """The name of an op's output, or of a leaf."""
        key = id(receiver), output
        if key not in self._by_key:
            if isinstance(receiver, Tensor):
                name = self._numbered("t")
            else:
                name = f"{self._letter}{self._number[receiver]}"
                name = name if len(receiver.outputs) == 1 else f"{name}_{output}"
            self._taken.add(name)
            self._by_key[key] = name
        return self._by_key[key]

    def of_constant(self, value: Any) -> str:
        """The name of an array that no gradient goes to; a number is its own name."""
        data = value.data if isinstance(value, Tensor) else value
        if id(data) in self._by_array:
            return self._by_array[id(data)]
        if not hasattr(data, "shape"):
            return _literal(data)
        if data.ndim == 0:
            return _literal(backend.to_host(data).item())
        name = self._by_array[id(data)] = self._numbered("c")
        self._held[name] = data  # so that its id stays its own
        return name

    def _numbered(self, letter: str) -> str:
        n = 1
        while f"{letter}{n}" in self._taken:
            n += 1
        self._taken.add(f"{letter}{n}")
        return f"{letter}{n}"

    def _free(self, name: str) -> str:
        while name in self._taken:
            name += "'"
        self._taken.add(name)
        return name


def key_of(t: Tensor) -> Key:
    """Where its gradient arrives."""
    return id(t.op or t), t.index


def _pairs(given: Names) -> Iterator[tuple[str, Any]]:
    items: Iterable[tuple[str, Any]] = (
        given.named_parameters() if isinstance(given, Module) else given.items() if given is not None else ()
    )
    for name, value in items:
        if not isinstance(name, str) or not name:
            raise RequestError(f"explain: names= maps names to tensors, but {name!r} is no name")
        if isinstance(value, Tensor) or hasattr(value, "shape"):
            yield name, value
        else:
            raise RequestError(f"explain: names[{name!r}] is a {type(value).__name__}; give the Tensor itself")


def _literal(x: Any) -> str:
    if x is None or isinstance(x, (bool, int)):
        return str(x) if x is None or x >= 0 else f"({x})"
    text = nested(np.asarray(x))
    return f"({text})" if text.startswith("-") else text
