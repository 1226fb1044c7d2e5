"""Mistakes as students write them: for each name that a grader says, answers that are wrong in just that way.

Each is the reference with some functions replaced by wrong ones, which are written out here as a student would write
them. They share no code with the suspects that the grader compares with.
"""

from __future__ import annotations

import ast
import functools
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from minires.classroom import cut
from minires.classroom.assignment import Assignment, find


@dataclass(frozen=True)
class Mistake:
    """A wrong answer.

    cause      the name that the report must say
    functions  qualified name in the student's file -> its wrong source
    title      to tell two of one cause apart
    also       other names that may be said beside it, of what follows from it
    """

    cause: str
    functions: Mapping[str, str]
    title: str = ""
    also: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.cause}: {self.title or ', '.join(self.functions)}"


def mistake(cause: str, title: str = "", also: tuple[str, ...] = (), **functions: str) -> Mistake:
    """A mistake; Class__method="def method(self, ...): ..." replaces Class.method."""
    return Mistake(
        cause, {name.replace("__", ".", 1): text for name, text in functions.items()}, title, frozenset(also)
    )


def written(assignment: Assignment, functions: Mapping[str, str], top: str = "") -> str:
    """The reference's file with these functions in place of its own, and `top` above its classes."""
    lines, tree = reference(assignment.name)
    lines = list(lines)
    nodes = {name: _find(tree, name) for name in functions}
    for name in sorted(functions, key=lambda name: -nodes[name].lineno):  # from below: lines stay put
        source, node = textwrap.dedent(functions[name]).strip("\n"), nodes[name]
        lines[node.lineno - 1 : node.end_lineno] = textwrap.indent(source, " " * node.col_offset).splitlines()
    if top:
        first = next(n for n in tree.body if isinstance(n, (ast.ClassDef, ast.FunctionDef)))
        lines[first.lineno - 1 : first.lineno - 1] = [*textwrap.dedent(top).strip("\n").splitlines(), "", ""]
    return "\n".join(lines) + "\n"


@functools.cache
def reference(name: str) -> tuple[list[str], ast.Module]:
    """The complete answer to an assignment: its lines and its syntax tree."""
    text = cut.answer(find(name), complete=True)
    return text.splitlines(), ast.parse(text)


def _find(tree: ast.Module, name: str) -> ast.FunctionDef:
    body = tree.body
    for part in name.split("."):
        found = next(n for n in body if isinstance(n, (ast.ClassDef, ast.FunctionDef)) and n.name == part)
        body = found.body
    assert isinstance(found, ast.FunctionDef)
    return found
