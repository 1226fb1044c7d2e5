"""Laws of the walk backward: in which order, how often, and what happens where gradients meet.

What stands around the walk (shapes, dtypes, memory, what is on the tape) has its laws in `engine_around.py`.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minires import functional as F
from minires.backend import Array
from minires.check import pathsum
from minires.check.draw import Draw
from minires.check.evidence import CheckError
from minires.check.law import law, pull, require, same, same_bits
from minires.engine import Function, Tensor

DEEP = 5000

# --- order, and how often


@law()
def a_gradient_is_the_sum_over_all_paths(draw: Draw) -> None:
    """gx = the sum over all paths from y to x of gy J_1 ... J_n. Bauer 1974, Computational Graphs and Rounding Error.

    On a random graph with fan-out, reuse and views, against Jacobians that know nothing of backward.
    """
    leaves, y = _graph(draw, 8)
    gy = draw.normal(*y.t.shape)
    y.t.backward(gy)
    for x in leaves:
        _is_path_sum(x, y, gy)


@law()
def a_stack_of_diamonds_has_the_gradient_of_all_its_paths(draw: Draw) -> None:
    """x_(k+1) = x_k + tanh(c_k x_k), each diamond perhaps within another: 2^n paths, each counted once."""
    x = Twin.leaf(draw.normal(draw.size()))
    y = x
    for _ in range(draw.integer(1, 3)):
        c = draw.normal(1)
        branch = _made(lambda v, c=c: F.tanh(v * c), lambda v, c=c: np.tanh(v * c), y)
        if draw.flag():
            branch = _made(operator.add, operator.add, branch, _made(F.tanh, np.tanh, branch))
        y = _made(F.residual_add, operator.add, y, branch)
    gy = draw.normal(*y.t.shape)
    y.t.backward(gy)
    require(pathsum.count(y.node, x.node) >= 2, "the graph has no diamond")
    _is_path_sum(x, y, gy)


@law()
def backward_runs_each_op_exactly_once(draw: Draw) -> None:
    """As many calls of a `backward` as there are ops, though there are 2^20 paths.

    Reverse mode costs a small multiple of forward. Griewank and Walther 2008, Evaluating Derivatives, section 4.
    """
    x = Tensor(draw.normal(2), requires_grad=True)
    y = F.neg(x)
    for _ in range(20):
        y = F.residual_add(y, F.tanh(y)) if draw.flag() else y + F.neg(y) * 0.5
    calls = _counted(y)
    y.backward(draw.normal(2))
    require(calls and set(calls.values()) == {1}, "an op on the tape was never called")


@law()
def only_what_leads_to_the_root_is_walked(draw: Draw) -> None:
    """What was computed from x and not used for y is not called, and adds nothing to x's gradient."""
    x = Tensor(draw.normal(3), requires_grad=True)
    a = F.tanh(x)
    unused = F.exp(a) * x
    y, gy = F.neg(a), draw.normal(3)
    calls = _counted(unused)
    y.backward(gy)
    require(not any(calls[op] for op in calls if op is not a.op), "an op that doesn't lead to the root was called")
    same(x.grad, -gy * (1 - a.data * a.data), "gx")


@law()
def a_chain_of_5000_ops_needs_no_recursion(draw: Draw) -> None:
    """Depth costs memory on the heap and not on the stack: Python's own limit is some 1,000 calls.

    A ResNet-1202 is a chain of about 4,200 ops.
    """
    x = Tensor(draw.normal(1), requires_grad=True)
    gy = draw.normal(1)
    y = x
    for _ in range(DEEP):
        y = F.neg(y)
    y.backward(gy)
    same_bits(x.grad, gy, "the gradient past an even number of minus signs")


