"""The comparison itself can fail, and says so when it could not have."""

import numpy as np
import pytest

from minires.check.bug import substituted
from minires.check.case import relaid
from minires.check.draw import Draw, Seeded, for_each
from minires.check.evidence import CheckError, Evidence
from minires.check.examine import check_op, examine
from minires.ops.elementwise import Mul
from minires.ops.norm import BatchNorm
from minires.ops.residual import ResidualAdd
from minires.ops.softmax import Softmax

rng = np.random.default_rng(8)


def test_an_error_is_relative_to_the_largest_entry():
    g = np.array([1.0, 100.0])
    assert Evidence("x", g, g + np.array([1e-3, 0.0])).error() == pytest.approx(1e-5, rel=1e-3)


def test_nan_is_an_infinite_error():
    g = rng.standard_normal(3)
    assert Evidence("x", np.array([np.nan, *g[1:]]), g).error() == np.inf


def test_the_worst_element_is_told_with_what_was_expected():
    g = rng.standard_normal((2, 3))
    wrong = g.copy()
    wrong[1, 2] += 0.5
    assert Evidence("w", wrong, g).told().startswith(f"w at [1, 2]: expected {g[1, 2]:.12g}, backward gave")


def test_a_zero_gradient_is_one_that_no_comparison_can_see():
    assert Evidence("x", np.zeros(4), np.zeros(4)).blind_to(1e-10) == "scaled by 1.1"


def test_a_loose_tolerance_is_blind():
    g = rng.standard_normal(4)
    assert Evidence("x", g, g).blind_to(1e-10) is None
    assert Evidence("x", g, g).blind_to(0.2) == "scaled by 1.1"


def test_a_direction_that_cannot_tell_elements_apart_is_blind_to_their_order():
    g = rng.standard_normal(5)
    even = np.full((1, 5), 0.3)
    assert Evidence("x", g, even @ g, even).blind_to(1e-10) == "permuted"


@pytest.mark.parametrize("op", [Mul, BatchNorm, Softmax, ResidualAdd])
@pytest.mark.parametrize("oracle", ["complex-step", "adjoint", "central", "index-loops"])
def test_an_oracle_notices_a_gradient_that_is_off_by_a_millionth(op, oracle):
    class Off(op):
        def backward(self, gy):
            first, *rest = g if isinstance(g := super().backward(gy), tuple) else (g,)
            return (None if first is None else first * (1 + 1e-6), *rest)

    with substituted(op, Off):
        said = examine(op, oracles=[oracle])
    if not said.failures:  # no twin of its own: then it says nothing
        assert said.oracles[0].max_rel_error is None
        assert oracle == "index-loops"


def test_a_cotangent_of_ones_would_see_nothing_of_batch_norm_and_ours_does():
    """The reason for random cotangents: for ones the true gradient is zero, and so is 17 times it."""
    from minires import functional as F
    from minires.engine import Tensor

    x = Tensor(rng.standard_normal((4, 3, 2)), requires_grad=True)
    F.batch_norm(x, None, None, training=True).sum().backward()
    assert np.max(np.abs(x.grad)) < 1e-14

    class SeventeenTimes(BatchNorm):
        def backward(self, gy):
            gx, gw, gb = super().backward(gy)
            return None if gx is None else 17 * gx, gw, gb

    with substituted(BatchNorm, SeventeenTimes), pytest.raises(CheckError, match="x at"):
        check_op(BatchNorm)


def test_a_failure_tells_the_case_that_shows_it():
    class Dropped(ResidualAdd):
        def backward(self, gy):
            return 0 * gy, gy

    with substituted(ResidualAdd, Dropped), pytest.raises(CheckError, match=r"residual_add\(float64\[") as caught:
        check_op(ResidualAdd, shrink=True, examples=50)
    assert "expected" in str(caught.value)


def test_an_op_whose_gradient_is_always_zero_cannot_be_seen(monkeypatch):
    class Deaf(ResidualAdd):
        def forward(self, x, f):
            return f + 0 * x

        def backward(self, gy):
            return 0 * gy, gy

    with substituted(ResidualAdd, Deaf):
        said = examine(ResidualAdd, oracles=["complex-step"])
    assert said.failures == ["complex-step: residual_add: this check cannot see the gradient of x"]


# --- drawing


def test_the_same_seed_draws_the_same():
    def drawn(seed):
        draw = Seeded(seed)
        return draw.shape(), draw.integer(0, 99), draw.normal(3).tolist()

    assert drawn(5) == drawn(5) != drawn(6)


def test_values_stay_away_from_kinks_and_from_each_other():
    draw = Seeded(0)
    x = draw.away(400, kinks=(-1.0, 0.0, 1.0))
    assert min(np.min(np.abs(x - k)) for k in (-1, 0, 1)) >= 0.0499
    y = np.sort(draw.apart(50))
    assert np.min(np.diff(y)) > 0.19


def test_relaid_arrays_hold_the_same_values_in_every_memory_order():
    x = rng.standard_normal((3, 4, 5))
    kinds = set()
    for k in range(40):
        y = relaid(x, Seeded(k))
        assert np.array_equal(x, y)
        kinds.add((y.flags.c_contiguous, y.flags.f_contiguous, y.flags.writeable, min(y.strides) < 0))
    assert len(kinds) == 5


def test_hypothesis_shrinks_to_the_smallest_failure():
    sizes = []

    def body(draw: Draw) -> None:
        n = draw.size(1, 50)
        if n >= 7:
            sizes.append(n)
            raise CheckError("too long")

    with pytest.raises(CheckError):
        for_each(body, 200, 0, shrink=True)
    assert sizes[-1] == 7
