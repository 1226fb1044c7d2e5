"""What a student reads in the terminal, and what a teacher sees of a class."""

import dataclasses
import json
from html.parser import HTMLParser

import numpy as np
import pytest

from minires.classroom import overview
from minires.classroom.report import WIDTH, number, report, told
from minires.classroom.result import Result, TestResult, load
from minires.errors import RequestError
from tests.classroom.toy import TOY

SHA = "0123456789abcdef" * 4


def passed(name="a law", points=1.0):
    return TestResult(name, True, None, "", None, points, points)


def failed(cause="UNKNOWN", name="a law", message="", counterexample=None, points=1.0, **more):
    return TestResult(name, False, cause, message, counterexample, 0.0, points, **more)


def result(*tests, assignment="A0"):
    return Result(assignment, tests, "toy.py", SHA, "0.4.0", 0.5)


# --- the terminal


def test_a_report_tells_score_cause_smallest_input_place_and_hint():
    counterexample = {"x": np.ones(1), "F": "3x", "g": 1.0, "yours": 3.0, "expected": 4.0}
    test = failed(
        "SKIP_DROPPED",
        "whatever the branch",
        "your dx lacks + g",
        counterexample,
        place="tutorial 8, (8.2)",
        hint="How many arrows leave x?",
    )
    text = report(result(passed("y = x + f"), test), TOY)
    assert "1 of 2 points" in text
    assert f"SHA-256 {SHA}" in text
    assert "passed     1/1   y = x + f" in text
    assert "FAILED     0/1   whatever the branch" in text
    for line in (
        "cause     SKIP_DROPPED: ",
        "what      your dx lacks + g",
        "smallest  x = [1], F = 3x, g = 1",
        "yours 3, expected 4",
        "see       tutorial 8, (8.2)",
        "hint      How many arrows leave x?  (1 of 3; the others are in HINTS.md)",
        "1 of 2 tests passed.",
    ):
        assert line in text


def test_unknown_is_said_to_be_unknown():
    text = report(result(failed("UNKNOWN", message="dx is wrong")), TOY)
    assert "UNKNOWN: this is wrong, but what the mistake is, the grader can't tell" in text


def test_a_full_score_is_said_in_words():
    assert report(result(passed(), passed("another")), TOY).endswith("All 2 tests passed.")


def test_one_reason_for_many_tests_is_told_once():
    broken = [failed("SYNTAX_ERROR", f"law {i}", "toy.py:1: invalid syntax") for i in range(5)]
    text = report(result(*broken, passed()), TOY)
    assert text.count("invalid syntax") == 1
    assert text.count("FAILED") == 5


def test_no_line_is_wider_than_the_terminal_and_nothing_is_lost():
    long = "a law with a very long name " * 8
    test = failed("MADE_UP", long, "word " * 80, {"x": np.arange(400.0).reshape(20, 20), "yours": list(range(60))})
    text = report(result(test), TOY)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert text.count("word") == 80
    assert " ".join(text.split()).count("a law with a very long name") == 8
    assert "of shape (20, 20)" in text


def test_numbers_are_short():
    assert number(1 / 3) == "0.333333"
    assert number(np.array([[1.0, -2.5]])) == "[[1, -2.5]]"
    assert number((1, np.float32(0.5))) == "[1, 0.5]"
    assert told({"x": 2, "yours": 3}) == "x = 2\nyours 3"


# --- the class