@law()
def where_a_short_path_meets_a_long_one_the_gradient_waits_for_both(draw: Draw) -> None:
    """y = a + f_n(... f_1(a)): what lies below a gets one gradient, complete, whichever path is shorter or older."""
    d = draw.size()
    x = Twin.leaf(draw.normal(d))
    a = _made(F.tanh, np.tanh, x)
    long = a
    for _ in range(draw.integer(2, 5)):
        c = draw.positive(d)
        long = _made(lambda v, c=c: F.tanh(v * c), lambda v, c=c: np.tanh(v * c), long)
    pair = (long, a) if draw.flag() else (a, long)
    y = _made(operator.add, operator.add, *pair)
    calls = _counted(y.t)
    gy = draw.normal(d)
    y.t.backward(gy)
    require(set(calls.values()) == {1}, "an op on the tape was never called")
    _is_path_sum(x, y, gy)


# --- where gradients meet


@law()
def both_sides_of_a_diamond_reach_what_is_below(draw: Draw) -> None:
    """a = -x, y = a b + a c: gx = -(b + c) gy."""
    d = draw.size()
    b, c, gy = draw.positive(d), draw.positive(d), draw.normal(d)

    def diamond(x: Tensor) -> Tensor:
        a = F.neg(x)
        return a * b + a * c

    _, (gx,) = pull(diamond, draw.normal(d), gy=gy)
    same(gx, -(b + c) * gy, "gx = -(b + c) gy")


@law()
def a_value_used_k_times_gets_the_sum_of_k_gradients(draw: Draw) -> None:
    """a = tanh(x), y = sum_k c_k a: ga = sum_k c_k gy. The chain rule of several variables."""
    d = draw.size()
    x, gy = draw.normal(d), draw.normal(d)
    weights = [draw.positive(d) for _ in range(draw.integer(2, 5))]

    def fanned(x: Tensor) -> Tensor:
        a = F.tanh(x)
        return sum((a * c for c in weights[1:]), a * weights[0])

    _, (gx,) = pull(fanned, x, gy=gy)
    same(gx, sum(weights) * gy * (1 - np.tanh(x) ** 2), "gx = sum_k c_k gy tanh'(x)")


@law()
def a_leaf_used_k_times_gets_the_sum_of_k_gradients(draw: Draw) -> None:
    """y = sum_k c_k x: gx = sum_k c_k gy, as for a weight that is tied; and y = x x has gx = 2 x gy."""
    d = draw.size()
    x, gy = draw.normal(d), draw.normal(d)
    weights = [draw.positive(d) for _ in range(draw.integer(2, 5))]
    _, (gx,) = pull(lambda x: sum((x * c for c in weights[1:]), x * weights[0]), x, gy=gy)
    same(gx, sum(weights) * gy, "gx = sum_k c_k gy")
    _, (gx,) = pull(lambda x: x * x, x, gy=gy)
    same(gx, 2 * x * gy, "gx = 2 x gy")


@law()
def two_backwards_accumulate_into_grad(draw: Draw) -> None:
    """After backward of two losses .grad holds the gradient of their sum, which two half batches rely on."""
    d = draw.size()
    x, u, v = Tensor(draw.normal(d), requires_grad=True), draw.normal(d), draw.normal(d)
    F.tanh(x).backward(u)
    (x * x).backward(v)
    same(x.grad, (1 - np.tanh(x.data) ** 2) * u + 2 * x.data * v, ".grad after two backwards", scale=1.0)


@law()
def a_retained_graphs_second_backward_gives_the_same_gradient(draw: Draw) -> None:
    """The tape keeps what forward saved and nothing that backward passed: the second gradient has the first one's bits.

    micrograd gives 36 where 24 is right (pull request 102).
    """
    leaves, y = _graph(draw, 6)
    deeper = F.tanh(F.neg(y.t))  # whatever was drawn, some tensor stands between root and leaf
    gy = draw.normal(*deeper.shape)
    deeper.backward(gy, retain_graph=True)
    first = [x.t.grad for x in leaves]
    for x in leaves:
        x.t.grad = None
    deeper.backward(gy)
    for x, g in zip(leaves, first, strict=True):
        require((x.t.grad is None) == (g is None), "only one of two backwards reached a leaf")
        if g is not None:
            same_bits(x.t.grad, g, "the second gradient")


