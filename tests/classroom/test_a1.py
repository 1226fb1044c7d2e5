"""A1: the reference is right, the blank is blank, and every mistake is called by its name."""

import pytest

from minires.classroom import cut
from minires.classroom.answer import Local
from minires.classroom.assignment import find
from minires.classroom.assignments import a1
from minires.classroom.assignments.a1_suspects import Node
from minires.classroom.causes import CAUSES
from tests.classroom.grading import causes, failures
from tests.classroom.mistakes import written
from tests.classroom.mistakes.a1 import A1

ASSIGNMENT = find("A1")


@pytest.fixture(autouse=True)
def a_shorter_chain_and_fewer_diamonds(monkeypatch):
    """Deeper than Python's limit of recursion, and no more; test_variants.py grades with all 10,000 values."""
    monkeypatch.setattr(a1, "CHAIN", 1100)
    monkeypatch.setattr(a1, "MANY", 14)  # 16,384 paths, a quarter of what the grader asks for


def test_the_code_is_worth_sixty_points():
    assert ASSIGNMENT.max_score == 60


def test_the_reference_is_right_in_everything():
    assert failures(ASSIGNMENT, cut.answer(ASSIGNMENT, complete=True)) == {}


def test_the_blank_is_wrong_in_everything_as_it_is_not_written():
    found = failures(ASSIGNMENT, cut.answer(ASSIGNMENT))
    assert {name: failed.cause for name, failed in found.items()} == dict.fromkeys(
        [test.name for test in ASSIGNMENT.tests], "NOT_WRITTEN"
    )


@pytest.mark.parametrize("mistake", A1, ids=str)
def test_a_mistake_is_called_by_its_name_and_by_no_other(mistake):
    found = causes(ASSIGNMENT, written(ASSIGNMENT, mistake.functions))
    assert mistake.cause in found
    assert found <= {mistake.cause} | mistake.also


def test_each_name_of_a_mistake_has_an_answer_that_makes_it():
    assert {mistake.cause for mistake in A1} == set(a1.CAUSES)
    assert set(a1.CAUSES) <= set(CAUSES)


@pytest.mark.parametrize(
    ("engine", "title", "a", "x"),
    [("P", "= for +=", 1, 1), ("Q", "a turn at every arrival", 2, 6), ("R", "whoever comes second is sent away", 2, 2)],
)
def test_the_statements_wrong_engines_give_the_numbers_in_its_table(engine, title, a, x):
    source = written(ASSIGNMENT, next(m for m in A1 if m.title == title).functions)
    program = (Node("leaf", 3), Node("+", 0, (0, 0)), Node("+", 0, (1, 1)))
    assert a1.gradients(Local.of(source), program) == [x, a, 1]
    assert f"| {engine} | {a} | {x} |" in ASSIGNMENT.statement
