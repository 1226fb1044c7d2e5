"""The page-long engine: exact where numbers are fractions, and in agreement with the engine it introduces."""

import doctest
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import scalar
from minires.engine import Function, Tensor
from minires.scalar import Value

FRACTIONS = st.fractions(-5, 5, max_denominator=9)
NONZERO = FRACTIONS.filter(bool)


def grads(f, *numbers):
    """The gradient of f at these numbers."""
    xs = [Value(n) for n in numbers]
    f(*xs).backward()
    return [x.grad for x in xs]


def test_the_page_fits_on_a_page_and_its_examples_hold():
    with open(scalar.__file__, encoding="utf-8") as file:
        assert len(file.readlines()) <= 150
    assert doctest.testmod(scalar).attempted >= 5
    assert doctest.testmod(scalar).failed == 0


@given(x=FRACTIONS, w=FRACTIONS, n=st.integers(1, 4))
def test_the_diamond_is_one_plus_the_branch(x, w, n):
    assert grads(lambda x: x + w * x**n, x) == [1 + w * n * x ** (n - 1)]


@given(a=FRACTIONS, b=NONZERO)
def test_the_rules_of_calculus_hold_exactly(a, b):
    assert grads(lambda a, b: a + b, a, b) == [1, 1]
    assert grads(lambda a, b: a - b, a, b) == [1, -1]
    assert grads(lambda a, b: a * b, a, b) == [b, a]
    assert grads(lambda a, b: a / b, a, b) == [1 / b, -a / b**2]
    assert grads(lambda b: b**-3, b) == [-3 / b**4]
    assert grads(lambda a: -a, a) == [-1]
    assert grads(lambda a: a**0, a) == [0]
    assert grads(lambda a: a * a * a, a) == [3 * a**2]
    assert grads(lambda a: a.relu(), a) == [1 if a > 0 else 0]
    assert grads(lambda b: (2 - b) + (3 + b) * (4 * b) - 5 / b, b) == [-1 + 12 + 8 * b + 5 / b**2]


@given(coefficients=st.lists(FRACTIONS, min_size=1, max_size=6), x=FRACTIONS)
def test_polynomials_have_their_exact_derivative_however_they_are_written(coefficients, x):
    expected = sum((k * c * x ** (k - 1) for k, c in enumerate(coefficients) if k), Fraction(0))

    def horner(x):
        y = 0 * x
        for c in reversed(coefficients):
            y = y * x + c
        return y

    powers = grads(lambda x: sum((c * x**k for k, c in enumerate(coefficients)), 0 * x), x)
    assert powers == grads(horner, x) == [expected]
    assert isinstance(powers[0], Fraction)


@given(u=FRACTIONS, v=FRACTIONS, x=FRACTIONS)
def test_the_product_rule_holds_exactly(u, v, x):
    f, g = (lambda x: u * x**2 + x), (lambda x: x**3 - v)
    (df,), (dg,) = grads(f, x), grads(g, x)
    assert grads(lambda x: f(x) * g(x), x) == [df * g(Value(x)).data + f(Value(x)).data * dg]


@pytest.mark.parametrize("x", [-1.3, 0.2, 2.5])
def test_smooth_functions_have_their_derivative(x):
    assert grads(lambda x: x.exp(), x) == [pytest.approx(math.exp(x), rel=1e-15)]
    assert grads(lambda x: x.tanh(), x) == [pytest.approx(1 / math.cosh(x) ** 2, rel=1e-14)]
    assert grads(lambda x: (x * x).log(), x) == [pytest.approx(2 / x, rel=1e-15)]
    assert grads(lambda x: (x * x) ** 0.5, x) == [pytest.approx(math.copysign(1, x), rel=1e-15)]


def test_a_chain_of_ten_thousand_needs_no_recursion():
    assert sys.getrecursionlimit() < 10_000
    x = Value(1)
    y = x
    for _ in range(10_000):
        y = y + 1
    assert len(y.history()) == 20_001  # x, and a sum and its constant for each step
    y.backward()
    assert x.grad == 1


