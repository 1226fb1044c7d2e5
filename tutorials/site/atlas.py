"""The formula atlas: one page an op, made from the op's own code and from what the checks say of it.

    python tutorials/site/atlas.py DIRECTORY        writes index.md and a page an op into DIRECTORY

A page holds the formulas of the op's docstring, the code of forward and backward with the helpers they call, the same
op as plain index loops, to how many digits every oracle agreed just now, the laws that held, and the mistakes of the
bug zoo. Nothing here is written by hand, so nothing can be out of date; an op whose gradient is not proved stops the
build.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from minires import functional
from minires.check import Bug, OpReport, Subject, all_laws, bugs, examine, subjects
from minires.check.invariants import INVARIANTS
from minires.check.report import digits
from minires.where import Index, Row

SECTIONS = ("Shapes", "Forward", "Backward", "Derivation", "Kinks", "Saved", "Source")
ORACLES = {
    "complex-step": "the complex step through forward, exact to rounding",
    "adjoint": "<u, J v> = <Jᵀ u, v> along random directions",
    "central": "central differences of eighth order",
    "index-loops": "the same op as plain index loops, differentiated numerically",
    "composed": "the same out of elementary ops",
    "torch": "PyTorch in float64",
}
EXAMPLES = 12


@dataclass
class Entry:
    """Everything that one page tells.

    Attributes
        subject   the op
        report    what the checks said
        rows      file and line of every part, as `minires where` gives them
        bugs      its part of the zoo
    """

    subject: Subject
    report: OpReport
    rows: Sequence[Row]
    bugs: Sequence[Bug]

    @property
    def family(self) -> str:
        """The file of its formula: "norm" for minires/ops/norm.py."""
        return self.subject.op.__module__.rpartition(".")[2]

    @property
    def title(self) -> str:
        """The class, whose name is the op's in every message."""
        return self.subject.op.__name__

    @cached_property
    def parts(self) -> dict[str, str]:
        """The docstring, section by section; "" holds the first lines, "more" what follows the last section."""
        return sections(inspect.getdoc(self.subject.op) or "")

    @property
    def agreement(self) -> str:
        """The least number of digits over all oracles that were asked."""
        errors = [each.max_rel_error for each in self.report.oracles if each.max_rel_error is not None]
        return digits(max(errors)) if errors else "-"

    @property
    def proofs(self) -> int:
        """How many invariants and laws held."""
        return len(self.report.invariants) + len(self.report.laws)


def write(directory: Path, examples: int = EXAMPLES, ops: Sequence[Subject] | None = None) -> None:
    """Writes the index and a page an op into `directory`; of all ops, or of some.

    Raises RuntimeError, before anything is written, if an op's gradient is not proved.
    """
    entries = collect(subjects() if ops is None else ops, examples)
    wrong = [f"{each.title}: {failure}" for each in entries for failure in each.report.failures]
    if wrong:
        raise RuntimeError("the atlas shows proved gradients only; " + "; ".join(wrong))
    directory.mkdir(parents=True, exist_ok=True)
    for each in entries:
        (directory / f"{each.subject.name}.md").write_text(page(each), encoding="utf-8")
    (directory / "index.md").write_text(contents(entries), encoding="utf-8")


def collect(ops: Sequence[Subject], examples: int) -> list[Entry]:
    """Examines every op on `examples` random cases an oracle."""
    index = Index()
    return [Entry(each, examine(each.op, examples=examples), index.find(each.name).rows, bugs(each.op)) for each in ops]


