"""Equations have one number each, and whoever cites one that is not there is named."""

import equations
import pytest


@pytest.fixture
def tutorials(tmp_path):
    (tmp_path / "t08_skip.py").write_text(
        '# %% [markdown]\nr"""\n$$ y = x + F(x) \\tag{8.1} $$\n\nand\n\n$$\ng_x = g \\tag{8.2}\n$$\n"""\n'
    )
    return tmp_path


@pytest.fixture
def package(tmp_path):
    ops = tmp_path / "minires" / "ops"
    ops.mkdir(parents=True)
    (ops / "residual.py").write_text(
        '"""The +1."""\n\n\nclass Add:\n    """A sum: tutorial 8,\n    (8.2) and tutorial 8, (8.9)."""\n'
    )
    return tmp_path / "minires"


def test_every_tagged_equation_is_found_with_its_tutorial_and_its_tex(tutorials):
    found = equations.equations(tutorials)
    assert {number: e.tutorial for number, e in found.items()} == {"8.1": "t08_skip", "8.2": "t08_skip"}
    assert found["8.2"].tex == "g_x = g"


def test_a_number_given_twice_is_refused_with_both_places(tutorials):
    (tutorials / "t09_other.py").write_text("$$ a = b \\tag{8.1} $$")
    with pytest.raises(ValueError, match=r"\(8\.1\) is in t08_skip\.py and in t09_other\.py"):
        equations.equations(tutorials)


def test_a_citation_is_found_across_the_end_of_a_line_with_its_place(package):
    assert [(c.number, c.file, c.line, c.name) for c in equations.citations(package)] == [
        ("8.2", "minires/ops/residual.py", 5, "Add"),
        ("8.9", "minires/ops/residual.py", 5, "Add"),
    ]


def test_a_citation_that_leads_nowhere_is_named_with_file_and_line(tutorials, package):
    (line,) = equations.missing(equations.equations(tutorials), equations.citations(package))
    assert line == "minires/ops/residual.py:5: Add cites equation (8.9), but no tutorial has \\tag{8.9}"


def test_an_anchor_is_an_id():
    assert equations.anchor("8.12") == "eq-8-12"