@law()
def gradients_that_meet_are_not_added_in_place(draw: Draw) -> None:
    """s = a + b hands one array to both; what a gets besides, through z = c a, must not turn up in b's gradient."""
    d = draw.size()
    x, w, c, gy = draw.normal(d), draw.normal(d), draw.positive(d), draw.normal(d)

    def meeting(x: Tensor, w: Tensor) -> Tensor:
        a, b = F.neg(x), F.neg(w)
        z = a * c
        s = a + b if draw.flag() else b + a
        return z + s

    _, (gx, gw) = pull(meeting, x, w, gy=gy)
    same(gx, -(1 + c) * gy, "gx = -(1 + c) gy")
    same_bits(gw, -gy, "gw = -gy")


# --- what the laws are made of


@dataclass(frozen=True, eq=False)
class Twin:
    """One value in both engines."""

    t: Tensor
    node: pathsum.Node

    @classmethod
    def leaf(cls, x: Array) -> Twin:
        """A leaf that wants a gradient."""
        return cls(Tensor(x, requires_grad=True), pathsum.Node(x))


def _made(ours: Callable[..., Tensor], plain: Callable[..., Array], *twins: Twin) -> Twin:
    return Twin(ours(*(w.t for w in twins)), pathsum.step(plain, *(w.node for w in twins)))


def _is_path_sum(x: Twin, y: Twin, gy: Array) -> None:
    terms = pathsum.terms(y.node, x.node, gy)
    expected = pathsum.gradient(y.node, x.node, gy)
    size = max((float(np.abs(term).max(initial=0.0)) for term in terms), default=1.0)
    got = np.zeros(expected.shape) if x.t.grad is None else x.t.grad
    same(got, expected, f"the sum over {len(terms)} paths", scale=max(size, 1e-3))


ONE: Sequence[tuple[Callable[..., Any], Callable[..., Any]]] = (
    (F.tanh, np.tanh),
    (F.neg, operator.neg),
    (lambda v: v * v, lambda v: v * v),
    (lambda v: v[::-1], lambda v: v[::-1]),
    (lambda v: F.unsqueeze(v, 0).sum(0), lambda v: v[None].sum(0)),
    (lambda v: F.expand(v.mean(), v.shape), lambda v: np.broadcast_to(v.mean(), v.shape)),
)
TWO: Sequence[tuple[Callable[..., Any], Callable[..., Any]]] = (
    (operator.add, operator.add),
    (operator.mul, operator.mul),
    (operator.sub, operator.sub),
    (F.residual_add, operator.add),
)


def _graph(draw: Draw, steps: int) -> tuple[list[Twin], Twin]:
    """A random graph on vectors of one length: its leaves, and the value made last."""
    d = draw.size(2, 4)
    leaves = [Twin.leaf(draw.normal(d)) for _ in range(draw.integer(1, 2))]
    made = list(leaves)
    for _ in range(draw.integer(2, steps)):
        near = made[-4:]  # mostly what was made last, so that the graph is deep
        if draw.integer(0, 2):
            ours, plain = draw.choice(TWO)
            made.append(_made(ours, plain, draw.choice(near), draw.choice(made)))
        else:
            ours, plain = draw.choice(ONE)
            made.append(_made(ours, plain, draw.choice(near)))
    return leaves, _made(operator.add, operator.add, made[-1], made[-2])


def _counted(root: Tensor) -> Counter[Function]:
    """How often each op that the root depends on is called from now on. A second call raises CheckError."""
    calls: Counter[Function] = Counter()
    pending: list[Any] = [root.op]
    while pending:
        op = pending.pop()
        if not isinstance(op, Function) or op in calls:
            continue
        calls[op] = 0
        pending += [edge[0] for edge in op.edges if edge is not None]
        vars(op)["backward"] = _counting(op, calls)
    return calls


def _counting(op: Function, calls: Counter[Function]) -> Callable[..., Any]:
    formula = op.backward

    def backward(*gys: Array) -> Any:
        calls[op] += 1
        if calls[op] > 1:
            raise CheckError(f"backward of {op.name} was called a second time in one walk")
        return formula(*gys)

    return backward
