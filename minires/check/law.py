"""Laws: what must hold of an op's gradient (or of the engine) whatever the numbers, stated as a sentence.

`minires/check/laws/` mirrors `minires/ops/`: each law is a function named after what it states, decorated with
`@law(Op, ...)`, or with `@law()` if it is about the engine. It draws its own inputs and raises CheckError.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minires.backend import Array
from minires.check.draw import Draw
from minires.check.evidence import CheckError
from minires.engine import Function, Tensor


@dataclass(frozen=True)
class Law:
    """A statement and its test.

    Attributes
        name        what it states, as in `softmax_gx_sums_to_zero`
        statement   its docstring: the formula and its source
        ops         the op classes it is about; none: the engine
        test        raises CheckError on a draw that breaks it
    """

    name: str
    statement: str
    ops: tuple[type[Function], ...]
    test: Callable[[Draw], None]


_laws: dict[str, Law] = {}


def law(*ops: type[Function]) -> Callable[[Callable[[Draw], None]], Callable[[Draw], None]]:
    """Registers a law about `ops`."""

    def register(test: Callable[[Draw], None]) -> Callable[[Draw], None]:
        name = test.__name__
        if name in _laws and _laws[name].test.__module__ != test.__module__:
            raise TypeError(f"two laws are called {name}; give one of them another name")
        _laws[name] = Law(name, inspect.getdoc(test) or "", ops, test)
        return test

    return register


def all_laws(op: type[Function] | None = None) -> list[Law]:
    """Every law, or those about one op."""
    package = importlib.import_module("minires.check.laws")
    for found in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"minires.check.laws.{found}")
    return [each for each in _laws.values() if op is None or op in each.ops]


# --- words that laws are written in


def pull(f: Callable[..., Any], *arrays: Array, gy: Array) -> tuple[Array, list[Array]]:
    """The output of f and the gradient of every array, for the cotangent gy."""
    leaves = [Tensor(x, requires_grad=True) for x in arrays]
    y = f(*leaves)
    y.backward(gy)
    return y.data, [np.zeros(t.shape) if t.grad is None else t.grad for t in leaves]


def same(a: Any, b: Any, what: str, tolerance: float = 1e-10, scale: float | None = None) -> None:
    """Equal to `tolerance` of the larger of b's largest entry and `scale`. Raises CheckError saying `what` is not."""
    a, b = np.asarray(a), np.asarray(b)
    size = max(float(np.max(np.abs(b), initial=0.0)), scale or 0.0)
    off = float(np.max(np.abs(a - b), initial=0.0)) if a.shape == b.shape else np.inf
    if not off <= tolerance * size:
        raise CheckError(f"{what}: off by {off:.3g}, where the largest entry is {size:.3g}")


def same_bits(a: Any, b: Any, what: str) -> None:
    """Equal bit for bit."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype != b.dtype or a.tobytes() != b.tobytes():
        raise CheckError(f"{what}: not equal bit for bit")


def require(holds: Any, what: str) -> None:
    """Raises CheckError with `what` unless it holds."""
    if not holds:
        raise CheckError(what)
