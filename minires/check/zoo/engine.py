"""The museum of broken engines: every walk backward here runs, and every one is wrong in one way.

Each takes an op when it thinks its turn has come, asks its `backward`, and hands the gradients on. What differs is
when the turn comes, what has arrived by then, and who owns the arrays. What is wrong beside the walk (shapes, dtypes,
memory, what is on the tape) stands in `engine_around.py`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from minires.backend import Array
from minires.check.bug import bug
from minires.engine import Edge, Function, Tensor, _accumulate, _alive, _run_backward, _seed, backpropagate

Deliver = Callable[[Tensor, Array, bool], None]

# --- when an op's turn comes


@bug(
    None,
    symptom="each block of a residual net doubles the time of a step: 8 blocks are slow, 20 never end; yet all "
    "gradients are right",
    killed_by="backward_runs_each_op_exactly_once",
)
class OncePerPath:
    """walk(op, g): for each input, walk(its op, its share of g). Right is one call an op, after all of g has arrived.

    A stack of n diamonds has 2^n paths, and each is walked on its own. SmallPebble makes 6, 30, 510 and 8190
    calls for a skip depth of 2, 4, 8 and 12; TinyTorch of December 2025 had the same recursion.
    """

    @staticmethod
    def backpropagate(root: Tensor, grad: Any, *, retain_graph: bool = False, deliver: Deliver) -> None:
        reached: set[Function] = set()

        def walk(receiver: Function | Tensor, output: int, g: Array) -> None:
            if isinstance(receiver, Tensor):
                deliver(receiver, g, False)
                return
            reached.add(receiver)
            for edge, gx in _turn(receiver, _slots(receiver, output, g)):
                walk(edge.receiver, edge.output, gx)

        walk(root.op or root, root.index, _seed(root, grad))
        _free(reached, retain_graph)


@bug(
    None,
    symptom="the first exercises pass; where a skip is shorter than its branch, all that lies below gets the skip's "
    "gradient alone",
    killed_by="where_a_short_path_meets_a_long_one_the_gradient_waits_for_both",
)
class BreadthFirst:
    """Takes ops from a queue, nearest to the loss first. Right: an op waits for all that use its output.

    What arrives after an op's turn is added to its gradient and never passed on. The question "why topological
    order?" is the most repeated one about small engines: micrograd #2 (its first version was wrong on reused nodes).
    """

    @staticmethod
    def backpropagate(root: Tensor, grad: Any, *, retain_graph: bool = False, deliver: Deliver) -> None:
        if root.op is None:
            return deliver(root, _seed(root, grad), True)
        arrived = {root.op: _slots(root.op, root.index, _seed(root, grad))}
        queue = deque([root.op])
        while queue:
            op = queue.popleft()
            for edge, gx in _turn(op, arrived[op]):
                if isinstance(edge.receiver, Tensor):
                    deliver(edge.receiver, gx, False)
                elif edge.receiver in arrived:
                    _add(arrived[edge.receiver], edge.output, gx)
                else:
                    arrived[edge.receiver] = _slots(edge.receiver, edge.output, gx)
                    queue.append(edge.receiver)
        return _free(arrived, retain_graph)


@bug(
    None,
    symptom="fast at last; but a net with skips learns as if it had none: of two paths that meet one counts",
    killed_by="both_sides_of_a_diamond_reach_what_is_below",
)
class VisitedOnce:
    """The recursion along paths with a set of visited ops to make it fast: whoever comes second to an op is sent away.

    Right is to visit once, but after everybody has come. The usual first cure for `OncePerPath`.
    """

    @staticmethod
    def backpropagate(root: Tensor, grad: Any, *, retain_graph: bool = False, deliver: Deliver) -> None:
        visited: set[Function] = set()
        stack: list[tuple[Function | Tensor, int, Array]] = [(root.op or root, root.index, _seed(root, grad))]
        while stack:
            receiver, output, g = stack.pop()
            if isinstance(receiver, Tensor):
                deliver(receiver, g, False)
            elif receiver not in visited:
                visited.add(receiver)
                stack += [(e.receiver, e.output, gx) for e, gx in _turn(receiver, _slots(receiver, output, g))]
        _free(visited, retain_graph)


@bug(
    None,
    symptom="gradients grow with every block towards the input, and only where the net has skips",
    killed_by="a_gradient_is_the_sum_over_all_paths",
)
class TurnAtEveryArrival:
    """Whenever something arrives, the op passes on all that has arrived so far: g1, then g1 + g2, so 2 g1 + g2.

    Right is g1 + g2, once. (Passing on g1, then g2, would give right numbers at an exponential price.)
    """

    @staticmethod
    def backpropagate(root: Tensor, grad: Any, *, retain_graph: bool = False, deliver: Deliver) -> None:
        if root.op is None:
            return deliver(root, _seed(root, grad), True)
        arrived = {root.op: _slots(root.op, root.index, _seed(root, grad))}
        queue = deque([root.op])
        while queue:
            op = queue.popleft()
            for edge, gx in _turn(op, arrived[op]):
                if isinstance(edge.receiver, Tensor):
                    deliver(edge.receiver, gx, False)
                    continue
                _add(arrived.setdefault(edge.receiver, _slots(edge.receiver)), edge.output, gx)
                queue.append(edge.receiver)
        return _free(arrived, retain_graph)


@bug(
    None,
    symptom="RecursionError, on deep nets and long sequences alone; a higher limit only moves the depth where it comes",
    killed_by="a_chain_of_5000_ops_needs_no_recursion",
)
class RecursiveTopologicalSort:
    """The textbook's depth-first sort, a call within a call for each op on the longest path. Right is a loop.

    Every number is right. micrograd dies of it at 1,200 chained additions, MyGrad at 3,000; a ResNet-1202 is some
    4,200 ops deep.
    """

    @staticmethod
    def backpropagate(root: Tensor, grad: Any, *, retain_graph: bool = False, deliver: Deliver) -> None:
        if root.op is None:
            return deliver(root, _seed(root, grad), True)
        order: dict[Function, None] = {}

        def sort(op: Function) -> None:
            for edge in op.edges:
                if edge is not None and isinstance(edge[0], Function) and edge[0] not in order:
                    sort(edge[0])
            order[_alive(op)] = None

        sort(root.op)
        arrived = {op: _slots(op) for op in order}
        arrived[root.op][root.index] = _seed(root, grad)
        for op in reversed(order):
            for edge, gx in _turn(op, arrived[op]):
                if isinstance(edge.receiver, Tensor):
                    deliver(edge.receiver, gx, False)
                else:
                    _add(arrived[edge.receiver], edge.output, gx)
        return _free(order, retain_graph)


# --- where gradients meet


@bug(
    None,
    symptom="the loss falls, only slower: wherever a value is used twice, one of its uses trains nothing",
    killed_by="a_value_used_k_times_gets_the_sum_of_k_gradients",
)
class LastOneWins:
    """g = gx where a second gradient arrives at an op, instead of g = g + gx: the chain rule's sum is gone.

    The one character between `=` and `+=`. Right for every net without fan-out, as the first exercises are.
    """

    @staticmethod
    def backpropagate(root: Tensor, grad: Any, *, retain_graph: bool = False, deliver: Deliver) -> None:
        def assign(slots: list[Any], output: int, gx: Array) -> None:
            slots[output] = gx

        _by_serial(root, grad, retain_graph, deliver, assign)


@bug(
    None,
    symptom="right in most nets; now and then a gradient contains a part of its neighbor's, depending on the order in "
    "which the lines of forward were written",
    killed_by="gradients_that_meet_are_not_added_in_place",
)
class SharedBuffer:
    """g += gx into the array that came first. y = a + b hands one array gy to both, so what a gets later, b gets too.

    Right is to add out of place, or into a buffer that the engine itself has made.
    """

    @staticmethod
    def backpropagate(root: Tensor, grad: Any, *, retain_graph: bool = False, deliver: Deliver) -> None:
        def add_in_place(slots: list[Any], output: int, gx: Array) -> None:
            if slots[output] is None:
                slots[output] = gx
            elif slots[output].flags.writeable:
                slots[output] += gx
            else:
                slots[output] = slots[output] + gx

        _by_serial(root, grad, retain_graph, deliver, add_in_place)


@bug(
    None,
    symptom="backward called twice on one graph gives 36 where 24 is right; training with a fresh graph each step "
    "never shows it",
    killed_by="a_retained_graphs_second_backward_gives_the_same_gradient",
)
class StaleInteriorGradients:
    """Keeps what arrived at an op on the op, and the next walk adds to it. Right: every walk starts from nothing.

    The second walk passes on 2 g where it should pass on g, so after two walks the leaf below holds 3 g instead of 2 g,
    and one that lies deeper still more. micrograd: 36 for 24 (pull request 102).
    """

    @staticmethod
    def backpropagate(root: Tensor, grad: Any, *, retain_graph: bool = False, deliver: Deliver) -> None:
        def kept(op: Function) -> list[Any]:
            return vars(op).setdefault("kept", _slots(op))

        if root.op is not None and not root.op.freed:
            vars(root.op).pop("kept", None)  # the root's own gradient is assigned, not added to
        _by_serial(root, grad, retain_graph, deliver, _add, kept)


@bug(
    None,
    symptom="a weight that is used twice (tied embeddings, a recurrent cell) learns from one of its uses alone",
    killed_by="a_leaf_used_k_times_gets_the_sum_of_k_gradients",
)
class LeafOverwritten:
    """leaf.grad = gx instead of leaf.grad = leaf.grad + gx.

    The same character as in `LastOneWins`, at the leaves, where walks of a tape and not of a graph tend to have it.
    """

    @staticmethod
    def _accumulate(leaf: Tensor, gradient: Array, owned: bool) -> None:
        leaf.grad = gradient if owned else gradient.copy()


@bug(
    None,
    symptom="accumulating over several small batches trains on the last one alone, with a loss curve that looks noisy",
    killed_by="two_backwards_accumulate_into_grad",
)
class EveryWalkStartsAnew:
    """Sums a leaf's gradient within one walk, and then .grad = that sum instead of .grad = .grad + that sum.

    Convenient, since nobody has to call zero_grad; but two losses can no longer be added by two backwards.
    """

    @staticmethod
    def backpropagate(root: Tensor, grad: Any, *, retain_graph: bool = False, deliver: Deliver) -> None:
        reached: set[Tensor] = set()

        def anew(leaf: Tensor, gradient: Array, owned: bool) -> None:
            if leaf not in reached:
                leaf.grad = None
                reached.add(leaf)
            deliver(leaf, gradient, owned)

        backpropagate(root, grad, retain_graph=retain_graph, deliver=anew)


# --- what the walks are made of


def _slots(op: Function, output: int = 0, g: Array | None = None) -> list[Any]:
    """Room for one gradient for each output of the op."""
    slots: list[Any] = [None] * len(_alive(op).outputs)
    slots[output] = g
    return slots


def _add(slots: list[Any], output: int, gx: Array) -> None:
    slots[output] = gx if slots[output] is None else slots[output] + gx


def _turn(op: Function, gys: list[Any]) -> Iterator[tuple[Edge, Array]]:
    """What the op hands back, and to whom."""
    for t in op.retained:
        if gys[t.index] is not None:
            _accumulate(t, gys[t.index], False)
    op._check_saved()
    for i, (edge, gx) in enumerate(zip(op.edges, _run_backward(op, list(gys)), strict=True)):
        if edge is not None and gx is not None:
            yield Edge(op, i, *edge), gx


def _free(ops: Iterable[Function], retain_graph: bool) -> None:
    for op in () if retain_graph else list(ops):
        op._free()


def _by_serial(
    root: Tensor,
    grad: Any,
    retain_graph: bool,
    deliver: Deliver,
    meet: Callable[[list[Any], int, Array], None],
    room: Callable[[Function], list[Any]] = _slots,
) -> None:
    """The right order; how gradients meet is the caller's."""
    if root.op is None:
        return deliver(root, _seed(root, grad), True)
    arrived = {root.op: room(_alive(root.op))}
    arrived[root.op][root.index] = _seed(root, grad)
    heap = [(-root.op.serial, root.op)]
    while heap:
        op = heapq.heappop(heap)[1]
        for edge, gx in _turn(op, arrived[op]):
            if isinstance(edge.receiver, Tensor):
                deliver(edge.receiver, gx, False)
                continue
            if edge.receiver not in arrived:
                arrived[edge.receiver] = room(_alive(edge.receiver))
                heapq.heappush(heap, (-edge.receiver.serial, edge.receiver))
            meet(arrived[edge.receiver], edge.output, gx)
    return _free(arrived, retain_graph)
