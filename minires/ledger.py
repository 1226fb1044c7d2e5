"""The ledger: what each edge of the tape contributed to a gradient, kept apart.

Backward only keeps sums. Where a skip and its branch meet again, the ledger still knows which part of the
gradient came through which: `ResidualAdd`'s entry is the +1, the branch's entry is J_F^T gy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from minires.backend import Array
from minires.engine import Edge, Tensor
from minires.switches import watch


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger: `op` handed `gradient` back through its input `index`."""

    op: str
    serial: int
    index: int
    gradient: Array


class Ledger:
    """What each edge contributed, kept apart, where backward itself only keeps the sums."""

    def __init__(self) -> None:
        self._book: dict[tuple[int, int], list[Entry]] = {}
        self._held: list[Any] = []  # keeps receivers alive, so that an id names one object

    def __call__(self, edge: Edge, gradient: Array) -> None:
        self._held.append(edge.receiver)
        entry = Entry(edge.op.name, edge.op.serial, edge.index, gradient.copy())
        self._book.setdefault((id(edge.receiver), edge.output), []).append(entry)

    def into(self, t: Tensor) -> list[Entry]:
        """The contributions to t's gradient, one an edge, latest op first. Their sum is the gradient."""
        return list(self._book.get((id(t.op or t), t.index), ()))

    def __len__(self) -> int:
        return sum(map(len, self._book.values()))


@contextmanager
def ledger() -> Iterator[Ledger]:
    """`with ledger() as book: loss.backward()`; then `book.into(x)` lists who sent x which gradient."""
    book = Ledger()
    with watch(book):
        yield book
