"""A handed-out folder: what the student needs, cut from the library, and no line of the solution."""

import ast
import dataclasses
import inspect
import os
import textwrap
from pathlib import Path

import pytest

from minires.classroom import cut, folder, handout, solutions
from minires.classroom.assignment import Assignment, assignments
from minires.classroom.grade import grade
from minires.errors import RequestError
from minires.ops.residual import ResidualAdd
from tests.classroom.toy import TOY


def cut_from(*blanks, given=(), hide=()):
    """An assignment of nothing but these blanks."""
    return dataclasses.replace(TOY, blanks=blanks, given=given, hide=hide)


SCALAR = cut_from("minires.scalar.Value.tanh", "minires.scalar.Value.backward", given=("minires.scalar.lift",))
NORMS = cut_from(
    "minires.ops.norm.BatchNorm.backward",
    "minires.ops.norm.LayerNorm.backward",
    given=("minires.ops.norm.by_channel", "minires.ops.norm.standardize"),
    hide=("Backward", "Derivation"),
)
EXAMPLES = [TOY, SCALAR, NORMS, *assignments().values()]
each_example = pytest.mark.parametrize("assignment", EXAMPLES, ids=lambda a: f"{a.name} {a.blanks[0]}")


def functions(text):
    """Functions and methods of a source text, by qualified name."""
    found = {}
    for node in ast.parse(text).body:
        inside = node.body if isinstance(node, ast.ClassDef) else []
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        found |= {prefix + n.name: n for n in (inside or [node]) if isinstance(n, ast.FunctionDef)}
    return found


@each_example
def test_a_handed_out_folder_is_five_texts_and_none_holds_a_line_of_the_solution(assignment, tmp_path):
    handout.hand_out(assignment, tmp_path / "new")
    made = {file.name: file.read_text(encoding="utf-8") for file in (tmp_path / "new").iterdir()}
    assert set(made) == {assignment.file, "README.md", "HINTS.md", "RUBRIC.md"}
    complete = functions(cut.answer(assignment, complete=True))
    for blank in assignment.blanks:
        written = complete[cut.short(blank)]
        solution = {line.strip() for line in ast.unparse(written.body[-1]).splitlines() if len(line.strip()) > 12}
        for name, text in made.items():
            if name != assignment.file:
                assert not solution & {line.strip() for line in text.splitlines()}
    assert cut.secrets(assignment)


@each_example
def test_blanks_keep_signature_and_docstring_and_all_else_is_as_in_the_library(assignment):
    blank, complete = functions(cut.answer(assignment)), functions(cut.answer(assignment, complete=True))
    blanks = {cut.short(name) for name in assignment.blanks}
    assert blank.keys() == complete.keys()
    assert blanks <= blank.keys()
    for name, node in blank.items():
        if name in blanks:
            assert ast.dump(node.args) == ast.dump(complete[name].args)
            assert ast.unparse(node.body[-1]).startswith(f"raise NotImplementedError('{assignment.name}: {name} is")
            assert len(node.body) == 1 + (ast.get_docstring(node) is not None)
        else:
            assert ast.unparse(node) == ast.unparse(complete[name])


def test_a_cut_line_is_nowhere_in_the_students_file():
    text = cut.answer(SCALAR)
    for line in ("math.tanh", "x.grad += slope * v.grad", "self.grad = Fraction(1)"):
        assert line in cut.answer(SCALAR, complete=True)
        assert line not in text
    assert "def history(self)" in text  # not a blank, so all of it is there
    assert "reached.add(x)" in text


def test_the_complete_answer_is_the_librarys_own_text():
    body = textwrap.dedent(inspect.getsource(ResidualAdd)).rstrip()
    assert body in cut.answer(TOY, complete=True)


def test_what_gives_the_answer_away_is_hidden_from_docstrings():
    text = cut.answer(NORMS)
    assert text.count("Backward  yours to find") == 2
    assert "gx = (w / sigma)" not in text
    assert "drawn out" not in text  # the second line of a hidden section
    assert "Forward   xhat = (x - mu) / sigma;  y = w xhat + b" in text
    assert "gx = (w / sigma)" in cut.answer(NORMS, complete=True)