def sections(doc: str) -> dict[str, str]:
    """A docstring of the house, cut at the words that begin its lines."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in doc.splitlines():
        begins = re.match(rf"({'|'.join(SECTIONS)})(\s\s+|\s)(?=\S)", line)
        if begins and (begins[2] != " " or begins[1] == "Derivation"):
            name = begins[1]
            line = " " * 10 + line[begins.end() :]  # the column in which a section's other lines begin
        elif name and line and not line.startswith("  "):
            name = "more"
        found.setdefault(name, []).append(line)
    return {name: textwrap.dedent("\n".join(lines)).strip("\n") for name, lines in found.items()}


# --- one page


def page(entry: Entry) -> str:
    """The page of one op, in Markdown."""
    parts = (_head, _formulas, _reference, _proof, _zoo, _places)
    return "\n".join(line for part in parts for line in part(entry))


def _head(entry: Entry) -> Iterator[str]:
    yield f"# {entry.title}\n"
    yield f"{_escaped(entry.parts[''])}\n"
    name = entry.subject.name
    public = getattr(functional, name, None)
    if public is not None:
        arguments = ", ".join(
            p.name if p.default is p.empty else f"{p.name}={p.default!r}"
            for p in inspect.signature(public).parameters.values()
        )
        yield f"Called as {{py:func}}`F.{name} <minires.functional.{name}>`: `{name}({arguments})`\n"
    if "more" in entry.parts:
        yield f"{_escaped(entry.parts['more'])}\n"


def _formulas(entry: Entry) -> Iterator[str]:
    op, parts = entry.subject.op, entry.parts
    yield f"## Shapes\n\n{_text(parts['Shapes'])}"
    for name, method in (("Forward", op.forward), ("Backward", op.backward)):
        yield f"## {name}\n\n{_text(parts[name])}{_python(textwrap.dedent(inspect.getsource(method)))}"
    helpers = list(_helpers(op))
    if helpers:
        yield "What they call:\n\n" + _python("\n\n\n".join(helpers))
    derivation = parts.get("Derivation", "")
    if derivation.startswith("tutorial"):
        yield f"## Derivation\n\nStep by step in {_escaped(_joined(derivation)).rstrip('.')}.\n"
    elif derivation:
        yield f"## Derivation\n\n{_text(derivation)}"
    if "top of this file" in derivation:
        yield f"The top of the file says:\n\n{_text(inspect.getdoc(sys.modules[op.__module__]) or '')}"
    cited = sorted(set(re.findall(r"tutorial (\d+), \((\d+\.\d+)\)", " ".join(parts.values()))))
    if cited and not derivation.startswith("tutorial"):
        yield "Step by step in " + ", ".join(f"tutorial {n}, ({equation})" for n, equation in cited) + ".\n"
    yield "## Kinks, memory, source\n"
    for name, told in (("Kinks", "Kinks"), ("Saved", "Saved for backward"), ("Source", "Source")):
        yield f"- **{told}:** {_item(parts[name])}"
    yield ""


def _reference(entry: Entry) -> Iterator[str]:
    row = next((row for row in entry.rows if row.what == "reference"), None)
    if row is not None:
        yield "## The same as index loops\n"
        yield "Written for reading, and an oracle: forward alone, differentiated numerically.\n"
        yield _python(_definition(row))


def _helpers(op: type) -> Iterator[str]:
    """The source of the module's own functions that forward and backward use, in the order of the file."""
    module = sys.modules[op.__module__]
    wanted, waiting = set(), [_names(inspect.getsource(op))]
    while waiting:
        for name in waiting.pop() - wanted:
            helper = vars(module).get(name)
            if inspect.isfunction(helper) and helper.__module__ == module.__name__:
                wanted.add(name)
                waiting.append(_names(inspect.getsource(helper)))
    for name, value in vars(module).items():
        if name in wanted:
            yield inspect.getsource(value).rstrip()


def _names(source: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(textwrap.dedent(source))) if isinstance(node, ast.Name)}


def _definition(row: Row) -> str:
    """The source of the function that begins at this place."""
    text = row.path.read_text(encoding="utf-8")
    node = next(n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef) and n.lineno == row.line)
    return ast.get_source_segment(text, node) or ""


def _proof(entry: Entry) -> Iterator[str]:
    yield "## Who agrees\n"
    yield "| oracle | what it is | digits | |\n|---|---|---:|---|"
    for each in entry.report.oracles:
        why_not = each.reason if each.max_rel_error is None else ""
        if each.max_rel_error is None and not why_not:
            why_not = "not installed here" if each.name == "torch" else "this op has none"
        yield f"| {each.name} | {ORACLES[each.name]} | {digits(each.max_rel_error)} | {_cell(why_not)} |"
    yield ""
    stated = {each.name: each.statement for each in all_laws(entry.subject.op)}
    named = {name: inspect.getdoc(INVARIANTS[name]) or "" for name in entry.report.invariants}
    if stated:
        yield f"Laws of this op that held on random cases ({len(entry.report.laws)}):\n"
        yield from (f"- `{name}`: {_item(stated[name])}" for name in entry.report.laws)
        yield ""
    yield f"<details><summary>What every op owes, and this one keeps ({len(named)})</summary>\n"
    yield from (f"- `{name}`: {_item(text)}" for name, text in named.items())
    yield "\n</details>\n"


