"""The oracles: ways to know an op's gradient that share nothing with its backward.

    complex-step   every element of every gradient, from forward on complex numbers
    adjoint        <u, J v> = <J^T u, v>, tutorial 3, (3.9): forward along random directions v against backward along u
    central        every element, from forward on real numbers, by differences of eighth order
    index-loops    the op written as plain loops over indices: its values, and its Jacobian by differences
    composed       a fused op taken apart into elementary ones, through the engine
    torch          PyTorch's forward and backward in float64

Each takes an op and a case and returns the evidence, one piece an input, or None where it does not apply.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from minires import backend
from minires.backend import Array
from minires.check.case import Case, Subject
from minires.check.differentiate import Along, central, complex_step
from minires.check.evidence import CheckError, Evidence
from minires.engine import Tensor
from minires.switches import no_grad

EVERY_ELEMENT = 32  # index loops are slow: inputs larger than this are measured along random directions
DIRECTIONS = 4
SCALE = 1e-2  # of a gradient, where cotangents are of order 1
FORWARD = 1e-11  # of the largest value: how far a twin's output may be off


@dataclass(frozen=True)
class Answer:
    """What an op gave: its outputs, the random cotangents sent back, and the gradients of the checked inputs.

    `by` is the class that computed them: the op, or a kernel.
    """

    outputs: list[Array]
    gys: list[Array | None]  # None for an output that carries no gradient (indices)
    gradients: dict[int, Array]
    by: str


@contextmanager
def steady(seed: int = 11) -> Iterator[None]:
    """The same random numbers every time; the caller's generator is left as it was."""
    kept = backend.generator_state()
    backend.manual_seed(seed)
    try:
        yield
    finally:
        backend.set_generator_state(kept)


def several(y: Any) -> list[Any]:
    """One output or many, as a list."""
    return list(y) if isinstance(y, (tuple, list)) else [y]


def forward(subject: Subject, case: Case, inputs: Sequence[Any]) -> list[Array]:
    """The op's outputs, off the tape."""
    with steady(), no_grad():
        return [y.data for y in several(subject.op.apply(*inputs, **case.options))]


def answer(subject: Subject, case: Case, rng: np.random.Generator) -> Answer:
    """Forward, and backward with a random cotangent for every output."""
    leaves = case.leaves(case.inputs)
    with steady():
        outputs = several(subject.op.apply(*leaves, **case.options))
    gys = [rng.standard_normal(y.shape) if y.requires_grad else None for y in outputs]
    by = next((type(y.op) for y in outputs if y.op is not None), subject.op).__name__
    pull_back(outputs, gys)
    gradients = {i: np.zeros(leaves[i].shape) if leaves[i].grad is None else leaves[i].grad for i in case.checked}
    return Answer([y.data for y in outputs], gys, gradients, by)


def pull_back(outputs: Sequence[Tensor], gys: Sequence[Array | None]) -> None:
    """Backward from several outputs of one graph."""
    carrying = [(y, gy) for y, gy in zip(outputs, gys, strict=True) if gy is not None]
    for k, (y, gy) in enumerate(carrying, start=1):
        y.backward(gy, retain_graph=k < len(carrying))


def complex_steps(subject: Subject, case: Case, given: Answer, rng: np.random.Generator) -> list[Evidence] | None:
    """Element by element through the op's own forward, on complex numbers."""
    if not case.analytic:
        return None
    return _by_element(subject, case, given, lambda inputs: forward(subject, case, inputs), complex_step)


def adjoint(subject: Subject, case: Case, given: Answer, rng: np.random.Generator) -> list[Evidence] | None:
    """Along random directions: <u, J v> forward, <J^T u, v> backward."""
    slope = complex_step if case.analytic else central
    return _by_direction(subject, case, given, lambda inputs: forward(subject, case, inputs), slope, rng)


def centrals(subject: Subject, case: Case, given: Answer, rng: np.random.Generator) -> list[Evidence] | None:
    """Element by element through the op's own forward, on real numbers."""
    return _by_element(subject, case, given, lambda inputs: forward(subject, case, inputs), central)


def index_loops(subject: Subject, case: Case, given: Answer, rng: np.random.Generator) -> list[Evidence] | None:
    """The twin of plain loops: the same values, and its own Jacobian."""
    if case.reference is None:
        return None
    twin = case.reference

    def outputs(inputs: Sequence[Any]) -> list[Array]:
        return [np.asarray(y) for y in several(twin(*inputs))]

    _same_values("index-loops", given.outputs, outputs(case.inputs))
    found = []
    for i in case.checked:
        way = _by_element if case.inputs[i].size <= EVERY_ELEMENT else _by_direction
        only = _only(case, i)
        found += way(subject, only, given, outputs, central, *([rng] if way is _by_direction else []))
    return found


