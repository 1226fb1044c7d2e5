"""A5: the reference is right, the blank is blank, and every mistake is called by its name."""

import numpy as np
import pytest

from minires.classroom import cut
from minires.classroom.assignment import find
from minires.classroom.assignments import a5
from minires.classroom.assignments.a5_reference import ResidualBlock
from minires.classroom.causes import CAUSES
from minires.classroom.diagnosis import Case, made, run
from tests.classroom.grading import causes, failures
from tests.classroom.mistakes import written
from tests.classroom.mistakes.a5 import A5

ASSIGNMENT = find("A5")


def test_the_code_is_worth_sixty_points():
    assert ASSIGNMENT.max_score == 60


def test_the_reference_is_right_in_everything():
    assert failures(ASSIGNMENT, cut.answer(ASSIGNMENT, complete=True)) == {}


def test_the_blank_is_wrong_in_everything_as_it_is_not_written():
    found = failures(ASSIGNMENT, cut.answer(ASSIGNMENT))
    assert {name: failed.cause for name, failed in found.items()} == dict.fromkeys(
        [test.name for test in ASSIGNMENT.tests], "NOT_WRITTEN"
    )


@pytest.mark.parametrize("mistake", A5, ids=str)
def test_a_mistake_is_called_by_its_name_and_by_no_other(mistake):
    found = causes(ASSIGNMENT, written(ASSIGNMENT, mistake.functions))
    assert mistake.cause in found
    assert found <= {mistake.cause} | mistake.also


def test_each_name_of_a_mistake_has_an_answer_that_makes_it():
    assert {mistake.cause for mistake in A5} == set(a5.CAUSES)
    assert set(a5.CAUSES) <= set(CAUSES)


def test_the_guides_answers_hold():
    x, gy = np.array([[1.0, 2.0]]), np.array([[0.3, -0.7]])
    eye, zero = np.eye(2), np.zeros((2, 2))
    _, gx, gw1, gw2 = run(ResidualBlock, Case((x, eye, zero), gy, {}))  # question 1
    assert np.array_equal(gx, gy)
    assert not gw1.any()
    assert gw2.any()
    _, gx, _, _ = run(ResidualBlock, Case((x, eye, -eye), gy, {}))  # question 2
    assert not gx.any()
    rng = np.random.default_rng(0)
    d, g = 64, rng.normal(size=(8, 64))
    first, h = g.copy(), rng.normal(size=(8, 64))
    for _ in range(50):  # question 3
        w1, w2 = (rng.normal(size=(d, d)) * np.sqrt(2 / d) for _ in range(2))
        block = made(ResidualBlock)
        h = block.forward(h / np.linalg.norm(h), w1, w2)
        g = block.backward(g)[0]
    assert np.linalg.norm(g) > 1e6 * np.linalg.norm(first)