def _zoo(entry: Entry) -> Iterator[str]:
    if not entry.bugs:
        return
    yield "## What people get wrong\n"
    for each in entry.bugs:
        yield f"### {_sentence(each.name)}\n"
        yield f"{_escaped(_joined(each.what))}\n"
        yield f"- **What its user notices:** {_escaped(each.symptom)}\n- **Noticed by:** `{each.killed_by}`\n"
        yield f"<details><summary>The wrong code</summary>\n\n{_python(_undocumented(each.wrong))}</details>\n"


def _undocumented(wrong: type) -> str:
    """The class without its decorator and docstring, which the page has told already."""
    text = textwrap.dedent(inspect.getsource(wrong))
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.ClassDef)
    lines = text.splitlines()
    end = node.body[0].end_lineno if ast.get_docstring(node) is not None else node.lineno
    return "\n".join([lines[node.lineno - 1], *lines[end or node.lineno :]]).replace(":\n\n", ":\n", 1)


def _places(entry: Entry) -> Iterator[str]:
    root = Path(inspect.getfile(functional)).resolve().parents[2]
    yield "## Where it stands\n"
    yield "| part | file and line | |\n|---|---|---|"
    for row in entry.rows:
        if row.path.is_relative_to(root):
            yield f"| {row.what} | `{row.path.relative_to(root).as_posix()}:{row.line}` | {_cell(row.about)} |"
    yield f"\nThe same in a terminal: `minires where {entry.subject.name}`, `minires check {entry.subject.name}`.\n"


# --- the index


def contents(entries: Sequence[Entry]) -> str:
    """The page that leads to all others, family by family."""
    families: dict[str, list[Entry]] = {}
    for each in entries:
        families.setdefault(each.family, []).append(each)
    lines = [
        "# Formula atlas\n",
        f"Every op of minires: {len(entries)}, each with its forward pass, its gradient, the derivation, the code of "
        "both, who agrees with it, and what people get wrong. The pages are made from the code and from checks that "
        "ran when this site was built.\n",
        '*Digits*: to how many of them the least agreeing oracle agreed with backward; "exact" is to the last bit. '
        "*Laws* counts statements that held on random cases, *bugs* known mistakes that the checks notice.\n",
    ]
    for family, members in families.items():
        about = (inspect.getdoc(sys.modules[members[0].subject.op.__module__]) or "").partition("\n\n")[0]
        lines += [f"## {family}\n", f"{_escaped(_joined(about))}\n", "| op | backward | digits | laws | bugs |"]
        lines.append("|---|---|---:|---:|---:|")
        for each in members:
            formula = each.parts.get("Backward", "").splitlines()[0]
            lines.append(
                f"| [{each.title}]({each.subject.name}.md) | {_code_cell(formula)} | {each.agreement} "
                f"| {each.proofs} | {len(each.bugs)} |"
            )
        lines.append("")
    lines += ["```{toctree}\n:hidden:\n:maxdepth: 1\n"]
    lines += [each.subject.name for each in sorted(entries, key=lambda each: each.title)]
    return "\n".join([*lines, "```", ""])


# --- words


def _sentence(name: str) -> str:
    """`skip_dropped` as a heading."""
    words = name.replace("_", " ")
    return words[0].upper() + words[1:]


def _joined(text: str) -> str:
    """A paragraph in one line; blank lines stay."""
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", text))


def _escaped(text: str) -> str:
    """Formulas in plain text, safe from Markdown; what stood between backquotes stays code."""
    pieces = re.split(r"(`[^`]+`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([\\*_\[\]<>$#|{}~^])", r"\\\1", p) for p in pieces)


def _item(text: str) -> str:
    """The text of a list's item; its later paragraphs are indented to belong to it."""
    return _escaped(_joined(text)).replace("\n\n", "\n\n  ")


def _text(text: str) -> str:
    """Formulas as they stand, since their columns mean something."""
    return f"```text\n{text}\n```\n\n"


def _python(source: str) -> str:
    return f"```python\n{source.rstrip()}\n```\n\n"


def _cell(text: str) -> str:
    return _escaped(" ".join(text.split()))


def _code_cell(text: str) -> str:
    """A formula as code within a table."""
    first = re.split(r"\s{3,}", text.strip())[0]
    return f"`{first}`".replace("|", "\\|") if first else ""


if __name__ == "__main__":
    write(Path(sys.argv[1]))
