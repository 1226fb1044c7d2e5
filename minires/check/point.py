"""A function at a point: what the check moves, what the function answers, and what is put back afterwards.

The arrays that are moved, the inputs and parameters, are called *variables*. Parameters are checked in float64
whatever they are: for the length of the check a float64 copy stands in for each tensor of the module.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minires import backend
from minires.backend import Array
from minires.check.evidence import CheckError
from minires.check.oracles import pull_back, several
from minires.engine import Edge, Function, Tensor
from minires.errors import RequestError
from minires.nn import Module
from minires.switches import enable_grad, no_grad, watch

Moves = Mapping[int, Array]  # a direction: for some of the variables, how far each element goes


class GradcheckError(CheckError):
    """A gradient is wrong, or the check could not have seen it."""


class UncheckableError(GradcheckError, RequestError):
    """Nothing can be said about this gradient: integers, float32, randomness, hidden state, nan or infinity."""


@dataclass(frozen=True)
class Variable:
    """One array that is differentiated.

    Attributes
        name       "input 0 (x)", or the parameter's dotted name
        value      its float64 values
        position   which input it is; None for a parameter
        tensor     the parameter; None for an input
    """

    name: str
    value: Array
    position: int | None = None
    tensor: Tensor | None = None


@dataclass
class Point:
    """A function, its inputs, and the modules and parameters that stand behind it."""

    f: Callable[..., Any]
    inputs: Sequence[Any]
    modules: list[Module] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)

    def outputs(self, moves: Moves, step: complex = 1.0) -> list[Array]:
        """f's outputs of floats, off the tape, with every variable k moved by step * moves[k]."""
        arguments = list(self.inputs)
        values = [v.value + step * moves[k] if k in moves else v.value for k, v in enumerate(self.variables)]
        try:
            for v, value in zip(self.variables, values, strict=True):
                if v.position is not None:
                    arguments[v.position] = Tensor(value)
                elif v.tensor is not None:
                    v.tensor.data = value
            with no_grad(), np.errstate(all="ignore"):
                return [y.data for y in several(self.f(*arguments)) if y.dtype.kind in "fc"]
        finally:
            self._parameters_back()

    def on_the_tape(self) -> tuple[list[Tensor], list[Tensor]]:
        """The variables as leaves, and f's outputs of floats."""
        arguments = list(self.inputs)
        leaves = []
        for v in self.variables:
            if v.position is not None:
                arguments[v.position] = Tensor(v.value, requires_grad=True)
                leaves.append(arguments[v.position])
            elif v.tensor is not None:
                v.tensor.data, v.tensor.grad = v.value, None
                leaves.append(v.tensor)
        with enable_grad(), np.errstate(all="ignore"):
            found = several(self.f(*arguments))
        for y in found:
            if not isinstance(y, Tensor):
                raise UncheckableError(
                    f"f returned {'a ' + type(y).__name__ if len(found) == 1 else 'a tuple with a ' + type(y).__name__}"
                    ", which carries no gradient; it must return a Tensor or a tuple of Tensors"
                )
        return leaves, [y for y in found if y.dtype.kind in "fc"]

    def place(self, k: int, element: int) -> list[int]:
        """The index of an element of variable k that is given by its number."""
        return [int(i) for i in np.unravel_index(element, self.variables[k].value.shape)]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Float64 in place of every tensor of the modules; on leaving all is as it was, whatever happened."""
        attributes = [(module, dict(vars(module))) for root in self.modules for module in root.modules()]
        tensors = {id(t): t for root in self.modules for t in (*root.parameters(), *root.buffers())}
        tensors |= {id(v.tensor): v.tensor for v in self.variables if v.tensor is not None}
        kept = [(t, t.data, t.grad, t.requires_grad) for t in tensors.values()]
        generator = backend.generator_state()
        try:
            for t in tensors.values():
                t.data = t.data.astype(np.float64) if t.data.dtype.kind == "f" else t.data.copy()
            self._parameters_back()
            yield
        finally:
            backend.set_generator_state(generator)
            for module, names in attributes:
                vars(module).clear()
                vars(module).update(names)
            for t, data, grad, requires_grad in kept:
                t.data, t.grad, t.requires_grad = data, grad, requires_grad

    def _parameters_back(self) -> None:
        for v in self.variables:
            if v.tensor is not None:
                v.tensor.data = v.value


@dataclass(frozen=True)
class Answer:
    """What f and its backward gave: the outputs, the random cotangents sent back, one gradient a variable."""

    outputs: list[Array]
    gys: list[Array]
    gradients: list[Array]
    cut: list[int]  # the outputs that carry no gradient


def locate(f: Any, inputs: Sequence[Any], parameters: Any) -> Point:
    """The point to check at. Raises UncheckableError where there is nothing that a check could differentiate."""
    owner = getattr(f, "__self__", f)
    modules = [m for m in (owner, parameters) if isinstance(m, Module)]
    values = [x.data if isinstance(x, Tensor) and x.requires_grad else x for x in inputs]
    values = [np.asarray(x) if isinstance(x, np.floating) else x for x in values]
    names = _argument_names(f.forward if isinstance(f, Module) else f, len(inputs))
    variables = []
    for i, x in enumerate(values):
        if backend.is_array(x) and x.dtype.kind == "f":
            variables.append(Variable(names[i], _float64(names[i], x), i))
    tensors = [pair for m in modules for pair in m.named_parameters() if pair[1].requires_grad]
    for name, t in (*tensors, *_named(parameters)):
        if all(t is not v.tensor for v in variables):
            variables.append(Variable(name, _float64(name, t.data, narrow=True), tensor=t))
    if not variables:
        told = ", ".join(f"{names[i]} is {_told(x)}" for i, x in enumerate(inputs)) or "f was given no input"
        raise UncheckableError(
            f"there is nothing to differentiate: {told}; integers have no gradient, so pass a float64 array, "
            "a Module, or parameters="
        )
    return Point(f, values, modules, variables)


def answer(point: Point, rng: np.random.Generator) -> Answer:
    """Forward, and backward with a random cotangent for every output.

    Raises UncheckableError for outputs that are not finite or not the same twice, and GradcheckError where something
    was written to, memory is shared, or a gradient has not its variable's shape and dtype.
    """
    generator = backend.generator_state()
    held = [x for x in (*point.inputs, *(v.value for v in point.variables)) if isinstance(x, np.ndarray)]
    before = [x.copy() for x in held]
    first = [y.data for y in point.on_the_tape()[1]]
    if not _same(held, before):
        raise GradcheckError("an input was changed by forward: it must leave its inputs alone")
    _refuse_outputs(first)
    leaves, outputs = point.on_the_tape()
    if not _same(first, [y.data for y in outputs]):
        backend.set_generator_state(generator)
        _two_answers(_same(first, [y.data for y in point.on_the_tape()[1]]))
    gys = [rng.standard_normal(y.shape) for y in outputs]
    kept = [gy.copy() for gy in gys]
    _walk(leaves, [(y, gy) for y, gy in zip(outputs, gys, strict=True) if y.requires_grad])
    if not _same(held, before):
        raise GradcheckError("an input was changed by backward: it must leave its inputs alone")
    if not _same(gys, kept):
        raise GradcheckError("the cotangent was changed by backward: it must leave what it is handed alone")
    gradients = [_gradient(v, t.grad) for v, t in zip(point.variables, leaves, strict=True)]
    for a, b in itertools.combinations([*gradients, *gys], 2):
        if np.shares_memory(a, b):
            raise GradcheckError("two gradients share memory, so writing to one would change the other")
    return Answer(first, gys, gradients, [k for k, y in enumerate(outputs) if not y.requires_grad])


class _Witness:
    """Watches whether an op writes to a gradient that it was handed. Others may hold the same array."""

    def __init__(self) -> None:
        self.culprit = ""
        self._handed: dict[Function, list[tuple[Array, Array]]] = {}

    def __call__(self, edge: Edge, gx: Array) -> None:
        for now, before in self._handed.pop(edge.op, ()):  # its backward has just run
            if not _same([now], [before]):
                self.culprit = self.culprit or edge.op.name
        if isinstance(edge.receiver, Function):
            self._handed.setdefault(edge.receiver, []).append((gx, gx.copy()))


def _walk(leaves: Sequence[Tensor], carrying: Sequence[tuple[Tensor, Array]]) -> None:
    """Backward, with a witness. What f closes over keeps the `.grad` that it had."""
    strangers = [(t, t.grad) for t in _reached([y for y, _ in carrying]) if all(t is not leaf for leaf in leaves)]
    witness = _Witness()
    try:
        with enable_grad(), np.errstate(all="ignore"), watch(witness):
            # through a reshape to the same shape: so the op that made the output is handed its cotangent on an edge
            pull_back([y.reshape(y.shape) for y, _ in carrying], [gy for _, gy in carrying])
    except Exception as error:  # a wrong backward may fail in any way
        raise GradcheckError(f"backward failed: {type(error).__name__}: {error}") from error
    finally:
        for t, grad in strangers:
            t.grad = grad
    if witness.culprit:
        raise GradcheckError(
            f"the cotangent was changed by backward of {witness.culprit}: others are handed the same array, so write "
            "to a copy"
        )


def _reached(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Every leaf of the graph: also those that f closes over, whose `.grad` is none of the check's business."""
    waiting = [t.op or t for t in outputs]
    seen: set[int] = set()
    found = []
    while waiting:
        at = waiting.pop()
        if id(at) in seen:
            continue
        seen.add(id(at))
        if isinstance(at, Tensor):
            found.append(at)
        else:
            waiting += [edge[0] for edge in at.edges if edge is not None]
    return found


