"""A docstring's formula, read, computed and written with numbers: what is printed comes to what the tape holds."""

import math
import re

import numpy as np
import pytest

from minires import explain
from minires.check import subjects
from minires.explain import words
from minires.explain.algebra import Formula, UnreadableError
from minires.ops.activation import Tanh
from minires.ops.linear import Matmul
from minires.ops.residual import ResidualAdd

BY_ENTRY = [s for s in subjects() if s.op.__module__.endswith((".elementwise", ".activation"))]


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def calculated(text):
    """What a pocket calculator makes of it."""
    names = {"exp": math.exp, "log": math.log, "tanh": math.tanh, "sqrt": math.sqrt, "min": min, "max": max}
    names |= {"sign": lambda x: math.copysign(1, x), "sigmoid": lambda x: 1 / (1 + math.exp(-x)), "erf": math.erf}
    return float(eval(text.replace("^", "**"), {"__builtins__": {}}, names))


# --- the law: what is written comes to what the tape holds


@pytest.mark.parametrize("subject", BY_ENTRY, ids=lambda s: s.name)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_numbers_written_for_an_op_come_to_the_tapes_on_a_pocket_calculator(subject, seed):
    walk = explain.op(subject.name, seed)
    (step,) = walk.steps
    shown = [(step.forward[0].numbers, step.makes[0].array), *((t.formula.numbers, t.gradient) for t in step.terms)]
    assert len(shown) > 1
    for written, result in shown:
        assert written is not None
        assert written.text.isascii()
        if result.ndim == 0 and result.dtype == np.float64 and "True" not in written.text:
            size = max(abs(result.item()), 0.05)  # four digits of every number that goes in
            assert abs(calculated(written.text) - result.item()) < 0.02 * size


@pytest.mark.parametrize("seed", range(6))
def test_the_numbers_of_a_matrix_product_are_matrices(seed):
    walk = explain.block("block", seed)
    products = [t for s in walk.steps if s.op == "matmul" for t in s.terms]
    assert len(products) == 4
    for term in products:
        left, right = term.formula.numbers.text.split(" @ ")
        a, b = (np.array(eval(re.sub(r"(?<=[\d\]]) ", ", ", part.strip("ᵀ")))) for part in (left, right))
        column = b.reshape(-1, 1) if b.ndim == 1 else b
        first = a.reshape(-1, 1) if a.ndim == 1 else a
        product = (first.T if left.endswith("ᵀ") else first) @ (column.T if right.endswith("ᵀ") else column)
        np.testing.assert_allclose(product.reshape(term.gradient.shape), term.gradient, rtol=5e-3, atol=5e-3)


def test_larger_arrays_show_the_entry_with_the_largest_result(rng):
    x = rng.standard_normal((4, 5))
    walk = explain.expression("sum(tanh(x))", {"x": x})
    step = walk.steps[0]
    written, gradient = step.terms[0].formula.numbers, step.terms[0].gradient
    assert written.entry == np.unravel_index(np.argmax(np.abs(gradient)), (4, 5))
    assert calculated(written.text) == pytest.approx(gradient[written.entry], rel=2e-3)


def test_a_case_is_chosen_by_its_condition_and_says_why():
    up, down = (explain.expression("relu(x)", {"x": x}).steps[0].terms[0].formula.numbers for x in (0.5, -0.5))
    assert (up.text, up.reason) == ("1", "0.5 > 0")
    assert (down.text, down.reason) == ("0", "not (-0.5) > 0")


def test_a_gradient_that_was_broadcast_is_the_sum_of_the_formulas_entries(rng):
    gy = rng.standard_normal(3)
    walk = explain.expression("x * w", {"x": 1.5, "w": rng.standard_normal(3)}, gy)
    (term,) = walk.into("x")
    assert term.formula.numbers.reason == "summed over what was repeated"
    w, g = (np.array(part.strip("[]()").split(), float) for part in term.formula.numbers.text.split(" * "))
    assert np.sum(w * g) == pytest.approx(term.gradient, rel=5e-3)


# --- reading mathematics


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x y", 6.0),
        ("(1 - y^2) x", -16.0),
        ("x / (2 y)", 1 / 3),
        ("-y x / y", -2.0),
        ("x exp(y) y", 2 * math.exp(3) * 3),
        ("x y^(x - 1)", 6.0),
        ("x^-1", 0.5),
        ("sqrt 2 x", 2 * math.sqrt(2)),
        ("x where y > x, else 7", 2.0),
        ("x where y < x, else 7", 7.0),
        ("x, and 9 where y = 3", 9.0),
        ("x where 0 <= y <= 1, -x where y > 1", -2.0),
        ("x s, s = y t, t = 5", 30.0),
        ("x P(x), P(x) = x + 1", 6.0),
        ("x, which is told in words: nothing to compute", 2.0),
        ("min(max(x, 4), y)", 3.0),
    ],
)
def test_mathematics_is_read_as_it_is_meant(text, value):
    assert Formula(text).value({"x": np.array(2.0), "y": np.array(3.0)}) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["sum_{k} w[k]", "gy at the pixel", "R^T gy C: each", "softmax(x) gy", "x +", "", "|x|", "x.real", "f(x)"]
)
def test_what_is_no_arithmetic_is_not_guessed_at(text):
    with pytest.raises(UnreadableError):
        Formula(text).value({"x": np.array(2.0), "gy": np.array(1.0)})


# --- reading docstrings


def test_formulas_remarks_and_notes_are_told_apart():
    section = words.section(ResidualAdd, "Backward")
    assert [str(c) for c in section.clauses] == ["gx = gy", "gf = gy"]
    assert section.of("gx").remark.startswith('the "+1"')
    assert section.lines[2].clauses == ()
    assert words.section(Tanh, "Backward").of("gx").right == "(1 - y^2) gy"
    assert [c.letter for c in words.section(Matmul, "Backward").clauses] == ["gx", "gw"]


@pytest.mark.parametrize("subject", subjects(), ids=lambda s: s.name)
def test_every_op_has_formulas_for_both_ways(subject):
    assert words.section(subject.op, "Forward").clauses
    backward = words.section(subject.op, "Backward")
    assert any(c.letter.startswith("g") for c in backward.clauses)


def test_letters_are_exchanged_all_at_once_and_never_made_ambiguous():
    names = words.renaming(["x", "w", "y"], ["w", "x", "v1"])
    assert words.renamed(["gx = w gy", "y = x w + exp(x)"], names) == ["gw = x gv1", "v1 = w x + exp(w)"]
    assert words.renamed(["y = x s, s = sigmoid(x)"], {"x": "s", "y": "v1"}) is None
    assert words.renamed(["gx = gy wᵀ"], words.renaming(["x", "w", "y"], ["h", "fc.weight", "z"])) == [
        "gh = gz fc.weightᵀ"
    ]


def test_a_variable_that_is_called_like_a_letter_of_the_docstring_leaves_the_formula_alone():
    walk = explain.expression("silu(s)", {"s": 0.5})
    assert walk.steps[0].legend == "x is s"
    assert walk.steps[0].forward[0].text == "y = x s, s = sigmoid(x)"
    assert "here x is s" in str(walk)
