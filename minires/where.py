"""`minires where OP`: file and line of an op's formula, gradient, public name, layer, twin, kernels and tests.

The sources are read as text (`ast`), not imported, so the answer comes at once and needs nothing installed.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from minires.errors import RequestError

SYMBOLS = {
    "+": "add",
    "-": "sub",
    "*": "mul",
    "/": "div",
    "**": "pow",
    "@": "matmul",
    "[]": "getitem",
    "neg": "neg",
    "skip": "residual_add",
    "+1": "residual_add",
}
PACKAGE = Path(__file__).resolve().parent
Definition = ast.FunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Row:
    """One line of the answer: what, in which file, at which line, and a word about it."""

    what: str
    path: Path
    line: int
    about: str = ""

    def __str__(self) -> str:
        return f"{self.what:11} {_short(self.path)}:{self.line}  {self.about}".rstrip()


@dataclass
class Answer:
    """All places of one op.

    Attributes
        name       the functional name, or the class if it has none
        summary    the first line of its docstring
        rows       the places, in reading order
        notes      what there is not
    """

    name: str
    summary: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(
            [f"{self.name}: {self.summary}", *(f"  {r}" for r in self.rows), *(f"  {n}" for n in self.notes)]
        )


@dataclass(frozen=True)
class Source:
    """A definition at the top level of a file."""

    path: Path
    node: Definition
    family: dict[str, Definition]  # all top-level definitions of its file

    def method(self, name: str) -> Definition | None:
        """The method `name` of this class, or of the nearest base class in the same file."""
        for node in self.node.body:
            if isinstance(node, ast.FunctionDef) and node.name == name:
                return node
        for base in self.node.bases if isinstance(self.node, ast.ClassDef) else ():
            inherited = self.family.get(getattr(base, "id", ""))
            if inherited is not None and (found := Source(self.path, inherited, self.family).method(name)):
                return found
        return None

    @property
    def summary(self) -> str:
        return (ast.get_docstring(self.node) or "").partition("\n")[0]

    @cached_property
    def words(self) -> list[str]:
        """Every name this definition uses, in order, including those its helpers and bases in the same file use."""
        seen: set[str] = {self.node.name}

        def bases(node: ast.AST) -> list[ast.expr]:
            return node.bases if isinstance(node, ast.ClassDef) else []

        def walk(node: ast.AST) -> Iterator[str]:
            for inner in ast.walk(node):
                name = (
                    inner.id if isinstance(inner, ast.Name) else inner.attr if isinstance(inner, ast.Attribute) else ""
                )
                if not name:
                    continue
                yield name
                helper = self.family.get(name)
                if name not in seen and (isinstance(helper, ast.FunctionDef) or (helper and inner in bases(node))):
                    seen.add(name)
                    yield from walk(helper)

        return list(dict.fromkeys(walk(self.node)))


class Index:
    """All definitions of the package, by floor."""

    def __init__(self, package: Path = PACKAGE) -> None:
        self.package = package
        self.tests = package.parent / "tests"
        self.tutorials = package.parent / "tutorials"
        self.functional = {k: v for k, v in _sources(package / "functional").items() if _is_public(v, ast.FunctionDef)}
        self.ops = {
            k: v for k, v in _sources(package / "ops").items() if _is_public(v, ast.ClassDef) and v.method("backward")
        }
        self.layers = {k: v for k, v in _sources(package / "nn").items() if _is_public(v, ast.ClassDef)}
        self.references = _sources(package / "check" / "reference")
        self.kernels = _sources(package / "kernels")

    def ops_of(self, function: Source) -> list[str]:
        """The op classes that a functional name applies."""
        found = [name for name in function.words if name in self.ops]
        if found:
            return found
        others = [self.functional[n] for n in function.words if n in self.functional and n != function.node.name]
        return [name for other in others[:1] for name in self.ops_of(other)]

    def functions_of(self, op: str) -> list[str]:
        """The functional names that apply an op class; the one named like it first."""
        users = [name for name, source in self.functional.items() if op in source.words]
        return sorted(users, key=lambda name: _key(name) != _key(op))

    def find(self, query: str) -> Answer:
        """The answer to a functional name, an op's or a layer's class name, or an operator's sign.

        Raises RequestError, with the nearest names, when there is none.
        """
        return self._answer(*self._resolved(query))

    def classes(self, query: str) -> list[str]:
        """The op classes that `find` would tell about."""
        return self._resolved(query)[1]

    def _resolved(self, query: str) -> tuple[str, list[str]]:
        wanted = _key(SYMBOLS.get(query, query.rpartition(".")[2]))
        for name, source in self.functional.items():
            if _key(name) == wanted:
                return name, self.ops_of(source)
        for name in self.ops:
            if _key(name) == wanted:
                return next(iter(self.functions_of(name)), name), [name]
        for name, source in self.layers.items():
            used = [word for word in source.words if word in self.functional]
            if _key(name) == wanted and used:
                return used[0], self.ops_of(self.functional[used[0]])
        names = [*self.functional, *self.ops, *self.layers]
        close = [n for n in names if _key(n) in difflib.get_close_matches(wanted, map(_key, names), n=3, cutoff=0.5)]
        hint = (
            f"did you mean {' or '.join(dict.fromkeys(close[:4]))}?"
            if close
            else f"try one of: {', '.join(self.functional)}"
        )
        raise RequestError(f"no op is called {query!r}; {hint}")

    def _answer(self, name: str, ops: list[str]) -> Answer:
        rows = [row for op in ops for row in self._formula(op)]
        function = self.functional.get(name)
        if function is not None:
            rows.append(Row("functional", function.path, function.node.lineno, f"F.{name}"))
        rows += [  # layers that are named after the op, not all that use it
            Row("layer", source.path, source.node.lineno, f"nn.{layer}")
            for layer, source in self.layers.items()
            if name in source.words and _key(layer).startswith(_key(name)[:4])
        ]
        if name in self.references:
            twin = self.references[name]
            rows.append(Row("reference", twin.path, twin.node.lineno, "the same as plain index loops"))
        rows += [row for op in ops for row in self._kernels(op)]
        checks = self.package / "check"
        rows += list(_mentions("laws", checks / "laws", "*.py", [name, *ops]))[:2]
        rows += list(_mentions("bug zoo", checks / "zoo", "*.py", [name, *ops]))[:2]
        rows += list(_mentions("tests", self.tests, "test_*.py", [name, *ops]))[:6]
        rows += [row for op in ops for row in self._derivations(op)]
        rows += list(_mentions("tutorial", self.tutorials, "t[0-9][0-9]_*.py", [name, *ops]))[:3]
        notes = [] if self.tests.is_dir() else ["tests       are in the repository, not in the installed package"]
        about = function or self.ops[ops[0]]
        return Answer(name, about.summary, rows, notes)

    def _formula(self, op: str) -> Iterator[Row]:
        source = self.ops[op]
        yield Row("formula", source.path, source.node.lineno, f"class {op}")
        for what, method in (("forward", "forward"), ("gradient", "backward")):
            node = source.method(method)
            if node is not None:
                yield Row(what, source.path, node.lineno, f"{op}.{method}")

    def _derivations(self, op: str) -> Iterator[Row]:
        """The numbered equations of tutorials that the op's docstring cites."""
        doc = ast.get_docstring(self.ops[op].node) or ""
        for number, equation in dict.fromkeys(re.findall(r"tutorial (\d+), \((\d+\.\d+)\)", " ".join(doc.split()))):
            for path in self.tutorials.glob(f"t{int(number):02}_*.py"):
                lines = path.read_text(encoding="utf-8").splitlines()
                line = next((i for i, text in enumerate(lines, start=1) if rf"\tag{{{equation}}}" in text), None)
                if line is not None:
                    yield Row("derivation", path, line, f"tutorial {number}, ({equation})")

    def _kernels(self, op: str) -> Iterator[Row]:
        for name, source in self.kernels.items():
            for decorator in source.node.decorator_list:
                words = [ast.unparse(a).strip("'\"") for a in getattr(decorator, "args", [])]
                if words and words[0].rpartition(".")[2] == op:
                    yield Row("kernel", source.path, source.node.lineno, f"{name}, for {', '.join(words[1:])}")


