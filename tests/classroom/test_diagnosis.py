"""A mistake is named where the numbers leave no doubt, and only there."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from minires.check import bugs
from minires.classroom import cut
from minires.classroom.answer import Failed, Local
from minires.classroom.assignment import find
from minires.classroom.assignments import a1, a4, a5
from minires.classroom.assignments.a1_suspects import by_paths, drawn, edges, ladder, trees, values
from minires.classroom.assignments.a4_reference import statistics
from minires.classroom.causes import CAUSES, MACHINERY
from minires.classroom.diagnosis import fit, off, right, run
from minires.functional import batch_norm
from minires.ops.norm import BatchNorm, LayerNorm
from minires.ops.residual import ResidualAdd
from minires.scalar import Value
from tests.classroom.grading import causes, failures
from tests.classroom.mistakes import a4 as wrong_norms
from tests.classroom.mistakes import a5 as wrong_blocks
from tests.classroom.mistakes import written

RNG = np.random.default_rng(3)
QUESTIONS = {
    **{
        f"A5 {op} {output}": a5._question(op, output)
        for op, kind in a5.KINDS.items()
        for output in range(len(kind[1]) + 1)
    },
    **{f"A4 BatchNorm {output}": a4._batch(output) for output in range(4)},
    **{f"A4 LayerNorm {output}": a4._layer(output) for output in range(4)},
}

# --- the fit


@pytest.mark.parametrize("coefficients", [(-1, 0), (0, -1), (1, 0), (0, 1), (-0.5, -0.5), (0.3, -2.7)])
def test_a_fit_finds_the_coefficients(coefficients):
    g, j = ([RNG.normal(size=(3, n)) for n in (2, 5)] for _ in range(2))
    found = fit([coefficients[0] * a + coefficients[1] * b for a, b in zip(g, j, strict=True)], {"g": g, "j": j})
    assert found.is_(*coefficients)
    assert found.residual < 1e-14


def test_a_fit_of_something_else_is_not_exact():
    g, j, other = ([RNG.normal(size=(3, 4))] for _ in range(3))
    found = fit([g[0] + 1e-6 * other[0]], {"g": g, "j": j})
    assert not found.exact
    assert not found.is_(1, 0)


def test_directions_that_depend_on_one_another_give_no_coefficients():
    g = [RNG.normal(size=(3, 4))]
    assert not fit(g, {"g": g, "j": [2 * g[0]]}).exact


def test_an_answer_that_is_not_finite_or_of_another_size_is_fitted_by_nothing():
    g, j = [RNG.normal(size=(3, 4))], [RNG.normal(size=(3, 4))]
    assert not fit([np.full((3, 4), np.nan)], {"g": g, "j": j}).exact
    assert not fit([np.zeros((2, 4))], {"g": g, "j": j}).exact


def test_float32_is_right_and_one_percent_is_not():
    y = RNG.normal(size=(4, 5))
    assert right(y.astype(np.float32), y)
    assert not right(1.01 * y, y)
    assert not right(y[:3], y)
    assert not right(np.where(y == y[0, 0], np.nan, y), y)
    assert off("x", y) == np.inf


# --- the suspects


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=list(QUESTIONS))
def test_no_two_suspects_of_different_names_look_alike(question):
    outputs = [[run(each.op, case)[question.output] for case in question.cases] for each in question.suspects]
    for (a, left), (b, other) in itertools.combinations(zip(question.suspects, outputs, strict=True), 2):
        if a.cause == b.cause or all(map(right, left, question.right[1])):
            continue
        assert not all(off(x, y) < 1e-9 for x, y in zip(left, other, strict=True)), (a.formula, b.formula)


@pytest.mark.parametrize("op", [ResidualAdd, BatchNorm, LayerNorm])
def test_every_bug_of_the_zoo_is_a_suspect_or_known_not_to_fit(op):
    elsewhere = {
        "running_variance_in_backward",  # needs running statistics in the op
        "buffer_cleared_for_reuse",  # the numbers are right: what is written to is looked at
        "summed_in_place",
        "skip_broadcast",  # about the engine
    }
    asked = next(q for q in QUESTIONS.values() if q.truth is op)
    assert {bug.name for bug in bugs(op) if bug.wrong not in [each.op for each in asked.suspects]} <= elsewhere


def test_every_suspect_has_a_name_with_a_meaning_a_place_and_three_hints():
    said = {each.cause for question in QUESTIONS.values() for each in question.suspects}
    assert said <= set(CAUSES)
    for name, cause in CAUSES.items():
        assert cause.meaning
        assert name.isupper()
        if name not in MACHINERY:
            assert len(cause.hints) == 3, name


def test_the_places_that_are_named_are_there():
    tutorials = Path(__file__).parents[2] / "tutorials"
    assert "\n## The start\n" in (tutorials / "t08_skip.py").read_text(encoding="utf-8")
    for name, cause in CAUSES.items():
        cited = re.fullmatch(r"tutorial (\d+), \((\d+\.\d+)\)", cause.place)
        if cited is None:
            assert cause.place in ("", "tutorial 8, the start"), name
            continue
        (file,) = tutorials.glob(f"t{int(cited[1]):02d}_*.py")
        assert rf"\tag{{{cited[2]}}}" in file.read_text(encoding="utf-8"), name


# --- two mistakes at once: unknown, or one of the two


SIGMAS = {
    "": "np.sqrt(var + self.eps)",
    "EPS_OUTSIDE_ROOT": "np.sqrt(var) + self.eps",
    "BESSEL": "np.sqrt(var * m / (m - 1) + self.eps)",
    "VARIANCE_NOT_ROOTED": "var + self.eps",
}
PROJECTIONS = {
    "MEAN_TERM_DROPPED": "(g - self.xhat * along) / self.sigma",
    "VARIANCE_TERM_DROPPED": "(g - mean) / self.sigma",
    "SIGMA_FORGOTTEN": "g - mean - self.xhat * along",
    "SUMS_FOR_MEANS": "(g - m * mean - self.xhat * m * along) / self.sigma",
    "WRONG_SIGN": "(g + mean - self.xhat * along) / self.sigma",
}
CHANGES = {"": "", "GAIN_FORGOTTEN": "g = gy", "GAIN_TWICE": "g = g * self.w", "WRONG_AXIS": "over = (0,)"}


@pytest.mark.parametrize(("sigma", "gx", "change"), list(itertools.product(SIGMAS, PROJECTIONS, CHANGES)))
def test_of_two_or_three_mistakes_in_a_norm_none_is_named_that_was_not_made(sigma, gx, change):
    functions = {
        "BatchNorm.forward": wrong_norms.forward(sigma=SIGMAS[sigma]),
        "BatchNorm.backward": wrong_norms.backward(CHANGES[change], PROJECTIONS[gx]),
    }
    assert causes(find("A4"), written(find("A4"), functions)) <= {"UNKNOWN", sigma, gx, change}


MASKS = {"": "(self.h > 0)", "RELU_MASK_WRONG": "1.0"}
SKIPS = {"": "gy", "SKIP_DROPPED": "0 * gy", "SKIP_DOUBLED": "2 * gy", "RELU_ON_SKIP": "gy * (self.x > 0)"}
BRANCHES = {
    "": "ga @ self.w1",
    "BRANCH_DROPPED": "0",
    "BRANCH_SUBTRACTED": "-ga @ self.w1",
    "BRANCH_DOUBLED": "2 * ga @ self.w1",
}


@pytest.mark.parametrize(("mask", "skip", "branch"), list(itertools.product(MASKS, SKIPS, BRANCHES)))
def test_of_several_mistakes_in_a_block_none_is_named_that_was_not_made(mask, skip, branch):
    body = f"""
