"""The atlas tells what the code says: every formula, the code of both directions, every proof and every bug."""

import importlib
import inspect
import textwrap
from pathlib import Path

import pytest

from minires.check import bugs, planted, subject_of, subjects
from minires.ops.residual import ResidualAdd

if not (Path(__file__).resolve().parents[2] / "tutorials" / "site").is_dir():
    pytest.skip("the site's sources are in the repository only", allow_module_level=True)

atlas = importlib.import_module("tutorials.site.atlas")

SOME = [subject_of(name) for name in ("residual_add", "batch_norm", "conv2d", "softmax", "cross_entropy", "gelu")]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    directory = tmp_path_factory.mktemp("atlas")
    atlas.write(directory, examples=12, ops=SOME)
    return {path.stem: path.read_text(encoding="utf-8") for path in directory.glob("*.md")}


@pytest.mark.parametrize("subject", subjects(), ids=lambda s: s.name)
def test_of_every_docstring_each_section_is_found_and_no_word_is_lost(subject):
    doc = inspect.getdoc(subject.op)
    parts = atlas.sections(doc)
    assert {"", "Shapes", "Forward", "Backward", "Kinks", "Saved", "Source"} <= parts.keys()
    assert all(text.strip() for text in parts.values())
    told = " ".join(parts.values()).split()
    assert sorted([*told, *(name for name in parts if name in atlas.SECTIONS)]) == sorted(doc.split())


@pytest.mark.parametrize("subject", SOME, ids=lambda s: s.name)
def test_a_page_holds_formula_code_oracles_laws_and_bugs(pages, subject):
    page = pages[subject.name]
    for name in ("Shapes", "Forward", "Backward"):
        assert atlas.sections(inspect.getdoc(subject.op))[name] in page
    for method in (subject.op.forward, subject.op.backward):
        assert textwrap.dedent(inspect.getsource(method)).rstrip() in page
    assert all(f"| {oracle} |" in page for oracle in atlas.ORACLES)
    assert all(f"`{each.killed_by}`" in page for each in bugs(subject.op))
    assert page.count("<details>") == page.count("</details>") == len(bugs(subject.op)) + 1
    assert "Where it stands" in page
    assert "minires/ops/" in page


def test_helpers_that_backward_calls_are_shown(pages):
    assert "def dot_channels(" in pages["batch_norm"]


def test_the_index_leads_to_every_page(pages):
    for subject in SOME:
        assert f"({subject.name}.md)" in pages["index"]


def test_a_wrong_gradient_stops_the_build_before_anything_is_written(tmp_path):
    wrong = next(each for each in bugs(ResidualAdd) if each.name == "skip_dropped")
    with planted(wrong), pytest.raises(RuntimeError, match="ResidualAdd"):
        atlas.write(tmp_path / "atlas", examples=1, ops=SOME[:1])
    assert not (tmp_path / "atlas").exists()


def test_formulas_in_prose_are_safe_from_markdown():
    assert atlas._escaped("J_F^T gy <= |x|, and `a_b` stays") == r"J\_F\^T gy \<= \|x\|, and `a_b` stays"
