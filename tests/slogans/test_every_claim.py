"""What is often said about residual connections, 23 claims: each is tested as it is false, and as it is true.

The claims stand, word for word or nearly so, in five short articles of the kind that newcomers read first:

    S0   "Residual Connections: Skip Connections, Gradient Flow, and Deep Network Training"
    S1   "Residual Connections", a digest
    S2   "Residual Connections Explained: The Trick That Made Deep Networks Trainable"
    S3   "Residual Connections", of a course on vanishing gradients
    S4   "Residual Connections (Skip Connections)", notes on deep learning
"""

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
