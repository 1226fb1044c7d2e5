"""What every op owes the engine and its user, whatever its formula.

Each invariant takes a subject, a case and a draw, and raises CheckError when it is broken.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from minires import backend
from minires.backend import Array
from minires.check.case import Case, Subject, relaid
from minires.check.draw import Draw
from minires.check.evidence import CheckError
from minires.check.oracles import answer, pull_back, several, steady
from minires.engine import Tensor, kernels_of
from minires.switches import formulas_only, kernels_at_any_size, use_kernels, without_compiled

SINGLE = 1e-3  # of the largest entry: float32's 1e-7, times what normalizing a few close numbers costs
Invariant = Callable[[Subject, Case, Draw], None]


def inputs_and_cotangent_are_unmodified(subject: Subject, case: Case, draw: Draw) -> None:
    """Forward and backward write to no array that they were handed."""
    _, outputs = _forward(subject, case)
    before = [x.copy() if isinstance(x, np.ndarray) else x for x in case.inputs]
    gys = _cotangents(outputs, draw)
    kept = [None if gy is None else gy.copy() for gy in gys]
    for op in {y.op: None for y in outputs if y.op is not None}:
        handed = [np.zeros(*meta) if gy is None else gy for gy, meta in zip(gys, op.outputs, strict=True)]
        op.backward(*handed)
    pull_back(outputs, gys)
    for x, old in zip(case.inputs, before, strict=True):
        if isinstance(x, np.ndarray) and not np.array_equal(x, old, equal_nan=x.dtype.kind in "fc"):
            raise CheckError("an input was changed by forward or backward")
    for gy, old in zip(gys, kept, strict=True):
        if gy is not None and old is not None and not np.array_equal(gy, old):
            raise CheckError("the cotangent was changed by backward")


def no_two_gradients_share_memory(subject: Subject, case: Case, draw: Draw) -> None:
    """Writing to one leaf's gradient changes neither another's nor the cotangent."""
    leaves, outputs = _forward(subject, case)
    gys = _cotangents(outputs, draw)
    pull_back(outputs, gys)
    held = [t.grad for t in leaves if isinstance(t, Tensor) and t.grad is not None] + [g for g in gys if g is not None]
    for a, b in itertools.combinations(held, 2):
        if np.shares_memory(a, b):
            raise CheckError("two gradients share memory, so writing to one would change the other")


def a_gradient_has_its_inputs_shape_and_dtype(subject: Subject, case: Case, draw: Draw) -> None:
    """float32 in, float32 out and back, none widened on the way, and the values are those of float64 but rounded."""
    exact = answer(subject, case, np.random.default_rng(5))
    single = [x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype == np.float64 else x for x in case.inputs]
    leaves = case.leaves(single)
    with steady():
        before = backend.generator_state()
        outputs = several(subject.op.apply(*leaves, **case.options))
        random = backend.generator_state() != before  # then float32 draws other numbers than float64
    gys = [None if gy is None else gy.astype(y.dtype) for gy, y in zip(exact.gys, outputs, strict=True)]
    for op in {y.op: None for y in outputs if y.op is not None}:
        handed = [np.zeros(*meta) if gy is None else gy for gy, meta in zip(gys, op.outputs, strict=True)]
        for i, gx in enumerate(several(op.backward(*handed))):
            if not op.needs[i] or gx is None:
                continue
            allowed = leaves[i].dtype, case.options.get("dtype", leaves[i].dtype)  # after a cast the engine rounds
            if np.asarray(gx).dtype not in allowed:
                raise CheckError(f"backward gave {subject.input_name(i)} a {gx.dtype} gradient from float32 numbers")
    pull_back(outputs, gys)
    for i in case.checked:
        x, g = leaves[i], leaves[i].grad
        if g is None:
            continue
        if g.shape != x.shape or g.dtype != x.dtype:
            raise CheckError(f"{subject.input_name(i)} is {x.shape} {x.dtype}, its gradient {g.shape} {g.dtype}")
        if not random:
            what = f"the float32 gradient of {subject.input_name(i)} is not the float64 one, rounded"
            _close(g, exact.gradients[i], what, SINGLE)


def backward_is_linear_in_the_cotangent(subject: Subject, case: Case, draw: Draw) -> None:
    """J^T (a u + b v) = a J^T u + b J^T v."""
    leaves, outputs = _forward(subject, case)
    u, v = _cotangents(outputs, draw), _cotangents(outputs, draw)
    a, b = draw.rng.standard_normal(2)
    mixed = [None if p is None or q is None else a * p + b * q for p, q in zip(u, v, strict=True)]
    gradients = []
    for gys in (u, v, mixed):
        leaves, outputs = _forward(subject, case)
        pull_back(outputs, gys)
        gradients.append([t.grad for t in leaves if isinstance(t, Tensor)])
    for gu, gv, gm in zip(*gradients, strict=True):
        if gm is None:
            continue
        expected = a * gu + b * gv
        scale = np.max(np.abs(gu), initial=0.0) + np.max(np.abs(gv), initial=0.0)
        if np.max(np.abs(gm - expected), initial=0.0) > 1e-12 * scale:
            raise CheckError("backward is not linear in the cotangent")


def the_graph_is_freed_after_backward(subject: Subject, case: Case, draw: Draw) -> None:
    """Afterwards the op holds no array and no edge, and the saved arrays die."""
    _, outputs = _forward(subject, case)
    ops = list({y.op: None for y in outputs if y.op is not None})
    watched = [weakref.ref(a) for op in ops for a in vars(op).values() if _own(a, case, outputs)]
    pull_back(outputs, _cotangents(outputs, draw))
    for op in ops:
        if vars(op) or op.edges or not op.freed:
            raise CheckError("the op still holds what it saved after backward")
    if any(alive() is not None for alive in watched):
        raise CheckError("a saved array is still alive after backward")


def memory_order_does_not_matter(subject: Subject, case: Case, draw: Draw) -> None:
    """Fortran order, strides, negative strides and read-only inputs give the numbers of contiguous ones."""
    other = Case(
        tuple(relaid(x, draw) if isinstance(x, np.ndarray) else x for x in case.inputs), case.options, case.constant
    )
    expected, got = (answer(subject, each, np.random.default_rng(3)) for each in (case, other))
    for a, b in zip(got.outputs, expected.outputs, strict=True):
        _close(a, b, "forward depends on how its inputs lie in memory")
    for i in case.checked:
        _close(got.gradients[i], expected.gradients[i], "backward depends on how its inputs lie in memory")


def an_unneeded_gradient_changes_no_other(subject: Subject, case: Case, draw: Draw) -> None:
    """With only one input on the tape, its gradient is what it was with all of them."""
    together = answer(subject, case, np.random.default_rng(3))
    for i in case.checked:
        alone = Case(case.inputs, case.options, tuple(j for j in range(len(case.inputs)) if j != i))
        got = answer(subject, alone, np.random.default_rng(3))
        _close(
            got.gradients[i], together.gradients[i], f"the gradient of {subject.input_name(i)} depends on the others'"
        )


def kernels_equal_the_formula(subject: Subject, case: Case, draw: Draw) -> None:
    """With kernels on, compiled ones or not, outputs and gradients are those of the plain formula to 1e-12."""
    if not kernels_of(subject.op):
        return
    with formulas_only():
        plain = answer(subject, case, np.random.default_rng(3))
    for others in (nullcontext(), without_compiled()):
        with use_kernels(), kernels_at_any_size(), others:
            fast = answer(subject, case, np.random.default_rng(3))
        for a, b in zip(fast.outputs, plain.outputs, strict=True):
            _close(a, b, f"the forward of {fast.by} differs from the formula's")
        for i in case.checked:
            name = subject.input_name(i)
            _close(fast.gradients[i], plain.gradients[i], f"{fast.by}'s gradient of {name} differs from the formula's")


INVARIANTS: dict[str, Invariant] = {
    f.__name__: f
    for f in (
        inputs_and_cotangent_are_unmodified,
        no_two_gradients_share_memory,
        a_gradient_has_its_inputs_shape_and_dtype,
        backward_is_linear_in_the_cotangent,
        the_graph_is_freed_after_backward,
        memory_order_does_not_matter,
        an_unneeded_gradient_changes_no_other,
        kernels_equal_the_formula,
    )
}


def _forward(subject: Subject, case: Case) -> tuple[list[Any], list[Tensor]]:
    leaves = case.leaves(case.inputs)
    with steady():
        return leaves, several(subject.op.apply(*leaves, **case.options))


def _cotangents(outputs: list[Tensor], draw: Draw) -> list[Array | None]:
    return [draw.rng.standard_normal(y.shape) if y.requires_grad else None for y in outputs]


def _own(a: Any, case: Case, outputs: list[Tensor]) -> bool:
    """Whether the op alone holds this array: not a view or an input or an output."""
    held = [*case.inputs, *(y.data for y in outputs), *(y.data.base for y in outputs), *case.options.values()]
    return isinstance(a, np.ndarray) and a.base is None and not any(a is x for x in held)


def _close(a: Array, b: Array, what: str, tolerance: float = 1e-12) -> None:
    scale = max(float(np.max(np.abs(b), initial=0.0)), 1e-3)
    if np.shape(a) != np.shape(b) or np.max(np.abs(a - b), initial=0.0) > tolerance * scale:
        raise CheckError(what)
