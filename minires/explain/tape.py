"""What the tape says: every op that a result depends on, once, with the values it read and the gradients it handed on.

Looking changes nothing: no `.grad` is written, and the graph can be walked again afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minires import backend
from minires.backend import Array
from minires.engine import Edge, Folded, Function, Tensor, backpropagate
from minires.errors import RequestError
from minires.lesion import reached
from minires.switches import record_with, watch

Key = tuple[int, int]  # (id of the op or the leaf, which output)


@dataclass
class Recording:
    """What the ops of a forward pass read, kept while `with record()` ran. It holds every value of the pass."""

    read: dict[Function, Sequence[Any]] = field(default_factory=dict)

    def __call__(self, op: Function, inputs: Sequence[Any]) -> None:
        self.read[op] = tuple(inputs)


@contextmanager
def record() -> Iterator[Recording]:
    """`with record() as seen: loss = ...`; then `backward(loss, seen=seen)` also knows the values of forward."""
    recording = Recording()
    with record_with(recording):
        yield recording


@dataclass(frozen=True)
class Sent:
    """One edge's gradient: what `op` handed back through its input `index`, and to whom."""

    op: Function
    index: int
    receiver: Function | Tensor
    output: int
    gradient: Array


class Events:
    """A watcher that keeps every edge's gradient, in the order of the walk."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.seeds: list[Sent] = []

    def __call__(self, edge: Edge, gradient: Array) -> None:
        sent = Sent(edge.op, edge.index, edge.receiver, edge.output, np.array(backend.to_host(gradient)))
        (self.seeds if isinstance(edge.op, _Roots) else self.sent).append(sent)
        if isinstance(edge.receiver, Folded):
            raise RequestError(
                "explain: the graph holds an nn.checkpoint, whose ops are made only while backward runs; "
                "call the function itself instead"
            )

    @property
    def ops(self) -> list[Function]:
        """Every op that was walked, in the order in which they were made."""
        found = {sent.op for sent in self.sent}
        return sorted(found, key=lambda op: op.serial)

    def totals(self) -> dict[Key, Array]:
        """The gradient of every value: what arrived there, added in the order of arrival, as backward does."""
        totals: dict[Key, Array] = {}
        for sent in (*self.seeds, *self.sent):
            key = id(sent.receiver), sent.output
            totals[key] = np.asarray(totals[key] + sent.gradient) if key in totals else sent.gradient
        return totals


def walk_back(roots: Sequence[Tensor], gys: Sequence[Any]) -> Events:
    """Walks backward from `roots`, with a cotangent for each, and says what went along every edge.

    Raises RequestError for a root without gradient, or a cotangent of another shape.
    """
    arrays = [_cotangent(root, gy) for root, gy in zip(roots, gys, strict=True)]
    events = Events()
    top = _Roots.apply(*roots, cotangents=tuple(arrays))
    kept = [(t, t.grad) for op in reached(top.op) for t in op.retained]
    try:
        with watch(events):
            backpropagate(top, None, retain_graph=True, deliver=lambda leaf, gradient, owned: None)
    finally:
        for t, grad in kept:
            t.grad = grad
    return events


class _Roots(Function):
    """What all roots go into, so that one walk serves them: its backward hands each its cotangent."""

    cotangents: tuple[Array, ...]

    def forward(self, *ys: Array) -> Array:
        return self.xp.zeros(())

    def backward(self, gy: Array) -> Any:
        return self.cotangents


def _cotangent(root: Tensor, gy: Any) -> Array:
    if not isinstance(root, Tensor):
        raise RequestError(f"explain: the result must be a Tensor, or a list of them, not {type(root).__name__}")
    if not root.requires_grad:
        raise RequestError(
            "explain: the result depends on nothing that requires a gradient; create an input with requires_grad=True"
        )
    library = backend.find((root.data,))
    if gy is None and root.size != 1:
        raise RequestError(
            f"explain: a result of shape {tuple(root.shape)} needs the gradient that arrives there; "
            "pass gy, of that shape"
        )
    given = gy.data if isinstance(gy, Tensor) else gy
    array = library.xp.ones(root.shape) if given is None else library.asarray(given)
    if array.shape != root.shape:
        raise RequestError(f"explain: gy has shape {tuple(array.shape)}, but the result {tuple(root.shape)}")
    return library.xp.array(array, dtype=root.dtype, copy=True)
