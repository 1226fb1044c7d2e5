"""The house's docstrings as reStructuredText, for Sphinx.

They are written to be read in an editor: plain text, with names in one column and what they mean in the next, and
formulas that keep their alignment. A page has no editor's columns, so each block is told what it is:

    prose                                   a paragraph
    name    what it is                      a definition list
    Forward, Backward, Derivation, State    their lines stay as they are, since their alignment says something
    anything indented                       code or a formula, as it stands

Single backticks become links where they name something that the API pages have, and code where they do not.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from typing import Any

FORMULAS = ("Forward", "Backward", "Derivation")
ROW = re.compile(r"(?P<name>\S+(?: \S+)*) {2,}(?P<text>\S.*)")
CITATION = re.compile(r"tutorial (?P<tutorial>\d+), \((?P<equation>\d+\.\d+)\)")
ENUMERATOR = re.compile(r"^(\(?(?:\d+|[A-Za-z]|[ivxIVX]+)[.)]|[-+•])(?= |$)")  # what would begin a list
IDENTIFIER = re.compile(r"[A-Za-z_]\w*(\.\w+)*(\(\))?")


def to_rst(text: str) -> list[str]:
    """The docstring's lines as reStructuredText."""
    made: list[str] = []
    for block in _blocks(textwrap.dedent(text).splitlines()):
        if block[0].startswith(" ") or block[0].startswith(">>>"):
            made += _code(block)
        elif ROW.fullmatch(block[0]):
            made += _definitions(block)
        elif block[0].startswith("- "):
            made += _bullets(block)
        else:
            made += [_prose(" ".join(line.strip() for line in block)), ""]
    return made


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Lines that belong together: blank lines separate, and so does a change between prose, rows and code."""
    block: list[str] = []
    for line in lines:
        if not line.strip():
            if block:
                yield block
            block = []
            continue
        if block and not _continues(block, line):
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def _continues(block: list[str], line: str) -> bool:
    first = block[0]
    if first.startswith((" ", ">>>")):
        return line.startswith(" ") or first.startswith(">>>")
    if ROW.fullmatch(first):
        return line.startswith(" ") or bool(ROW.fullmatch(line))
    if first.startswith("- "):
        return line.startswith(("- ", "  "))
    return not line.startswith(("- ", "    ")) and not ROW.fullmatch(line)


def _code(block: list[str]) -> list[str]:
    lines = textwrap.dedent("\n".join(block)).splitlines()
    return [f".. code-block:: {_language(lines)}", "", *(f"   {line}" for line in lines), ""]


def _language(lines: list[str]) -> str:
    """Python, or else text: a formula such as `b <- m * b + g` is Python by its syntax alone."""
    if lines[0].startswith(">>>"):
        return "pycon"
    try:
        found = ast.walk(ast.parse("\n".join(lines)))
    except SyntaxError:
        return "text"
    return (
        "python"
        if any(isinstance(node, (ast.Import, ast.ImportFrom, ast.With, ast.Assign)) for node in found)
        else "text"
    )


def _definitions(block: list[str]) -> list[str]:
    rows: list[tuple[str, list[str]]] = []
    for line in block:
        row = ROW.fullmatch(line)
        if row and not line.startswith(" "):
            column = row.start("text")
            rows.append((row["name"], [row["text"]]))
        else:
            indent = min(column, len(line) - len(line.lstrip()))
            rows[-1][1].append(line[indent:])
    made = [".. container:: columns", ""]
    for name, lines in rows:
        made.append(f"   {name}" if name[:1].isupper() and name.isalpha() else f"   ``{name}``")
        if name in FORMULAS or any(re.search(r"\S {2,}\S", line) for line in lines):
            made += ["      .. code-block:: text", "", *(f"         {line}" for line in lines), ""]
        else:
            made += [f"      {_prose(' '.join(line.strip() for line in lines))}", ""]
    return made


def _bullets(block: list[str]) -> list[str]:
    items: list[str] = []
    for line in block:
        if line.startswith("- "):
            items.append(line[2:])
        else:
            items[-1] += " " + line.strip()
    return [*(f"- {_prose(item)}" for item in items), ""]


def _prose(text: str) -> str:
    """Prose with what would be markup escaped, names in backticks linked, and cited equations linked."""
    parts = re.split(r"(`[^`]+`)", text)
    made = "".join(_name(part[1:-1]) if part.startswith("`") else _escaped(part) for part in parts)
    return ENUMERATOR.sub(r"\\\1", made)


def _name(text: str) -> str:
    name = text.removesuffix("()")
    if IDENTIFIER.fullmatch(text):
        for short, whole in (("mr.", "minires."), ("F.", "minires.functional."), ("nn.", "minires.nn.")):
            if name.startswith(short):
                return f"\\ :py:obj:`{text} <{whole}{name.removeprefix(short)}>`\\ "
        return f"\\ :py:obj:`{text} <{name}>`\\ "
    return f"\\ ``{text}``\\ "


def _escaped(text: str) -> str:
    made, at = [], 0
    for cited in CITATION.finditer(text):
        made.append(_plain(text[at : cited.start()]))
        made.append(f"tutorial {cited['tutorial']}, :equation:`{cited['equation']}`\\ ")
        at = cited.end()
    return "".join([*made, _plain(text[at:])])


def _plain(text: str) -> str:
    return re.sub(r"([\\*|_`])", r"\\\1", text)


def setup(app: Any) -> dict[str, Any]:
    """Sphinx calls this."""

    def process(app: Any, what: str, name: str, target: Any, options: Any, lines: list[str]) -> None:
        lines[:] = to_rst("\n".join(lines))
        op = f"atlas/{name.removeprefix('minires.functional.')}"
        if name.startswith("minires.functional.") and op in app.env.found_docs:
            lines += ["", f":doc:`Formula, gradient and proof </{op}>`", ""]

    def shorten(app: Any, what: str, name: str, found: Any, options: Any, signature: str, returned: str) -> Any:
        return (signature and re.sub(r": ~?(typing\.)?Any\b(?= =|[,)])", "", signature).replace(" = ", "=")), returned

    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", shorten)
    return {"version": "1", "parallel_read_safe": True}
