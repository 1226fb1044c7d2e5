"""Files cut from the library by name: the student's, with blanks, and the teacher's, complete.

The library is the solution, so the two cannot drift apart: a blank is a function's body, found in the syntax tree
of the library's own source and replaced in its text.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from minires.classroom.assignment import Assignment

_SECTION = re.compile(r"\s*[A-Z][\w-]*  +\S")  # "Backward  gx = gy", as in an op's docstring


@dataclass(frozen=True)
class Source:
    """A file of the library and its syntax tree."""

    module: str
    lines: list[str]
    tree: ast.Module


def answer(assignment: Assignment, complete: bool = False) -> str:
    """The text of the one file: preamble, what is given, and what is to be written, or with `complete` is written.

    Raises LookupError for a blank that is no function of the library.
    """
    for blank in assignment.blanks:
        _function(_source(blank), blank)  # raises where there is no such function
    blanks = set() if complete else set(assignment.blanks)
    parts = [assignment.preamble.strip("\n")]
    for source, node in _definitions((*assignment.given, *assignment.blanks)):
        parts.append(_text(source, node, blanks, assignment))
    return "\n\n\n".join(parts) + "\n"


def short(qualified: str) -> str:
    """ "ResidualAdd.backward" of "minires.ops.residual.ResidualAdd.backward"."""
    return qualified.removeprefix(_source(qualified).module + ".")


def secrets(assignment: Assignment) -> set[str]:
    """Lines of code that are cut out and say something: an assignment's other files must not hold them."""
    found: set[str] = set()
    for blank in assignment.blanks:
        source = _source(blank)
        body = _without_docstring(_function(source, blank))
        code = ast.get_source_segment("".join(source.lines), body[0]) or ""
        lines = [line.partition("  #")[0].strip() for line in _lines(source, body)]
        if len(body) == 1 and len(code.splitlines()) == 1:
            found.add(code.strip())
        found |= {line for line in lines if len(line) > 10 and re.search(r"[-+*/@(=]", line) and line[0] != "#"}
    return found


# --- where a name stands


def _source(qualified: str) -> Source:
    """The file of the longest part of the name that is a module. Raises LookupError when there is none."""
    parts = qualified.split(".")
    for n in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:n])
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            continue
        if spec is not None and spec.origin is not None:
            return _parsed(module, Path(spec.origin).read_text(encoding="utf-8"))
    raise LookupError(f"{qualified}: no part of this name is a module")


@functools.cache
def _parsed(module: str, text: str) -> Source:
    return Source(module, text.splitlines(keepends=True), ast.parse(text))


def _definitions(names: Sequence[str]) -> Iterator[tuple[Source, ast.stmt]]:
    """The top-level classes and functions that hold these names: module by module, each once, in the file's order."""
    wanted: dict[str, tuple[Source, set[str]]] = {}
    for name in names:
        source = _source(name)
        top = name.removeprefix(source.module + ".").partition(".")[0]
        wanted.setdefault(source.module, (source, set()))[1].add(top)
    for source, tops in wanted.values():
        for node in source.tree.body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name in tops:
                tops.remove(node.name)
                yield source, node
        if tops:
            raise LookupError(f"{source.module} has no {', '.join(sorted(tops))}")


def _function(source: Source, qualified: str) -> ast.FunctionDef:
    nodes: Sequence[ast.stmt] = source.tree.body
    found: ast.stmt | None = None
    for name in qualified.removeprefix(source.module + ".").split("."):
        found = next((n for n in nodes if isinstance(n, (ast.ClassDef, ast.FunctionDef)) and n.name == name), None)
        nodes = getattr(found, "body", [])
    if not isinstance(found, ast.FunctionDef):
        raise LookupError(f"{qualified} is no function or method")
    return found


def _without_docstring(node: ast.FunctionDef | ast.ClassDef) -> list[ast.stmt]:
    return node.body[1:] if ast.get_docstring(node) is not None else node.body


def _lines(source: Source, body: Sequence[ast.stmt]) -> list[str]:
    return source.lines[body[0].lineno - 1 : body[-1].end_lineno]


# --- the text with its blanks


def _text(source: Source, node: ast.stmt, blanks: set[str], assignment: Assignment) -> str:
    """The definition's own text; blanks raise NotImplementedError, and of docstrings what is to be hidden is."""
    lines = list(source.lines)
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1
    last = node.end_lineno or node.lineno
    for name, function in sorted(_named(source, node), key=lambda item: -item[1].lineno):  # from below: lines stay put
        if name in blanks:
            lines[function.lineno - 1 : function.end_lineno] = _blank(source, function, name, assignment)
    last += len(lines) - len(source.lines)
    text = "".join(lines[first:last]).rstrip("\n")
    return _hidden(text, assignment.hide) if blanks else text


def _named(source: Source, node: ast.stmt) -> Iterator[tuple[str, ast.FunctionDef]]:
    prefix = f"{source.module}.{getattr(node, 'name', '')}"
    if isinstance(node, ast.FunctionDef):
        yield prefix, node
    elif isinstance(node, ast.ClassDef):
        yield from ((f"{prefix}.{n.name}", n) for n in node.body if isinstance(n, ast.FunctionDef))


def _blank(source: Source, function: ast.FunctionDef, name: str, assignment: Assignment) -> list[str]:
    """The function's lines: signature, docstring, and where its body was, what says that it is not written yet."""
    documented = ast.get_docstring(function) is not None
    start = function.body[0]
    if documented:
        head = source.lines[function.lineno - 1 : start.end_lineno]
    elif start.lineno == function.lineno:  # def f(x): return x
        head = [source.lines[function.lineno - 1][: start.col_offset].rstrip() + "\n"]
    else:
        head = source.lines[function.lineno - 1 : start.lineno - 1]
        while head[-1].strip().startswith("#"):  # a remark on how it is done
            head = head[:-1]
    indent = " " * (function.col_offset + 4)
    return [*head, f'{indent}raise NotImplementedError("{assignment.name}: {short(name)} is yours to write")\n']


def _hidden(text: str, sections: Sequence[str]) -> str:
    """The text with these sections of its docstrings left to the student."""
    kept: list[str] = []
    hiding = False
    for line in text.split("\n"):
        if _SECTION.match(line) or not line.strip() or line.strip() == '"""':
            hiding = line.split()[:1] != [] and line.split()[0] in sections and bool(_SECTION.match(line))
            if hiding:
                name = line.split()[0]
                kept.append(f"{line[: len(line) - len(line.lstrip())]}{name:9} yours to find")
                continue
        if not hiding:
            kept.append(line)
    return "\n".join(kept)