def _gradient(v: Variable, delivered: Array | None) -> Array:
    g = np.zeros(v.value.shape) if delivered is None else delivered
    if g.shape != v.value.shape or g.dtype != v.value.dtype:
        raise GradcheckError(f"{v.name}: the gradient is {g.shape} {g.dtype}, its variable {v.value.shape} float64")
    if not np.all(np.isfinite(g)):
        at = _first(~np.isfinite(g))
        raise GradcheckError(f"{v.name} at {at}: backward gave {g[tuple(at)]}, though f is finite there")
    return g


# --- what is refused


def _float64(name: str, x: Array, narrow: bool = False) -> Array:
    """The values to move about. `narrow` allows float32, as parameters usually are; an input has to be float64."""
    if not isinstance(x, np.ndarray):
        raise UncheckableError(f"{name} lies on the GPU, but a gradient is checked on the CPU; move it there")
    if x.dtype.kind != "f":
        raise UncheckableError(f"{name} is {x.dtype}: only floats have a gradient to check")
    if x.dtype != np.float64 and not narrow:
        raise UncheckableError(
            f"{name} is {x.dtype}, whose rounding hides a wrong gradient, so that a check in it proves nothing; "
            "pass float64: x.astype(np.float64)"
        )
    if not np.all(np.isfinite(x)):
        at = _first(~np.isfinite(x))
        raise UncheckableError(f"{name} is {x[tuple(at)]} at {at}: no derivative can be measured there")
    return x.astype(np.float64) if narrow else x  # an input itself, with its own order in memory