def composed(subject: Subject, case: Case, given: Answer, rng: np.random.Generator) -> list[Evidence] | None:
    """The chain rule through elementary ops."""
    if case.composed is None:
        return None
    leaves = case.leaves(case.inputs)
    outputs = several(case.composed(*leaves))
    _same_values("composed", given.outputs, [y.data for y in outputs])
    pull_back(outputs, given.gys)
    return [
        Evidence(subject.input_name(i), given.gradients[i], _or_zeros(leaves[i].grad, case.inputs[i]), scale=SCALE)
        for i in case.checked
    ]


def torch(subject: Subject, case: Case, given: Answer, rng: np.random.Generator) -> list[Evidence] | None:
    """PyTorch, where it is installed."""
    if case.torch is None or not has_torch():
        return None
    import torch as peer

    leaves: list[Any] = [
        peer.tensor(x.copy(), requires_grad=i in case.checked) if isinstance(x, np.ndarray) else x
        for i, x in enumerate(case.inputs)
    ]
    outputs = several(case.torch(*leaves))
    _same_values("torch", given.outputs, [y.detach().numpy() for y in outputs])
    pairs = [(y, peer.tensor(gy)) for y, gy in zip(outputs, given.gys, strict=True) if gy is not None]
    peer.autograd.backward([y for y, _ in pairs], [gy for _, gy in pairs])
    return [
        Evidence(
            subject.input_name(i),
            given.gradients[i],
            _or_zeros(None if leaves[i].grad is None else leaves[i].grad.numpy(), case.inputs[i]),
            scale=SCALE,
        )
        for i in case.checked
    ]


Oracle = Callable[[Subject, Case, Answer, np.random.Generator], "list[Evidence] | None"]

ORACLES: dict[str, Oracle] = {
    "complex-step": complex_steps,
    "adjoint": adjoint,
    "central": centrals,
    "index-loops": index_loops,
    "composed": composed,
    "torch": torch,
}


def has_torch() -> bool:
    """Whether PyTorch can be asked."""
    return importlib.util.find_spec("torch") is not None


# --- slopes


def _along(outputs: Callable[[Sequence[Any]], list[Array]], inputs: Sequence[Any], i: int, v: Array) -> Along:
    def at(step: complex) -> list[Array]:
        moved = list(inputs)
        moved[i] = inputs[i] + step * v
        return outputs(moved)

    return at


def _slope(along: Along, given: Answer, differentiate: Callable[[Along], list[Array]]) -> float:
    """<u, J v>, over all outputs that carry a gradient."""
    slopes = differentiate(along)
    return float(sum(np.sum(gy * dy) for gy, dy in zip(given.gys, slopes, strict=True) if gy is not None))


def _by_element(
    subject: Subject,
    case: Case,
    given: Answer,
    outputs: Callable[[Sequence[Any]], list[Array]],
    differentiate: Callable[[Along], list[Array]],
) -> list[Evidence]:
    found = []
    for i in case.checked:
        x = case.inputs[i]
        expected = np.zeros(x.shape)
        for at in np.ndindex(x.shape):
            v = np.zeros(x.shape)
            v[at] = 1.0
            expected[at] = _slope(_along(outputs, case.inputs, i, v), given, differentiate)
        found.append(Evidence(subject.input_name(i), given.gradients[i], expected, scale=SCALE))
    return found


def _by_direction(
    subject: Subject,
    case: Case,
    given: Answer,
    outputs: Callable[[Sequence[Any]], list[Array]],
    differentiate: Callable[[Along], list[Array]],
    rng: np.random.Generator,
) -> list[Evidence]:
    found = []
    for i in case.checked:
        x = case.inputs[i]
        # no element moves farther than the step: kinks stay out of reach
        directions = rng.uniform(-1.0, 1.0, (DIRECTIONS, x.size))
        expected = np.array(
            [_slope(_along(outputs, case.inputs, i, v.reshape(x.shape)), given, differentiate) for v in directions]
        )
        found.append(Evidence(subject.input_name(i), given.gradients[i], expected, directions, SCALE))
    return found


def _only(case: Case, i: int) -> Case:
    others = tuple(j for j in range(len(case.inputs)) if j != i)
    return Case(case.inputs, case.options, others, case.reference)


def _or_zeros(gradient: Array | None, x: Array) -> Array:
    return np.zeros(x.shape) if gradient is None else gradient


def _same_values(oracle: str, ours: Sequence[Array], theirs: Sequence[Array]) -> None:
    if len(ours) != len(theirs):
        raise CheckError(f"forward gives {len(ours)} outputs, {oracle} {len(theirs)}")
    for k, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if np.shape(a) != np.shape(b):
            raise CheckError(f"forward gives output {k} the shape {np.shape(a)}, {oracle} {np.shape(b)}")
        scale = max(float(np.max(np.abs(b), initial=0.0)), 1e-3)
        error = float(np.max(np.abs(np.asarray(a) - b), initial=0.0)) / scale
        if not error <= FORWARD:
            raise CheckError(f"forward differs from {oracle} in output {k} by {error:.2g} of its largest value")
