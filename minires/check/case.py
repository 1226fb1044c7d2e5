"""What is checked of an op: how its inputs are drawn, and who else knows the answer.

`minires/check/cases/` mirrors `minires/ops/`: for each op one function, decorated with `@case(Op)`, that draws
a `Case`. Its name is the op's public one.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minires.backend import Array
from minires.check.draw import Draw
from minires.engine import Function, Tensor
from minires.errors import RequestError

Op = type[Function] | Callable[..., Any] | str  # an op's class, its public function, or its name


@dataclass(frozen=True)
class Case:
    """One concrete call of an op, `op.apply(*inputs, **options)`, and its independent twins.

    Attributes
        inputs      in the order of `forward`; float64 arrays are differentiated, the rest (labels, masks,
                    indices, scalars, None) is passed on
        options     the op's options
        constant    positions of float64 arrays that the op does not differentiate (running statistics, masks)
        reference   the index-loop twin: takes the inputs as plain arrays, returns the output, or a tuple
        composed    for a fused op, the same out of elementary ops: takes Tensors, returns Tensors
        torch       the same in PyTorch: takes torch tensors, returns them; imports torch itself
        analytic    whether forward holds for complex numbers; else `why_not` says why it does not
        why_not     the reason
    """

    inputs: tuple[Any, ...]
    options: dict[str, Any] = field(default_factory=dict)
    constant: tuple[int, ...] = ()
    reference: Callable[..., Any] | None = None
    composed: Callable[..., Any] | None = None
    torch: Callable[..., Any] | None = None
    analytic: bool = True
    why_not: str = ""

    @property
    def checked(self) -> list[int]:
        """Positions of the inputs that are differentiated."""
        return [
            i
            for i, x in enumerate(self.inputs)
            if i not in self.constant and isinstance(x, np.ndarray) and x.dtype == np.float64
        ]

    def leaves(self, inputs: Sequence[Any]) -> list[Any]:
        """`inputs` with a leaf Tensor in place of each that is differentiated."""
        return [Tensor(x, requires_grad=True) if i in self.checked else x for i, x in enumerate(inputs)]

    def __str__(self) -> str:
        shapes = ", ".join(_told(x) for x in self.inputs)
        options = "".join(f", {k}={v!r}" for k, v in self.options.items() if not isinstance(v, np.ndarray))
        return f"({shapes}{options})"


@dataclass(frozen=True)
class Subject:
    """An op under check: its class, its public name, and how a case of it is drawn."""

    op: type[Function]
    name: str
    draw: Callable[[Draw], Case]

    @property
    def inputs(self) -> list[str]:
        """The names of forward's inputs."""
        parameters = list(inspect.signature(self.op.forward).parameters.values())[1:]
        return [p.name for p in parameters]

    def input_name(self, i: int) -> str:
        """The name of input i; for forward(*xs) it is numbered."""
        names = self.inputs
        return names[i] if i < len(names) - 1 or (names[-1] != "xs" and i < len(names)) else f"{names[-1]}[{i}]"


_subjects: dict[type[Function], Subject] = {}


def case(op: type[Function]) -> Callable[[Callable[[Draw], Case]], Callable[[Draw], Case]]:
    """Registers a function that draws cases of `op`."""

    def register(draw: Callable[[Draw], Case]) -> Callable[[Draw], Case]:
        _subjects[op] = Subject(op, draw.__name__, draw)
        return draw

    return register


def subjects() -> list[Subject]:
    """Every op that has a case, family by family."""
    cases = importlib.import_module("minires.check.cases")
    for found in sorted(module.name for module in pkgutil.iter_modules(cases.__path__)):
        importlib.import_module(f"minires.check.cases.{found}")
    return list(_subjects.values())


def subject_of(op: Op) -> Subject:
    """The subject of an op: its class, its public name, or the function of that name in `minires.functional`.

    Raises RequestError when no case draws it.
    """
    name = op if isinstance(op, str) else op.__name__
    for subject in subjects():
        if subject.op is op or (not isinstance(op, type) and name in (subject.name, subject.op.__name__)):
            return subject
    raise RequestError(
        f"no case draws inputs for {name}, so it cannot be checked; decorate a function that returns a Case with "
        f"@case({name}), as the files in minires/check/cases do"
    )


def _told(x: Any) -> str:
    if isinstance(x, np.ndarray):
        return f"{x.dtype}{list(x.shape)}"
    return repr(x)


def relaid(x: Array, draw: Draw) -> Array:
    """The same values in another memory order, now and then read-only."""
    how = draw.integer(0, 4)
    if how == 1 and x.ndim:
        x = np.asfortranarray(x)
    elif how == 2 and x.ndim:
        big = np.repeat(x, 2, axis=-1)
        x = big[..., ::2]
    elif how == 3 and x.ndim:
        x = np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    elif how == 4:
        x = x.copy()
        x.flags.writeable = False
    return x
