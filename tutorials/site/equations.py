r"""Numbered equations: who has them, who cites them, and the links between.

A tutorial numbers an equation by `\tag{8.2}`. The docstring of an op cites it as "tutorial 8, (8.2)", prose as "(8.2)".
On the site both lead to the equation, and the equation says which code cites it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TAG = re.compile(r"\\tag\{(\d+\.\d+)\}")
CITATION = re.compile(r"tutorial\s+(\d+),\s+\((\d+\.\d+)\)")
MENTION = re.compile(r"\((\d{1,2}\.\d{1,2})\)")
DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)


@dataclass(frozen=True)
class Equation:
    """An equation of a tutorial: where it is, and its TeX."""

    number: str
    tutorial: str  # the file's stem, t08_the_skip
    tex: str


@dataclass(frozen=True)
class Citation:
    """A docstring that names an equation: the file under the checkout, the line, and whose docstring it is."""

    number: str
    file: str
    line: int
    name: str


def anchor(number: str) -> str:
    """The id of an equation on its page: eq-8-2 for "8.2"."""
    return "eq-" + number.replace(".", "-")


def equations(tutorials: Path) -> dict[str, Equation]:
    """Every equation of tutorials/tNN_*.py, by number. Raises ValueError for a number that is given twice."""
    found: dict[str, Equation] = {}
    for file in sorted(tutorials.glob("t[0-9][0-9]_*.py")):
        for tex in DISPLAY.findall(file.read_text(encoding="utf-8")):
            for number in TAG.findall(tex):
                if number in found:
                    raise ValueError(f"equation ({number}) is in {found[number].tutorial}.py and in {file.name}")
                found[number] = Equation(number, file.stem, TAG.sub("", tex).strip())
    return found


def citations(package: Path) -> list[Citation]:
    """Every "tutorial n, (n.m)" in a docstring of the package, in the order of files and lines."""
    return [
        Citation(number, file.relative_to(package.parent).as_posix(), node.body[0].lineno, name)
        for file in sorted(package.rglob("*.py"))
        for name, node in _documented(ast.parse(file.read_text(encoding="utf-8")), file.stem)
        for _, number in CITATION.findall(ast.get_docstring(node) or "")
    ]


def _documented(tree: ast.Module, stem: str) -> list[tuple[str, Any]]:
    """The module, its classes and functions, and those inside them, each with its name."""
    found: list[tuple[str, Any]] = [(stem, tree)]
    waiting: list[tuple[str, ast.AST]] = [("", tree)]
    while waiting:
        prefix, parent = waiting.pop()
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                found.append((prefix + node.name, node))
                waiting.append((f"{prefix}{node.name}.", node))
    return [(name, node) for name, node in found if ast.get_docstring(node)]


def missing(known: Mapping[str, Equation], cited: list[Citation]) -> list[str]:
    """A line for each citation of an equation that no tutorial has."""
    return [
        f"{c.file}:{c.line}: {c.name} cites equation ({c.number}), but no tutorial has \\tag{{{c.number}}}"
        for c in cited
        if c.number not in known
    ]


# --- Sphinx


def _role(name: str, rawtext: str, text: str, lineno: int, inliner: Any, *_: Any) -> Any:
    from docutils import nodes

    return [nodes.inline("", f"({text})", classes=["equation-mention"])], []


def _link(app: Any, doctree: Any, docname: str) -> None:
    """Mentions become links, in tutorials and wherever a docstring cites; equations tell who cites them."""
    from docutils import nodes

    known = app.config.minires_equations
    for node in list(doctree.findall(nodes.inline)):
        number = node.astext().strip("()")
        if "equation-mention" in node["classes"] and number in known:
            node.parent.replace(node, _reference(app, docname, known[number]))
    pattern = MENTION if docname.startswith("tutorials/t") else re.compile(r"(?<=, )" + MENTION.pattern)
    passed_over = (nodes.reference, nodes.literal, nodes.literal_block, nodes.raw, nodes.title, nodes.math)
    for text in list(doctree.findall(nodes.Text)):
        if isinstance(text.parent, (*passed_over, nodes.math_block)) or not pattern.search(text):
            continue
        parts, at = [], 0
        for mention in pattern.finditer(text):
            if mention[1] in known:
                parts += [nodes.Text(text[at : mention.start()]), _reference(app, docname, known[mention[1]])]
                at = mention.end()
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(text[at:])])
    for block in list(doctree.findall(nodes.math_block)):
        for number in TAG.findall(block.astext()):
            citing = [c for c in app.config.minires_citations if c.number == number]
            if citing:
                block.parent.insert(block.parent.index(block) + 1, _cited(app, docname, citing))


def _reference(app: Any, docname: str, equation: Equation) -> Any:
    from docutils import nodes

    uri = (
        ""
        if docname == f"tutorials/{equation.tutorial}"
        else app.builder.get_relative_uri(docname, f"tutorials/{equation.tutorial}")
    )
    node = nodes.reference("", f"({equation.number})", refuri=f"{uri}#{anchor(equation.number)}", internal=True)
    node["reftitle"] = equation.tex
    node["classes"].append("equation-link")
    return node


def _cited(app: Any, docname: str, citing: list[Citation]) -> Any:
    from docutils import nodes
    from sources import page_of

    line = nodes.paragraph(classes=["cited-by"])
    line += nodes.Text("In the code: ")
    for i, citation in enumerate(citing):
        uri = app.builder.get_relative_uri(docname, page_of(citation.file)) + f"#L-{citation.line}"
        link = nodes.reference("", "", refuri=uri, internal=True)
        link += nodes.literal("", citation.name)
        line += [nodes.Text(", " if i else ""), link]
    return line


def setup(app: Any) -> dict[str, Any]:
    """Sphinx calls this. `minires_equations` and `minires_citations` are what the functions above found."""
    app.add_config_value("minires_equations", {}, "")
    app.add_config_value("minires_citations", [], "")
    app.add_role("equation", _role)
    app.connect("doctree-resolved", _link)
    return {"version": "1", "parallel_read_safe": True}
