"""Which way is the skip, and which the branch: found on the graph, for whatever adds a value to what was made of it."""

from __future__ import annotations

from collections.abc import Sequence

from minires.engine import Function, Tensor
from minires.explain.words import op_of
from minires.ops.elementwise import Add
from minires.ops.residual import ResidualAdd

SKIP, BRANCH = "skip", "branch"


def roles(ops: Sequence[Function]) -> dict[tuple[Function, int], str]:
    """SKIP or BRANCH for each (op, input) whose gradient runs along one of the two ways of a residual sum.

    A residual sum is a ResidualAdd, or an Add one operand of which goes into the making of the other. Where blocks
    stand inside each other, the innermost one counts.

    ops    in the order in which they were made
    """
    places: dict[Function | Tensor, int] = {}
    below: dict[Function | Tensor, int] = {}  # what each depends on, itself included: a bit for each
    for op in ops:
        sources = [edge[0] for edge in op.edges if edge is not None]
        for each in (*sources, op):
            below.setdefault(each, 1 << places.setdefault(each, len(places)))
        for each in sources:
            below[op] |= below[each]
    found: dict[tuple[Function, int], str] = {}
    for op in reversed(ops):
        ways = _ways(op, below)
        if ways is None:
            continue
        by_way = {SKIP: below[ways[SKIP]] & ~below[ways[BRANCH]], BRANCH: below[ways[BRANCH]] & ~below[ways[SKIP]]}
        for index, edge in enumerate(op.edges):
            if edge is not None:
                found[op, index] = SKIP if edge[0] is ways[SKIP] else BRANCH
        for inner in ops:
            for role, members in by_way.items():
                if members >> places[inner] & 1:
                    found.update({(inner, index): role for index in range(len(inner.edges))})
    return found


def _ways(op: Function, below: dict[Function | Tensor, int]) -> dict[str, Function | Tensor] | None:
    """What is carried over and what is added to it; None where op is no residual sum."""
    ends = [edge[0] for edge in op.edges if edge is not None]
    if len(ends) != 2 or ends[0] is ends[1]:
        return None
    x, f = ends
    if op_of(op) is ResidualAdd:
        return {SKIP: x, BRANCH: f}
    if op_of(op) is Add and below[x] & ~below[f] == 0:
        return {SKIP: x, BRANCH: f}
    if op_of(op) is Add and below[f] & ~below[x] == 0:
        return {SKIP: f, BRANCH: x}
    return None
