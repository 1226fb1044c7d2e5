"""The engine's contracts, on ops made for the test: the formulas have their own tests."""

import itertools
import sys

import numpy as np
import pytest

import minires as mr
from minires.engine import Function, Tensor, backpropagate, kernel, kernels_of
from minires.errors import GraphError, LibraryError, RequestError

rng = np.random.default_rng(7)


class Plus(Function):
    broadcasts = True

    def forward(self, a, b):
        return a + b

    def backward(self, gy):
        return gy, gy


class Times(Function):
    broadcasts = True

    def forward(self, a, b):
        self.a, self.b = a, b
        return a * b

    def backward(self, gy):
        return gy * self.b, gy * self.a


class Square(Function):
    calls = 0

    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, gy):
        Square.calls += 1
        return 2 * self.x * gy


class Halves(Function):
    """Two outputs: the even and the odd elements."""

    def forward(self, x):
        self.n = x.size
        return x[::2].copy(), x[1::2].copy()

    def backward(self, even, odd):
        gx = self.xp.empty(self.n, even.dtype)
        gx[::2], gx[1::2] = even, odd
        return gx


class Reversed(Function):
    view = True

    def forward(self, x):
        return x[::-1]

    def backward(self, gy):
        return gy[::-1]


def leaf(*shape, dtype=np.float64):
    return Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)


# --- order ---------------------------------------------------------------------------------------


def test_a_chain_of_5000_ops_needs_no_deep_recursion():
    assert sys.getrecursionlimit() <= 1000
    x = leaf(3)
    y = x
    for _ in range(5000):
        y = Plus.apply(y, 1.0)
    g = rng.standard_normal(3)
    y.backward(g)
    assert np.array_equal(x.grad, g)


def test_every_backward_runs_exactly_once_however_many_paths_lead_to_it():
    x = leaf(4)
    y = x
    for _ in range(40):  # 2**40 paths
        y = Plus.apply(y, Square.apply(Times.apply(y, 0.01)))
    Square.calls = 0
    y.backward(rng.standard_normal(4))
    assert Square.calls == 40


def test_the_diamond_adds_the_gradients_of_both_paths():
    x = leaf(5)
    g = rng.standard_normal(5)
    Plus.apply(x, Square.apply(x)).backward(g)  # y = x + x^2
    assert np.allclose(x.grad, (1 + 2 * x.data) * g, rtol=1e-14)


def test_a_gradient_is_complete_before_it_is_passed_on():
    x = leaf(5)
    a = Square.apply(x)
    late = Plus.apply(Square.apply(a), 0.0)  # long path made first, short path last
    y = Plus.apply(late, a)
    g = rng.standard_normal(5)
    y.backward(g)
    assert np.allclose(x.grad, (2 * x.data**2 + 1) * 2 * x.data * g, rtol=1e-13)


def test_a_branch_that_does_not_reach_the_root_is_not_walked():
    x = leaf(3)
    a = Square.apply(x)
    Square.apply(a)
    Square.calls = 0
    a.backward(rng.standard_normal(3))
    assert Square.calls == 1


def test_several_outputs_meet_again_and_an_unused_one_counts_as_zero():
    x = leaf(6)
    even, odd = Halves.apply(x)
    g = rng.standard_normal(3)
    Times.apply(even, odd).backward(g, retain_graph=False)
    expected = np.empty(6)
    expected[::2], expected[1::2] = g * x.data[1::2], g * x.data[::2]
    assert np.allclose(x.grad, expected, rtol=1e-15)

    x = leaf(6)
    even, odd = Halves.apply(x)
    odd.backward(g)
    assert np.array_equal(x.grad[1::2], g)
    assert np.array_equal(x.grad[::2], np.zeros(3))


# --- accumulation and memory -----------------------------------------------------------------------


def test_grad_accumulates_over_backward_calls_and_never_in_an_array_somebody_holds():
    x = leaf(3)
    g = rng.standard_normal(3)
    Square.apply(x).backward(g)
    first = x.grad
    kept = first.copy()
    Square.apply(x).backward(g)
    assert np.array_equal(x.grad, 2 * kept)
    assert np.array_equal(first, kept)


def test_two_leaves_never_share_one_gradient_array_nor_the_cotangent():
    a, b = leaf(3), leaf(3)
    g = rng.standard_normal(3)
    y = Plus.apply(a, b)
    y.backward(g)
    a.grad[:] = 0
    assert np.array_equal(b.grad, g)
    c = leaf(3)
    c.backward(g)
    c.grad[:] = 0
    assert g.all()


