"""Of every assignment the reference is right, the blank is blank, and every mistake is called by its name."""

import pytest

from minires.classroom import cut
from minires.classroom.assignment import assignments
from minires.classroom.assignments import a1, a4, a5
from minires.classroom.causes import CAUSES
from tests.classroom.grading import causes, failures
from tests.classroom.mistakes import written
from tests.classroom.mistakes.a1 import A1
from tests.classroom.mistakes.a4 import A4
from tests.classroom.mistakes.a5 import A5

ALL = assignments()
NAMED = {"A1": (a1.CAUSES, A1), "A4": (a4.CAUSES, A4), "A5": (a5.CAUSES, A5)}
MADE = [(name, mistake) for name, (_, mistakes) in NAMED.items() for mistake in mistakes]
each_assignment = pytest.mark.parametrize("assignment", ALL.values(), ids=ALL)


@pytest.fixture(autouse=True)
def a_shorter_chain_and_fewer_diamonds(monkeypatch):
    """A1's: deeper than Python's limit of recursion, and no more; test_variants.py grades with all 10,000 values."""
    monkeypatch.setattr(a1, "CHAIN", 1100)
    monkeypatch.setattr(a1, "MANY", 14)  # 16,384 paths, a quarter of what the grader asks for


def test_no_assignment_is_left_out_here():
    assert NAMED.keys() == ALL.keys()


@each_assignment
def test_the_code_is_worth_sixty_points(assignment):
    assert assignment.max_score == 60


@each_assignment
def test_the_reference_is_right_in_everything(assignment):
    assert failures(assignment, cut.answer(assignment, complete=True)) == {}


@each_assignment
def test_the_blank_is_wrong_in_everything_as_it_is_not_written(assignment):
    found = failures(assignment, cut.answer(assignment))
    assert {name: failed.cause for name, failed in found.items()} == dict.fromkeys(
        [test.name for test in assignment.tests], "NOT_WRITTEN"
    )


@pytest.mark.parametrize(("name", "mistake"), MADE, ids=str)
def test_a_mistake_is_called_by_its_name_and_by_no_other(name, mistake):
    found = causes(ALL[name], written(ALL[name], mistake.functions))
    assert mistake.cause in found
    assert found <= {mistake.cause} | mistake.also


@pytest.mark.parametrize("name", NAMED)
def test_each_name_of_a_mistake_has_an_answer_that_makes_it(name):
    names, mistakes = NAMED[name]
    assert {mistake.cause for mistake in mistakes} == set(names)
    assert set(names) <= set(CAUSES)
