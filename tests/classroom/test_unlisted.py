"""What nobody listed is UNKNOWN, and never called by the name of a mistake that it is not."""

import pytest

from minires.classroom.assignment import find
from minires.classroom.assignments import a1
from tests.classroom.grading import failures
from tests.classroom.mistakes import written
from tests.classroom.mistakes.a4 import backward, forward
from tests.classroom.mistakes.a5 import block

HISTORY = """
def history(self{more}):
    {seen}
    out, waiting = [], [self]
    while waiting:
        v = waiting.pop()
        if {key} in seen:
            continue
        seen.add({key})
        out.append(v)
        waiting += [x for x, _ in v.edges]
    return sorted(out, key=lambda v: -v.serial)
"""
WALK = """
def backward(self):
    values = self.history()
    for v in values:
        v.grad = 0
    self.grad = {seed}
    for v in values:
        for x, slope in v.edges:
            x.grad += slope * v.grad
        {after}
"""
MOVED = """
def statistics(x, running_mean, running_var, training, momentum=0.1):
    if not training:
        return running_mean, running_var
    axes, m = (0, *range(2, x.ndim)), x.size // x.shape[1]
    mean, var = x.mean(axes), x.var(axes)
    running_mean += {momentum} * (mean - running_mean)
    running_var += {momentum} * ({var} - running_var)
    return mean, var
"""
UNLISTED = {
    "A1 the seed is the value": ("A1", {"Value.backward": WALK.format(seed="self.data", after="pass")}),
    "A1 gradients are taken away again": ("A1", {"Value.backward": WALK.format(seed=1, after="v.grad *= not v.edges")}),
    "A1 values that are equal are taken for one": (
        "A1",
        {"Value.history": HISTORY.format(more="", seen="seen = set()", key="v.data")},
    ),
    "A1 the set of what was reached is shared by all calls": (
        "A1",
        {"Value.history": HISTORY.format(more=", seen=set()", seen="pass", key="v")},
    ),
    "A1 a sum's edges are both its first operand's": (
        "A1",
        {
            "Value.__add__": "def __add__(self, other):\n"
            "    return Value(self.data + lift(other).data, (self, 1), (self, 1))"
        },
    ),
    "A4 1 + w": (
        "A4",
        {"BatchNorm.forward": forward(y="(1 + self.w) * self.xhat + b"), "BatchNorm.backward": backward()},
    ),
    "A4 w (xhat + b)": (
        "A4",
        {"BatchNorm.forward": forward(y="self.w * (self.xhat + b)"), "BatchNorm.backward": backward()},
    ),
    "A4 the mean of |x - mu|": (
        "A4",
        {
            "BatchNorm.forward": forward(sigma="np.abs(x - mu).mean(over, keepdims=True)"),
            "BatchNorm.backward": backward(),
        },
    ),
    "A4 projected on x - mu": (
        "A4",
        {
            "BatchNorm.forward": forward(),
            "BatchNorm.backward": backward(gx="(g - mean - self.xhat * self.sigma**2 * along) / self.sigma"),
        },
    ),
    "A4 the running variance moves to the mean": ("A4", {"statistics": MOVED.format(momentum="momentum", var="mean")}),
    "A4 momentum is 0.1 whatever is asked": (
        "A4",
        {"statistics": MOVED.format(momentum="0.1", var="var * m / (m - 1)")},
    ),
    "A5 the wrong sign": ("A5", {"ResidualBlock.backward": block("gx = -(gy + ga @ self.w1)")}),
    "A5 gx is a mean over the rows": ("A5", {"ResidualBlock.backward": block("gx = (gy + ga @ self.w1) / len(gy)")}),
    "A5 over the root of 2": (
        "A5",
        {
            "ResidualAdd.forward": "def forward(self, x, f):\n    return (x + f) / np.sqrt(2)",
            "ResidualAdd.backward": "def backward(self, gy):\n    return gy / np.sqrt(2), gy / np.sqrt(2)",
        },
    ),
}


@pytest.mark.parametrize(("name", "functions"), UNLISTED.values(), ids=list(UNLISTED))
def test_a_mistake_that_nobody_listed_is_unknown_and_costs_points(name, functions, monkeypatch):
    monkeypatch.setattr(a1, "CHAIN", 1100)
    found = failures(find(name), written(find(name), functions))
    assert {failed.cause for failed in found.values()} == {"UNKNOWN"}
    assert len(found) < len(find(name).tests)  # and only the tests that it touches


@pytest.mark.parametrize(
    ("functions", "cause"),
    [
        ({"Value.history": "def history(self):\n    values = [self]"}, "CRASHED"),
        ({"Value.backward": "def backward(self, seed):\n    self.grad = seed"}, "CHANGED_SIGNATURE"),
        ({"Value.__add__": "def __add__(self):\n    return self"}, "CHANGED_SIGNATURE"),
        ({"Value.__add__": "def __add__(self, other):\n    Value(self.data + lift(other).data)"}, "NOTHING_RETURNED"),
        ({"Value.__add__": "def __add__(self, other):\n    return self.data + lift(other).data"}, "CRASHED"),
        ({"Value.__add__": "def __add__(self, other):\n    return Value(self.value + lift(other).value)"}, "CRASHED"),
    ],
    ids=["no return", "a parameter", "no operand", "nothing", "a number", "no such attribute"],
)
def test_what_fails_with_values_too_is_no_matter_of_plain_numbers(functions, cause, monkeypatch):
    monkeypatch.setattr(a1, "CHAIN", 1100)
    found = {failed.cause for failed in failures(find("A1"), written(find("A1"), functions)).values()}
    assert cause in found <= {cause, "CRASHED"}


def test_backward_that_returns_nothing_is_not_said_to_forget_the_projection():
    found = failures(find("A5"), written(find("A5"), {"ProjectionBlock.backward": "def backward(self, gy):\n    pass"}))
    assert {(f.cause, f.message) for f in found.values()} == {("NOTHING_RETURNED", "backward returns None")}


def test_the_gradient_that_is_left_out_is_named_where_shapes_tell():
    short = block("gx = gy + ga @ self.w1").replace("gx, gw1, gw2\n", "gx, gw1\n")
    (found,) = failures(find("A5"), written(find("A5"), {"ResidualBlock.backward": short})).values()
    assert found.cause == "NOTHING_RETURNED"
    assert found.message.endswith("has 3 inputs; by their shapes it is gw2 that is missing")