@pytest.mark.parametrize(
    ("definition", "kept"),
    [
        ("def f(x): return x + 1", "def f(x):"),
        ("def f(x):\n    # how it is done\n    return x + 1", "def f(x):"),
        ('def f(x):\n    """Says what."""\n    return x + 1', 'def f(x):\n    """Says what."""'),
        ("def f(\n    x,\n    y=(1, 2),\n):\n    return x + 1", "def f(\n    x,\n    y=(1, 2),\n):"),
        ("@staticmethod\ndef f(x):\n    return x + 1", "@staticmethod\ndef f(x):"),
    ],
    ids=["one line", "comment", "docstring", "many lines", "decorator"],
)
def test_every_way_to_write_a_function_is_cut(definition, kept, tmp_path, monkeypatch):
    (tmp_path / "made_up.py").write_text(f"A = 1\n\n{definition}\n\n\ndef g(x):\n    return x\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    text = cut.answer(cut_from("made_up.f"))
    assert text.endswith(f'{kept}\n    raise NotImplementedError("A0: f is yours to write")\n')


def test_a_name_that_is_not_in_the_library_is_the_authors_mistake():
    for blank in ("minires.ops.residual.Nothing.backward", "minires.ops.residual.ResidualAdd", "nowhere.f"):
        with pytest.raises(LookupError):
            cut.answer(cut_from(blank))


def test_a_statement_that_holds_the_solution_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"README\.md holds a line of the solution: return x \+ f"):
        handout.hand_out(dataclasses.replace(TOY, statement="Write\n\n    return x + f\n"), tmp_path / "new")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("assignment", [TOY, *assignments().values()], ids=lambda a: a.name)
def test_the_solution_is_graded_full_and_the_blank_nothing(assignment, tmp_path):
    solutions.solutions(assignment, tmp_path / "solution")
    handout.hand_out(assignment, tmp_path / "blank")
    result, blank = (grade(assignment, tmp_path / name) for name in ("solution", "blank"))
    assert (result.score, result.complete) == (assignment.max_score, True)
    assert blank.score == 0
    assert {test.cause for test in blank.tests} == {"NOT_WRITTEN"}


def test_the_marking_guide_is_for_the_teacher_alone(tmp_path):
    handout.hand_out(TOY, tmp_path / "student")
    solutions.solutions(TOY, tmp_path / "teacher")
    student = "".join(file.read_text(encoding="utf-8") for file in (tmp_path / "student").iterdir())
    assert TOY.guide not in student
    assert TOY.guide in (tmp_path / "teacher" / "GUIDE.md").read_text(encoding="utf-8")


def test_hints_are_folded_one_by_one():
    text = handout.hints(TOY)
    assert text.count("<details>") == text.count("</details>") == 3
    assert text.index("How many arrows") < text.index("Two.") < text.index("One of them")


# --- folders


def test_a_folder_that_holds_something_is_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("work")
    with pytest.raises(RequestError, match="is not empty"):
        handout.hand_out(TOY, tmp_path)
    with pytest.raises(RequestError, match="is not empty"):
        handout.hand_out(TOY, tmp_path / "mine.txt")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_and_one_deep_down_are_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    for new in (tmp_path / "empty", tmp_path / "a" / "b"):
        handout.hand_out(TOY, new)
        assert (new / "toy.py").is_file()


def test_the_folder_that_somebody_works_in_is_filled_and_stays_the_same_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    handout.hand_out(TOY, Path())
    assert {file.name for file in tmp_path.iterdir()} == {"toy.py", "README.md", "HINTS.md", "RUBRIC.md"}
    assert tmp_path.stat().st_ino == before


def test_nothing_half_written_is_left(tmp_path):
    with pytest.raises(RequestError, match="cannot be written"):
        folder.write(tmp_path / "new", {"a.txt": "a", "no/such/folder.txt": "b"})
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="a path that cannot be made, as POSIX has it")
def test_a_place_that_cannot_be_made_is_named():
    with pytest.raises(RequestError, match="cannot be made"):
        folder.write(Path("/dev/null/new"), {"a": "b"})


def test_the_registry_knows_its_names_in_order():
    found = assignments()
    assert list(found) == sorted(found, key=lambda name: int(name[1:]))
    assert all(isinstance(a, Assignment) and a.name == name and a.max_score > 0 for name, a in found.items())
