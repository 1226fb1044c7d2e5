"""A4: what its statement and guide say holds."""

import numpy as np
import pytest

from minires.classroom.answer import Local
from minires.classroom.assignment import find
from tests.classroom.mistakes import written
from tests.classroom.mistakes.a4 import A4

ASSIGNMENT = find("A4")


@pytest.mark.parametrize(
    ("title", "ones", "xhat"),
    [("MEAN_TERM_DROPPED", True, False), ("BESSEL", False, True), ("GAIN_FORGOTTEN", False, False)],
)
def test_the_statements_wrong_norms_have_the_sums_in_its_table(title, ones, xhat):
    mistake = next(m for m in A4 if m.cause == title and m.title in ("", "backward"))
    rng = np.random.default_rng(1)
    x, gy, w, b = rng.normal(size=(6, 3, 4)), rng.normal(size=(6, 3, 4)), np.full(3, 2.0), np.zeros(3)
    answer = Local.of(written(ASSIGNMENT, mistake.functions))
    gx = answer.op("BatchNorm", (x, w, b), gy, eps=1e-12, observe=None)["gradients"][0]
    normal = (x - x.mean((0, 2), keepdims=True)) / x.std((0, 2), keepdims=True)
    assert (np.abs(gx.sum((0, 2))) > 1e-3).all() == ones
    assert (np.abs((gx * normal).sum((0, 2))) > 1e-3).all() == xhat
