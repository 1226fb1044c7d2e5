"""A1: what its statement and guide say holds."""

import pytest

from minires.classroom.answer import Local
from minires.classroom.assignment import find
from minires.classroom.assignments import a1
from minires.classroom.assignments.a1_suspects import Node
from tests.classroom.mistakes import written
from tests.classroom.mistakes.a1 import A1

ASSIGNMENT = find("A1")


@pytest.mark.parametrize(
    ("engine", "title", "a", "x"),
    [("P", "= for +=", 1, 1), ("Q", "a turn at every arrival", 2, 6), ("R", "whoever comes second is sent away", 2, 2)],
)
def test_the_statements_wrong_engines_give_the_numbers_in_its_table(engine, title, a, x):
    source = written(ASSIGNMENT, next(m for m in A1 if m.title == title).functions)
    program = (Node("leaf", 3), Node("+", 0, (0, 0)), Node("+", 0, (1, 1)))
    assert a1.gradients(Local.of(source), program) == [x, a, 1]
    assert f"| {engine} | {a} | {x} |" in ASSIGNMENT.statement
