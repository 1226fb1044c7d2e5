"""Lesions: cutting or scaling the gradient of a residual block's skip or branch, for the length of a `with` block.

    with mr.lesion():                      # drops the +1 of every block
        loss.backward()
    with mr.lesion(skip_grad=0, block=7):  # only of the eighth, counted from the input
        loss.backward()

The forward pass stays what it was; backward goes on as if the chain rule had no second summand there. So the gradient
is wrong on purpose, and what it was worth can be measured.
"""

from __future__ import annotations

import numbers
import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from minires.backend import Array
from minires.engine import Edge, Folded, Function
from minires.errors import RequestError
from minires.ops.residual import ResidualAdd
from minires.switches import watch


@contextmanager
def lesion(
    *, skip_grad: complex = 0.0, branch_grad: complex = 1.0, block: int | Sequence[int] | None = None
) -> Iterator[None]:
    """Multiplies the gradient that a residual sum y = x + f hands to its skip and to its branch, in every backward.

    skip_grad    the factor in place of the +1: gx = skip_grad gy (0, the default, cuts the skip)
    branch_grad  the factor in gf = branch_grad gy (1: the branch is left alone)
    block        which residual sums: their number among those that the root depends on, 0 for the one nearest to the
                 input, -1 for the last, or several of them; None for all

    Raises RequestError for a factor or a block that is no number, and in backward for a block that the root does not
    have, or any number where an `nn.checkpoint` hides blocks; without numbers those are cut like all others.
    Source    Veit et al. 2016, Residual Networks Behave Like Ensembles of Relatively Shallow Networks, section 4, cut
              blocks in forward; here only the gradient is cut
    """
    for name, factor in (("skip_grad", skip_grad), ("branch_grad", branch_grad)):
        if not isinstance(factor, numbers.Number):
            raise RequestError(f"lesion: {name} must be a number, such as 0, not {factor!r}")
    with watch(_Lesion((skip_grad, branch_grad), None if block is None else _several(block))):
        yield


class _Lesion:
    """The watcher: where blocks are named, it counts the residual sums when a backward begins."""

    def __init__(self, factors: tuple[complex, complex], blocks: tuple[int, ...] | None) -> None:
        self.factors = factors
        self.blocks = blocks
        self.serial = -1
        self.cut: set[Function] = set()

    def __call__(self, edge: Edge, gradient: Array) -> Any:
        if self.blocks is not None and edge.op.serial > self.serial:  # serials only fall during one backward
            self.cut = self._chosen(edge.op)
        self.serial = edge.op.serial
        if edge.op.name != ResidualAdd.__name__ or (self.blocks is not None and edge.op not in self.cut):
            return None
        factor = self.factors[edge.index]
        return None if factor == 1 else gradient * factor

    def _chosen(self, root: Function) -> set[Function]:
        if any(isinstance(op, Folded) for op in reached(root)):
            raise RequestError(
                "lesion: blocks inside an nn.checkpoint have no number, since they are made only while backward runs; "
                "call the function itself instead, or leave block out to cut them all"
            )
        sums, chosen = residual_sums(root), set()
        for number in self.blocks or ():
            if not -len(sums) <= number < len(sums):
                there = f"there are {len(sums)}, 0 to {len(sums) - 1}" if sums else "there is none"
                raise RequestError(f"lesion: no residual sum has number {number}, since on the tape {there}")
            chosen.add(sums[number])
        return chosen


def residual_sums(root: Function) -> list[Function]:
    """Every ResidualAdd that `root` depends on, itself among them, from the input on.

    Those inside an `nn.checkpoint` are not on the tape: they are made while backward runs.
    """
    sums = (op for op in reached(root) if op.name == ResidualAdd.__name__)
    return sorted(sums, key=operator.attrgetter("serial"))


def reached(root: Function) -> set[Function]:
    """Every op that `root` depends on, itself among them."""
    found, waiting = {root}, [root]
    while waiting:
        for edge in waiting.pop().edges:
            if edge is not None and isinstance(edge[0], Function) and edge[0] not in found:
                found.add(edge[0])
                waiting.append(edge[0])
    return found


def _several(block: Any) -> tuple[int, ...]:
    try:
        return tuple(map(operator.index, block if isinstance(block, Iterable) else (block,)))
    except TypeError:
        raise RequestError(f"lesion: block must be a whole number, or a list of them, not {block!r}") from None
