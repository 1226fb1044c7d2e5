"""Expressions: arithmetic and ops, and nothing else. What cannot be explained is refused in one line."""

import numpy as np
import pytest

import minires as mr
from minires import explain
from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.explain.expression import Expression, values_at


@pytest.mark.parametrize(
    ("text", "f"),
    [
        ("x + tanh(w * x)", lambda x, w: x + F.tanh(w * x)),
        ("-x / w ** 2 - 3", lambda x, w: -x / w**2 - 3),
        ("+x * pi", lambda x, w: x * np.pi),
        ("2 ** x", lambda x, w: 2**x),
        ("(x - w) * (x + w) * x", lambda x, w: (x - w) * (x + w) * x),
        ("exp(-x*x/2) / sqrt(2*pi)", lambda x, w: F.exp(-x * x / 2) / np.sqrt(2 * np.pi)),
        ("where(True, x, w)", lambda x, w: x),
    ],
)
def test_the_gradients_are_those_of_the_same_program_in_python(text, f):
    rng = np.random.default_rng(1)
    at = {"x": rng.uniform(0.3, 2), "w": rng.uniform(0.3, 2)}
    at = {name: at[name] for name in Expression(text).variables}
    walk = explain.expression(text, at)
    leaves = {name: Tensor(np.array(v), requires_grad=True) for name, v in at.items()}
    f(leaves["x"], leaves.get("w")).backward(np.array(1.0))
    for name, t in leaves.items():
        if t.grad is not None:
            np.testing.assert_allclose(walk.gradient(name), t.grad, rtol=1e-13)


def test_arrays_are_taken_and_options_passed_on():
    a = np.random.default_rng(2).standard_normal((2, 3))
    walk = explain.expression("sum(softmax(A @ v, dim=0) * cat([v, v], 0)[0:1])" if False else "softmax(A @ v, dim=0)",
                              {"A": a, "v": [1.0, -2.0, 0.5]}, gy=[1.0, 2.0])  # fmt: skip
    leaf = Tensor(a, requires_grad=True)
    F.softmax(leaf @ mr.tensor(np.array([1.0, -2.0, 0.5])), dim=0).backward(np.array([1.0, 2.0]))
    np.testing.assert_allclose(walk.gradient("A"), leaf.grad, rtol=1e-13)
    assert len(explain.expression("sum(cat([x, y], 0))", {"x": [1, 2], "y": [3]}).leaves) == 2


def test_what_is_not_given_is_drawn_the_same_from_the_same_seed():
    one, two, other = (explain.expression("x * w", seed=s) for s in (3, 3, 4))
    assert str(one) == str(two) != str(other)
    given = explain.expression("x * w", {"x": 1.5}, seed=3)
    assert given.values["w"].array == one.values["w"].array  # no value hangs on which others are given
    assert "w drawn from seed 3" in str(given)


REFUSED = [
    ("x +", "no expression"),
    ("x + (", "no expression"),
    ("", "is empty"),
    ("tan(x)", "tanh"),
    ("print(x)", "no function is called print"),
    ("__import__('os')", "no function is called __import__"),
    ("x.__class__", "attribute"),
    ("x.sum()", "attribute"),
    ("(lambda: x)()", "no part of an expression"),
    ("[x for x in y]", "no part of an expression"),
    ("x if x else w", "no part of an expression"),
    ("x // w", "none of"),
    ("x == w", "no part of an expression"),
    ("x[0]", "no part of an expression"),
    ("tanh", "is a function"),
    ("3 + 4", "no variable"),
    ("'a' + x", "no part of an expression"),
    ("tanh(x, x, x)", "cannot be computed"),
    ("x / 0", "not finite"),
    ("x + 1 / 0", "divides by zero"),
    ("x + 9**9**9", "cannot be computed"),
    ("log(x - x)", "not finite"),
    ("sqrt(x - x)", "gradient of step"),
    ("argmax(x, 0)", "nothing with a gradient|cannot be computed"),
    ("softmax(x, dim=5)", "softmax|axis|dim"),
]


@pytest.mark.parametrize(("text", "what"), REFUSED, ids=[text or "empty" for text, _ in REFUSED])
def test_what_is_no_expression_gets_one_line(text, what):
    with pytest.raises(RequestError, match=what) as caught:
        explain.expression(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["(" * 3000 + "x" + ")" * 3000, "-" * 5000 + "x"])
def test_depth_without_end_is_refused_too(text):
    with pytest.raises(RequestError):
        explain.expression(text)


def test_shapes_that_do_not_fit_are_told_with_the_shapes():
    with pytest.raises(RequestError, match=r"A @ v cannot be computed for arrays of shape \(2, 3\), \(2,\)"):
        explain.expression("A @ v", {"A": np.ones((2, 3)), "v": np.ones(2)})


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("x", "takes NAME=X"),
        ("x=", "no value"),
        ("3=x", "takes NAME=X"),
        ("x=a", "no number"),
        ("x=1e999", "finite"),
        ("x=[1, 'a']", "no number"),
        ("x=[]", "no number"),
        ("x=[[1], [2, 3]]", "no number"),
        ("x=1j", "no number"),
        ("x=__import__('os')", "no number"),
    ],
)
def test_a_bad_value_gets_one_line(given, what):
    with pytest.raises(RequestError, match=what):
        values_at([given])


def test_values_are_numbers_and_nested_lists():
    found = values_at(["x=-0.5", "W=[[1, 2], [3, 4]]"])
    assert found["x"] == -0.5
    assert found["W"].dtype == np.float64
    with pytest.raises(RequestError, match="twice"):
        values_at(["x=1", "x=2"])
    with pytest.raises(RequestError, match="has no z; its names are x"):
        explain.expression("x * 2", {"z": 1.0})