def backward(self, gy):
    ga = (gy @ self.w2) * {MASKS[mask]}
    return {SKIPS[skip]} + {BRANCHES[branch]}, ga.T @ self.x, gy.T @ self.h
"""
    assert causes(find("A5"), written(find("A5"), {"ResidualBlock.backward": body})) <= {"UNKNOWN", mask, skip, branch}


# --- what is told


def test_the_smallest_input_that_fails_is_shown():
    found = failures(
        find("A5"), written(find("A5"), {"ResidualBlock.backward": wrong_blocks.block("gx = ga @ self.w1")})
    )
    failed = found["a block's gx is g + J_F^T g"]
    assert failed.counterexample == {
        "x": [[1.0]],
        "w1": [[1.0], [1.0]],
        "w2": [[1.0, 1.0]],
        "gy": [[1.0]],
        "yours": [[2.0]],
        "expected": [[3.0]],
    }
    assert 'your gx equals J^T g; it lacks "+ g" (error: -1.00 g, 0.00 J^T g, residual' in failed.message


def test_a_norm_is_told_what_its_gradient_is_not_orthogonal_to():
    found = failures(
        find("A4"), written(find("A4"), {"BatchNorm.backward": NO_MEAN, "LayerNorm.backward": NO_VARIANCE})
    )
    assert "not orthogonal to 1" in found["batch norm's gx is a projection"].message
    assert "not orthogonal to xhat" in found["layer norm's gx is a projection, row by row"].message


NO_MEAN = """
def backward(self, gy):
    g3 = by_channel(gy)
    gb, gw = g3.sum((0, 2)), (g3 * self.xhat).sum((0, 2))
    w = 1.0 if self.w is None else self.w
    return ((g3 - self.xhat * column(gw) / self.m) * w * self.inv).reshape(gy.shape), gw, gb
"""
NO_VARIANCE = """
def backward(self, gy):
    rows = gy.reshape(self.xhat.shape)
    g = rows * self.w
    gx = (g - g.mean(1, keepdims=True)) * self.inv
    shape = self.normalized_shape
    return gx.reshape(gy.shape), (rows * self.xhat).sum(0).reshape(shape), rows.sum(0).reshape(shape)
