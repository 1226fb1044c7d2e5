"""The checker checked: it passes what is right, names what is wrong, and refuses to bless what it cannot see."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

import minires as mr
from minires import engine, models, nn
from minires import functional as F
from minires.backend import generator_state
from minires.check import CheckError, GradcheckError, KinkError, UncheckableError, gradcheck
from minires.engine import Function, Tensor
from minires.errors import RequestError
from minires.switches import no_grad

rng = np.random.default_rng(21)


def normal(*shape):
    return rng.standard_normal(shape)


def refused(f, *inputs, error=GradcheckError, **options):
    """The message of a check that must not pass."""
    with pytest.raises(error) as caught:
        gradcheck(f, *inputs, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- what is right passes

RIGHT = {
    "elementwise": (F.tanh, [normal(3, 4)]),
    "two inputs that broadcast": (F.mul, [normal(3, 4), normal(4)]),
    "a 0-d input": (F.exp, [np.float64(0.3)]),
    "no element": (F.exp, [np.zeros((0, 3))]),
    "labels beside floats": (F.cross_entropy, [normal(3, 5), np.array([0, 4, 2])]),
    "several outputs": (lambda x: (x * x, x.exp()), [normal(3)]),
    "an output of integers": (lambda x: (x * x, x.argmax()), [normal(3)]),
    "the input itself": (lambda x: x, [normal(3)]),
    "a large input": (lambda x: F.sigmoid(x) * x, [normal(40, 50)]),
    "a Tensor": (F.tanh, [Tensor(normal(3), requires_grad=True)]),
    "strided": (F.tanh, [normal(6, 8)[::2, ::-2]]),
    "large numbers": (lambda x: x * x, [1e6 * normal(4)]),
    "small numbers": (lambda x: x * x, [1e-6 * normal(4)]),
    "a tiny gradient": (lambda x: 1e-15 * F.tanh(x), [normal(4)]),
}


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_gradient_passes_by_complex_step(case):
    f, inputs = RIGHT[case]
    report = gradcheck(f, *inputs)
    assert report.method == "complex"
    assert report.max_rel_error < 1e-13


@pytest.mark.parametrize("case", [name for name in RIGHT if "numbers" not in name and "tiny" not in name])
def test_a_right_gradient_passes_by_central_differences(case):
    f, inputs = RIGHT[case]
    report = gradcheck(f, *inputs, method="central")
    assert report.method == "central"
    assert report.max_rel_error < 1e-9


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("method", ["complex", "central"])
def test_no_seed_raises_a_false_alarm(method, seed):
    numbers = np.random.default_rng(seed)
    x, w = numbers.standard_normal((3, 2, 5, 5)), numbers.standard_normal((4, 2, 3, 3))

    def f(x, w, gain, bias):
        y = F.relu(F.batch_norm(F.conv2d(x, w, padding=1), None, None, gain, bias, training=True))
        return F.log_softmax(F.max_pool2d(y, 2).mean((2, 3)), 1)

    gradcheck(f, x, w, *numbers.standard_normal((2, 4)), seed=seed, method=method)


def test_the_report_tells_the_worst_element_and_every_input():
    report = gradcheck(lambda x, w: x @ w, normal(3, 4), normal(4, 2))
    assert [e.name for e in report.entries] == ["input 0 (x)", "input 1 (w)"]
    assert [e.shape for e in report.entries] == [(3, 4), (4, 2)]
    assert report.max_rel_error == max(e.max_rel_error for e in report.entries) <= report.tolerance == 1e-10
    assert re.fullmatch(r"input \d \([xw]\) at \[\d, \d\]: expected \S+, backward gave \S+", report.worst)
    lines = str(report).splitlines()
    assert lines[0].startswith("gradcheck passed: largest relative error")
    assert "complex step" in lines[0]
    assert all(name in line for name, line in zip(("input 0 (x)", "input 1 (w)"), lines[1:], strict=True))


# --- planted faults


def op(forward, backward):
    """The op of these two formulas, as a function of Tensors."""

    class Planted(Function):
        def forward(self, *xs):
            self.saved = xs
            return forward(*xs)

        def backward(self, gy):
            return backward(gy, *self.saved)

    return Planted.apply


def square(wrong):
    """x^2 with a wrong gradient in place of 2 x gy."""
    return op(lambda x: x * x, wrong)


def written_to(a, value):
    a[...] *= value
    return a


SPOT = np.eye(9)[5].reshape(3, 3, 1)
FAULTS = {
    "off by 0.05 percent": (square(lambda gy, x: 2.001 * x * gy), r"everywhere it is 1\.0005 times"),
    "negated": (square(lambda gy, x: -2 * x * gy), "everywhere it is -1 times"),
    "half": (square(lambda gy, x: x * gy), r"everywhere it is 0\.5 times"),
    "zero": (square(lambda gy, x: 0 * gy), "backward gave zero everywhere"),
    "missing": (square(lambda gy, x: None), "backward gave zero everywhere"),
    "permuted": (square(lambda gy, x: np.roll(2 * x * gy, 1)), "right numbers in the wrong places"),
    "one element": (square(lambda gy, x: 2 * x * gy + 1e-6 * SPOT), r"at \[1, 2, 0\]"),
    "without the cotangent": (square(lambda gy, x: 2 * x), "expected .* backward gave"),
    "narrowed to float32": (square(lambda gy, x: (2 * x * gy).astype(np.float32)), "fits into float32"),
    "of another shape": (square(lambda gy, x: (2 * x * gy)[0]), "backward failed: GraphError: .* returned shape"),
    "an exception": (square(lambda gy, x: x @ gy @ x @ None), "backward failed: "),
    "nan": (square(lambda gy, x: 2 * x * gy + np.nan), r"backward gave nan, though f is finite"),
    "writes to its input": (square(lambda gy, x: written_to(x, 2.0) * gy), "input was changed by backward"),
    "writes to its cotangent": (square(lambda gy, x: written_to(gy, 2.0) * x), "cotangent was changed by backward"),
    "forward writes to its input": (
        op(lambda x: written_to(x, 1.5), lambda gy, x: 1.5 * gy),
        "input was changed by forward",
    ),
}


@pytest.mark.parametrize("method", ["auto", "complex", "central"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(fault, method):
    f, said = FAULTS[fault]
    message = refused(f, normal(3, 3, 1), method=method, tolerance=1e-9)
    assert re.search(said, message), message


def test_what_was_expected_and_what_came_are_told():
    x = normal(2, 2)
    message = refused(square(lambda gy, x: 3 * x * gy), x, seed=4)
    i, j, expected, got = re.match(
        r"input 0 at \[(\d), (\d)\]: expected (\S+), backward gave (\S+) \(relative error 0\.5, complex step; "
        r"central differences give",
        message,
    ).groups()
    assert float(got) == pytest.approx(1.5 * float(expected), rel=1e-9)
    assert float(expected) / x[int(i), int(j)] == pytest.approx(float(got) / x[int(i), int(j)] / 1.5, rel=1e-9)


def test_a_wrong_sum_over_a_broadcast_axis_is_named():
    bias = op(lambda x, b: x + b, lambda gy, x, b: (gy, gy.mean(0)))
    message = refused(bias, normal(4, 3), normal(3))
    assert message.startswith("input 1 at ")
    assert "everywhere it is 0.25 times the true gradient" in message


def test_ones_would_not_see_a_softmax_without_gradient_and_the_random_cotangent_does():
    def softmax(x):
        e = np.exp(x - x.real.max())
        return e / e.sum()

    assert "backward gave zero" in refused(op(softmax, lambda gy, x: 0 * gy), normal(5))


def test_an_array_shared_by_two_branches_must_not_be_written_to():
    doubling = op(lambda x: 2 * x, lambda gy, x: written_to(gy, 2.0))
    message = refused(lambda x: F.residual_add(x.exp(), doubling(x)), normal(3))
    assert "cotangent was changed by backward of Planted" in message


def test_gradients_that_share_memory_are_refused(monkeypatch):
    monkeypatch.setattr(engine, "_accumulate", lambda leaf, gradient, owned: setattr(leaf, "grad", gradient))
    assert "two gradients share memory" in refused(F.residual_add, normal(3), normal(3))


def test_a_gradient_of_another_dtype_is_refused(monkeypatch):
    deliver = lambda leaf, gradient, owned: setattr(leaf, "grad", gradient.astype(np.float32))
    monkeypatch.setattr(engine, "_accumulate", deliver)
    assert "the gradient is (3,) float32" in refused(F.tanh, normal(3))


@pytest.mark.parametrize("method", ["complex", "central"])
def test_one_wrong_element_of_a_large_input_is_named(method):
    def wrong(gy, x):
        g = 2 * x * gy
        g[7, 11] *= 1.0005
        return g

    x = normal(40, 50)
    x[7, 11] = 1.7
    assert refused(square(wrong), x, method=method).startswith("input 0 at [7, 11]: expected")


def test_a_gradient_that_was_cut_off_is_traced_to_the_output():
    message = refused(lambda x: x.detach() * 2.0, normal(3))
    assert "output 0 of f carries no gradient" in message
    assert "output 1 of f carries no gradient" in refused(lambda x, y: (x * 2.0, y.detach()), normal(3), normal(2))


# --- a check that could not have failed


def test_batch_norm_summed_is_a_check_that_cannot_see():
    norm = lambda x: F.batch_norm(x, None, None, training=True).sum()
    message = refused(norm, normal(6, 3))
    assert message.startswith("input 0 (x): this check cannot see your gradient. The true one is zero here")
    assert "cannot see" in refused(norm, normal(6, 3), method="central")
    assert gradcheck(norm, normal(6, 3), may_vanish=True).max_rel_error == 0.0


def test_an_input_without_influence_cannot_be_seen():
    f = lambda x, unused: x * x
    assert refused(f, normal(3), normal(2)).startswith("input 1 (unused): this check cannot see your gradient")
    for allowed in (True, ["unused"], "input 1", ("input 1 (unused)",)):
        gradcheck(f, normal(3), normal(2), may_vanish=allowed)
    assert "may_vanish names 'y', but what is checked is input 0 (x)" in refused(
        f, normal(3), normal(2), may_vanish="y"
    )


def test_a_gradient_that_ought_to_vanish_and_does_not_is_wrong():
    constant = op(lambda x: 0 * x + 1.0, lambda gy, x: 1e-6 * gy)
    assert "expected 0, backward gave" in refused(constant, normal(3), may_vanish=True)


def test_a_tolerance_that_lets_wrong_gradients_pass_is_refused():
    said = refused(F.tanh, normal(3), tolerance=0.2)
    assert "cannot see your gradient: scaled by 1.1 it would pass too" in said
    gradcheck(F.tanh, normal(3), tolerance=1e-3)


# --- kinks


KINKS = {
    "relu": (F.relu, [1.0, -2.0, 0.0, 3.0], r"\[2\]"),
    "abs": (abs, [1.0, 0.0], r"\[1\]"),
    "clamp": (lambda x: x.clamp(-1.0, 1.0), [0.3, 1.0, 2.0], r"\[1\]"),
    "a tie": (lambda x: x.max(), [1.0, 4.0, 4.0], r"\[1\]"),
    "after a smooth function": (lambda x: F.relu(x.exp() - 1.0) * x.exp(), [0.5, -0.5, 0.0], r"\[2\]"),
    "in a large input": (lambda x: F.relu(x), [*range(1, 800), 0.0, *range(1, 800)], r"\[799\]"),
}


@pytest.mark.parametrize("method", ["auto", "complex", "central"])
@pytest.mark.parametrize("name", KINKS)
def test_a_kink_is_named_with_both_derivatives(name, method):
    f, x, where = KINKS[name]
    message = refused(f, np.array(x), error=KinkError, method=method)
    found = re.match(
        rf"input 0.* at {where}: f has a kink here\. Its derivative is (\S+) from the left and (\S+) from the right; "
        r"backward gave (\S+)\. Any value between is a legitimate subgradient",
        message,
    )
    left, right, got = map(float, found.groups())
    assert left != right
    assert min(left, right) - 1e-6 <= got <= max(left, right) + 1e-6


def test_the_one_sided_derivatives_are_those_of_either_side():
    slopes = op(lambda x: np.where(x.real < 0, 3 * x, 5 * x + 2e3 * x * x), lambda gy, x: 4 * gy)
    message = refused(slopes, np.zeros(1), error=KinkError, seed=3)
    gy = 5 / float(re.search(r"(\S+) from the right", message)[1])
    assert gy * float(re.search(r"is (\S+) from the left", message)[1]) == pytest.approx(3, rel=1e-5)
    assert gy * float(re.search(r"gave (\S+)\. ", message)[1]) == pytest.approx(4, rel=1e-5)


def test_any_subgradient_can_be_accepted_but_no_other():
    x = np.array([1.0, 0.0, -2.0])
    report = gradcheck(F.relu, x, at_kinks="between")
    assert "at kinks (1 elements) any subgradient was accepted" in str(report)
    gradcheck(F.relu, np.concatenate([x, 1 + rng.random(500)]), at_kinks="between")
    outside = op(lambda x: np.where(x.real > 0, x, 0 * x), lambda gy, x: gy * np.where(x == 0, 7.0, x > 0))
    assert "which is not between them" in refused(outside, x, error=KinkError, at_kinks="between")
    assert "more than 64 such elements" in refused(F.relu, np.zeros(99), error=KinkError, at_kinks="between")


SMOOTH = {
    "steep": lambda x: (1e4 * x).tanh(),
    "a step of a thousandth": lambda x: ((1e3 * x).tanh() + x).exp(),
    "a parabola of 1e6": lambda x: 1e6 * x * x + x,
    "a rounded corner": lambda x: (x * x + 1e-12).sqrt(),
    "a cancelled kink": lambda x: F.relu(x + 2.0) - F.relu(-x - 2.0),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_curvature_is_no_kink(name):
    for x in (np.array([0.0, 1e-4, -2e-6]), 1e-2 * normal(5), 0.5 * normal(400)):
        assert gradcheck(SMOOTH[name], x, may_vanish=True).method == "complex"


def test_a_kink_nearby_does_no_harm():
    assert gradcheck(F.relu, np.array([1.0, 1e-6, -1e-9])).method == "complex"
    report = gradcheck(F.relu, np.array([1.0, 1e-3, -2e-4]), method="central")
    assert report.step < 1e-4
    assert report.max_rel_error < 1e-10
    said = refused(F.relu, np.array([1.0, 1e-7]), error=KinkError, method="central")
    assert "[1]: f has a kink nearer than 1e-5" in said


def test_a_jump_and_the_edge_of_a_domain_are_named():
    step = lambda x: F.where(x.data.real > 0, x, x + 1.0)
    assert "at [1]: f jumps here" in refused(step, np.array([1.0, 0.0]), error=KinkError)
    edge = op(lambda x: x * np.sqrt(x), lambda gy, x: 1.5 * np.sqrt(x) * gy)
    assert "at [1]: f is not finite on one side of here" in refused(edge, np.array([1.0, 0.0]), error=KinkError)
    assert "backward gave" in refused(F.sqrt, np.array([1.0, 0.0]))


# --- which method, which step


absolute = op(np.abs, lambda gy, x: gy * np.sign(x))
NOT_ANALYTIC = {
    "abs": (absolute, "not analytic"),
    "conj": (op(lambda x: x * np.conj(x), lambda gy, x: 2 * x * gy), "not analytic"),
    "real": (op(lambda x: x.real**3, lambda gy, x: 3 * x * x * gy), "not analytic"),
    "a cast": (op(lambda x: x.astype(np.float64) ** 3, lambda gy, x: 3 * x * x * gy), "ComplexWarning"),
    "no complex numbers": (op(lambda x: np.hypot(x, 1.0), lambda gy, x: x / np.hypot(x, 1) * gy), "TypeError"),
    "norm": (lambda x: absolute(x) ** 3.0, "not analytic"),
}


@pytest.mark.parametrize("name", NOT_ANALYTIC)
def test_where_f_is_not_analytic_central_differences_take_over(name):
    f, why = NOT_ANALYTIC[name]
    x = np.where(rng.random(6) < 0.5, -1, 1) * rng.uniform(0.5, 1.5, 6)
    report = gradcheck(f, x)
    assert report.method == "central"
    assert report.max_rel_error < 1e-9
    assert 1e-6 < report.step <= 0.01
    assert why in str(report)
    assert 'use method="central"' in refused(f, x, error=UncheckableError, method="complex")


def test_an_op_that_is_not_analytic_and_wrong_is_wrong():
    wrong = op(np.abs, lambda gy, x: 1.0005 * gy * np.sign(x))
    assert "everywhere it is 1.0005 times" in refused(wrong, 1 + rng.random(4))


def test_a_step_can_be_chosen():
    x = rng.uniform(0.5, 1.5, 4)
    report = gradcheck(F.log, x, step=1e-3)
    assert (report.method, report.step) == ("central", 1e-3)
    assert "step 0.1 is not right for f here; at step" in refused(lambda x: (30.0 * x).tanh(), 0.1 * x, step=0.1)


def test_a_function_too_rough_for_differences_is_said_to_be():
    rough = op(lambda x: np.round(x.real, 3) + 0.0 * np.abs(x), lambda gy, x: gy)
    assert "differences cannot tell" in refused(rough, np.array([0.12345, 0.54321]), method="central")


# --- modules, parameters, whole models


def test_every_parameter_of_a_module_is_checked_by_name():
    layer = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    report = gradcheck(layer, normal(5, 4))
    assert [e.name for e in report.entries] == ["input 0 (x)", "0.weight", "0.bias", "1.weight", "1.bias"]
    assert report.max_rel_error < 1e-13
    assert [e.name for e in gradcheck(layer.forward, normal(5, 4)).entries][1] == "0.weight"


def test_integers_are_fine_where_there_are_parameters():
    report = gradcheck(nn.Embedding(5, 3), np.array([[0, 4], [2, 2]]))
    assert [e.name for e in report.entries] == ["weight"]


def test_frozen_parameters_are_not_checked():
    layer = nn.Linear(4, 3)
    layer.bias.requires_grad = False
    assert [e.name for e in gradcheck(layer, normal(2, 4)).entries] == ["input 0 (x)", "weight"]


@pytest.mark.parametrize("given", ["dict", "list", "tensor", "module", "pairs"])
def test_a_closure_names_its_parameters(given):
    layer = nn.Linear(4, 3)
    parameters, names = {
        "dict": ({"w": layer.weight}, ["w"]),
        "list": ([layer.weight, layer.bias], ["parameter 0", "parameter 1"]),
        "tensor": (layer.weight, ["parameter 0"]),
        "module": (layer, ["weight", "bias"]),
        "pairs": (layer.named_parameters(), ["weight", "bias"]),
    }[given]
    report = gradcheck(lambda x: layer(x).tanh(), normal(2, 4), parameters=parameters)
    assert [e.name for e in report.entries] == ["input 0 (x)", *names]


def test_only_leaves_can_be_parameters():
    w = Tensor(normal(3), requires_grad=True)
    assert "w: parameters= takes leaf Tensors" in refused(lambda x: x * w, normal(3), parameters={"w": w * 2.0})
    assert "not an array of float64" in refused(lambda x: x * w, normal(3), parameters=[w.data])


class Swapped(nn.Module):
    """Two weights, of which each is handed the other's gradient."""

    def __init__(self):
        self.left, self.right = nn.Parameter(normal(3)), nn.Parameter(normal(3))

    def forward(self, x):
        swapped = op(lambda x, a, b: x * a + x * x * b, lambda gy, x, a, b: ((a + 2 * x * b) * gy, x * x * gy, x * gy))
        return swapped(x, self.left, self.right)


