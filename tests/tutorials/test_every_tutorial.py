"""Every tutorial keeps the template, runs as a script without a warning, and its solutions are right."""

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIALS = {path.stem[:3]: path for path in sorted((ROOT / "tutorials").glob("t[0-9][0-9]_*.py"))}

SECTIONS = ("## Predictions", "## Break it", "## Exercises", "## Summary", "## Sources")
TAG = re.compile(r"\\tag\{(\d+)\.(\d+)\}")
CITED = re.compile(r"tutorial\s+(\d+),\s+\((\d+\.\d+)\)")
FOLD = re.compile(r"<details><summary>([^<]+)</summary>\n\n(.*?)\n\n</details>", re.DOTALL)

# runs the file as its reader does, then what its solutions claim, in the same names
RUN = """
import runpy, sys, time
from pathlib import Path
file, *solutions = map(Path, sys.argv[1:])
sys.path.insert(0, str(file.parent))
names = runpy.run_path(str(file), run_name="__main__")
for solution in solutions:
    exec(compile(solution.read_text(encoding="utf-8"), str(solution), "exec"), dict(names))
print(time.process_time())  # not the clock's: the machine may be busy
"""


def prose(path):
    """What stands in the markdown cells: their strings, by Python's own reading of the file."""
    statements = ast.parse(path.read_text(encoding="utf-8")).body
    strings = [s.value.value for s in statements if isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)]
    return "\n".join(text for text in strings if isinstance(text, str))


def folds(path, kind):
    return [body for summary, body in FOLD.findall(prose(path)) if summary.startswith(kind)]


def solutions(path):
    return [code for body in folds(path, "Solution") for code in re.findall(r"```python\n(.*?)```", body, re.DOTALL)]


every_tutorial = pytest.mark.parametrize("path", TUTORIALS.values(), ids=TUTORIALS.keys())


# --- form


@every_tutorial
def test_it_survives_the_way_to_a_notebook_and_back(path):
    jupytext = pytest.importorskip("jupytext")
    text = path.read_text(encoding="utf-8")
    notebook = jupytext.reads(text, fmt="py:percent")
    opened = jupytext.reads(jupytext.writes(notebook, "ipynb"), "ipynb")
    back = jupytext.reads(jupytext.writes(opened, "py:percent"), fmt="py:percent")
    assert [(c.cell_type, c.source) for c in back.cells] == [(c.cell_type, c.source) for c in notebook.cells]
    assert {"markdown", "code"} == {cell.cell_type for cell in notebook.cells}


@every_tutorial
def test_a_cell_of_code_fits_the_eye(path):
    """Less than 25 lines, and no line wider than a page of the site, but in cells that the site folds away."""
    jupytext = pytest.importorskip("jupytext")
    for cell in jupytext.read(path, fmt="py:percent").cells:
        if cell.cell_type == "code":
            lines = cell.source.splitlines()
            assert 0 < len(lines) < 25, cell.source
            assert "hide-input" in cell.metadata.get("tags", ()) or max(map(len, lines)) <= 92, cell.source


@every_tutorial
def test_it_has_what_every_tutorial_has(path):
    text = prose(path)
    number = int(path.stem[1:3])
    assert text.lstrip().startswith(f"# {number}. ")
    for part in ("**Goal.**", "**Time.**"):
        assert part in text
    places = [text.find(f"\n{section}\n") for section in SECTIONS]
    assert all(place > 0 for place in places), dict(zip(SECTIONS, places, strict=True))
    assert places == sorted(places), "its sections stand in another order"


@every_tutorial
def test_every_prediction_is_answered_and_every_exercise_has_hints_and_a_solution(path):
    text = prose(path)
    asked = text[text.index("## Predictions") :]
    assert len(re.findall(r"^[123]\. ", asked[: asked.index("<details>")], re.MULTILINE)) == 3
    assert len(folds(path, "Answer")) >= 3
    asked = text[text.index("## Exercises") : text.index("## Summary")]
    exercises = re.split(r"^\*\*\d\. ", asked, flags=re.MULTILINE)[1:]
    assert len(exercises) >= 2
    for exercise in exercises:
        *hints, last = (summary for summary, _ in FOLD.findall(exercise))
        assert hints == [f"Hint {k}" for k in range(1, len(hints) + 1)] != [], exercise[:60]
        assert last == "Solution", exercise[:60]