def test_the_cotangent_is_never_written_to():
    x = leaf(3)
    g = rng.standard_normal(3)
    kept = g.copy()
    y = Plus.apply(x, x)
    Plus.apply(Plus.apply(y, y), y).backward(g)
    assert np.array_equal(g, kept)
    assert np.allclose(x.grad, 6 * g)


def test_only_leaves_keep_grad_unless_asked():
    x = leaf(3)
    a, b = Square.apply(x), None
    b = Square.apply(a)
    a.retain_grad()
    g = rng.standard_normal(3)
    y = Plus.apply(b, b)
    y.backward(g)
    assert b.grad is None
    assert np.allclose(a.grad, 4 * a.data * g)


def test_saved_arrays_are_freed_as_backward_passes():
    x = leaf(3)
    a = Square.apply(x)
    op = a.op
    assert "x" in vars(op)
    a.backward(rng.standard_normal(3))
    assert vars(op) == {}


# --- shapes and dtypes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b"), [((3, 4), (4,)), ((3, 1), (1, 4)), ((), (2, 3)), ((2, 1, 4), (3, 1)), ((1,), (5, 1)), ((0, 3), (1, 3))]
)
def test_what_broadcasting_repeated_is_summed_back(a, b):
    x, w = leaf(*a), leaf(*b)
    y = Times.apply(x, w)
    g = rng.standard_normal(y.shape)
    y.backward(g)
    full = np.broadcast_shapes(a, b)
    for t, other in ((x, w), (w, x)):
        want = np.zeros(t.shape)
        terms = g * np.broadcast_to(other.data, full)
        for index in np.ndindex(full):
            own = tuple(0 if n == 1 else i for i, n in zip(index[len(full) - t.ndim :], t.shape, strict=True))
            want[own] += terms[index]
        assert t.grad.shape == t.shape
        assert np.allclose(t.grad, want, rtol=1e-13, atol=1e-13)


def test_a_wrong_gradient_shape_is_an_error_where_the_op_does_not_broadcast():
    class Bad(Function):
        def forward(self, x):
            return x

        def backward(self, gy):
            return gy.sum()

    with pytest.raises(GraphError, match=r"backward of Bad returned shape \(\) for input 0, which has shape \(3,\)"):
        Bad.apply(leaf(3)).backward(rng.standard_normal(3))


def test_a_wrong_number_of_gradients_is_an_error():
    class Bad(Function):
        def forward(self, x, w):
            return x * w

        def backward(self, gy):
            return gy

    with pytest.raises(GraphError, match="returned 1 gradients for 2 inputs"):
        Bad.apply(leaf(3), leaf(3)).backward(rng.standard_normal(3))


def test_a_gradient_has_its_inputs_dtype_though_the_op_promoted():
    x, w = leaf(3, dtype=np.float32), leaf(3, dtype=np.float64)
    y = Times.apply(x, w)
    assert y.dtype == np.float64
    y.backward(rng.standard_normal(3))
    assert (x.grad.dtype, w.grad.dtype) == (np.float32, np.float64)


def test_python_scalars_do_not_promote_float32():
    x = leaf(3, dtype=np.float32)
    y = Times.apply(x, 2.5)
    y.backward(rng.standard_normal(3).astype(np.float32))
    assert (y.dtype, x.grad.dtype) == (np.float32, np.float32)


def test_zero_dimensional_results_stay_arrays():
    x = Tensor(np.array(1.5), requires_grad=True)
    y = Plus.apply(Square.apply(x), x)
    y.backward()
    y2 = Plus.apply(Square.apply(x), x)
    y2.backward()
    assert isinstance(y.data, np.ndarray)
    assert isinstance(x.grad, np.ndarray)
    assert x.grad == 8.0


def test_integers_never_carry_gradients():
    with pytest.raises(RequestError, match="int64 cannot require a gradient"):
        Tensor(np.arange(3), requires_grad=True)

    class Rank(Function):
        def forward(self, x):
            return x.argsort()

    y = Rank.apply(leaf(3))
    assert not y.requires_grad
    assert y.op is None


# --- errors ----------------------------------------------------------------------------------------


def test_a_non_scalar_needs_an_explicit_cotangent():
    with pytest.raises(GraphError, match=r"shape \(3,\) needs an explicit gradient"):
        Square.apply(leaf(3)).backward()


