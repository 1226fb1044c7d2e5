"""The site is built whole or not at all, and what is wrong is said in a line."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys

import pytest

build = importlib.import_module("build")  # ruff sorts `import build` by whether a folder build/ is there
DOCS = all(importlib.util.find_spec(name) for name in build.NEEDED)
ASKED = os.environ.get("MINIRES_SITE") == "1"


@pytest.fixture
def old(tmp_path):
    """A site that is there already."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("the site of yesterday")
    return tmp_path / "site"


@pytest.fixture
def stubbed(monkeypatch):
    """All tools there, and nothing cited; what Sphinx would do is left to the test."""
    import equations

    monkeypatch.setattr(build, "NEEDED", ())
    monkeypatch.setattr(equations, "citations", lambda package: [])


def untouched(old):
    return (old / "index.html").read_text() == "the site of yesterday" and [*old.parent.iterdir()] == [old]


def test_a_missing_tool_is_named_with_what_to_type(monkeypatch, capsys, old):
    monkeypatch.setattr(build, "NEEDED", ("minires", "a_sphinx_that_is_not_there"))
    assert build.main(["--out", str(old)]) == 2
    assert capsys.readouterr().err == (
        "build.py: a_sphinx_that_is_not_there is not installed; type: pip install -e '.[docs]'\n"
    )
    assert untouched(old)


def test_a_folder_that_is_no_site_is_not_replaced(stubbed, capsys, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert build.main(["--out", str(tmp_path)]) == 2
    assert "is no site; give another --out" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").exists()


def test_a_citation_of_no_equation_fails_before_anything_is_built(monkeypatch, stubbed, capsys, old):
    import equations

    cited = equations.Citation("99.1", "minires/ops/norm.py", 33, "BatchNorm")
    monkeypatch.setattr(equations, "citations", lambda package: [cited])
    assert build.main(["--out", str(old)]) == 1
    assert "minires/ops/norm.py:33: BatchNorm cites equation (99.1)" in capsys.readouterr().err
    assert untouched(old)


def test_a_build_that_fails_leaves_the_old_site_and_nothing_half_written(monkeypatch, stubbed, capsys, old):
    def half(scratch, smoke):
        (scratch / "site").mkdir()
        (scratch / "site" / "index.html").write_text("half")
        return ["index.html: an image has no alt text: x.png"]

    monkeypatch.setattr(build, "_build", half)
    assert build.main(["--out", str(old)]) == 1
    assert capsys.readouterr().err == "build.py: index.html: an image has no alt text: x.png\n"
    assert untouched(old)


def test_a_build_that_succeeds_takes_the_old_one_s_place(monkeypatch, stubbed, capsys, old):
    def whole(scratch, smoke):
        (scratch / "site").mkdir()
        (scratch / "site" / "index.html").write_text(f"smoke {smoke}")
        return []

    monkeypatch.setattr(build, "_build", whole)
    assert build.main(["--smoke", "--out", str(old)]) == 0
    assert (old / "index.html").read_text() == "smoke True"
    assert [*old.parent.iterdir()] == [old]
    assert capsys.readouterr().out.startswith("1 pages in ")


@pytest.mark.parametrize("option", ["--fast", "--sm"])
def test_a_wrong_option_is_refused(stubbed, capsys, option):
    with pytest.raises(SystemExit) as stopped:
        build.main([option])
    assert stopped.value.code == 2
    assert f"unrecognized arguments: {option}" in capsys.readouterr().err


@pytest.mark.skipif(not DOCS, reason="Sphinx and its friends are not installed: pip install 'minires[docs]'")
@pytest.mark.skipif(not ASKED, reason="builds the whole site, which takes minutes; set MINIRES_SITE=1")
def test_the_site_is_built_from_this_checkout(tmp_path):
    out = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, build.HERE / "build.py", "--smoke", "--out", out], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for page in ("index", "tutorials", "lab", "teachers", "install", "pytorch-users", "add-an-op", "api/minires.nn"):
        assert (out / f"{page}.html").is_file()
    for file in build.HERE.parent.glob("t[0-9][0-9]_*.py"):
        assert (out / "tutorials" / f"{file.stem}.html").is_file()
        cells = json.loads((out / "downloads" / f"{file.stem}.ipynb").read_text(encoding="utf-8"))["cells"]
        assert {"markdown", "code"} == {cell["cell_type"] for cell in cells}
    assert 'class="mr-skip' in (out / "index.html").read_text(encoding="utf-8")
    assert [*tmp_path.iterdir()] == [out]
