"""A checkpointed function gives the gradients of a plain one, bit for bit, in less memory and one more forward pass."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minires as mr
from minires import backend, nn
from minires import functional as F
from minires.engine import Tensor
from minires.errors import GraphError, RequestError
from minires.switches import state

D = 6


class Recipe:
    """A random net on (N, D), drawn once and built anew for each run from the same seed."""

    def __init__(self, kinds, seed):
        self.kinds, self.seed = kinds, seed

    def build(self, dtype):
        mr.manual_seed(self.seed)
        return nn.Sequential(*map(self._layer, self.kinds)).to(dtype)

    def _layer(self, kind):
        if kind == "linear":
            return nn.Linear(D, D)
        if kind == "norm":
            return nn.BatchNorm1d(D)
        if kind == "average norm":
            return nn.BatchNorm1d(D, momentum=None)
        if kind == "dropout":
            return nn.Dropout(0.4)
        if kind == "relu":
            return nn.ReLU()
        return nn.Residual(nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(D), nn.Tanh(), nn.Dropout(0.3)))


KINDS = ["linear", "norm", "average norm", "dropout", "relu", "residual"]


def everything(recipe, run, dtype=np.float64, steps=2):
    """Outputs, all gradients, all buffers, and where the generator stands, after some forward and backward passes."""
    net = recipe.build(dtype)
    rng = np.random.default_rng(recipe.seed)
    found = []
    for _ in range(steps):
        x = Tensor(rng.standard_normal((5, D)).astype(dtype), requires_grad=True)
        y = run(net, x)
        y.backward(rng.standard_normal((5, D)).astype(dtype))
        found += [y.data, x.grad]
    found += [p.grad for p in net.parameters()] + [b.data for b in net.buffers()]
    return [*found, backend.generator().random(3)]


def assert_same(got, expected):
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype
            assert np.array_equal(a, b)


# --- the same gradients


@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=9), data=st.data())
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_random_nets_have_bit_for_bit_the_gradients_statistics_and_draws_of_plain_ones(dtype, kinds, data):
    recipe = Recipe(kinds, data.draw(st.integers(0, 99)))
    segments = data.draw(st.integers(1, len(kinds)))
    plain = everything(recipe, lambda net, x: net(x), dtype)
    assert_same(everything(recipe, lambda net, x: nn.checkpoint(net, x), dtype), plain)
    assert_same(everything(recipe, lambda net, x: nn.checkpoint_sequential(net, segments, x), dtype), plain)


@given(kinds=st.lists(st.sampled_from(KINDS), min_size=2, max_size=6), seed=st.integers(0, 99))
def test_checkpoints_within_checkpoints_change_nothing(kinds, seed):
    recipe = Recipe(kinds, seed)

    def nested(net, x):
        return nn.checkpoint(lambda u: nn.checkpoint_sequential(net, 2, nn.checkpoint(F.tanh, u)), x)

    assert_same(everything(recipe, nested), everything(recipe, lambda net, x: net(F.tanh(x))))


def test_gradients_reach_parameters_closures_and_inputs_though_no_input_has_one():
    rng = np.random.default_rng(0)
    w = Tensor(rng.standard_normal((D, D)), requires_grad=True)
    u = Tensor(rng.standard_normal(D), requires_grad=True)
    x, gy = rng.standard_normal((3, D)), rng.standard_normal((3, D))

    def f(x, scale):
        return F.tanh(F.linear(x, w)) * inner * scale

    grads = []
    for run in (f, lambda x, scale: nn.checkpoint(f, x, scale=scale)):
        w.grad = u.grad = None
        inner = F.exp(u)  # made outside, used inside
        run(x, scale=0.5).backward(gy)
        grads.append([w.grad, u.grad])
    assert_same(grads[1], grads[0])


def test_a_tensor_used_inside_and_outside_several_checkpoints_gets_its_sum_in_the_same_order():
    rng = np.random.default_rng(1)
    x = Tensor(rng.standard_normal((4, D)).astype(np.float32), requires_grad=True)
    w = Tensor(rng.standard_normal((D, D)).astype(np.float32), requires_grad=True)
    gy = rng.standard_normal((4, D)).astype(np.float32)

    def block(h):
        return F.tanh(F.linear(h, w)) + F.linear(h, w) * 0.5

    def net(run):
        h = x
        for _ in range(4):
            h = F.residual_add(h, run(block, h))
        (F.linear(h, w) + x).backward(gy)
        grads = [x.grad, w.grad]
        x.grad = w.grad = None
        return grads

    assert_same(net(nn.checkpoint), net(lambda f, h: f(h)))


def test_any_nest_of_outputs_comes_through_and_an_unused_one_is_not_walked():
    rng = np.random.default_rng(2)
    x = Tensor(rng.standard_normal((4, D)), requires_grad=True)

    def f(x, k, name):
        a = F.tanh(x)
        return {"a": a, "both": (F.exp(a), [k, None, a * a, x]), "zero": F.log(x * 0.0), "name": name}

    def results(run):
        made = run(f, x, 3, name="n")
        assert made["both"][1][:2] == [3, None]
        assert made["both"][1][3] is x
        assert made["name"] == "n"
        y = made["a"] * made["both"][0] + made["both"][1][2] + made["both"][1][3]
        y.backward(np.ones_like(x.data) * 0.3)
        got, x.grad = x.grad, None
        return [y.data, got]

    with np.errstate(all="ignore"):
        expected = results(lambda f, *args, **options: f(*args, **options))
        assert np.isfinite(expected[1]).all()
        assert_same(results(nn.checkpoint), expected)


def test_each_output_of_an_op_with_several_gets_its_own_gradient():
    x, gy = Tensor(np.arange(6.0), requires_grad=True), np.array([1.0, 2.0])
    for k in range(3):
        x.grad = None
        nn.checkpoint(lambda t: F.split(t, 2), x)[k].backward(gy)
        assert np.array_equal(x.grad.reshape(3, 2)[k], gy)
        assert x.grad.sum() == 3.0


def test_on_the_tape_a_checkpoint_stands_between_its_output_and_what_was_made_outside():
    x, w = (Tensor(np.ones(3), requires_grad=True) for _ in range(2))
    a = F.exp(x)

    def f(t):
        return nn.checkpoint(lambda u: F.tanh(u) * w, nn.checkpoint(F.tanh, t) * a)

    y = nn.checkpoint(f, x)
    assert y.op.name == "Checkpoint"
    assert {(receiver, output) for receiver, output in y.op.edges} == {(x, 0), (a.op, 0), (w, 0)}
    plain = nn.checkpoint(lambda u: F.tanh(F.exp(u)) * w, x)
    assert len(plain.op.read) == 2  # what it guards is x and w, and nothing that it made itself


def test_what_passes_through_untouched_and_what_carries_no_gradient_stays_as_it_is():
    x = Tensor(np.ones(3), requires_grad=True)
    assert nn.checkpoint(lambda t: t, x) is x
    y = nn.checkpoint(lambda t: t.detach() * 2.0, x)
    assert y.op is None
    assert not y.requires_grad
    with mr.no_grad():
        assert nn.checkpoint(F.tanh, x).op is None
    nn.checkpoint(lambda t: t.reshape(3, 1), x).backward(np.full((3, 1), 2.0))  # a view
    assert np.array_equal(x.grad, np.full(3, 2.0))


def test_an_integer_output_and_an_integer_input_are_left_alone():
    x = Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    index = mr.tensor([1, 0])
    values, places = nn.checkpoint(lambda t, i: (F.tanh(t[i]), F.amax(t, 1).detach().data.argmax()), x, index)
    values.backward(np.ones((2, 3)))
    assert places == 1
    assert np.allclose(x.grad, 1 - np.tanh(x.data) ** 2)


def test_the_second_run_is_told_and_only_that_one():
    told = []
    x = Tensor(np.ones(3), requires_grad=True)

    def f(t):
        told.append(mr.is_recomputing())
        return F.tanh(t)

    nn.checkpoint(f, x).backward(np.ones(3))
    assert told == [False, True]
    assert not mr.is_recomputing()


# --- the same under everything that watches or transforms


def test_watchers_and_the_ledger_see_the_edges_of_the_plain_run():
    recipe = Recipe(["linear", "residual", "relu", "residual"], 3)

    def seen(run):
        net = recipe.build(np.float64)
        x = Tensor(np.random.default_rng(0).standard_normal((5, D)), requires_grad=True)
        y = run(net, x)
        edges = []
        with mr.watch(lambda edge, g: edges.append((edge.op.name, edge.index, g.copy()))), mr.ledger() as book:
            y.backward(np.random.default_rng(1).standard_normal((5, D)))
        entries = [(e.op, e.index, e.gradient) for e in book.into(x)]
        weight = net[0].weight
        entries += [(e.op, e.index, e.gradient) for e in book.into(weight)]
        return edges, entries

    plain, folded = seen(lambda net, x: net(x)), seen(nn.checkpoint)
    for a, b in zip(plain, folded, strict=True):
        assert [each[:2] for each in a] == [each[:2] for each in b]
        assert_same([each[2] for each in b], [each[2] for each in a])


def test_a_lesion_cuts_inside_a_checkpoint_too():
    recipe = Recipe(["linear", "residual", "residual"], 4)

    def cut(run):
        net = recipe.build(np.float64)
        x = Tensor(np.random.default_rng(0).standard_normal((5, D)), requires_grad=True)
        y = run(net, x)
        with mr.watch(lambda edge, g: 0 * g if edge.op.name == "ResidualAdd" and edge.index == 0 else None):
            y.backward(np.random.default_rng(1).standard_normal((5, D)))
        return [x.grad]

    assert_same(cut(nn.checkpoint), cut(lambda net, x: net(x)))


def test_grad_vjp_and_jacobian_go_through_checkpoints():
    x = np.random.default_rng(5).standard_normal(4)

    def f(t):
        return F.tanh(t) * F.exp(t)

    def g(t):
        return nn.checkpoint(f, t)

    assert np.array_equal(mr.grad(lambda t: g(t).sum())(x).data, mr.grad(lambda t: f(t).sum())(x).data)
    assert np.array_equal(mr.jacobian(g)(x).data, mr.jacobian(f)(x).data)
    assert np.allclose(mr.hvp(lambda t: g(t).sum(), x, x).data, mr.hvp(lambda t: f(t).sum(), x, x).data, rtol=1e-12)


def test_a_gradcheck_of_a_checkpointed_module_passes():
    from minires.check import gradcheck

    gradcheck(lambda t: nn.checkpoint(F.tanh, t * t), np.random.default_rng(6).standard_normal((2, 3)))


@pytest.mark.parametrize("times", [2, 3])
def test_a_retained_graph_is_run_anew_each_time_and_keeps_no_activations(times):
    x, gy = Tensor(np.linspace(-1, 1, 1 << 14), requires_grad=True), np.full(1 << 14, 0.5)

    def f(t):
        for _ in range(20):
            t = F.tanh(t)
        return t

    f(x).backward(gy)
    expected, x.grad = x.grad, None
    with mr.formulas_only():
        y = nn.checkpoint(f, x)
        tracemalloc.start()
        try:
            for _ in range(times):
                y.backward(gy, retain_graph=True)
                assert np.array_equal(x.grad, expected)
                x.grad = None
                assert tracemalloc.get_traced_memory()[0] < 2 * x.data.nbytes
        finally:
            tracemalloc.stop()
    y.backward(gy)
    with pytest.raises(GraphError, match="Checkpoint a second time"):
        y.backward(gy)


# --- what it is for


def counted(run):
    """How often each op ran forward and backward."""
    calls = {}

    def timer(op, phase, call, arrays):
        calls[op.name, phase] = calls.get((op.name, phase), 0) + 1
        return call(*arrays)

    state.timer = timer
    try:
        run()
    finally:
        state.timer = None
    return calls


def test_every_forward_runs_exactly_twice_and_every_backward_once():
    recipe = Recipe(["linear", "relu", "norm", "dropout"] * 3, 7)
    plain = counted(lambda: everything(recipe, lambda net, x: net(x), steps=1))
    once = counted(lambda: everything(recipe, nn.checkpoint, steps=1))
    for (op, phase), calls in plain.items():
        assert once[op, phase] == (2 * calls if phase == "forward" else calls)
    assert once.keys() == plain.keys()


def test_the_last_segment_of_a_sequential_runs_once():
    recipe = Recipe(["linear", "relu"] * 4, 8)
    calls = counted(lambda: everything(recipe, lambda net, x: nn.checkpoint_sequential(net, 4, x), steps=1))
    assert calls["Linear", "forward"] == 3 * 2 + 1
    assert calls["Linear", "backward"] == 4


def peak(layers, segments, size=1 << 14):
    """The peak memory of forward and backward of a chain of tanh, in activations."""
    x, gy = Tensor(np.linspace(-1, 1, size), requires_grad=True), np.full(size, 0.5)
    chain = [F.tanh] * layers
    with mr.formulas_only():
        tracemalloc.start()
        try:
            y = nn.checkpoint_sequential(chain, segments, x)
            y.backward(gy)
            return tracemalloc.get_traced_memory()[1] / x.data.nbytes
        finally:
            tracemalloc.stop()


def test_memory_grows_with_the_root_of_the_depth():
    for layers, root in ((64, 8), (144, 12)):
        assert peak(layers, 1) > layers
        assert peak(layers, root) < 2 * root + 4


def test_while_the_function_first_runs_nothing_is_kept_either():
    x = Tensor(np.linspace(-1, 1, 1 << 14), requires_grad=True)

    def deep(t):
        for _ in range(50):
            t = F.tanh(t)
        return t

    with mr.formulas_only():
        tracemalloc.start()
        try:
            y = nn.checkpoint(deep, x)
            now, most = (m / x.data.nbytes for m in tracemalloc.get_traced_memory())
        finally:
            tracemalloc.stop()
    assert y.shape == x.shape
    assert now < 1.5
    assert most < 3.5


def test_a_function_of_thousands_of_ops_needs_no_recursion():
    x = Tensor(np.ones(2), requires_grad=True)

    def deep(t):
        for _ in range(3000):
            t = t + 0.0
        return t

    nn.checkpoint(deep, x).backward(np.array([1.0, 2.0]))
    assert np.array_equal(x.grad, [1.0, 2.0])


# --- what must be noticed


@pytest.mark.parametrize("what", ["input", "weight", "bias", "nested", "buffer"])
def test_a_change_in_place_of_what_the_function_read_is_refused(what):
    net = nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(D).eval())
    x = Tensor(np.ones((2, D), np.float32), requires_grad=True)
    y = nn.checkpoint(lambda t: nn.checkpoint(net, t), x) if what == "nested" else nn.checkpoint(net, x)
    linear, norm = net
    changed = {"input": x, "weight": linear.weight, "buffer": norm.running_mean}.get(what, linear.bias)
    with mr.no_grad():
        changed.copy_(changed.data + 1)
    with pytest.raises(GraphError, match=r"backward of a checkpoint: a tensor of shape .* changed in place"):
        y.backward(np.ones((2, D), np.float32))


def test_a_change_of_what_it_does_not_read_is_harmless():
    x, other = (Tensor(np.ones(3), requires_grad=True) for _ in range(2))
    y = nn.checkpoint(lambda t, u: F.tanh(t), x, other)
    with mr.no_grad():
        other.copy_(np.zeros(3))
    y.backward(np.ones(3))
    assert other.grad is None


def test_another_mode_in_the_second_run_is_refused():
    net = nn.Sequential(nn.Linear(D, D), nn.Dropout(0.5))
    y = nn.checkpoint(net, np.ones((2, D), np.float32))
    net.eval()
    with pytest.raises(GraphError, match=r"made other ops .*train\(\) or eval\(\)"):
        y.backward(np.ones((2, D), np.float32))


def test_debug_finds_a_raw_write_and_numbers_drawn_elsewhere():
    x, held = Tensor(np.ones(3), requires_grad=True), np.ones(3)
    strange = np.random.default_rng(0)
    with mr.debug():
        y, z = nn.checkpoint(lambda t: t * held, x), nn.checkpoint(lambda t: t * strange.standard_normal(3), x)
        fine = nn.checkpoint(lambda t: F.dropout(t), x)
    held[0] = 2.0
    for wrong in (y, z):
        with pytest.raises(GraphError, match="returned other numbers"):
            wrong.backward(np.ones(3))
    fine.backward(np.ones(3))


def test_a_tensor_smuggled_out_says_that_nothing_was_kept():
    x, out = Tensor(np.ones(3), requires_grad=True), []

    def f(t):
        out.append(F.tanh(t))
        return F.exp(out[-1])

    nn.checkpoint(f, x)
    with pytest.raises(GraphError, match="reached Tanh inside a checkpointed function, of which nothing is kept"):
        out[0].backward(np.ones(3))


def test_an_error_in_either_run_leaves_every_switch_and_the_generator_as_they_were():
    x = Tensor(np.ones(3), requires_grad=True)
    fails = [True]

    def f(t):
        y = F.dropout(t)
        if fails[0]:
            raise KeyError("on purpose")
        return y

    def switches():
        return {k: getattr(state, k) for k in dir(state) if not k.startswith("_")}

    before = switches()
    with pytest.raises(KeyError):
        nn.checkpoint(f, x)
    assert switches() == before
    fails[0] = False
    y = nn.checkpoint(f, x)
    fails[0] = True
    stands = backend.generator_state()
    with pytest.raises(KeyError):
        y.backward(np.ones(3))
    assert switches() == before
    assert backend.generator_state() == stands


def test_the_second_run_has_the_kernels_and_the_device_of_the_first():
    seen = []

    def f(t):
        seen.append((state.kernels, backend.default()))
        return F.tanh(t)

    x = Tensor(np.ones(3), requires_grad=True)
    with mr.formulas_only():
        y = nn.checkpoint(f, x)
    y.backward(np.ones(3))
    assert seen[0] == seen[1] == (False, backend.NUMPY)


def test_without_the_generators_state_the_masks_differ():
    x = Tensor(np.ones(400), requires_grad=True)
    y = nn.checkpoint(F.dropout, x, preserve_rng_state=False)
    y.backward(np.ones(400))
    assert not np.array_equal(y.data != 0, x.grad != 0)


def test_backward_under_no_grad_still_runs_the_function_recorded():
    x = Tensor(np.ones(3), requires_grad=True)
    y = nn.checkpoint(F.exp, x)
    with mr.no_grad():
        y.backward(np.ones(3))
    assert np.allclose(x.grad, np.e)


def test_what_is_not_supported_is_refused():
    x = Tensor(np.ones(3), requires_grad=True)
    with pytest.raises(RequestError, match="use_reentrant=True is not supported"):
        nn.checkpoint(F.tanh, x, use_reentrant=True)
    for segments in (0, 4, 1.5):
        with pytest.raises(RequestError, match=f"{segments} segments cannot be made of 3 functions; choose 1 to 3"):
            nn.checkpoint_sequential([F.tanh] * 3, segments, x)


def test_a_chain_of_nothing_is_the_identity():
    x = Tensor(np.ones(3), requires_grad=True)
    assert nn.checkpoint_sequential([], 1, x) is x


def test_every_device_recomputes_the_same(library):
    def f(t, w):
        return F.dropout(F.tanh(t @ w), 0.5)

    rng = np.random.default_rng(9)
    x, w = (Tensor(library.asarray(rng.standard_normal((4, 4))), requires_grad=True) for _ in range(2))
    gy = library.asarray(rng.standard_normal((4, 4)))
    grads = []
    for run in (f, lambda *a: nn.checkpoint(f, *a)):
        mr.manual_seed(4)
        run(x, w).backward(gy)
        grads.append([backend.to_host(t.grad) for t in (x, w)])
        x.grad = w.grad = None
    assert_same(grads[1], grads[0])