class Detached(Swapped):
    def forward(self, x):
        return x * self.left + self.right.detach() * x


class Unused(Swapped):
    def forward(self, x):
        return x * self.left


def test_the_gradient_of_the_wrong_parameter_is_named():
    message = refused(Swapped(), normal(3))
    assert re.match(r"(left|right) at .*; also wrong: (left|right)$", message)


def test_a_parameter_cut_from_the_tape_or_not_used_is_named():
    assert re.match("right at .* backward gave 0 .*zero everywhere", refused(Detached(), normal(3)))
    assert refused(Unused(), normal(3)).startswith("right: this check cannot see your gradient")
    gradcheck(Unused(), normal(3), may_vanish="right")


def test_a_bias_before_batch_norm_has_no_gradient_and_the_check_says_so():
    block = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    assert refused(block, normal(2, 2, 5, 5)).startswith("0.bias: this check cannot see your gradient")
    gradcheck(block, normal(2, 2, 5, 5), may_vanish=["0.bias"])


@pytest.mark.parametrize("name", ["resnet8", "plain8"])
def test_a_whole_network_in_training_mode(name):
    model = models.create(name, num_classes=3, in_channels=2, width=2)
    report = gradcheck(model, normal(2, 2, 8, 8))
    assert len(report.entries) == 1 + len(list(model.parameters()))
    assert report.max_rel_error < 1e-12


