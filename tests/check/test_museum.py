"""The museum of broken engines: its exhibits show what was seen in the wild, and go without a trace."""

from contextlib import suppress

import numpy as np
import pytest

import minires as mr
from minires import engine
from minires import functional as F
from minires.check.bug import bugs, planted
from minires.engine import Function, Tensor
from minires.errors import GraphError

MUSEUM = {bug.name: bug for bug in bugs() if bug.op is None}
rng = np.random.default_rng(29)


def asked(depth):
    """How many gradients pass in a stack of that many diamonds, y = x + x."""
    x = Tensor(rng.standard_normal(2), requires_grad=True)
    y, gy, passed = x, rng.standard_normal(2), []
    for _ in range(depth):
        y = y + y
    with mr.watch(lambda edge, g: passed.append(edge)):
        y.backward(gy)
    assert np.allclose(x.grad, 2**depth * gy, rtol=1e-14)
    return len(passed)


@pytest.mark.parametrize(("depth", "measured"), [(2, 6), (4, 30), (8, 510), (12, 8190)])
def test_walking_path_by_path_costs_what_was_measured_in_smallpebble(depth, measured):
    assert asked(depth) == 2 * depth
    with planted(MUSEUM["once_per_path"]):
        assert asked(depth) == measured


def test_stale_interior_gradients_give_micrograds_36_for_24():
    def twice():
        x = Tensor(np.array(2.0), requires_grad=True)
        y = F.neg(x) * -12.0
        y.backward(retain_graph=True)
        y.backward()
        return float(x.grad)

    assert twice() == 24.0
    with planted(MUSEUM["stale_interior_gradients"]):
        assert twice() == 36.0


def test_batch_norm_checked_with_a_seed_of_ones_passes_whatever_its_gradient_is():
    x = Tensor(rng.standard_normal((6, 3)), requires_grad=True)
    with planted(MUSEUM["ones_for_a_seed"]):
        F.batch_norm(x, None, None, training=True).backward()
    assert np.max(np.abs(x.grad)) < 1e-12
    with pytest.raises(GraphError, match="needs an explicit gradient"):
        F.batch_norm(x, None, None, training=True).backward()


@pytest.mark.parametrize("bug", [pytest.param(bug, id=name) for name, bug in MUSEUM.items()])
def test_an_exhibit_differs_while_it_is_planted_and_leaves_nothing_behind(bug):
    holders = (engine, Function, Tensor)
    before = [dict(vars(holder)) for holder in holders]
    with suppress(KeyError), planted(bug):
        assert [dict(vars(holder)) for holder in holders] != before
        raise KeyError
    assert [dict(vars(holder)) for holder in holders] == before


@pytest.mark.parametrize("bug", [pytest.param(bug, id=name) for name, bug in MUSEUM.items()])
def test_an_exhibit_is_right_where_no_two_paths_meet(bug):
    """A bug worth showing passes the first exercise: y = tanh(-x), once."""
    x, gy = Tensor(rng.standard_normal(3), requires_grad=True), rng.standard_normal(3)
    with planted(bug):
        F.tanh(F.neg(x)).backward(gy)
    assert np.allclose(x.grad, -gy * (1 - np.tanh(x.data) ** 2), rtol=1e-13)