def _refuse_outputs(outputs: Sequence[Array]) -> None:
    if not outputs:
        raise UncheckableError("f returned integers only, which carry no gradient; it must return a Tensor of floats")
    for k, y in enumerate(outputs):
        if y.dtype != np.float64:
            raise UncheckableError(
                f"output {k} of f is {y.dtype}, though its inputs are float64, so that differences drown in rounding; "
                "find the constant or cast that narrows it"
            )
        if not np.all(np.isfinite(y)):
            at = _first(~np.isfinite(y))
            raise UncheckableError(
                f"output {k} of f is {y[tuple(at)]} at {at}: a gradient can only be checked where f is finite"
            )


def _two_answers(random: bool) -> None:
    why = (
        "it is random (it draws from minires' generator, as dropout does); call .eval(), or mr.manual_seed(0) inside f"
        if random
        else "it keeps state from call to call, or draws random numbers of its own; make it a function of its inputs"
    )
    raise UncheckableError(f"f gave two different answers for the same input: {why}")


# --- names


def _argument_names(f: Any, count: int) -> list[str]:
    """ "input 0 (x)" and so on, as far as f says what its arguments are called."""
    try:
        called = [p.name for p in inspect.signature(f).parameters.values() if p.kind <= p.POSITIONAL_OR_KEYWORD]
    except (TypeError, ValueError):
        called = []
    return [f"input {i} ({called[i]})" if i < len(called) else f"input {i}" for i in range(count)]


def _named(parameters: Any) -> Iterator[tuple[str, Tensor]]:
    """What `parameters=` holds, by name. Raises UncheckableError for what is not a leaf that requires a gradient."""
    if parameters is None or isinstance(parameters, Module):
        return
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    pairs = parameters.items() if isinstance(parameters, Mapping) else enumerate(parameters)
    for key, held in pairs:
        name, t = held if isinstance(held, tuple) else (f"parameter {key}" if isinstance(key, int) else str(key), held)
        if not isinstance(t, Tensor) or t.op is not None or not t.requires_grad:
            raise UncheckableError(f"{name}: parameters= takes leaf Tensors that require a gradient, not {_told(t)}")
        yield name, t


def _told(x: Any) -> str:
    if isinstance(x, Tensor):
        return f"a Tensor of {x.dtype}" + (
            ", computed from others" if x.op else "" if x.requires_grad else " without requires_grad"
        )
    return f"an array of {x.dtype}" if hasattr(x, "dtype") else f"a {type(x).__name__}"


def _same(a: Sequence[Array], b: Sequence[Array]) -> bool:
    """Equal to the last bit, where nan is nan."""
    return len(a) == len(b) and all(
        np.array_equal(x, y, equal_nan=x.dtype.kind in "fc") for x, y in zip(a, b, strict=True)
    )


def _first(wrong: Array) -> list[int]:
    return [int(k) for k in np.unravel_index(int(np.argmax(wrong)), wrong.shape)]
