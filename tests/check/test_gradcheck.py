"""The checker checked: it passes what is right, names what is wrong, and refuses to bless what it cannot see."""

import re

import numpy as np
import pytest

from minires import engine, nn
from minires import functional as F
from minires.check import CheckError, GradcheckError, KinkError, UncheckableError, gradcheck
from minires.engine import Tensor
from minires.errors import RequestError
from tests.check.planted import op, refused, square, written_to

rng = np.random.default_rng(21)


def normal(*shape):
    return rng.standard_normal(shape)


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
