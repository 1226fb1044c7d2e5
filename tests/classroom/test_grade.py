"""A grade is of the student's file, whole, and told as the contract says."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

import minires
from minires.classroom.answer import Failed
from minires.classroom.assignment import Test
from minires.classroom.grade import LARGEST, grade
from minires.classroom.result import load, plain
from minires.errors import RequestError
from tests.classroom import toy


def graded(tmp_path, source, assignment=toy.TOY):
    (tmp_path / "toy.py").write_bytes(source if isinstance(source, bytes) else source.encode())
    return grade(assignment, tmp_path)


def test_points_are_those_of_the_tests_passed(tmp_path):
    for source, score in ((toy.RIGHT, 4), (toy.SKIP_DROPPED, 2), (toy.BLANK, 0)):
        result = graded(tmp_path, source)
        assert (result.score, result.max_score, result.complete) == (score, 4, score == 4)


def test_a_failure_carries_cause_place_and_the_first_hint(tmp_path):
    test = graded(tmp_path, toy.SKIP_DROPPED).tests[1]
    assert (test.cause, test.message, test.place) == ("SKIP_DROPPED", "gx is not gy", "tutorial 8, (8.2)")
    assert test.hint == "How many arrows leave x?"


def test_the_json_is_as_promised_and_can_be_read_back(tmp_path):
    result = graded(tmp_path, toy.RIGHT.replace("x + f", "x - f"))
    text = json.dumps(result.as_dict(), allow_nan=False)
    held = json.loads(text)
    assert list(held)[:4] == ["assignment", "score", "max_score", "tests"]
    assert all(list(test)[:5] == ["name", "passed", "cause", "message", "counterexample"] for test in held["tests"])
    assert held["tests"][0]["counterexample"]["x"] == [1.0]
    assert held["tests"][1]["cause"] is None
    assert held["minires"] == minires.__version__
    assert load(text).as_dict() == held


def test_the_file_that_was_graded_is_known_by_its_sha256(tmp_path):
    for source in (toy.RIGHT, toy.BLANK):
        assert graded(tmp_path, source).file_sha256 == hashlib.sha256(source.encode()).hexdigest()


def test_the_folder_or_the_one_file_may_be_named(tmp_path):
    (tmp_path / "ada.py").write_text(toy.RIGHT)
    assert grade(toy.TOY, tmp_path / "ada.py").complete


def test_other_files_beside_the_answer_are_no_part_of_it(tmp_path):
    (tmp_path / "numpy.py").write_text("raise RuntimeError('not this one')")
    (tmp_path / "helper.py").write_text("def add(x, f): return x + f")
    assert graded(tmp_path, toy.RIGHT).complete
    result = graded(tmp_path, toy.RIGHT.replace("return x + f", "import helper; return helper.add(x, f)"))
    assert result.tests[0].cause == "IMPORT_ERROR"


@pytest.mark.parametrize(
    ("source", "cause", "told"),
    [
        ("def f(:\n    pass", "SYNTAX_ERROR", "toy.py:1: invalid syntax"),
        ("x = 1\n  y = 2", "SYNTAX_ERROR", "toy.py:2: unexpected indent"),
        (b"x = '\xff'\n", "SYNTAX_ERROR", "toy.py:1: no UTF-8 text"),
        (b"x = 1\ny = '\xff'\n", "SYNTAX_ERROR", "toy.py:2: no UTF-8 text"),
        (b"x = 1\0", "SYNTAX_ERROR", "toy.py"),
        ("(" * 5000, "SYNTAX_ERROR", "toy.py"),
        ("import numpyy", "IMPORT_ERROR", "toy.py:1: no numpyy here"),
        ("", "MISSING_NAME", "toy.py: there is no ResidualAdd any more"),
        (toy.RIGHT.replace("def backward", "def backwards"), "MISSING_NAME", "toy.py: ResidualAdd has no backward"),
        (toy.RIGHT.replace("self, gy", "self, gx, gy"), "CHANGED_SIGNATURE", "toy.py:8: "),
        (toy.RIGHT.replace("return gy, gy", "return gz, gy"), "CRASHED", "toy.py:9: NameError: name 'gz' is not defi"),
    ],
)
def test_what_cannot_run_gets_one_line_that_says_where(tmp_path, source, cause, told):
    test = graded(tmp_path, source).tests[1]
    assert test.cause == cause
    assert test.message.startswith(told)
    assert "\n" not in test.message


def test_other_names_for_the_parameters_and_more_with_defaults_are_no_mistake(tmp_path):
    source = toy.RIGHT.replace("self, x, f", "self, a, b, scale=1").replace("x + f", "a + scale * b")
    assert graded(tmp_path, source).complete


def test_a_byte_order_mark_and_windows_line_ends_are_no_mistake(tmp_path):
    assert graded(tmp_path, b"\xef\xbb\xbf" + toy.RIGHT.replace("\n", "\r\n").encode()).complete


def test_an_encoding_that_the_file_declares_is_read_as_python_reads_it(tmp_path):
    source = "# -*- coding: latin-1 -*-\n# M\u00fcller\n" + toy.RIGHT
    assert graded(tmp_path, source.encode("latin-1")).complete


def test_what_a_test_cannot_judge_is_a_failure_of_unknown_cause(tmp_path):
    def stumbles(answer):
        if answer.op("ResidualAdd", (toy.X, toy.BRANCH))["y"] + np.ones(3):
            raise Failed("never reached")

    odd = dataclasses.replace(toy.TOY, tests=(Test("adds up", 1, stumbles), *toy.TOY.tests))
    result = graded(tmp_path, toy.RIGHT, odd)
    assert [test.cause for test in result.tests] == ["UNKNOWN", None, None, None]
    assert "ValueError" in result.tests[0].message


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda p: p / "nowhere", "there is no folder"),
        (lambda p: p, "has no toy.py, which A0 is graded by; it holds no Python file"),
        (lambda p: (p / "other.py").write_text("") or p, r"it holds other\.py"),
        (lambda p: (p / "README.md").write_text("") or p / "README.md", r"is no file of Python; name toy\.py"),
        (lambda p: (p / "toy.py").write_bytes(b"#" * (LARGEST + 1)) and p, "has 1 MB"),
    ],
)
def test_a_file_that_is_not_there_or_far_too_large_is_refused(tmp_path, make, told):
    with pytest.raises(RequestError, match=told):
        grade(toy.TOY, make(tmp_path))


def test_what_json_lacks_is_told_in_text():
    from fractions import Fraction

    held = plain(
        {"a": np.array([1.5, np.nan]), "b": Fraction(1, 3), "c": (1j, np.float32(2)), "d": float("inf"), "e": None}
    )
    assert json.loads(json.dumps(held, allow_nan=False)) == {
        "a": [1.5, "nan"],
        "b": "1/3",
        "c": ["1j", 2.0],
        "d": "inf",
        "e": None,
    }
