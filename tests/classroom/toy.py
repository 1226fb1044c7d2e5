"""A small assignment for tests of the machinery: the skip connection, with three tests."""

import numpy as np

from minires.classroom.answer import Answer, Failed
from minires.classroom.assignment import FUNCTION, Assignment, Test

PREAMBLE = f'''"""The toy's file."""

from __future__ import annotations

import numpy as np

{FUNCTION}
'''
RNG = np.random.default_rng(7)
X, BRANCH, GY = RNG.normal(size=(3, 4, 5))


def forward(answer: Answer) -> None:
    y = answer.op("ResidualAdd", (X, BRANCH))["y"]
    if not np.array_equal(y, X + BRANCH):
        raise Failed("y is not x + f", counterexample={"x": np.ones(1), "f": np.ones(1), "yours": y, "expected": 2.0})


def backward(answer: Answer) -> None:
    gx, gf = answer.op("ResidualAdd", (X, BRANCH), GY)["gradients"]
    if not np.array_equal(gx, GY):
        raise Failed("gx is not gy", "SKIP_DROPPED", place="tutorial 8, (8.2)")
    if not np.array_equal(gf, GY):
        raise Failed("gf is not gy", "BRANCH_DROPPED")


def untouched(answer: Answer) -> None:
    reply = answer.op("ResidualAdd", (X, BRANCH), GY)
    if not all(np.array_equal(reply.inputs_after[name], x) for name, x in (("0", X), ("1", BRANCH), ("gy", GY))):
        raise Failed("an input was written to", "INPUT_OVERWRITTEN")


TOY = Assignment(
    name="A0",
    title="The toy",
    blanks=("minires.ops.residual.ResidualAdd.forward", "minires.ops.residual.ResidualAdd.backward"),
    hide=("Backward", "Forward"),
    file="toy.py",
    preamble=PREAMBLE,
    statement="Write the skip connection.",
    rubric="All of it is graded.",
    guide="Nothing is left to mark by hand.",
    hints={"SKIP_DROPPED": ("How many arrows leave x?", "Two.", "One of them ends at y.")},
    tests=(
        Test("y = x + f", 1, forward, seconds=2),
        Test("the skip and the branch each get all of gy", 2, backward, seconds=2),
        Test("nothing that was handed over is written to", 1, untouched, seconds=2),
    ),
    minutes=5,
)

RIGHT = """
import numpy as np

class ResidualAdd:
    def forward(self, x, f):
        return x + f

    def backward(self, gy):
        return gy, gy
"""
BLANK = """
class ResidualAdd:
    def forward(self, x, f):
        raise NotImplementedError("A0: ResidualAdd.forward is yours to write")

    def backward(self, gy):
        raise NotImplementedError("A0: ResidualAdd.backward is yours to write")
"""
SKIP_DROPPED = RIGHT.replace("return gy, gy", "return 0 * gy, gy")