def test_a_whole_network_with_its_loss():
    model, x = models.create("resnet8", num_classes=3, in_channels=2, width=2), normal(2, 2, 8, 8)
    report = gradcheck(lambda x: F.cross_entropy(model(x), np.array([2, 0])), x, parameters=model)
    assert report.max_rel_error < 1e-12


def test_a_wrong_skip_in_a_whole_network_is_found(monkeypatch):
    from minires.ops.residual import ResidualAdd

    monkeypatch.setattr(ResidualAdd, "backward", lambda self, gy: (0.9995 * gy, gy))
    model = models.create("resnet8", num_classes=3, in_channels=2, width=2)
    assert "also wrong: " in refused(model, normal(2, 2, 8, 8))


def snapshot(model):
    tensors = [*model.parameters(), *model.buffers()]
    flags = [m.training for m in model.modules()]
    grads = [p.grad for p in model.parameters()]
    values = [(t.data, t.data.copy(), t.dtype, t.requires_grad) for t in tensors]
    return SimpleNamespace(values=values, tensors=tensors, flags=flags, grads=grads, rng=generator_state())


class Meddling(nn.Module):
    """Switches its own modes and counts its calls, and now and then fails."""

    def __init__(self, fails):
        self.norm, self.layer, self.calls, self.fails = nn.BatchNorm1d(3), nn.Linear(3, 3), 0, fails

    def forward(self, x):
        self.eval().train()
        self.calls += 1
        mr.manual_seed(3)
        if self.fails and self.calls == 5:
            raise ZeroDivisionError
        return self.layer(F.dropout(self.norm(x).tanh(), 0.4)) * self.norm.weight


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_put_back(fails):
    model = Meddling(fails)
    model.norm.training = False
    model.layer.bias.requires_grad = False
    model.layer.weight.grad = kept = normal(3, 3).astype(np.float32)
    before = snapshot(model)
    if fails:
        with pytest.raises(ZeroDivisionError):
            gradcheck(model, normal(4, 3))
    else:
        gradcheck(model, normal(4, 3))
    after = snapshot(model)
    assert (after.flags, after.rng, model.calls) == (before.flags, before.rng, 0)
    assert all(a is b for a, b in zip(after.tensors, before.tensors, strict=True))
    assert all(a is b for a, b in zip(after.grads, before.grads, strict=True))
    assert model.layer.weight.grad is kept
    for (data, values, dtype, needs), (old, old_values, old_dtype, needed) in zip(
        after.values, before.values, strict=True
    ):
        assert data is old
        assert np.array_equal(values, old_values)
        assert (dtype, needs) == (old_dtype, needed)