def test_a_cotangent_of_another_shape_is_refused():
    with pytest.raises(GraphError, match=r"shape \(3,\) was given a gradient of shape \(1,\)"):
        Square.apply(leaf(3)).backward(np.ones(1))


def test_a_tensor_without_history_cannot_be_walked():
    with pytest.raises(GraphError, match="depends on nothing that requires a gradient"):
        Tensor(np.ones(())).backward()


def test_a_second_backward_says_why_it_cannot_be():
    y = Square.apply(leaf(3))
    y.backward(np.ones(3))
    with pytest.raises(GraphError, match=r"Square a second time.*retain_graph=True"):
        y.backward(np.ones(3))


def test_a_shared_part_of_a_freed_graph_is_named_too():
    a = Square.apply(leaf(3))
    Square.apply(a).backward(np.ones(3))
    with pytest.raises(GraphError, match="Square a second time"):
        Times.apply(a, 2.0).backward(np.ones(3))


def test_retain_graph_allows_a_second_backward_with_the_same_result():
    x = leaf(3)
    g = rng.standard_normal(3)
    y = Square.apply(x)
    y.backward(g, retain_graph=True)
    once = x.grad
    y.backward(g)
    assert np.array_equal(x.grad, 2 * once)


def test_lists_are_refused_by_name():
    with pytest.raises(LibraryError, match="Plus: input 1 is a list"):
        Plus.apply(leaf(3), [1.0, 2.0, 3.0])


# --- changed saved arrays ----------------------------------------------------------------------------


def test_a_saved_input_changed_in_place_is_detected_and_the_op_named():
    x = leaf(3)
    y = Square.apply(x)
    with mr.no_grad():
        x.copy_(np.zeros(3))
    with pytest.raises(
        GraphError, match=r"backward of Square: the input 0 it saved, of shape \(3,\), was changed in place"
    ):
        y.backward(np.ones(3))


def test_a_change_through_a_view_is_detected():
    x = leaf(3)
    y = Square.apply(Reversed.apply(x))
    with mr.no_grad():
        x[0] = 5.0
    with pytest.raises(GraphError, match="changed in place"):
        y.backward(np.ones(3))


def test_a_change_of_an_array_that_no_op_saved_is_harmless():
    x = leaf(3)
    y = Plus.apply(x, 1.0)
    with mr.no_grad():
        x.copy_(np.zeros(3))
    g = rng.standard_normal(3)
    y.backward(g)
    assert np.array_equal(x.grad, g)


def test_in_place_changes_of_a_recorded_tensor_are_refused():
    x = leaf(3)
    with pytest.raises(GraphError, match="item assignment on a tensor that carries a gradient"):
        x[0] = 1.0
    with mr.no_grad(), pytest.raises(GraphError, match="copy_"):
        _interior().copy_(np.ones(3))


def _interior():
    with mr.enable_grad():
        return Square.apply(leaf(3))


def test_debug_finds_raw_writes_by_checksum():
    x = leaf(3)
    with mr.debug():
        y = Square.apply(x)
    x.data[1] += 1
    with pytest.raises(GraphError, match=r"Square: its saved array 'x', of shape \(3,\), was written to"):
        y.backward(np.ones(3))


def test_without_a_change_debug_gives_the_same_gradient():
    x = leaf(3)
    g = rng.standard_normal(3)
    with mr.debug():
        Square.apply(x).backward(g)
    assert np.allclose(x.grad, 2 * x.data * g)


# --- no_grad, watchers, ledger, kernels -----------------------------------------------------------------


def test_no_grad_records_nothing_as_a_block_and_as_a_decorator():
    x = leaf(3)
    with mr.no_grad():
        y = Square.apply(x)

    @mr.no_grad()
    def f(x):
        return Square.apply(x)

    for t in (y, f(x)):
        assert not t.requires_grad
        assert t.op is None
    assert Square.apply(x).requires_grad


def test_no_grad_ends_even_when_the_block_raises():
    with pytest.raises(KeyError), mr.no_grad():
        raise KeyError
    assert mr.is_grad_enabled()


def test_the_ledger_keeps_what_each_edge_contributed():
    x = leaf(3)
    h = Times.apply(x, 3.0)
    y = Plus.apply(h, Square.apply(h))
    g = rng.standard_normal(3)
    with mr.ledger() as book:
        y.backward(g)
    branch, skip = sorted(book.into(h), key=lambda e: e.op, reverse=True)
    assert (branch.op, skip.op) == ("Square", "Plus")
    assert np.array_equal(skip.gradient, g)
    assert np.allclose(branch.gradient, 2 * h.data * g)
    assert np.allclose(x.grad, 3 * (skip.gradient + branch.gradient))
    assert len(book) == 4  # h twice, Square's output once, x once


