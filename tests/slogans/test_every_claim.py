"""Each of the 23 claims is met: once as it is false, once as it is true."""

import ast
import re
from pathlib import Path

HISTORY = {22}  # a date: nothing to compute (see test_published_numbers.py)


def claims(prefix):
    """The numbers that the docstrings of tests of that name begin with."""
    found = set()
    for file in Path(__file__).parent.glob("test_*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith(prefix):
                found |= {int(n) for n in re.findall(r"^Claim (\d+)", ast.get_docstring(node) or "")}
    return found


def test_every_claim_has_a_counterexample_and_a_correction():
    assert claims("test_false_that_") == set(range(1, 24)) - HISTORY
    assert claims("test_true_that_") == set(range(1, 24)) - HISTORY
