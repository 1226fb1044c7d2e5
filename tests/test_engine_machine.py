"""A machine that grows random graphs and walks them backward, beside an engine that sums over all paths.

Whatever hypothesis makes it do, the engine's gradients are the path sums, every op on the way runs exactly once, and
what must be refused is refused. The same machine grows the same graphs in PyTorch. Each engine in the museum of broken
ones makes it fail.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

import minires as mr
from minires import functional as F
from minires.check import pathsum
from minires.check.bug import bugs, planted
from minires.check.laws.engine_around import SavesAView
from minires.engine import Tensor
from minires.errors import GraphError

SHAPES = [(2,), (2, 2), (2, 2), (2, 3), (2, 1), (1, 2), ()]
LARGEST = 12  # elements of a value
PATHS = 60  # from a value down to the leaves
STEPS = 30
DEEP = 2500  # deeper than hypothesis lets Python recurse
NOTHING = multiple()  # what a rule makes that doesn't fit; assume() would give up the whole run

# Each is one op, for tensors (xp is minires' functional), arrays (numpy) and PyTorch's tensors (torch).
ONE = {
    "tanh": lambda xp, v: xp.tanh(v),
    "minus": lambda xp, v: -v,
    "sum": lambda xp, v: v.sum(0) if v.ndim else -v,
    "flatten": lambda xp, v: v.reshape(-1),
    "column": lambda xp, v: v.reshape(-1, 1),
    "transpose": lambda xp, v: v.T if v.ndim == 2 else -v,
    "rest": lambda xp, v: v[1:] if v.ndim and v.shape[0] > 1 else -v,
    "every other": lambda xp, v: v[..., ::2] if v.ndim else -v,
}
TWO = {
    "plus": lambda xp, v, w: v + w,
    "minus": lambda xp, v, w: v - w,
    "times": lambda xp, v, w: v * w,
    "residual": lambda xp, v, w: F.residual_add(v, w) if xp is F and v.shape == w.shape else v + w,
}


@dataclass(eq=False)
class Value:
    """A tensor, the path-sum node of the same value, PyTorch's, and what the book says of how it was made."""

    t: Tensor
    node: pathsum.Node
    peer: object
    made_of: tuple  # the values that it carries a gradient to, as often as they were used
    maker: object  # one for all outputs of an op; None for a leaf or a constant
    ops: int  # how many ops the maker is
    paths: int
    expected: np.ndarray | None = None  # what .grad should hold
    scale: float = 0.0  # the largest term that went into it