def _sources(folder: Path) -> dict[str, Source]:
    """Every top-level definition in a folder's files (and its subfolders')."""
    found: dict[str, Source] = {}
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        family = {node.name: node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        found.update({name: Source(path, node, family) for name, node in family.items()})
    return found


def _mentions(what: str, folder: Path, pattern: str, names: list[str]) -> Iterator[Row]:
    """The first place in each file that speaks of one of `names`; the files that do so most, first."""
    # the class anywhere, the function as F.name, name( or "name": an op called add is not every add
    function, *classes = map(re.escape, names)
    uses = [rf"\bF\.{function}\b", rf"(?<![.\w]){function}\(", rf"[\"']{function}[\"']"]
    word = re.compile("|".join([*uses, *(rf"\b{name}\b" for name in classes)]))
    counted = []
    for path, text in _texts(folder, pattern).items():
        if not any(name in text for name in names):
            continue
        lines = text.splitlines()
        hits = [number for number, line in enumerate(lines, start=1) if word.search(line)]
        hits = [number for number in hits if not lines[number - 1].lstrip().startswith(("import ", "from "))]
        if hits:
            counted.append((len(hits), Row(what, path, hits[0], f"{len(hits)} mention{'s' * (len(hits) > 1)}")))
    yield from (row for _, row in sorted(counted, key=lambda item: -item[0]))


@cache
def _texts(folder: Path, pattern: str) -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob(pattern))}


def _is_public(source: Source, kind: type[ast.AST]) -> bool:
    return isinstance(source.node, kind) and not source.node.name.startswith("_")


def _key(name: str) -> str:
    return name.lower().replace("_", "")


def _short(path: Path) -> str:
    """Relative to where the user stands, if below it."""
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)