@every_tutorial
def test_what_is_folded_away_can_be_opened(path):
    text = prose(path)
    tags = Counter(re.findall(r"</?(?:details|summary)>", text))
    assert tags["<details>"] == tags["</details>"] == tags["<summary>"] == tags["</summary>"]
    assert len(FOLD.findall(text)) == tags["<details>"], "a blank line is missing behind <summary> or before </details>"


@every_tutorial
def test_every_solution_proves_itself(path):
    found = solutions(path)
    assert len(found) >= len(folds(path, "Solution"))
    for code in found:
        assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(code))), code


@every_tutorial
def test_every_figure_is_told_in_words(path):
    shown = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "show"
    ]
    assert shown, "it has no figure"
    for call in shown:
        (alt,) = (keyword.value for keyword in call.keywords if keyword.arg == "alt")
        words = "".join(n.value for n in ast.walk(alt) if isinstance(n, ast.Constant) and isinstance(n.value, str))
        assert isinstance(alt, ast.Call) or len(words) > 80, f"line {call.lineno}: {words!r} says too little"


# --- equations


@every_tutorial
def test_its_equations_carry_its_own_number_and_count_up(path):
    tags = [(int(a), int(b)) for a, b in TAG.findall(prose(path))]
    assert tags == [(int(path.stem[1:3]), k) for k in range(1, len(tags) + 1)]


@every_tutorial
def test_an_equation_of_its_own_that_prose_mentions_is_there(path):
    text = prose(path)
    number = int(path.stem[1:3])
    tags = {f"{a}.{b}" for a, b in TAG.findall(text)}
    mentioned = set(re.findall(rf"\(({number}\.\d+)\)", TAG.sub("", text)))
    assert mentioned <= tags


def test_every_equation_that_a_docstring_cites_is_there():
    tags = {f"{a}.{b}" for path in TUTORIALS.values() for a, b in TAG.findall(prose(path))}
    numbers = {str(int(name[1:])) for name in TUTORIALS}
    cited = [
        (file.relative_to(ROOT).as_posix(), tutorial, equation)
        for file in sorted((ROOT / "minires").rglob("*.py"))
        for tutorial, equation in CITED.findall(file.read_text(encoding="utf-8"))
    ]
    assert cited, "no docstring cites a tutorial"
    assert not [c for c in cited if c[2].split(".")[0] != c[1]], "an equation under another tutorial's number"
    assert not [c for c in cited if c[1] in numbers and c[2] not in tags]


DERIVED = [
    ("t01", "scalar.py"),
    ("t03", "check/gradcheck.py"),
    ("t05", "ops/conv.py"),
    ("t06", "ops/norm.py"),
    ("t08", "ops/residual.py"),
]


@pytest.mark.parametrize(("name", "file"), DERIVED)
def test_the_code_that_a_tutorial_derives_cites_it(name, file):
    text = (ROOT / "minires" / file).read_text(encoding="utf-8")
    assert str(int(name[1:])) in {tutorial for tutorial, _ in CITED.findall(text)}


# --- running


@every_tutorial
def test_it_runs_as_a_script_and_its_solutions_are_right(path, tmp_path):
    pytest.importorskip("matplotlib")
    files = [tmp_path / f"solution-{k}.py" for k, _ in enumerate(solutions(path), 1)]
    for file, code in zip(files, solutions(path), strict=True):
        file.write_text(code, encoding="utf-8")
    environment = {**os.environ, "MINIRES_BUDGET": "smoke", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN, path, *files],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "\nFigure 1" in done.stdout
    seconds = float(done.stdout.splitlines()[-1])
    print(f"{path.stem}: {seconds:.1f} seconds of one core")
    assert seconds < 40, f"it took {seconds:.0f} seconds"


@pytest.mark.slow
@every_tutorial
def test_it_executes_as_a_notebook(path):
    jupytext, nbclient = pytest.importorskip("jupytext"), pytest.importorskip("nbclient")
    notebook = jupytext.read(path, fmt="py:percent")
    os.environ.setdefault("MINIRES_BUDGET", "smoke")
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    outputs = [out.get("data", {}) for cell in notebook.cells for out in cell.get("outputs", [])]
    shown = [data["text/html"] for data in outputs if "text/html" in data]
    shown = [html for html in shown if 'class="mr-skip' not in html]  # the interactive figure has tests of its own
    assert shown, "no figure was displayed"
    assert all("<figure>" in html and ' alt="' in html for html in shown)
