"""A5, the residual block: the sum, a block's backward by hand, the projection, and a start at the identity."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from minires.backend import Array
from minires.classroom.aliasing import from_written, written
from minires.classroom.answer import Answer, Failed, Reply
from minires.classroom.assignment import FUNCTION, Assignment, Test
from minires.classroom.assignments import a5_suspects, hints, prose
from minires.classroom.assignments.a5_reference import ProjectionBlock, ResidualBlock
from minires.classroom.child.steps import Ref, call, get, pack
from minires.classroom.diagnosis import (
    UNKNOWN,
    Case,
    Finding,
    Question,
    exactness,
    fit,
    how_far,
    judge,
    judge_inputs,
    made,
    malformed,
    off,
    pick,
    plain,
    right,
    run,
    small,
)
from minires.engine import Function
from minires.ops.residual import ResidualAdd

SEED = 5
HERE = "minires.classroom.assignments.a5_reference"
PREAMBLE = f'''"""A5: the residual block. Write what is missing; the statement is in README.md."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray

{FUNCTION}
'''

# --- inputs

Shapes = Callable[[int, int], tuple[tuple[int, ...], ...]]


def _cases(shapes: Shapes, drawn: Shapes | None = None) -> tuple[list[Case], list[Case]]:
    """A ladder of small integers, and four random cases; shapes(n, d) gives those of the inputs, then that of gy."""
    rng = np.random.default_rng(SEED)
    ladder = [Case(tuple(arrays), gy, {}) for *arrays, gy in small(shapes, rng)]
    sizes = [(drawn or shapes)(n, d) for n, d in ((4, 3), (3, 5), (5, 4), (2, 6))]
    cases = [[rng.standard_normal(size) for size in each] for each in sizes]
    return ladder, [Case(tuple(arrays), gy, {}) for *arrays, gy in cases]


ADD = _cases(lambda n, d: ((n, d), (n, d), (n, d)))
BLOCK = _cases(lambda n, d: ((n, d), (d + 1, d), (d, d + 1), (n, d)))
PROJECTION = _cases(
    lambda n, d: ((n, d), (d + 1, d), (d, d), (d + 1, d), (n, d + 1)),
    lambda n, d: ((n, d), (d, d), (d + 1, d), (d, d + 1), (n, d)),  # as wide as before, so that more mistakes run
)

# --- signatures: what the numbers themselves tell


def _sum(question: Question, replies: Sequence[Reply]) -> Finding | None:
    """gx = gf = gy is one array three times; whoever adds into it changes all of them."""
    answers = [pick(reply, question) for reply in replies]
    found = fit(answers, {"g": [case.gy for case in question.cases]}, exactness(answers))
    if found.is_(2) and written(question, replies):
        return Finding("ALIASED_ADD", f"your {question.symbol} is 2 g, and so is gy itself: all are one array")
    return None


def _paths(question: Question, replies: Sequence[Reply]) -> Finding | None:
    """Which of the two paths is missing or counted wrong: the error of gx on {g, J_F^T g}."""
    answers = [pick(reply, question) for reply in replies]
    truth = question.right[1]
    plain_skip = question.truth is ResidualBlock
    skips = [case.gy if plain_skip else case.gy @ case.arrays[1] for case in question.cases]
    branches = [whole - skip for whole, skip in zip(truth, skips, strict=True)]
    errors = [np.asarray(got, dtype=float) - want for got, want in zip(answers, truth, strict=True)]
    g = "g" if plain_skip else "g W_s"
    found = fit(errors, {g: skips, "J^T g": branches}, exactness(answers))
    if written(question, replies) and (found.is_(0, 1) or found.is_(1, 1)):
        return Finding("ALIASED_ADD", f"your backward adds into gy, and then uses gy again (error: {found})")
    for coefficients, cause, told in a5_suspects.PATHS:
        if found.is_(*coefficients):
            return Finding(cause, f"{told.format(g=g)} (error: {found})")
    if found.exact:
        return Finding(UNKNOWN, f"your gx is made of the right two terms, in wrong amounts (error: {found})")
    return None


# --- questions


def _question(op: str, output: int, signature: Callable[..., Finding | None] | None = None) -> Question:
    truth, inputs, suspects, (ladder, cases) = KINDS[op]
    absent = {"gws": "PROJECTION_WITHOUT_GRADIENT"}
    return Question(op, truth, output, inputs, suspects, ladder, cases, signature, absent)


KINDS: dict[str, tuple[type[Function], tuple[str, ...], Sequence[a5_suspects.Suspect], tuple[list[Case], list[Case]]]]
KINDS = {
    "ResidualAdd": (ResidualAdd, ("x", "f"), a5_suspects.ADD, ADD),
    "ResidualBlock": (ResidualBlock, ("x", "w1", "w2"), a5_suspects.BLOCK, BLOCK),
    "ProjectionBlock": (ProjectionBlock, ("x", "ws", "w1", "w2"), a5_suspects.PROJECTION, PROJECTION),
}


def asks(op: str, *outputs: int, signature: Callable[..., Finding | None] | None = None) -> Callable[[Answer], None]:
    """A test that judges these outputs of an op, one after the other."""
    questions = [_question(op, output, signature) for output in outputs]

    def test(answer: Answer) -> None:
        for question in questions:
            judge(answer, question)

    return test


def leaves_inputs_alone(op: str) -> Callable[[Answer], None]:
    """A test that no input, and not gy, is written to."""
    question = _question(op, 1)
    return lambda answer: judge_inputs(answer, question)


# --- a stack of blocks

DEPTHS = (1, 2, 5, 20, 50)


def _stack(depth: int) -> list[Case]:
    """Blocks whose branches are small, so that the product of (I + J) stays of the size of gy; gy is the last's."""
    rng = np.random.default_rng(SEED + depth)
    n, d, size = 4, 3, 0.5 / np.sqrt(depth)  # 4 rows: a mean over them is not a half
    weights = [(rng.standard_normal((d, d)), size * rng.standard_normal((d, d))) for _ in range(depth)]
    x, gy = rng.standard_normal((n, d)), rng.standard_normal((n, d))
    return [Case((x, *pair), gy, {}) for pair in weights]


def _through(op: type[Function], blocks: Sequence[Case]) -> Array:
    """gx of the stack, as this block has it."""
    x, g = blocks[0].arrays[0], blocks[0].gy.copy()
    stack = [made(op) for _ in blocks]
    for each, block in zip(stack, blocks, strict=True):
        x = each.forward(x, *block.arrays[1:])
    for each in reversed(stack):
        g = each.backward(g)[0]
    return g


def stacks(answer: Answer) -> None:
    """The gradient of 1, 2, ... 50 blocks is the product of (I + J)^T, applied to gy."""
    for depth in DEPTHS:
        blocks = _stack(depth)
        given = {f"w{k}{i}": w for k, block in enumerate(blocks) for i, w in enumerate(block.arrays[1:], 1)}
        given |= {"y": blocks[0].arrays[0], "gx": blocks[0].gy}
        steps = [
            step
            for k in range(depth)
            for step in (
                call(f"block{k}", "ResidualBlock"),
                call("y", f"block{k}.forward", Ref("y"), Ref(f"w{k}1"), Ref(f"w{k}2")),
            )
        ]
        for k in reversed(range(depth)):
            steps += [call("all", f"block{k}.backward", Ref("gx")), pack("all", "all"), get("gx", "all", 0)]
        reply, want = answer.script(steps, given, ("gx",)), _through(ResidualBlock, blocks)
        if not right(reply["gx"], want):
            touched = not np.array_equal(reply.inputs_after["gx"], blocks[0].gy)
            _blame_stack(reply["gx"], want, blocks, touched)


def _blame_stack(got: object, want: Array, blocks: Sequence[Case], touched: bool) -> None:
    """Raises Failed, with the mistake that a stack of such blocks would have."""
    shown = {"blocks": len(blocks), "gy": plain(blocks[0].gy), "yours": plain(got), "expected": plain(want)}
    told = f"the gradient of a stack of {len(blocks)} is wrong"
    strange = malformed("gx", got, want)
    if strange is not None:
        raise Failed(f"{told}: {strange.message}", strange.cause, shown)
    tolerance = 10 * exactness([got])
    found = {s.cause: s for s in a5_suspects.BLOCK if off(got, _through(s.op, blocks)) < tolerance}
    if len(found) != 1:
        raise Failed(f"{told}; it fits no mistake known here", UNKNOWN, shown)
    cause, guilty = next(iter(found.items()))
    if touched and cause == "BRANCH_DOUBLED":
        raise Failed(f"{told}: each block adds into gy, and then uses gy again", "ALIASED_ADD", shown)
    raise Failed(f"{told}: in each block, {guilty.formula}", cause, shown)


# --- the start


def starts_as_identity(answer: Answer) -> None:
    """With the weights that start_as_identity returns, y = x; and training can leave it."""
    rng = np.random.default_rng(SEED)
    for n, d in ((1, 1), (2, 3), (4, 5)):
        x, w1, w2 = (rng.integers(1, 4, size).astype(float) for size in ((n, d), (d, d), (d, d)))  # all units active
        reply = answer.call("start_as_identity", w1, w2)
        shown = {"w1": plain(w1), "w2": plain(w2), "x": plain(x)}
        if len(reply.outputs) != 2 or any(np.shape(w) != (d, d) for w in reply.outputs):
            told = f"start_as_identity returns {len(reply.outputs)} things; it should be (w1, w2), of their shapes"
            raise Failed(told, "WRONG_SHAPE", shown)
        starts = [np.asarray(w, dtype=float) for w in reply.outputs]
        shown["yours"] = plain(starts)
        y, _, gw1, gw2 = run(ResidualBlock, Case((x, *starts), rng.standard_normal((n, d)), {}))
        if not right(y, x):
            raise Failed(
                f"with your weights y is not x: it is wrong{how_far(off(y, x))}", "NOT_IDENTITY_AT_START", shown
            )
        if not (gw1.any() or gw2.any()):
            told = "y = x, but the gradients of both weights are 0 for every gy: this block never learns"
            raise Failed(told, "SADDLE_AT_START", shown)
        for name, before in (("0", w1), ("1", w2)):
            if not np.array_equal(reply.inputs_after[name], before):
                told = f"start_as_identity changes w{int(name) + 1}, which belongs to the caller; return new arrays"
                raise Failed(told, "INPUT_OVERWRITTEN", shown)


CAUSES = (
    "SKIP_DROPPED",
    "BRANCH_DROPPED",
    "SKIP_DOUBLED",
    "BRANCH_DOUBLED",
    "ALIASED_ADD",
    "INPUT_OVERWRITTEN",
    "PATHS_AVERAGED",
    "ONE_PLUS_GRADIENT",
    "BRANCH_SUBTRACTED",
    "RELU_ON_SKIP",
    "RELU_MISPLACED",
    "RELU_MASK_WRONG",
    "WEIGHTS_AVERAGED",
    "TRANSPOSED",
    "PROJECTION_WITHOUT_GRADIENT",
    "PROJECTION_TRANSPOSED",
    "PROJECTION_BYPASSED",
    "NOT_IDENTITY_AT_START",
    "SADDLE_AT_START",
    "NOTHING_RETURNED",
    "WRONG_SHAPE",
    "NOT_FINITE",
)

ASSIGNMENT = Assignment(
    name="A5",
    title="The residual block",
    blanks=(
        "minires.ops.residual.ResidualAdd.forward",
        "minires.ops.residual.ResidualAdd.backward",
        f"{HERE}.ResidualBlock.forward",
        f"{HERE}.ResidualBlock.backward",
        f"{HERE}.ProjectionBlock.forward",
        f"{HERE}.ProjectionBlock.backward",
        f"{HERE}.start_as_identity",
    ),
    hide=("Backward",),
    file="residual_block.py",
    preamble=PREAMBLE,
    statement=prose("A5", "statement"),
    rubric=prose("A5", "rubric"),
    guide=prose("A5", "guide"),
    hints=hints(CAUSES),
    tests=(
        Test("the sum is x + f", 4, asks("ResidualAdd", 0)),
        Test("the sum hands gy to both of its inputs", 10, asks("ResidualAdd", 1, 2, signature=_sum)),
        Test("the sum writes to nothing it was handed", 4, leaves_inputs_alone("ResidualAdd")),
        Test("a block's output is x + F(x)", 4, asks("ResidualBlock", 0)),
        Test("a block's gx is g + J_F^T g", 12, asks("ResidualBlock", 1, signature=_paths)),
        Test(
            "the gradients of the block's weights are those of F",
            6,
            asks("ResidualBlock", 2, 3, signature=from_written),
        ),
        Test("a block writes to nothing it was handed", 4, leaves_inputs_alone("ResidualBlock")),
        Test("through 1 to 50 blocks gx is the product of (I + J)^T, times g", 4, stacks),
        Test("a projection's output is W_s x + F(x)", 2, asks("ProjectionBlock", 0)),
        Test("with a projection gx is W_s^T g + J_F^T g", 4, asks("ProjectionBlock", 1, signature=_paths)),
        Test("the projection has a gradient of its own", 2, asks("ProjectionBlock", 2, signature=from_written)),
        Test("beside a projection F's weights have theirs", 2, asks("ProjectionBlock", 3, 4, signature=from_written)),
        Test("the block starts as the identity, and can leave it", 2, starts_as_identity),
    ),
    minutes=90,
)
