"""gradcheck where f has no derivative, or is not analytic: kinks are named, curves pass, the step is found."""

import re

import numpy as np
import pytest

from minires import functional as F
from minires.check import KinkError, UncheckableError, gradcheck
from tests.check.planted import op, refused, square

rng = np.random.default_rng(22)


def normal(*shape):
    return rng.standard_normal(shape)


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


@pytest.mark.parametrize("method", ["complex", "central"])
def test_any_subgradient_can_be_accepted_but_no_other(method):
    x = np.array([1.0, 0.0, -2.0])
    report = gradcheck(F.relu, x, at_kinks="between", method=method)
    assert "at kinks (1 elements) any subgradient was accepted" in str(report)
    gradcheck(F.relu, np.concatenate([x, 1 + rng.random(500)]), at_kinks="between", method=method)
    assert "expected" in refused(square(lambda gy, y: 3 * y * gy), x, at_kinks="between", method=method)
    outside = op(lambda x: np.where(x.real > 0, x, 0 * x), lambda gy, x: gy * np.where(x == 0, 7.0, x > 0))
    assert "which is not between them" in refused(outside, x, error=KinkError, at_kinks="between")
    assert "more than 64 such elements" in refused(F.relu, np.zeros(99), error=KinkError, at_kinks="between")


SMOOTH = {
    "steep": lambda x: (1e4 * x).tanh() + x,
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
