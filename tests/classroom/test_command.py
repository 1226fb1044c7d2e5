"""`minires class`: what it prints, its exit codes, and one line for every wrong request."""

import json

import pytest

from minires import cli
from minires.classroom import assignment
from tests.classroom import toy


@pytest.fixture(autouse=True)
def _toy_alone(monkeypatch):
    monkeypatch.setattr(assignment, "assignments", lambda: {"A0": toy.TOY})


def test_without_an_action_it_lists_what_there_is(capsys):
    assert cli.main(["class"]) == 0
    assert "A0  The toy" in capsys.readouterr().out


def test_a_class_from_hand_out_to_report(tmp_path, capsys):
    ada, bob, results = tmp_path / "ada", tmp_path / "bob", tmp_path / "results"
    results.mkdir()
    assert cli.main(["class", "hand-out", "A0", "--to", str(ada)]) == 0
    assert "toy.py to edit" in capsys.readouterr().out
    assert cli.main(["class", "solutions", "a0", "--to", str(bob)]) == 0
    capsys.readouterr()
    for student, folder, code in (("ada", ada, 1), ("bob", bob, 0)):
        assert cli.main(["class", "grade", "A0", str(folder), "--json"]) == code
        (results / f"{student}.json").write_text(capsys.readouterr().out)
    (results / "broken.json").write_text("{")
    page = tmp_path / "class.html"
    assert cli.main(["class", "report", str(results), "--out", str(page)]) == 0
    told = capsys.readouterr().out
    assert "left out: broken.json: no JSON" in told
    assert f"made {page}: 2 results" in told
    assert "NOT_<wbr>WRITTEN" in page.read_text(encoding="utf-8")


def test_grading_prints_the_report_or_one_json_object(tmp_path, capsys):
    (tmp_path / "toy.py").write_text(toy.SKIP_DROPPED)
    assert cli.main(["class", "grade", "A0", str(tmp_path)]) == 1
    assert "SKIP_DROPPED" in capsys.readouterr().out
    assert cli.main(["class", "grade", "A0", str(tmp_path), "--json"]) == 1
    held = json.loads(capsys.readouterr().out)
    assert (held["assignment"], held["score"], held["max_score"]) == ("A0", 2, 4)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["grade", "A00", "."], "there is no assignment 'A00'; did you mean A0? See: minires class"),
        (["grade", "residual", "."], "there is no assignment 'residual'; did you mean A0?"),
        (["grade", "A0", "nowhere"], "there is no folder nowhere"),
        (["grade", "A0", ".", "--seconds", "0"], "--seconds 0 is no time"),
        (["grade", "A0", ".", "--seconds", "nan"], "--seconds nan is no time"),
        (["grade", "A0", ".", "--memory", "16"], "--memory 16 is too little"),
        (["hand-out", "A0", "--to", "."], "is not empty"),
        (["report", "nowhere"], "there is no folder nowhere"),
        (["solutions", "A9", "--to", "x"], "there is no assignment 'A9'; did you mean A0"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(arguments, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.txt").write_text("something")
    assert cli.main(["class", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("minires: ")
    assert captured.err.count("\n") == 1
    assert told in captured.err
    assert [file.name for file in tmp_path.iterdir()] == ["here.txt"]