class Tables(HTMLParser):
    """The cells of a page's tables, by heading, and whether its tags are closed in order."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.open, self.text, self.attributes = {}, [], "", []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.attributes.append((tag, dict(attributes)))
        if tag not in ("meta", "wbr"):
            self.open.append(tag)
        if tag == "table":
            self.rows = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th", "h3"):
            self.text = ""

    def handle_data(self, data):
        self.text += data

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "h3":
            self.heading = self.text
        elif tag in ("td", "th"):
            self.rows[-1].append(self.text)
        elif tag == "table":
            self.tables[self.heading] = self.rows


def keep(folder, **results):
    for name, each in results.items():
        (folder / f"{name}.json").write_text(json.dumps(each.as_dict()), encoding="utf-8")


@pytest.fixture
def classroom(tmp_path):
    keep(
        tmp_path,
        ada=result(passed("one"), passed("two", 3)),
        bob=result(failed("SKIP_DROPPED", "one"), passed("two", 3)),
        eve=result(failed("SKIP_DROPPED", "one"), failed("UNKNOWN", "two", points=3)),
    )
    return tmp_path


def test_the_page_counts_every_mistake_and_shows_every_student(classroom):
    students, left_out = overview.collect(classroom)
    tables = Tables(overview.page(students)).tables
    assert left_out == []
    mistakes = tables["A0: which mistake, how many"][1:]
    assert [
        (row[0].startswith(cause), row[1:]) for row, cause in zip(mistakes, ("SKIP_DROPPED", "UNKNOWN"), strict=True)
    ] == [
        (True, ["2 of 3", "bob, eve"]),
        (True, ["1 of 3", "eve"]),
    ]
    assert tables["A0: which mistake in which test, number of students"][1:] == [
        ["SKIP_DROPPED", "2", "0"],
        ["UNKNOWN", "0", "1"],
    ]
    assert tables["A0: who stands where"] == [
        ["Student", "Score", "Test 1", "Test 2"],
        ["ada", "4 of 4", "passed", "passed"],
        ["bob", "3 of 4", "SKIP_DROPPED", "passed"],
        ["eve", "0 of 4", "SKIP_DROPPED", "UNKNOWN"],
    ]


def test_the_page_needs_nothing_else_and_its_tables_say_what_heads_what(classroom):
    page = overview.page(overview.collect(classroom)[0])
    parsed = Tables(page)
    assert not [tag for tag, _ in parsed.attributes if tag in ("script", "link", "img", "iframe")]
    assert "http" not in page
    assert "url(" not in page
    assert all(a.get("scope") in ("row", "col") for tag, a in parsed.attributes if tag == "th")
    assert {"lang": "en"} in [a for tag, a in parsed.attributes if tag == "html"]


def test_names_are_text_and_never_markup(tmp_path):
    evil = "<script>alert(1)</script>"
    tests = (failed(evil, evil, evil, {"x": evil}),)
    keep(tmp_path, mallory=dataclasses.replace(result(*tests), assignment=evil))
    page = overview.page(overview.collect(tmp_path)[0])
    assert "<script" not in page
    assert not [tag for tag, _ in Tables(page).attributes if tag == "script"]


def test_two_assignments_in_one_folder_are_two_sections(tmp_path):
    keep(tmp_path, ada5=result(passed()), ada1=result(failed(), assignment="A1"))
    page = overview.page(overview.collect(tmp_path)[0])
    assert page.index('id="A0"') < page.index('id="A1"')
    assert "Nobody made a mistake." in page


@pytest.mark.parametrize(
    ("text", "told_so"),
    [
        ("{", "no JSON"),
        ("[]", "no result of minires class grade --json"),
        ("{}", "lacks 'assignment'"),
        ('{"assignment": "A0", "tests": [{"name": "a", "passed": "yes"}]}', "passed is 'yes', not true or false"),
        ('{"assignment": "A0", "tests": [], "score": 3}', "its score is 3, but its tests add up to 0"),
        ('{"assignment": 5, "tests": []}', "5 is no text"),
        ("[" * 100_000, "no "),
        (b"\xff\xfe\x00", "no UTF-8 text"),
    ],
)
def test_a_broken_result_is_named_and_left_out(classroom, text, told_so):
    (classroom / "dan.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    students, left_out = overview.collect(classroom)
    assert [s.name for s in students] == ["ada", "bob", "eve"]
    assert len(left_out) == 1
    assert left_out[0].startswith("dan.json: ")
    assert told_so in left_out[0]


def test_a_result_with_the_promised_keys_alone_is_a_result():
    test = {"name": "a", "passed": True, "cause": None, "message": "", "counterexample": None}
    held = load(json.dumps({"assignment": "A0", "score": 1, "max_score": 1, "tests": [test]}))
    assert (held.score, held.max_score) == (1, 1)


def test_a_folder_without_a_result_is_refused(tmp_path):
    with pytest.raises(RequestError, match="holds no result"):
        overview.collect(tmp_path)
    with pytest.raises(RequestError, match="there is no folder"):
        overview.collect(tmp_path / "nowhere")


def test_a_page_that_cannot_be_written_leaves_nothing(classroom, tmp_path):
    (tmp_path / "page.html").mkdir()
    with pytest.raises(RequestError, match="cannot be written"):
        overview.write(tmp_path / "page.html", overview.collect(classroom)[0])
    assert not list(tmp_path.glob("*.part"))
