"""Right answers are never accused, however they are written; and the grader says of wrong ones what the tests say."""

import pytest

from minires.classroom.assignment import find
from minires.classroom.assignments import a1
from minires.classroom.grade import grade
from tests.classroom.grading import failures
from tests.classroom.mistakes import written
from tests.classroom.mistakes.a1 import A1
from tests.classroom.mistakes.a4 import A4
from tests.classroom.mistakes.a5 import A5
from tests.classroom.variants import variants


@pytest.mark.parametrize("name", ["A1", "A4", "A5"])
def test_a_hundred_right_answers_are_not_accused(name, monkeypatch):
    monkeypatch.setattr(a1, "CHAIN", 1100)  # deeper than the recursion limit is enough here
    found = list(variants(name, 100))
    assert len(set(found)) == 100
    for source in found:
        assert failures(find(name), source) == {}, source


@pytest.mark.parametrize(
    ("name", "mistake"),
    [("A1", A1[0]), ("A1", A1[3]), ("A1", A1[13]), ("A4", A4[0]), ("A4", A4[1]), ("A5", A5[0]), ("A5", A5[21])],
    ids=str,
)
def test_the_grader_says_the_same_in_a_process_of_its_own(name, mistake, tmp_path):
    assignment = find(name)
    (tmp_path / assignment.file).write_text(written(assignment, mistake.functions), encoding="utf-8")
    result = grade(assignment, tmp_path)
    assert mistake.cause in {test.cause for test in result.tests}
    assert {test.cause for test in result.tests if not test.passed} <= {mistake.cause} | mistake.also
    assert 0 < sum(test.points for test in result.tests) < 60


@pytest.mark.parametrize("name", ["A1", "A4", "A5"])
def test_the_grader_accepts_right_answers_in_a_process_of_its_own(name, tmp_path):
    assignment = find(name)
    (tmp_path / assignment.file).write_text(next(variants(name, 1, seed=9)), encoding="utf-8")
    assert [test.name for test in grade(assignment, tmp_path).tests if not test.passed] == []