def test_a_closed_over_parameter_keeps_its_grad_unasked():
    layer = nn.Linear(3, 3)
    layer.bias.grad = kept = np.ones(3, np.float32)
    gradcheck(lambda x: layer(x), normal(2, 3))
    assert layer.weight.grad is None
    assert layer.bias.grad is kept
    assert layer.weight.dtype == np.float32


def test_inputs_are_left_alone_and_no_grad_does_not_matter():
    x = normal(3, 4)
    before = x.copy()
    with no_grad():
        gradcheck(F.tanh, x)
    assert np.array_equal(x, before)


# --- bad input is named for what it is


def counting():
    calls = []

    def f(x):
        calls.append(0)
        return x * float(len(calls))

    return f


def forgetful():
    numbers = np.random.default_rng(0)
    return lambda x: x * numbers.standard_normal(x.shape)


X = normal(2, 3)
BAD = {
    "integers": (F.exp, [np.arange(3)], "input 0 (input) is an array of int64; integers have no gradient"),
    "a list": (F.exp, [[1.0]], "input 0 (input) is a list"),
    "a Tensor without gradient": (F.exp, [Tensor(X)], "a Tensor of float64 without requires_grad"),
    "nothing": (lambda: Tensor(X), [], "f was given no input"),
    "float32": (F.exp, [X.astype(np.float32)], "is float32, whose rounding hides a wrong gradient"),
    "float16 beside float64": (F.mul, [X, X.astype(np.float16)], "input 1 (other) is float16"),
    "randomness": (lambda x: F.dropout(x, 0.5), [X], "two different answers for the same input: it is random"),
    "randomness in a layer": (nn.Dropout(0.5), [X], "call .eval(), or mr.manual_seed(0) inside f"),
    "randomness of its own": (forgetful(), [X], "it keeps state from call to call, or draws random numbers"),
    "state": (counting(), [X], "it keeps state from call to call"),
    "a nan in the output": (lambda x: x.log(), [np.array([1.0, -2.0])], "output 0 of f is nan at [1]"),
    "an infinity in the output": (lambda x: (x, 1.0 / x), [np.array([1.0, 0.0])], "output 1 of f is inf at [1]"),
    "a nan in the input": (F.exp, [np.array([0.0, np.nan])], "input 0 (input) is nan at [1]"),
    "an array comes out": (lambda x: x.data, [X], "f returned a ndarray, which carries no gradient"),
    "nothing comes out": (lambda x: None, [X], "f returned a NoneType"),
    "a number among Tensors": (lambda x: (x, 3.0), [X], "f returned a tuple with a float"),
    "integers come out": (lambda x: x.argmax(), [X], "f returned integers only"),
    "float32 comes out": (lambda x: Tensor(x.data.astype(np.float32)), [X], "output 0 of f is float32"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    f, inputs, said = BAD[name]
    message = refused(f, *inputs, error=UncheckableError)
    assert said in message, message


@pytest.mark.parametrize(
    "options", [{"method": "forward"}, {"at_kinks": "ignore"}, {"step": -1.0}, {"step": 0.1, "method": "complex"}]
)
def test_bad_options_are_named(options):
    message = refused(F.exp, X, error=UncheckableError, **options)
    assert str(next(iter(options.values()))) in message


def test_who_catches_checks_or_requests_catches_these():
    assert issubclass(GradcheckError, CheckError)
    assert issubclass(KinkError, GradcheckError)
    assert issubclass(UncheckableError, RequestError)
    assert issubclass(UncheckableError, GradcheckError)