class Graphs(RuleBasedStateMachine):
    values = Bundle("values")
    peer = None  # the torch module, for the machine against it
    rarely = 7  # of 8 times a deep chain is asked for, it is refused: it takes its time

    def __init__(self):
        super().__init__()
        self.keepers = []  # leaves, and who was asked to keep a gradient
        self.interior = []
        self.spent = set()
        self.held = []
        self.calls = Counter()
        self.deep = False

    # --- making values

    @rule(target=values, shape=st.sampled_from(SHAPES), seed=st.integers(0, 99))
    def leaf(self, shape, seed):
        return self._leaf(np.random.default_rng(seed).standard_normal(shape))

    @rule(target=values, shape=st.sampled_from(SHAPES), seed=st.integers(0, 99))
    def float32_leaf_times_a_float64_constant(self, shape, seed):
        rng = np.random.default_rng(seed)
        x, w = np.asarray(rng.standard_normal(shape), np.float32), np.asarray(rng.standard_normal(shape))
        return self._apply(lambda xp, v: v * (xp.asarray(w) if xp is self.peer else w), self._leaf(x))

    @rule(target=values, v=values, name=st.sampled_from(sorted(ONE)))
    def unary(self, v, name):
        return self._apply(ONE[name], v)

    @rule(target=values, v=values, w=values, name=st.sampled_from(sorted(TWO)))
    def binary(self, v, w, name):
        return self._apply(TWO[name], v, w if _broadcast(v.t.shape, w.t.shape) else v)

    @rule(target=values, v=values, name=st.sampled_from(sorted(TWO)), cut=st.integers(0, 2), seed=st.integers(0, 99))
    def binary_with_a_new_leaf(self, v, name, cut, seed):
        """A leaf of the same shape, or one that is repeated along the first axis, or the last."""
        shape = [v.t.shape, v.t.shape[1:], (*v.t.shape[:-1], 1)[: v.t.ndim]][cut]
        return self._apply(TWO[name], v, self._leaf(np.random.default_rng(seed).standard_normal(shape)))

    @precondition(lambda self: len(self.interior) > 2)
    @rule(target=values, name=st.sampled_from(sorted(TWO)), back=st.integers(2, 3))
    def meet(self, name, back):
        """What was made last, and a little before."""
        v, w = self.interior[-1], self.interior[-back]
        return self._apply(TWO[name], v, w if _broadcast(v.t.shape, w.t.shape) else v)

    @rule(target=values, v=values, c=st.sampled_from([0.5, -1.5]))
    def diamond(self, v, c):
        branch = self._apply(lambda xp, x: x * c, v)
        return self._apply(TWO["residual"], v, branch) if isinstance(branch, Value) else NOTHING

    @rule(target=values, v=values, used=st.sampled_from([(0,), (1,), (0, 1)]))
    def split(self, v, used):
        n = v.t.shape[-1] if v.t.ndim else 0
        if n % 2 or not n:
            return NOTHING
        maker, pieces = object(), F.split(v.t, n // 2, -1)
        peers = v.peer.split(n // 2, -1) if self.peer else (None, None)
        halves = [slice(0, n // 2), slice(n // 2, n)]
        nodes = [self._step(lambda x, cut=cut: x[..., cut], v) for cut in halves]
        made = [self._enter(pieces[k], nodes[k], peers[k], (v,), maker) for k in used]
        return multiple(*(piece for piece in made if isinstance(piece, Value)))

    @rule(target=values, v=values)
    def pair(self, v):
        """The same twice, side by side: what split takes apart."""
        if not v.t.ndim or 2 * v.t.size > LARGEST:
            return NOTHING

        def join(xp, a, b):
            return F.cat([a, b], -1) if xp is F else xp.concatenate([a, b], -1)

        return self._apply(join, v, v)

    @rule(target=values, v=values)
    def island(self, v):
        """Made under no_grad, so a constant."""
        with mr.no_grad():
            t = F.tanh(v.t)
        return self._constant(t, v.peer if v.peer is None else self.peer.tanh(v.peer).detach())

    @rule(target=values, v=values)
    def detached(self, v):
        return self._constant(v.t.detach(), v.peer if v.peer is None else v.peer.detach())

    @precondition(lambda self: not self.deep)
    @rule(target=values, v=values, now=st.integers(0, 7))
    def chain(self, v, now):
        """Deeper than a recursive engine can go."""
        if not v.paths or now < self.rarely:
            return NOTHING
        self.deep = True
        t = v.t
        for _ in range(DEEP):
            t = self._counted(F.neg(t))
        peer = None if v.peer is None else v.peer.clone()
        return self._enter(t, self._step(lambda x: x, v), peer, (v,), object(), ops=DEEP)

    # --- walking

    @rule(v=values, retain=st.booleans(), seed=st.integers(0, 99))
    def backward(self, v, retain, seed):
        self._backward(v, retain, seed)

    @precondition(lambda self: self.interior)
    @rule(retain=st.booleans(), seed=st.integers(0, 99))
    def backward_of_a_sum(self, retain, seed):
        """Of all values that have the last one's shape: leaves, and whatever has not been walked yet."""
        total = self.interior[-1]
        for v in (*self.keepers, *self.interior[-6:]):
            if v.t.shape == total.t.shape and v.t.dtype == np.float64 and v.maker not in self.spent:
                more = self._apply(TWO["plus"], total, v)
                total = more if isinstance(more, Value) else total
        self._backward(total, retain, seed)

    @rule(v=values)
    def backward_without_a_cotangent(self, v):
        self.calls.clear()
        if v.t.size != 1:
            _is_refused(v.t.backward)

    @rule()
    def zero_grad(self):
        for v in self.keepers:
            v.t.grad, v.expected, v.scale = None, None, 0.0
            if self.peer:
                v.peer.grad = None

    @rule()
    def hold_gradients(self):
        self.held += [(v.t.grad, v.t.grad.copy()) for v in self.keepers if v.t.grad is not None]

    @rule(v=values)
    def keep_gradient(self, v):
        if v.maker is not None and v not in self.keepers:
            v.t.retain_grad()
            v.t.retain_grad()  # asking twice is asking once
            self.keepers.append(v)
            if self.peer:
                v.peer.retain_grad()

    @rule(shape=st.sampled_from(SHAPES[:5]), how=st.sampled_from(["itself", "view", "twin", "saved view"]))
    def change_a_saved_array(self, shape, how):
        x, w = (Tensor(np.ones(shape), requires_grad=True) for _ in range(2))
        y = SavesAView.apply(w) if how == "saved view" else x * w
        with mr.no_grad():
            changed = F.reshape(w, -1) if how == "view" else w.detach() if how == "twin" else w
            changed.copy_(np.full(changed.shape, 2.0))
        _is_refused(lambda: y.backward(np.ones(y.shape)))

    # --- what holds after every step

    @invariant()
    def gradients_are_path_sums(self):
        for v in self.keepers:
            assert (v.t.grad is None) == (v.expected is None)
            if v.expected is not None:
                assert v.t.grad.dtype == v.t.dtype
                assert v.t.grad.shape == v.t.shape
                _close(v.t.grad, v.expected, v)
                if self.peer:
                    _close(v.t.grad, v.peer.grad.numpy(), v)

    @invariant()
    def only_those_who_were_asked_keep_gradients(self):
        assert all(v.t.grad is None for v in self.interior if v not in self.keepers)

    @invariant()
    def no_two_gradients_share_memory(self):
        grads = [v.t.grad for v in self.keepers if v.t.grad is not None]
        assert not any(np.shares_memory(a, b) for i, a in enumerate(grads) for b in grads[:i])

    @invariant()
    def held_gradients_stay_as_they_were(self):
        assert all(np.array_equal(array, copy) for array, copy in self.held)

    # --- the book

    def _backward(self, v, retain, seed):
        gy = np.random.default_rng(seed).standard_normal(v.t.shape)
        self.calls.clear()
        if not v.paths:
            _is_refused(lambda: v.t.backward(gy))
            return
        values = _reached(v)
        ops = {w.maker: w for w in values if w.maker is not None}
        if self.spent & set(ops):
            _is_refused(lambda: v.t.backward(gy, retain_graph=True))
            self.zero_grad()  # part of the walk may have been delivered
            return
        edges, before = [], gy.copy()
        with mr.watch(lambda edge, g: edges.append(_passing(edge, g))):
            v.t.backward(gy, retain_graph=retain)
        assert np.array_equal(gy, before)
        assert not any(np.shares_memory(gy, w.t.grad) for w in self.keepers if w.t.grad is not None)
        assert set(self.calls.values()) <= {1}
        assert len(self.calls) == sum(w.ops for w in ops.values())
        assert len(edges) == len(set(edges)) == sum(w.ops if w.ops > 1 else len(w.made_of) for w in ops.values())
        if self.peer:
            v.peer.backward(self.peer.tensor(gy), retain_graph=True)
        if not retain:
            self.spent |= set(ops)
        for keeper in set(self.keepers) & values:
            terms = pathsum.terms(v.node, keeper.node, gy)
            keeper.expected = sum(terms, 0.0 if keeper.expected is None else keeper.expected)
            keeper.scale = max([keeper.scale, *(float(np.abs(term).max()) for term in terms)])

    def _leaf(self, x):
        peer = self.peer.tensor(x, requires_grad=True) if self.peer else None
        node = pathsum.Node(x.astype(np.float64))
        v = Value(Tensor(x, requires_grad=True), node, peer, made_of=(), maker=None, ops=0, paths=1)
        self.keepers.append(v)
        return v

    def _constant(self, t, peer):
        assert not t.requires_grad
        return Value(t, pathsum.Node(t.data), peer, made_of=(), maker=None, ops=0, paths=0)

    def _apply(self, f, *arguments):
        t = f(F, *(v.t for v in arguments))
        peer = f(self.peer, *(v.peer for v in arguments)) if self.peer else None
        if not any(v.paths for v in arguments):
            return self._constant(t, peer)
        node = self._step(lambda *values: f(np, *values), *arguments)
        return self._enter(t, node, peer, tuple(v for v in arguments if v.paths), object())

    def _step(self, f, *arguments):
        return pathsum.step(f, *(v.node if v.paths else v.node.value for v in arguments))

    def _enter(self, t, node, peer, made_of, maker, ops=1):
        if not made_of[0].paths:
            return self._constant(t, peer)
        paths = sum(v.paths for v in made_of)
        if paths > PATHS or np.abs(node.value).max() > 10.0:
            return NOTHING
        assert t.requires_grad
        assert np.allclose(t.data, node.value, rtol=1e-12, atol=1e-12)
        v = Value(self._counted(t), node, peer, made_of, maker, ops, paths)
        self.interior.append(v)
        return v

    def _counted(self, t):
        """Counts the calls of the op that made t, for as long as the op lives."""
        op, formula = t.op, type(t.op).backward

        def backward(*gys):
            self.calls[id(op)] += 1
            assert self.calls[id(op)] == 1, "called a second time in one walk"
            return formula(op, *gys)

        vars(op)["backward"] = backward
        return t


def _broadcast(a, b):
    """Whether the two shapes do, and to nothing large."""
    try:
        return np.prod(np.broadcast_shapes(a, b)) <= LARGEST
    except ValueError:
        return False


def _reached(root):
    """The values that the root carries a gradient to, and itself."""
    found, pending = set(), [root]
    while pending:
        v = pending.pop()
        if v not in found:
            found.add(v)
            pending += v.made_of
    return found


def _passing(edge, g):
    to = edge.receiver
    assert (g.shape, g.dtype) == ((to.shape, to.dtype) if isinstance(to, Tensor) else to.outputs[edge.output])
    return edge.op.serial, edge.index


def _is_refused(call):
    with pytest.raises(GraphError):
        call()


def _close(got, expected, v):
    tolerance = 1e-10 if v.t.dtype == np.float64 else 1e-5
    assert np.max(np.abs(got - expected)) <= tolerance * max(v.scale, 1e-3)


def test_gradients_of_random_graphs_are_sums_over_paths():
    run_state_machine_as_test(Graphs, settings=settings(stateful_step_count=STEPS))


def test_gradients_of_random_graphs_are_those_of_pytorch():
    torch = pytest.importorskip("torch")

    class AgainstPyTorch(Graphs):
        peer = torch

    fewer = max(1, settings.default.max_examples // 2)
    run_state_machine_as_test(AgainstPyTorch, settings=settings(max_examples=fewer, stateful_step_count=STEPS))


@pytest.mark.parametrize("bug", [pytest.param(bug, id=bug.name) for bug in bugs() if bug.op is None])
def test_a_broken_engine_makes_the_machine_fail(bug):
    """Without shrinking: that it fails is enough here."""

    class Deeper(Graphs):
        rarely = 5

    only_generate = settings(
        max_examples=1000,
        stateful_step_count=STEPS,
        phases=[Phase.generate],
        derandomize=True,
        report_multiple_bugs=False,
        database=None,
        deadline=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    with planted(bug), pytest.raises((AssertionError, GraphError, RecursionError, pytest.fail.Exception)):
        run_state_machine_as_test(Deeper, settings=only_generate)
