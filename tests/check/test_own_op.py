"""An op of a user's own is proved like those of the library: one function draws its cases."""

import sys

import numpy as np
import pytest

from minires import functional as F
from minires.check import Case, CheckError, all_laws, case, check_op, examine, law, pull, same, subjects
from minires.engine import Function
from minires.errors import RequestError
from minires.ops.residual import ResidualAdd


@pytest.fixture(autouse=True)
def _registries(monkeypatch):
    """What is registered here is gone afterwards; the library's own is loaded before."""
    subjects(), all_laws()
    for module, name in (("case", "_subjects"), ("law", "_laws")):
        held = sys.modules[f"minires.check.{module}"]
        monkeypatch.setattr(held, name, dict(getattr(held, name)))


class Cube(Function):
    """y = x^3."""

    factor = 3

    def forward(self, x):
        self.x = x
        return x * x * x

    def backward(self, gy):
        return self.factor * self.x * self.x * gy


class Careless(Cube):
    """gx = 2 x^2 gy."""

    factor = 2


def register(op):
    @case(op)
    def cube(draw):
        return Case(
            (draw.normal(*draw.shape()),), reference=lambda x: np.array([v**3 for v in x.flat]).reshape(x.shape)
        )

    @law(op)
    def a_cube_is_of_degree_three(draw):
        """x gx = 3 y gy (Euler)."""
        x, gy = draw.normal(4), draw.normal(4)
        y, (gx,) = pull(op.apply, x, gy=gy)
        same(x * gx, 3 * y * gy, "x gx")


def test_a_right_op_passes_every_oracle_invariant_and_law():
    register(Cube)
    report = check_op(Cube, shrink=True)
    assert report.op == "cube"
    assert [found.name for found in report.oracles if found.max_rel_error is not None] == [
        "complex-step",
        "adjoint",
        "central",
        "index-loops",
    ]
    assert report.laws == ["a_cube_is_of_degree_three"]
    assert len(report.invariants) == 8


def test_a_wrong_op_is_told_by_each_of_them():
    register(Careless)
    with pytest.raises(CheckError, match=r"cube\(float64\[.*\]\): x at \[.*\]: expected .*, backward gave"):
        check_op(Careless)
    failed = {failure.split(":")[0] for failure in examine(Careless).failures}
    assert failed == {"complex-step", "adjoint", "central", "index-loops", "a_cube_is_of_degree_three"}


@pytest.mark.parametrize("op", ["residual_add", "ResidualAdd", F.residual_add, ResidualAdd])
def test_an_op_answers_to_its_class_its_name_and_its_function(op):
    assert check_op(op, examples=2).op == "residual_add"


def test_an_op_that_no_case_draws_is_refused_with_what_to_write():
    with pytest.raises(RequestError, match=r"no case draws inputs for Cube.*@case\(Cube\)"):
        check_op(Cube)
