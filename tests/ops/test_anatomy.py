"""Every op has the same anatomy, so that a reader who knows one knows where to look in all."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import minires.ops
from minires.engine import Function

ORDER = ("Shapes", "Forward", "Backward", "Derivation", "Kinks", "Saved", "Source")
SHARED = {"Convolution", "Reduction"}  # bases that hold what a family shares; no ops themselves

FILES = sorted(Path(minires.ops.__file__).parent.glob("*.py"))


def ops():
    for found in pkgutil.iter_modules(minires.ops.__path__):
        module = importlib.import_module(f"minires.ops.{found.name}")
        for name, value in vars(module).items():
            if inspect.isclass(value) and issubclass(value, Function) and value.__module__ == module.__name__:
                yield pytest.param(value, id=name)


OPS = [op for op in ops() if op.values[0].backward is not Function.backward]


def test_there_are_ops_to_look_at():
    assert len(OPS) >= 60


@pytest.mark.parametrize("op", OPS)
def test_the_docstring_has_its_parts_in_their_order(op):
    heads = [line.split()[0] for line in (inspect.getdoc(op) or "").splitlines() if line[:1].isalpha()][1:]
    told = [head for head in dict.fromkeys(heads) if head in ORDER]
    assert told == [head for head in ORDER if head in told]
    assert set(ORDER) - set(told) <= {"Derivation"}  # left out where it is obvious


@pytest.mark.parametrize("op", [op for op in OPS if op.values[0].__name__ not in SHARED])
def test_forward_and_backward_fit_on_one_screen(op):
    lines = sum(len(inspect.getsourcelines(getattr(op, name))[0]) for name in ("forward", "backward"))
    assert lines <= 60


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_formula_names_no_array_library(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert not imported & {"numpy", "cupy", "scipy", "torch"}
