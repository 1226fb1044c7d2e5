"""What backward holds while it walks: nothing that has been used, and of a folded op nothing before its turn."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

import minires as mr
from minires import functional as F
from minires.engine import Folded, Function, Tensor, backpropagate
from minires.errors import GraphError
from minires.switches import record_with

rng = np.random.default_rng(23)
SAVED, HANDED, SEEN = [], [], []  # weak references to what every Spy saved and handed back, and what it saw


class Spy(Function):
    """2 x; saves an array of its own, hands back one of its own, and looks in backward at what is still alive."""

    def forward(self, x):
        self.kept = x + 1
        SAVED.append(weakref.ref(self.kept))
        return 2 * x

    def backward(self, gy):
        alive = [[ref() is not None for ref in refs] for refs in (SAVED, HANDED)]
        SEEN.append(alive)
        gx = 2 * gy
        HANDED.append(weakref.ref(gx))
        return gx


@pytest.fixture(autouse=True)
def _no_cycles():
    """Memory must be free without the garbage collector's help."""
    gc.collect()
    gc.disable()
    for refs in (SAVED, HANDED, SEEN):
        refs.clear()
    yield
    gc.enable()


def leaf(*shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


# --- freed as soon as used -----------------------------------------------------------------------


@pytest.mark.parametrize("retain_graph", [False, True])
def test_when_an_op_takes_its_turn_nothing_that_later_ops_saved_or_were_given_is_alive(retain_graph):
    n = 6
    y = leaf(3)
    for _ in range(n):
        y = Spy.apply(y)
    y.backward(rng.standard_normal(3), retain_graph=retain_graph)
    assert len(SEEN) == n
    for turn, (saved, handed) in enumerate(SEEN):  # op n - 1 - turn takes its turn
        assert saved == [True] * (n - turn) + [retain_graph] * turn
        # its own gradient is alive, which is what the op before it handed back
        assert handed == [False] * (turn - 1) + [True] * (turn > 0)


def test_a_gradient_for_a_leaf_is_gone_before_the_next_ops_turn():
    class WithWeight(Function):
        def forward(self, x, w):
            return x + w

        def backward(self, gy):
            gw = 1 * gy
            HANDED.append(weakref.ref(gw))
            return 1 * gy, gw

    x, w = leaf(3), leaf(3)
    y = WithWeight.apply(Spy.apply(x), w)
    y.backward(rng.standard_normal(3))
    assert SEEN[0][1] == [False]


def test_what_arrived_at_an_op_is_gone_when_its_gradients_are_handed_on():
    arrived, alive = [], []

    class Last(Function):
        def forward(self, x):
            return 2 * x

        def backward(self, gy):
            arrived.append(weakref.ref(gy))
            return 2 * gy

    y = Last.apply(leaf(3))
    backpropagate(y, rng.standard_normal(3), deliver=lambda *_: alive.append(arrived[0]() is not None))
    assert alive == [False]


def test_gradients_that_met_are_gone_with_the_op_that_summed_them():
    x = leaf(3)
    a = Spy.apply(x)
    y = F.add(F.tanh(a), F.exp(a))
    sums = []
    with mr.watch(lambda edge, g: sums.append(weakref.ref(g)) if edge.receiver is a.op else None):
        y.backward(rng.standard_normal(3))
    assert len(sums) == 2
    assert not any(ref() is not None for ref in sums)


def test_the_cotangent_does_not_outlive_the_first_op():
    seeds = []

    class First(Function):
        def forward(self, x):
            return 2 * x

        def backward(self, gy):
            seeds.append(weakref.ref(gy))
            return 2 * gy

    class Second(Function):
        def forward(self, x):
            return 2 * x

        def backward(self, gy):
            seeds.append(seeds[0]() is not None)
            return 2 * gy

    First.apply(Second.apply(leaf(3))).backward(rng.standard_normal(3))
    assert seeds[1] is False


def test_an_interior_tensor_that_keeps_its_gradient_dies_with_its_last_name():
    x = leaf(3)
    a = F.tanh(x).retain_grad()
    gy = rng.standard_normal(3)
    F.exp(a).backward(gy)
    np.testing.assert_allclose(a.grad, gy * np.exp(a.data))
    alive = weakref.ref(a)
    del a
    assert alive() is None


def test_a_graph_without_backward_dies_with_its_root_however_deep():
    x = leaf(2)
    y, refs = x, []
    for _ in range(3000):
        y = F.tanh(y)
        refs.append(weakref.ref(y.data))
    del y
    assert not any(ref() is not None for ref in refs)


def test_the_peak_of_a_chain_is_its_activations_and_a_few_arrays_of_the_op_at_work():
    n, size = 24, 1 << 16
    with mr.formulas_only():
        x = Tensor(rng.standard_normal(size), requires_grad=True)
        unit = x.data.nbytes
        tracemalloc.start()
        try:
            y = x
            for _ in range(n):
                y = F.tanh(y)
            held, forward = (m / unit for m in tracemalloc.get_traced_memory())
            g = rng.standard_normal(size)
            tracemalloc.reset_peak()
            y.backward(g)
            after, peak = (m / unit for m in tracemalloc.get_traced_memory())
        finally:
            tracemalloc.stop()
    assert held == pytest.approx(n, abs=0.2)
    assert forward <= n + 1.2  # np.tanh writes to its result
    assert peak <= n + 4.2  # the cotangent that was given, gy, and gy (1 - y y) in two steps
    assert after <= 1 + 1 + 1.2  # y, g and x.grad


# --- ops that stand for others ----------------------------------------------------------------------


class Later(Folded):
    """tanh(exp(x)), which is only made when backward comes."""

    def of(self, x):
        self.x = x
        y = mr.Tensor(np.tanh(np.exp(x.data)))
        self.stand_for([y], [(x.op or x, x.index)])
        return y

    def unfold(self):
        y = F.tanh(F.exp(self.x))
        return [(y.op, y.index)]


def test_a_folded_op_is_walked_as_the_ops_it_stands_for():
    x, gy = leaf(4), rng.standard_normal(4)
    Later().of(F.neg(x)).backward(gy)
    got, x.grad = x.grad, None
    F.tanh(F.exp(F.neg(x))).backward(gy)
    assert np.array_equal(got, x.grad)


def test_a_folded_op_waits_for_all_that_its_output_fed_and_is_waited_for():
    x, gy = leaf(4), rng.standard_normal(4)

    def f(folded):
        a = F.neg(x)
        b = Later().of(a) if folded else F.tanh(F.exp(a))
        c = F.mul(b, a)
        F.add(F.mul(c, b), a).backward(gy)
        got, x.grad = x.grad, None
        return got

    assert np.array_equal(f(True), f(False))


def test_a_folded_op_is_used_up_or_retained_like_any_other():
    x, gy = leaf(4), rng.standard_normal(4)
    y = Later().of(x)
    y.backward(gy, retain_graph=True)
    first, x.grad = x.grad, None
    y.backward(gy)
    assert np.array_equal(x.grad, first)
    with pytest.raises(GraphError, match="Later a second time"):
        y.backward(gy)


def test_a_recorder_is_told_of_each_op_that_is_put_on_the_tape_and_of_no_other():
    x, told = leaf(4), []
    with record_with(lambda op, inputs: told.append((op.name, inputs))):
        y = F.mul(x, 2.0)
        with mr.no_grad():
            F.exp(x)
        F.exp(Tensor(np.ones(2)))
    F.exp(x)
    assert [name for name, _ in told] == ["Mul"]
    assert told[0][1][0] is x
    assert y.requires_grad
