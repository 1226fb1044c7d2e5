"""On the site a docstring says what it says in the editor: no word lost, no formula out of line."""

import ast
import inspect
import re
from pathlib import Path

import docstrings
import pytest

from minires.ops.residual import ResidualAdd

PACKAGE = Path(__file__).resolve().parents[2] / "minires"


def every_docstring():
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
                yield f"{file.relative_to(PACKAGE)}:{getattr(node, 'name', '')}", ast.get_docstring(node)


def test_a_formula_keeps_the_columns_that_it_has_in_the_code():
    made = docstrings.to_rst(inspect.getdoc(ResidualAdd))
    at = made.index("   Backward")
    assert made[at + 3 : at + 6] == [
        '         gx = gy          the "+1": the skip hands the gradient back untouched',
        "         gf = gy          F's own backward turns this into J_F^T gy",
        "         so for a whole block, gx = gy + J_F^T gy = (I + J_F)^T gy",
    ]


def test_names_and_what_they_mean_become_a_list_of_definitions():
    made = docstrings.to_rst("Sums.\n\ninput     (N, C)\nweight    what each channel\n          is multiplied by")
    assert made == [
        "Sums.",
        "",
        ".. container:: columns",
        "",
        "   ``input``",
        "      (N, C)",
        "",
        "   ``weight``",
        "      what each channel is multiplied by",
        "",
    ]


def test_prose_that_looks_like_markup_is_not_taken_for_it():
    (line, _) = docstrings.to_rst("zero_gamma_ of *args, |g| and a \\ b.")
    assert line == r"zero\_gamma\_ of \*args, \|g\| and a \\ b."


def test_a_cited_equation_becomes_a_link():
    (line, _) = docstrings.to_rst("See tutorial 8, (8.2), and tutorial 6, (6.4).")
    assert ":equation:`8.2`" in line
    assert ":equation:`6.4`" in line


def test_python_is_told_from_a_formula():
    made = docstrings.to_rst("Steps\n\n    b <- m * b + g\n\nand\n\n    with mr.lesion():\n        loss.backward()")
    assert [line for line in made if line.startswith("..")] == [".. code-block:: text", ".. code-block:: python"]


def test_every_docstring_of_the_library_is_read_without_complaint_and_no_word_is_lost():
    pytest.importorskip("docutils", reason="Sphinx is not installed: pip install 'minires[docs]'")
    from docutils import frontend, nodes, utils
    from docutils.parsers.rst import Parser, roles

    def plain(name, rawtext, text, *_, **__):
        shown = f"({text})" if name == "equation" else re.sub(r" <.*>$", "", text)
        return [nodes.literal("", shown)], []

    for name in ("py:obj", "equation"):
        roles.register_local_role(name, plain)
    settings = frontend.get_default_settings(Parser)
    settings.report_level = 5  # complaints are looked at here, not printed
    settings.syntax_highlight = "none"
    wrong = []
    for where, text in every_docstring():
        tree = utils.new_document(where, settings)
        Parser().parse("\n".join(docstrings.to_rst(text)), tree)
        complaints = [node.astext() for node in tree.findall(nodes.system_message)]
        told = "".join(re.sub(r"^- ", "", text, flags=re.MULTILINE).replace("`", "").split())
        shown = "".join(tree.astext().replace("`", "").split())
        if complaints or sorted(told) != sorted(shown):
            wrong.append((where, complaints))
    assert wrong == []


def test_the_lines_of_a_derivation_stay_lines_and_those_of_a_remark_become_one():
    rows = ("Derivation  y = x + f", "            so gx = gy", "Kinks       none, since", "            it is linear")
    made = docstrings.to_rst("\n".join(rows))
    assert [line.strip() for line in made if line.strip()][2:] == [
        ".. code-block:: text",
        "y = x + f",
        "so gx = gy",
        "Kinks",
        "none, since it is linear",
    ]