"""


def test_a_mistake_that_nobody_knows_is_unknown_and_shown_all_the_same():
    body = wrong_blocks.block("gx = gy + 0.9 * ga @ self.w1 + 0.01 * gy**2")
    found = failures(find("A5"), written(find("A5"), {"ResidualBlock.backward": body}))
    assert {failed.cause for failed in found.values()} == {"UNKNOWN"}
    assert found["a block's gx is g + J_F^T g"].counterexample


@pytest.mark.parametrize(
    "gx", ["ga @ self.w1 + 1e-4 * gy**2", "1 + ga @ self.w1 + 1e-4 * gy**2", "1.001 * (ga @ self.w1)"]
)
def test_what_is_almost_a_known_mistake_is_unknown(gx):
    found = causes(find("A5"), written(find("A5"), {"ResidualBlock.backward": wrong_blocks.block(f"gx = {gx}")}))
    assert found == {"UNKNOWN"}


def test_the_right_terms_in_wrong_amounts_are_unknown_but_told():
    body = wrong_blocks.block("gx = 0.7 * gy + 0.2 * ga @ self.w1")
    failed = failures(find("A5"), written(find("A5"), {"ResidualBlock.backward": body}))["a block's gx is g + J_F^T g"]
    assert failed.cause == "UNKNOWN"
    assert "-0.30 g, -0.80 J^T g" in failed.message


def test_what_only_a_small_input_shows_is_told_with_that_input():
    body = """
def forward(self, x, f):
    return (x + f) * (2.0 if x.size == 1 else 1.0)
"""
    failed = failures(find("A5"), written(find("A5"), {"ResidualAdd.forward": body}))["the sum is x + f"]
    assert failed.cause == "UNKNOWN"
    assert failed.counterexample == {"x": [[1.0]], "f": [[1.0]], "yours": [[4.0]], "expected": [[2.0]]}


# --- the references themselves


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=list(QUESTIONS))
def test_the_truth_is_the_derivative_of_its_forward(question):
    if not question.output or question.truth in (BatchNorm, LayerNorm, ResidualAdd):
        return  # those of the library are proved in tests/check
    case = question.cases[0]
    x = case.arrays[question.output - 1]
    found, e = np.zeros_like(x), 1e-6
    for i in np.ndindex(x.shape):
        ends = []
        for step in (e, -e):
            arrays = list(case.arrays)
            arrays[question.output - 1] = x.copy()
            arrays[question.output - 1][i] += step
            ends.append(float((run_forward(question.truth, arrays) * case.gy).sum()))
        found[i] = (ends[0] - ends[1]) / (2 * e)
    assert off(found, question.right[1][0]) < 1e-8


def run_forward(op, arrays):
    it = op()
    it.xp = np
    return it.forward(*arrays)


def test_statistics_are_those_of_the_librarys_batch_norm():
    x = RNG.normal(size=(5, 3, 4))
    mine, theirs = ((RNG.normal(size=3), RNG.uniform(1, 2, 3)) for _ in range(2))
    for a, b in zip(mine, theirs, strict=True):
        a[...] = b
    mean, var = statistics(x, *mine, training=True, momentum=0.3)
    y = batch_norm(x, *theirs, training=True, momentum=0.3).numpy()
    np.testing.assert_allclose((x - mean[:, None]) / np.sqrt(var + 1e-5)[:, None], y, atol=1e-12)
    np.testing.assert_allclose(mine, theirs, atol=1e-12)


@pytest.mark.parametrize("program", [*drawn(5, 20, 5), *trees(5, 10, 4), *itertools.islice(ladder(), 60)], ids=str)
def test_sums_over_paths_are_the_gradients_of_the_page_long_engine(program):
    nodes = []
    for node in program:
        a, b = (nodes[i] for i in node.operands) if node.sign != "leaf" else (None, None)
        nodes.append(Value(node.value) if node.sign == "leaf" else a + b if node.sign == "+" else a * b)
    nodes[-1].backward()
    assert [n.data for n in nodes] == values(program)
    assert [n.grad for n in nodes] == by_paths(edges(program))


# --- what an assignment stands on


@pytest.mark.parametrize(("module", "later"), [(a1, (a4, a5)), (a4, (a5,))])
def test_the_tests_of_an_assignment_know_nothing_of_later_ones(module, later):
    source = Path(module.__file__).read_text(encoding="utf-8")
    assert not any(f"{each.__name__.rpartition('.')[2]}" in source for each in later)


@pytest.mark.parametrize("name", ["A1", "A4", "A5"])
def test_the_hints_give_no_line_of_the_solution_away(name):
    assignment = find(name)
    secrets = cut.secrets(assignment)
    for cause, hints in assignment.hints.items():
        assert not any(hint.strip() in secrets for hint in hints), cause


def test_an_answer_that_raises_is_not_judged_further():
    answer = Local.of(written(find("A5"), {"ResidualAdd.backward": "def backward(self, gy):\n    return 1 / 0"}))
    with pytest.raises(Failed) as raised:
        find("A5").tests[1].run(answer)
    assert raised.value.cause == "CRASHED"
    assert "ZeroDivisionError" in raised.value.message
