"""A4, the norms: batch norm forward and backward, its running statistics, and layer norm's backward."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from minires.backend import Array
from minires.classroom.aliasing import from_written
from minires.classroom.answer import Answer, Failed, Reply
from minires.classroom.assignment import FUNCTION, Assignment, Test
from minires.classroom.assignments import a4_statistics, a4_suspects, hints, prose
from minires.classroom.diagnosis import (
    UNKNOWN,
    Case,
    Finding,
    Question,
    exactness,
    fit,
    judge,
    judge_inputs,
    malformed,
    off,
    pick,
    plain,
    right,
    small,
)
from minires.ops.norm import BatchNorm, LayerNorm

SEED = 4
EPS = 0.25  # large, so that a slip with it is seen
PREAMBLE = f'''"""A4: batch norm and layer norm. Write what is missing; the statement is in README.md."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray

{FUNCTION}
'''

# --- inputs

BATCH_OPTIONS: dict[str, object] = {"eps": EPS, "observe": None}


def _batches(affine: bool) -> tuple[list[Case], list[Case]]:
    rng = np.random.default_rng(SEED)
    ladder = [
        *small(lambda n, d: ((n + 1, d), (d,), (d,), (n + 1, d)), rng),
        *small(lambda n, d: ((n, d, 2), (d,), (d,), (n, d, 2)), rng),
    ]
    shapes = ((4, 3, 5), (3, 2, 2, 3), (5, 4, 3), (6, 3, 2))
    cases = [[*(rng.standard_normal(s) for s in (shape, shape[1:2], shape[1:2], shape))] for shape in shapes]
    return _made(ladder, affine, BATCH_OPTIONS), _made(cases, affine, BATCH_OPTIONS)


def _made(arrays: Sequence[Sequence[Array]], affine: bool, options: dict[str, object]) -> list[Case]:
    return [Case((x, w if affine else None, b if affine else None), gy, options) for x, w, b, gy in arrays]


def _rows() -> tuple[list[Case], list[Case]]:
    rng = np.random.default_rng(SEED)
    ladder, cases = [], []
    for arrays in small(lambda n, d: ((n, d + 1), (d + 1,), (d + 1,), (n, d + 1)), rng):
        ladder += _made([arrays], True, {"normalized_shape": arrays[1].shape, "eps": EPS})
    for shape, normalized in (((4, 5), (5,)), ((3, 2, 4), (4,)), ((5, 2, 3), (2, 3)), ((2, 3, 6), (6,))):
        arrays = [rng.standard_normal(s) for s in (shape, normalized, normalized, shape)]
        cases += _made([arrays], True, {"normalized_shape": normalized, "eps": EPS})
    return ladder, cases


BATCH, BARE, ROWS = _batches(True), _batches(False), _rows()

# --- signatures: the three terms of gx, and what it is orthogonal to

TERMS = ("gxhat", "mean(gxhat)", "xhat mean(gxhat xhat)")
MADE_OF: tuple[tuple[tuple[float, float, float], str, str], ...] = (
    (
        (1, 0, -1),
        "MEAN_TERM_DROPPED",
        "your gx lacks - mean(gxhat), so it is not orthogonal to 1: sum(gx) = {ones:.2g}",
    ),
    (
        (1, -1, 0),
        "VARIANCE_TERM_DROPPED",
        "your gx lacks - xhat mean(gxhat xhat), so it is not orthogonal to xhat: sum(gx xhat) = {xhat:.2g}",
    ),
    (
        (1, 0, 0),
        "STATISTICS_AS_CONSTANTS",
        "your gx is w gy / sigma, as if mean and sigma were constants: sum(gx) = {ones:.2g}, sum(gx xhat) = {xhat:.2g}",
    ),
    *(
        (signs, "WRONG_SIGN", "your gx has the three right terms, not all with the right sign")
        for signs in ((1, 1, -1), (1, -1, 1), (1, 1, 1), (-1, 1, 1), (-1, -1, -1))
    ),
    ((1, -1, -2), "VARIANCE_TERM_DOUBLED", "your gx takes xhat mean(gxhat xhat) off twice"),
)


def _terms(case: Case, over_rows: bool) -> tuple[list[Array], Array]:
    """The three terms of gx, already over sigma, and xhat; each shaped like x."""
    x, w, _ = case.arrays
    assert x is not None
    axes = tuple(range(1, x.ndim)) if over_rows else (0, *range(2, x.ndim))
    if over_rows:
        kept = math.prod(case.options["normalized_shape"])
        rows, shape = x.reshape(-1, kept), x.shape
        gxhat = case.gy.reshape(-1, kept) * (1 if w is None else w.reshape(-1))
        axes = (1,)
    else:
        rows, shape = x, x.shape
        gxhat = case.gy * (1 if w is None else w.reshape(1, -1, *(1,) * (x.ndim - 2)))
    centered = rows - rows.mean(axes, keepdims=True)
    sigma = np.sqrt((centered * centered).mean(axes, keepdims=True) + case.options["eps"])
    xhat = centered / sigma
    mean = np.broadcast_to(gxhat.mean(axes, keepdims=True), rows.shape)
    terms = [gxhat, mean, xhat * (gxhat * xhat).mean(axes, keepdims=True)]
    return [(term / sigma).reshape(shape) for term in terms], xhat.reshape(shape)


def _projection(question: Question, replies: Sequence[Reply]) -> Finding | None:
    """Which of the terms is missing: gx on {gxhat, mean(gxhat), xhat mean(gxhat xhat)}; (1, -1, -1) is right."""
    answers = [np.asarray(pick(reply, question), dtype=float) for reply in replies]
    made = [_terms(case, question.truth is LayerNorm) for case in question.cases]
    directions = {name: [terms[i] for terms, _ in made] for i, name in enumerate(TERMS)}
    found = fit(answers, directions, exactness([pick(reply, question) for reply in replies]))
    for coefficients, cause, told in MADE_OF:
        if found.is_(*coefficients):
            told = told.format(ones=_along(answers[0], None, question), xhat=_along(answers[0], made[0][1], question))
            return Finding(cause, f"{told} (fit: {found})")
    if found.exact:
        return Finding(UNKNOWN, f"your gx is made of the right terms, in wrong amounts (fit: {found})")
    return None


def _along(gx: Array, xhat: Array | None, question: Question) -> float:
    """The largest sum(gx), or sum(gx xhat), over a set."""
    product = gx if xhat is None else gx * xhat
    axes = (product.ndim - 1,) if question.truth is LayerNorm else (0, *range(2, product.ndim))
    return float(np.max(np.abs(product.sum(axes))))


# --- questions

INPUTS = ("x", "w", "b")


def _batch(output: int, bare: bool = False, signature: Callable[..., Finding | None] = from_written) -> Question:
    ladder, cases = BARE if bare else BATCH
    return Question("BatchNorm", BatchNorm, output, INPUTS, a4_suspects.BATCH, ladder, cases, signature)


def _layer(output: int, signature: Callable[..., Finding | None] = from_written) -> Question:
    return Question("LayerNorm", LayerNorm, output, INPUTS, a4_suspects.LAYER, *ROWS, signature)


def asks(*questions: Question) -> Callable[[Answer], None]:
    """A test that judges these, one after the other."""

    def test(answer: Answer) -> None:
        for question in questions:
            judge(answer, question)

    return test


def leaves_inputs_alone(answer: Answer) -> None:
    """No input, and not gy, is written to."""
    for question in (_batch(1), _layer(1)):
        judge_inputs(answer, question)


# --- running statistics


def _statistics(training: bool, which: slice, what: tuple[str, str]) -> Callable[[Answer], None]:
    """A test of two of the four pieces: (mean, var), or the running ones afterwards."""

    def test(answer: Answer) -> None:
        rng = np.random.default_rng(SEED)
        inputs = [
            (rng.integers(-3, 4, shape).astype(float), np.ones(shape[1]), 4 * np.ones(shape[1]))
            for shape in ((2, 1), (3, 1), (3, 2), (2, 1, 2))
        ]
        for shape in ((4, 3, 5), (3, 2, 2, 3), (6, 4)):
            c = shape[1]
            inputs.append((rng.standard_normal(shape), rng.standard_normal(c), rng.uniform(0.5, 2.0, c)))
        results = []
        for x, mean, var in inputs:
            reply = answer.call("statistics", x, mean, var, training, 0.25)
            if len(reply.outputs) != 2:
                told = f"statistics returns {len(reply.outputs)} things; it should be (mean, var)"
                raise Failed(told, "WRONG_SHAPE")
            got = (*reply.outputs, reply.inputs_after["1"], reply.inputs_after["2"])
            results.append((got, a4_statistics.pieces(x, mean, var, training, 0.25)))
        for (x, mean, var), (got, want) in zip(inputs, results, strict=True):
            if not all(map(right, got[which], want[which])):
                shown = {"x": plain(x), "running_mean": plain(mean), "running_var": plain(var), "momentum": 0.25}
                shown |= {"training": training}
                shown |= {f"your {n}": plain(g) for n, g in zip(what, got[which], strict=True)}
                shown |= {f"expected {n}": plain(e) for n, e in zip(what, want[which], strict=True)}
                for symbol, mine, right_one in zip(what, got[which], want[which], strict=True):
                    if (strange := malformed(symbol, mine, right_one)) is not None:
                        raise Failed(strange.message, strange.cause, shown)
                _blame_statistics(inputs, [r[0] for r in results], (training, which, what), shown)

    return test


def _blame_statistics(
    inputs: Sequence[tuple[Array, ...]],
    answers: Sequence[Sequence[Array]],
    asked: tuple[bool, slice, tuple[str, str]],
    shown: dict[str, object],
) -> None:
    """Raises Failed with the mistake by which all cases get their answer."""
    training, which, what = asked
    tolerance = exactness([piece for answer in answers for piece in answer[which]])
    found = {
        cause: told
        for cause, told, wrong in a4_statistics.STATISTICS
        if all(
            off(got, want) < tolerance
            for x, answer in zip(inputs, answers, strict=True)
            for got, want in zip(answer[which], wrong(*x, training, 0.25)[which], strict=True)
        )
    }
    when = "in training" if training else "at rest"
    if len(found) != 1:
        raise Failed(f"your {' and '.join(what)} {when} are wrong; they fit no mistake known here", UNKNOWN, shown)
    cause, told = next(iter(found.items()))
    raise Failed(f"{when} your {' and '.join(what)} are {told}", cause, shown)


CAUSES = (
    "MEAN_TERM_DROPPED",
    "VARIANCE_TERM_DROPPED",
    "STATISTICS_AS_CONSTANTS",
    "WRONG_SIGN",
    "VARIANCE_TERM_DOUBLED",
    "WRONG_AXIS",
    "GAIN_FORGOTTEN",
    "GAIN_TWICE",
    "GAIN_OUTSIDE_THE_MEANS",
    "GAIN_GRADIENT_WRONG",
    "BIAS_GRADIENT_SUMMED_WRONG",
    "BESSEL",
    "EPS_OUTSIDE_ROOT",
    "EPS_FORGOTTEN",
    "VARIANCE_NOT_ROOTED",
    "SIGMA_FORGOTTEN",
    "SUMS_FOR_MEANS",
    "MEAN_NOT_TAKEN_OFF",
    "RUNNING_STATISTICS_IN_EVAL",
    "RUNNING_STATISTICS_IN_TRAINING",
    "RUNNING_STATISTICS_NOT_MOVED",
    "BATCH_STATISTICS_IN_EVAL",
    "BIASED_RUNNING_VARIANCE",
    "MOMENTUM_SWAPPED",
    "INPUT_OVERWRITTEN",
    "ALIASED_ADD",
    "NOTHING_RETURNED",
    "WRONG_SHAPE",
    "NOT_FINITE",
)

MOVED = ("running_mean", "running_var")
GIVEN = ("standardize", "mean_of_products", "by_channel", "column", "sum_channels", "dot_channels", "affine")
ASSIGNMENT = Assignment(
    name="A4",
    title="Batch norm and layer norm",
    blanks=(
        "minires.ops.norm.BatchNorm.forward",
        "minires.ops.norm.BatchNorm.backward",
        "minires.ops.norm.LayerNorm.backward",
        "minires.ops.norm.project",
        "minires.classroom.assignments.a4_reference.statistics",
    ),
    given=tuple(
        f"minires.ops.norm.{helper}"
        for helper in (
            "standardize",
            "mean_of_products",
            "by_channel",
            "column",
            "sum_channels",
            "dot_channels",
            "affine",
        )
    ),
    hide=("Backward", "Derivation"),
    file="norms.py",
    preamble=PREAMBLE,
    statement=prose("A4", "statement"),
    rubric=prose("A4", "rubric"),
    guide=prose("A4", "guide"),
    hints=hints(CAUSES),
    tests=(
        Test("batch norm's output is w xhat + b", 8, asks(_batch(0))),
        Test("batch norm's gx is a projection", 14, asks(_batch(1, signature=_projection))),
        Test("the gradients of gain and bias are sums over the set", 6, asks(_batch(2), _batch(3))),
        Test("without gain and bias batch norm is the same", 2, asks(_batch(0, True), _batch(1, True, _projection))),
        Test("layer norm's gx is a projection, row by row", 12, asks(_layer(1, signature=_projection))),
        Test("the gradients of layer norm's gain and bias are sums over the rows", 4, asks(_layer(2), _layer(3))),
        Test("the norms write to nothing they were handed", 3, leaves_inputs_alone),
        Test("in training the batch's own statistics count", 3, _statistics(True, slice(0, 2), ("mean", "var"))),
        Test("in training the running statistics move", 4, _statistics(True, slice(2, 4), MOVED)),
        Test("at rest the running statistics count", 2, _statistics(False, slice(0, 2), ("mean", "var"))),
        Test("at rest the running statistics stay", 2, _statistics(False, slice(2, 4), MOVED)),
    ),
    minutes=120,
)
