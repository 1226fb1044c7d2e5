"""A4: the reference is right, the blank is blank, and every mistake is called by its name."""

import numpy as np
import pytest

from minires.classroom import cut
from minires.classroom.answer import Local
from minires.classroom.assignment import find
from minires.classroom.assignments import a4
from minires.classroom.causes import CAUSES
from tests.classroom.grading import causes, failures
from tests.classroom.mistakes import written
from tests.classroom.mistakes.a4 import A4

ASSIGNMENT = find("A4")


def test_the_code_is_worth_sixty_points():
    assert ASSIGNMENT.max_score == 60


def test_the_reference_is_right_in_everything():
    assert failures(ASSIGNMENT, cut.answer(ASSIGNMENT, complete=True)) == {}


def test_the_blank_is_wrong_in_everything_as_it_is_not_written():
    found = failures(ASSIGNMENT, cut.answer(ASSIGNMENT))
    assert {name: failed.cause for name, failed in found.items()} == dict.fromkeys(
        [test.name for test in ASSIGNMENT.tests], "NOT_WRITTEN"
    )


@pytest.mark.parametrize("mistake", A4, ids=str)
def test_a_mistake_is_called_by_its_name_and_by_no_other(mistake):
    found = causes(ASSIGNMENT, written(ASSIGNMENT, mistake.functions))
    assert mistake.cause in found
    assert found <= {mistake.cause} | mistake.also


def test_each_name_of_a_mistake_has_an_answer_that_makes_it():
    assert {mistake.cause for mistake in A4} == set(a4.CAUSES)
    assert set(a4.CAUSES) <= set(CAUSES)


@pytest.mark.parametrize(
    ("title", "ones", "xhat"),
    [("MEAN_TERM_DROPPED", True, False), ("BESSEL", False, True), ("GAIN_FORGOTTEN", False, False)],
)
def test_the_statements_wrong_norms_have_the_sums_in_its_table(title, ones, xhat):
    mistake = next(m for m in A4 if m.cause == title and m.title in ("", "backward"))
    rng = np.random.default_rng(1)
    x, gy, w, b = rng.normal(size=(6, 3, 4)), rng.normal(size=(6, 3, 4)), np.full(3, 2.0), np.zeros(3)
    answer = Local.of(written(ASSIGNMENT, mistake.functions))
    gx = answer.op("BatchNorm", (x, w, b), gy, eps=1e-12, observe=None)["gradients"][0]
    normal = (x - x.mean((0, 2), keepdims=True)) / x.std((0, 2), keepdims=True)
    assert (np.abs(gx.sum((0, 2))) > 1e-3).all() == ones
    assert (np.abs((gx * normal).sum((0, 2))) > 1e-3).all() == xhat
