"""The profiler counts every op that ran, adds up to the whole, and leaves no trace."""

import json
import sys
import threading

import numpy as np
import pytest

import minires as mr
from minires import backend, flops, nn
from minires import functional as F
from minires.check.case import subjects
from minires.check.draw import Seeded
from minires.engine import Function, Tensor
from minires.errors import RequestError
from minires.ops.linear import Matmul
from minires.switches import state

rng = np.random.default_rng(31)


class Clock:
    """A time that passes when it is told to, and one second each time it is read."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        self.now += 1
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Slow.clock = Clock()
    monkeypatch.setattr(sys.modules["minires.profile"], "time", made)
    return made


class Slow(Function):
    """x, after 200 seconds; after 400 backward."""

    clock = Clock()

    def forward(self, x):
        Slow.clock.now += 200
        return x.copy()

    def backward(self, gy):
        Slow.clock.now += 400
        return gy.copy()


class Caller(Function):
    """Takes 100 seconds, and runs another op inside itself."""

    def forward(self, x):
        Slow.clock.now += 100
        return Slow.apply(x).data

    def backward(self, gy):
        return gy.copy()


def leaf(*shape, dtype=np.float64):
    return Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)


OPS = [subject for subject in subjects() if subject.op.__module__.startswith("minires.ops")]


def row(p, op, phase):
    (found,) = [r for r in p.rows if (r.op, r.phase) == (op, phase)]
    return found


# --- what is measured


def test_every_call_is_counted_forward_and_backward_apart():
    x, w = leaf(3, 4), leaf(5, 4)
    with mr.profile(show=False) as p:
        y = F.tanh(F.tanh(F.linear(x, w)))
        with mr.no_grad():
            F.tanh(x)
        y.backward(np.ones((3, 5)))
    assert {(r.op, r.phase): r.calls for r in p.rows} == {
        ("Linear", "forward"): 1,
        ("Linear", "backward"): 1,
        ("Tanh", "forward"): 3,
        ("Tanh", "backward"): 2,
    }
    assert p.total.calls == 7


def test_results_are_those_without_a_profile():
    x, gy = leaf(3, 4), rng.standard_normal((3, 4))
    F.tanh(x * x).backward(gy)
    expected, x.grad = x.grad, None
    with mr.profile(show=False):
        F.tanh(x * x).backward(gy)
    assert np.array_equal(x.grad, expected)


def test_times_are_those_that_the_ops_took_and_add_up_to_the_whole(clock):
    x = leaf(3)
    with mr.profile(show=False) as p:
        y = Slow.apply(x)
        clock.now += 50
        y.backward(np.ones(3))
    assert row(p, "Slow", "forward").seconds == 201  # the clock was read at its end
    assert row(p, "Slow", "backward").seconds == 401
    assert p.own == 4  # read twice more for each
    assert p.rest == 50 + 3  # and when each op began, and at the end of the block
    assert p.seconds == p.total.seconds + p.own + p.rest
    assert [r.phase for r in p.rows] == ["backward", "forward"]  # the most expensive first


def test_an_op_that_runs_another_is_charged_with_its_own_time_only(clock):
    with mr.profile(show=False) as p:
        Caller.apply(leaf(3))
    assert row(p, "Slow", "forward").seconds == 201
    assert row(p, "Caller", "forward").seconds == 102
    assert p.seconds == p.total.seconds + p.own + p.rest


def test_bytes_are_those_of_inputs_and_outputs_and_none_where_nothing_moves():
    x, w, b = leaf(8, 4, dtype=np.float32), leaf(5, 4, dtype=np.float32), leaf(5, dtype=np.float32)
    with mr.profile(show=False) as p:
        y = F.linear(x, w, b)
        F.residual_add(y, y).reshape(-1).backward(np.ones(40, np.float32))
    assert row(p, "Linear", "forward").bytes == 4 * (8 * 4 + 5 * 4 + 5 + 8 * 5)
    assert row(p, "Linear", "backward").bytes == 4 * (8 * 5 + 8 * 4 + 5 * 4 + 5)
    assert row(p, "ResidualAdd", "forward").bytes == 4 * 3 * 40
    assert row(p, "ResidualAdd", "backward").bytes == 0  # gx = gf = gy, the array itself
    assert row(p, "Reshape", "forward").bytes == 0


def test_the_kernel_that_ran_is_named_and_a_formula_is_not():
    x = leaf(2, 3, 8, 8, dtype=np.float32)
    w = leaf(4, 3, 3, 3, dtype=np.float32)
    with mr.profile(show=False) as fast:
        op = F.conv2d(x, w, padding=1).op
    with mr.formulas_only(), mr.profile(show=False) as plain:
        F.conv2d(x, w, padding=1)
    assert row(fast, "Conv2d", "forward").kernel == (type(op).__name__ if op.stands_for else "")
    assert row(plain, "Conv2d", "forward").kernel == ""


def test_what_a_checkpoint_runs_a_second_time_shows_up():
    x = leaf(3)
    with mr.profile(show=False) as p:
        nn.checkpoint(lambda t: F.exp(F.tanh(t)), x).backward(np.ones(3))
    assert row(p, "Tanh", "forward").calls == 2
    assert row(p, "Exp", "backward").calls == 1


def test_it_waits_for_the_device_before_and_after_each_op(monkeypatch):
    order = []
    monkeypatch.setattr(backend.NUMPY, "synchronize", lambda: order.append("wait"), raising=False)

    class Noted(Function):
        def forward(self, x):
            order.append("forward")
            return x + 1

        def backward(self, gy):
            order.append("backward")
            return gy + 1

    with mr.profile(show=False):
        Noted.apply(leaf(3)).backward(np.ones(3))
    assert order == ["wait", "forward", "wait", "wait", "backward", "wait"]


def test_every_device_is_profiled(library):
    x = Tensor(library.asarray(rng.standard_normal((3, 4))), requires_grad=True)
    with mr.profile(show=False) as p:
        F.tanh(x).sum().backward()
    assert row(p, "Tanh", "forward").bytes == 2 * 12 * 8


# --- floating-point operations


def counts(f, *inputs, gy=True):
    with mr.profile(show=False) as p:
        y = f(*inputs)
        if gy:
            y.backward(np.ones(y.shape, y.dtype))
    return {(r.op, r.phase): r.flops for r in p.rows}


def loops_of_a_convolution(x, w, stride, padding, groups):
    """Counts the products of the index formula one by one."""
    n, _, h, wide = x
    o, c, kh, kw = w
    oh, ow = (h + 2 * padding - kh) // stride + 1, (wide + 2 * padding - kw) // stride + 1
    return n * o * oh * ow * c * kh * kw


@pytest.mark.parametrize(("stride", "padding", "groups"), [(1, 1, 1), (2, 0, 1), (1, 1, 3), (2, 1, 6)])
def test_a_convolution_counts_the_products_of_its_sums(stride, padding, groups):
    x, w, b = leaf(2, 6, 7, 8), leaf(6, 6 // groups, 3, 3), leaf(6)
    products = loops_of_a_convolution(x.shape, w.shape, stride, padding, groups)
    y = F.conv2d(x, w, b, stride, padding, 1, groups).size
    got = counts(lambda *a: F.conv2d(*a, stride, padding, 1, groups), x, w, b)
    assert got == {("Conv2d", "forward"): 2 * products + y, ("Conv2d", "backward"): 4 * products + y}
    constant = Tensor(x.data)  # the first layer's: no gx
    assert counts(lambda *a: F.conv2d(*a, None, stride, padding, 1, groups), constant, w)["Conv2d", "backward"] == (
        2 * products
    )


def test_a_transposed_convolution_counts_what_the_convolution_does_that_it_turns_round():
    x, w = leaf(2, 6, 4, 5), leaf(6, 3, 3, 3)
    y = F.conv_transpose2d(x, w, stride=2)
    turned = counts(lambda g: F.conv2d(g, w.detach(), stride=2), y.detach(), gy=False)["Conv2d", "forward"]
    assert counts(lambda *a: F.conv_transpose2d(*a, stride=2), x, w) == {
        ("ConvTranspose2d", "forward"): turned,
        ("ConvTranspose2d", "backward"): 2 * turned,
    }


def test_products_of_matrices_count_two_for_each_product():
    x, w, b = leaf(2, 7, 4), leaf(5, 4), leaf(5)
    assert counts(F.linear, x, w, b) == {
        ("Linear", "forward"): 2 * 14 * 4 * 5 + 14 * 5,
        ("Linear", "backward"): 4 * 14 * 4 * 5 + 14 * 5,
    }
    assert counts(F.matmul, leaf(3, 2, 4), leaf(3, 4, 5))["Matmul", "backward"] == 4 * 3 * 2 * 4 * 5
    assert counts(F.matmul, leaf(4), Tensor(rng.standard_normal(4)))["Matmul", "backward"] == 2 * 4


def test_attention_counts_its_four_products_and_the_softmax_between():
    q, k, v = leaf(2, 3, 5, 8), leaf(2, 3, 7, 8), leaf(2, 3, 7, 6)
    pairs = 2 * 3 * 5 * 7
    got = counts(F.scaled_dot_product_attention, q, k, v)
    assert got["ScaledDotProductAttention", "forward"] == pairs * (2 * 8 + 2 * 6 + 5)
    assert got["ScaledDotProductAttention", "backward"] == pairs * (4 * 8 + 4 * 6 + 5)


def test_norms_and_elementwise_ops_count_by_the_element():
    x, w, b = leaf(4, 3, 5, 5), leaf(3), leaf(3)
    n = x.size
    assert counts(lambda *a: F.batch_norm(a[0], None, None, a[1], a[2], training=True), x, w, b) == {
        ("BatchNorm", "forward"): 6 * n,
        ("BatchNorm", "backward"): 7 * n,
    }
    rows, g = leaf(4, 6), leaf(6)
    assert counts(lambda *a: F.layer_norm(a[0], 6, a[1], a[2]), rows, g, leaf(6)) == {
        ("LayerNorm", "forward"): 7 * 24,
        ("LayerNorm", "backward"): (8 + 2 + 1) * 24,
    }
    assert counts(F.mul, leaf(4, 1), leaf(3)) == {("Mul", "forward"): 12, ("Mul", "backward"): 24}
    assert counts(F.tanh, leaf(5)) == {("Tanh", "forward"): 5, ("Tanh", "backward"): 5}
    assert counts(F.add, leaf(5), leaf(5)) == {("Add", "forward"): 5, ("Add", "backward"): 0}
    assert counts(F.relu, leaf(5)) == {("Relu", "forward"): 0, ("Relu", "backward"): 0}


def test_an_op_that_is_not_in_the_table_has_no_count_rather_than_an_invented_one():
    with mr.profile(show=False) as p:
        Slow.apply(leaf(3)).backward(np.ones(3))
        F.tanh(leaf(3))
    assert row(p, "Slow", "forward").flops is row(p, "Slow", "backward").flops is None
    assert row(p, "Slow", "forward").gflops is None
    assert p.total.flops == 3
    line = next(line for line in p.table().splitlines() if line.startswith("Slow"))
    assert line.split()[-4:-2] == ["-", "-"]


def test_a_backward_whose_forward_was_not_seen_has_no_count():
    y = F.tanh(leaf(3))
    with mr.profile(show=False) as p:
        y.backward(np.ones(3))
    assert row(p, "Tanh", "backward").flops is None


def test_every_op_of_the_library_has_a_count_and_the_table_has_no_other():
    assert set(flops.TABLE) == {subject.op.__name__ for subject in OPS} | {"To", "OneHot"}


@pytest.mark.parametrize("subject", OPS, ids=lambda subject: subject.name)
def test_every_op_can_be_counted_in_all_its_cases(subject):
    draw = Seeded(5)
    for _ in range(5):
        case = subject.draw(draw)
        leaves = case.leaves(case.inputs)
        with mr.profile(show=False) as p, np.errstate(all="ignore"):
            subject.op.apply(*leaves, **case.options)
        for r in p.rows:
            assert isinstance(r.flops, int)
            assert r.flops >= 0


# --- the block


def test_it_prints_at_the_end_of_the_block_unless_told_not_to(capsys):
    with mr.profile() as p:
        F.tanh(leaf(3))
    assert capsys.readouterr().out == f"{p}\n"
    with mr.profile(show=False):
        F.tanh(leaf(3))
    assert capsys.readouterr().out == ""


def test_an_error_in_the_block_passes_and_leaves_no_timer_and_no_table(capsys):
    def fails():
        with p:
            F.tanh(leaf(3))
            raise KeyError

    p = mr.profile()
    with pytest.raises(KeyError):
        fails()
    assert state.timer is None
    assert capsys.readouterr().out == ""
    assert row(p, "Tanh", "forward").calls == 1


def test_an_op_that_fails_is_not_counted_and_what_follows_is(clock):
    with mr.profile(show=False) as p:
        with pytest.raises(ValueError, match="matmul"):
            Matmul.apply(leaf(2, 3), leaf(2, 3))
        Caller.apply(leaf(3))
    assert {r.op for r in p.rows} == {"Slow", "Caller"}
    assert row(p, "Caller", "forward").seconds == 102


def test_nested_profiles_each_see_what_runs_in_them():
    with mr.profile(show=False) as outer:
        F.tanh(leaf(3))
        with mr.profile(show=False) as inner:
            F.exp(leaf(3))
        F.tanh(leaf(3))
    assert state.timer is None
    assert {r.op: r.calls for r in inner.rows} == {"Exp": 1}
    assert {r.op: r.calls for r in outer.rows} == {"Exp": 1, "Tanh": 2}


def test_one_profile_may_be_used_again_but_not_inside_itself():
    p = mr.profile(show=False)
    for _ in range(2):
        with p:
            F.tanh(leaf(3))
    assert row(p, "Tanh", "forward").calls == 1
    with p, pytest.raises(RequestError, match="already running"), p:
        pass
    assert state.timer is None


def test_another_threads_ops_are_not_measured():
    with mr.profile(show=False) as p:
        thread = threading.Thread(target=lambda: F.tanh(Tensor(np.ones(3))))
        thread.start()
        thread.join()
    assert p.rows == []


def test_the_numbers_can_be_read_while_it_runs_and_before_it_began():
    p = mr.profile(show=False)
    assert p.seconds == 0
    with p:
        F.tanh(leaf(3))
        so_far = p.seconds
        assert so_far > 0
    assert p.seconds >= so_far


def test_it_can_be_written_as_json():
    with mr.profile(show=False) as p:
        F.tanh(leaf(3)).backward(np.ones(3))
    read = json.loads(json.dumps(p.as_dict()))
    assert [r["op"] for r in read["rows"]] == ["Tanh", "Tanh"]
    assert read["total"]["calls"] == 2
    assert read["seconds"] == p.seconds


def test_the_table_is_aligned_and_says_what_each_op_took():
    with mr.formulas_only(), mr.profile(show=False) as p:
        F.cross_entropy(F.linear(leaf(8, 4), leaf(5, 4)), np.arange(8) % 5).backward()
    head, *lines = p.table().splitlines()
    assert head.split() == ["op", "phase", "calls", "time", "share", "bytes", "FLOP", "GFLOP/s", "GB/s", "kernel"]
    assert len(lines) == 4 + 1 + 4
    end = head.index("share") + len("share")  # the column is aligned to the right
    assert all(line[end - 1] == "%" for line in lines if "%" in line)
    assert all(line.endswith("formula") for line in lines[:4])
    shares = [float(line[: end - 2].split()[-1]) for line in (*lines[:4], lines[6], lines[7])]
    assert sum(shares) == pytest.approx(100, abs=0.4)
    assert lines[8].startswith("from begin to end")
    assert len(mr.profile(show=False).table().splitlines()) == 6  # of nothing


def test_numbers_are_scaled_to_three_digits():
    from minires.profile import _scaled

    assert [_scaled(n, "B") for n in (0, 999, 1000, 123456, 7.9e9, 5e15)] == [
        "0 B", "999 B", "1 kB", "123 kB", "7.9 GB", "5e+03 TB",
    ]  # fmt: skip