def test_a_watcher_may_replace_a_gradient():
    x = leaf(3)
    g = rng.standard_normal(3)
    y = Plus.apply(x, Square.apply(x))

    def cut_the_skip(edge, gradient):
        return 0 * gradient if edge.op.name == "Plus" and edge.index == 0 else None

    with mr.watch(cut_the_skip):
        y.backward(g)
    assert np.allclose(x.grad, 2 * x.data * g)


def test_the_walk_can_deliver_elsewhere_and_leave_grad_alone():
    x = leaf(3)
    got = []
    g = rng.standard_normal(3)
    backpropagate(Square.apply(x), g, deliver=lambda t, gx, owned: got.append((t, gx)))
    assert x.grad is None
    assert got[0][0] is x
    assert np.allclose(got[0][1], 2 * x.data * g)


def test_a_kernel_is_taken_where_it_accepts_and_can_be_switched_off():
    class Op(Function):
        def forward(self, x):
            return x + 1

        def backward(self, gy):
            return gy

    @kernel(Op, "numpy")
    class Fast(Op):
        @classmethod
        def accepts(cls, x):
            return x.ndim == 1

    assert kernels_of(Op) == [Fast]
    assert type(Op.apply(leaf(3)).op) is Fast
    assert Op.apply(leaf(3)).op.name == "Op"  # what the ledger and errors call it
    assert type(Op.apply(leaf(3, 1)).op) is Op
    with mr.formulas_only():
        assert type(Op.apply(leaf(3)).op) is Op
    with pytest.raises(TypeError, match="must be a subclass"):
        kernel(Op, "numpy")(Plus)


# --- tensors -----------------------------------------------------------------------------------------


def test_tensor_copies_and_keeps_dtypes_but_python_floats_become_float32():
    a = np.arange(3.0)
    t = mr.tensor(a)
    a[0] = 9
    assert t.data[0] == 0
    assert t.dtype == np.float64
    assert mr.tensor([1.0, 2.0]).dtype == np.float32
    assert mr.tensor([1, 2]).dtype == np.int64
    assert mr.tensor(1.5, dtype=np.float64).dtype == np.float64


def test_detach_shares_the_array_and_stops_the_gradient():
    x = leaf(3)
    d = Square.apply(x).detach()
    assert not d.requires_grad
    y = Times.apply(x, d)
    g = rng.standard_normal(3)
    y.backward(g)
    assert np.allclose(x.grad, g * d.data)


def test_the_same_seed_gives_the_same_draws_and_the_state_can_be_put_back():
    mr.manual_seed(3)
    a = mr.backend.generator().random(4)
    state = mr.backend.generator_state()
    b = mr.backend.generator().random(4)
    mr.manual_seed(3)
    assert np.array_equal(mr.backend.generator().random(4), a)
    mr.backend.set_generator_state(state)
    assert np.array_equal(mr.backend.generator().random(4), b)
    with pytest.raises(RequestError, match="seed -1"):
        mr.manual_seed(-1)


def test_an_unknown_device_is_named():
    with pytest.raises(RequestError, match=r"unknown device 'tpu': there are 'cpu' and 'cuda'"):
        mr.device("tpu")


def test_backward_on_random_graphs_equals_the_sum_over_all_paths():
    """Against the definition: the derivative is the sum over paths of the product of local derivatives."""
    for _ in range(20):
        x = leaf()
        nodes, local = [x], [{}]
        for _ in range(8):
            i, j = rng.integers(len(nodes), size=2)
            a, b = nodes[i], nodes[j]
            if rng.random() < 0.5:
                y, d = Plus.apply(a, b), [(i, 1.0), (j, 1.0)]
            else:
                y, d = Times.apply(a, b), [(i, float(b.data)), (j, float(a.data))]
            nodes.append(y)
            local.append(d)

        def paths(k, local=local):
            return 1.0 if k == 0 else sum(slope * paths(i) for i, slope in local[k])

        g = rng.standard_normal()
        nodes[-1].backward(np.array(g))
        expected = g * paths(len(nodes) - 1)
        assert np.allclose(x.grad, expected, rtol=1e-12)


def test_serials_rise_with_creation():
    ops = [Square.apply(leaf(1)).op for _ in range(3)]
    assert all(a.serial < b.serial for a, b in itertools.pairwise(ops))
