"""From a result on the tape to its walk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minires import backend
from minires.backend import Array
from minires.engine import Function, Tensor
from minires.explain import words
from minires.explain.formulas import Formulas
from minires.explain.names import Namer, Names, key_of
from minires.explain.roles import roles
from minires.explain.tape import Events, Key, Recording, Sent, walk_back
from minires.explain.walk import LIMIT, Step, Term, Value, Walk


def backward(
    result: Tensor | Sequence[Tensor],
    gy: Any = None,
    names: Names = None,
    *,
    seen: Recording | None = None,
    title: str = "a backward pass",
    limit: int = LIMIT,
) -> Walk:
    """Walks backward from `result` and tells every step. No `.grad` changes, and the graph can be used again.

    result    a Tensor, or several, that depend on something that requires a gradient
    gy        the gradient that arrives there, of result's shape; optional (1) for one number. For several, a list
    names     name -> Tensor, or a Module, whose parameters keep their names; the rest is numbered
    seen      what `with record() as seen:` kept of the forward pass; without it, values that only forward knew are
              left out
    limit     how many steps from either end the text shows

    Raises RequestError for a result that is no Tensor or has no gradient, a missing or misshapen gy and a graph with an
    nn.checkpoint, and GraphError for a graph that was freed.
    """
    if isinstance(result, Sequence):
        roots = list(result)
        gys = [None] * len(roots) if gy is None else list(gy)
    else:
        roots, gys = [result], [gy]
    return _Builder(roots, walk_back(roots, gys), names, seen or Recording()).walk(title, limit)


class _Builder:
    """Puts a walk together from what went along the edges."""

    def __init__(self, roots: Sequence[Tensor], events: Events, names: Names, seen: Recording) -> None:
        self.roots, self.events, self.seen = roots, events, seen
        self.ops = events.ops
        self.number = {op: k for k, op in enumerate(self.ops, start=1)}
        self.namer = Namer(names, self.ops, roots)
        self.totals = events.totals()
        self.roles = roles(self.ops)
        self.arrays = self._known()
        self.values: dict[str, Value] = {}
        self.sent: dict[Function, list[Sent]] = {}
        for sent in events.sent:
            self.sent.setdefault(sent.op, []).append(sent)

    def walk(self, title: str, limit: int) -> Walk:
        """The whole of it."""
        steps = tuple(map(self._step, self.ops))
        roots = tuple(self._value(root.op or root, root.index).name for root in self.roots)
        both = (*self.events.seeds, *self.events.sent)
        totals = {self._value(s.receiver, s.output).name: self.totals[id(s.receiver), s.output] for s in both}
        seeds = {self._value(s.receiver, s.output).name: s.gradient for s in self.events.seeds}
        in_order = [*(name for name in self.namer.given if name in self.values), *self.values]
        values = {name: self.values[name] for name in in_order}
        return Walk(title, steps, values, roots, seeds, limit, totals)

    def _known(self) -> dict[Key, Array]:
        """The values of leaves and roots, and of what was read while recording."""
        tensors = [*self.roots, *(t for read in self.seen.read.values() for t in read if isinstance(t, Tensor))]
        tensors += [sent.receiver for sent in self.events.sent if isinstance(sent.receiver, Tensor)]
        return {key_of(t): np.array(backend.to_host(t.data)) for t in tensors}

    def _value(self, maker: Function | Tensor, output: int) -> Value:
        """A leaf, or an output of an op."""
        name = self.namer.of(maker, output)
        if name not in self.values:
            array = self.arrays.get((id(maker), output))
            if isinstance(maker, Tensor):
                self.values[name] = Value(name, tuple(maker.shape), array)
            else:
                self.values[name] = Value(name, tuple(maker.outputs[output][0]), array, self.number[maker])
        return self.values[name]

    def _read(self, op: Function, index: int) -> Value | None:
        """What stood at an input; None where it was absent, or is not known any more."""
        edge = op.edges[index]
        if edge is not None:
            return self._value(*edge)
        letters = words.letters_of(words.op_of(op))
        saved = vars(op).get(letters[index]) if letters else None  # an array may have been folded or filled in
        given = (
            self.seen.read[op][index] if op in self.seen.read else saved if isinstance(saved, (int, float)) else None
        )
        if given is None:
            return None
        data = given.data if isinstance(given, Tensor) else given
        array = np.asarray(backend.to_host(data) if backend.is_array(data) else data)
        name = self.namer.of_constant(given)
        return self.values.setdefault(name, Value(name, array.shape, array))

    def _step(self, op: Function) -> Step:
        kind = words.op_of(op)
        reads = [self._read(op, i) for i in range(len(op.edges))]
        makes = [self._value(op, k) for k in range(len(op.outputs)) if op.outputs[k][1].kind in "fc"]
        gys = [self.totals.get((id(op), k)) for k in range(len(op.outputs)) if op.outputs[k][1].kind in "fc"]
        formulas = Formulas(op, reads, makes, gys)
        before, after = formulas.rest([sent.index for sent in self.sent[op]])
        terms = [
            Term(
                step=self.number[op],
                op=words.name_of(op),
                index=sent.index,
                receiver=self._value(sent.receiver, sent.output).name,
                gradient=sent.gradient,
                role=self.roles.get((op, sent.index), ""),
                formula=formulas.term(sent.index, sent.gradient),
            )
            for sent in self.sent[op]
        ]
        return Step(
            number=self.number[op],
            op=words.name_of(op),
            about=(kind.__doc__ or "").partition("\n")[0],
            reads=tuple(read.name if read else None for read in reads),
            makes=tuple(makes),
            forward=formulas.forward(makes[0]),
            legend=formulas.legend,
            gys=tuple(gys),
            before=before,
            after=after,
            terms=tuple(terms),
        )