class Counted(Fraction):
    """A slope that counts how often it is multiplied, which backward does once an edge."""

    times = 0

    def __mul__(self, other):
        Counted.times += 1
        return Fraction(self) * other


def test_each_edge_of_a_ladder_with_a_million_paths_is_walked_once():
    x = Value(1)
    y = x
    for _ in range(20):
        y = Value(2 * y.data, (y, Counted(1)), (y, Counted(1)))  # both rails of the ladder
    Counted.times = 0
    y.backward()
    assert Counted.times == 40
    assert x.grad == y.data == 2**20
    assert len(y.history()) == len(set(y.history())) == 21


def test_an_input_waits_for_its_youngest_reader():
    x = Value(2)
    early = x * 3
    late = early * early  # reads early after x's other reader was made
    y = x * late + early
    y.backward()
    assert early.grad == 2 * x.data * early.data + 1
    assert x.grad == late.data + 3 * early.grad


def test_backward_twice_gives_the_same_gradient():
    x = Value(3)
    y = x * x + x
    y.backward()
    y.backward()
    assert x.grad == 7


def test_a_value_outside_the_history_keeps_its_gradient():
    x, z = Value(3), Value(4)
    (z * z).backward()
    (x * x).backward()
    assert (x.grad, z.grad) == (6, 8)


def test_a_value_as_exponent_is_refused():
    with pytest.raises(TypeError, match="unsupported operand"):
        Value(2) ** Value(3)


def test_the_demonstration_derives_the_plus_one():
    out = subprocess.run([sys.executable, "-m", "minires.scalar"], capture_output=True, text=True, check=True).stdout
    assert "the +1" in out
    assert "dy/dx = 1 + f'(x) = 4" in out
    assert "dy/dx = 1e-20" in out
    assert f"dy/dx = {1.1**20:.3g}" in out


# --- agreement with the engine of arrays


class Add(Function):
    def forward(self, a, b):
        return a + b

    def backward(self, gy):
        return gy, gy


class Mul(Function):
    def forward(self, a, b):
        self.a, self.b = a, b
        return a * b

    def backward(self, gy):
        return gy * self.b, gy * self.a


class Tanh(Function):
    def forward(self, x):
        self.y = self.xp.asarray(self.xp.tanh(x))
        return self.y

    def backward(self, gy):
        return gy * (1 - self.y * self.y)


@given(data=st.data(), leaves=st.lists(st.floats(-1, 1), min_size=1, max_size=4), steps=st.integers(1, 15))
@settings(max_examples=60)
def test_random_expressions_have_the_same_gradient_in_both_engines(data, leaves, steps):
    ours = [Value(x) for x in leaves]
    theirs = [Tensor(np.array(x), requires_grad=True) for x in leaves]
    for _ in range(steps):
        kind = data.draw(st.sampled_from(["add", "mul", "tanh"]))
        i, j = data.draw(st.integers(0, len(ours) - 1)), data.draw(st.integers(0, len(ours) - 1))
        if kind == "tanh":
            ours.append(ours[i].tanh())
            theirs.append(Tanh.apply(theirs[i]))
        else:
            ours.append(ours[i] + ours[j] if kind == "add" else ours[i] * ours[j])
            theirs.append((Add if kind == "add" else Mul).apply(theirs[i], theirs[j]))
    ours[-1].backward()
    theirs[-1].backward()
    assert float(theirs[-1].data) == pytest.approx(ours[-1].data, rel=1e-12, abs=1e-300)
    for x, t in zip(ours[: len(leaves)], theirs[: len(leaves)], strict=True):
        expected = 0.0 if t.grad is None else float(t.grad)
        assert float(x.grad) == pytest.approx(expected, rel=1e-10, abs=1e-13)
