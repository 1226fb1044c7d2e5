"""The update kernels against their formulas, bit for bit: any sizes, any course of the gradients, any interference."""

import copy
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import optim
from minires.engine import Tensor
from minires.kernels import optimizers, threads
from minires.switches import formulas_only

RULES = {
    "SGD": [
        {"lr": 0.1},
        {"lr": 0.1, "weight_decay": 0.02},
        {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.02},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    ],
    "Adam": [{"lr": 0.05}, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}],
    "AdamW": [{"lr": 0.05}],
    "RMSprop": [{"lr": 0.03}, {"lr": 0.03, "weight_decay": 0.05, "momentum": 0.8, "centered": True}],
}
EVERY = [(getattr(optim, name), options) for name, cases in RULES.items() for options in cases]
rules = pytest.mark.parametrize(("kind", "options"), EVERY, ids=[f"{k.__name__}-{len(o)}" for k, o in EVERY])
SHAPES = [(5, 3), (), (7,), (0, 2), (40, 9), (300,), (2, 2, 3, 3), (1,)]


def drawn(rng, shapes, dtypes):
    return [np.asarray(rng.standard_normal(s)).astype(d) for s, d in zip(shapes, dtypes, strict=True)]


class Pair:
    """The same parameters twice: one optimizer steps by kernels, the other by formulas."""

    def __init__(self, kind, options, arrays):
        self.sides = []
        for _ in range(2):
            held = [Tensor(a.copy(), requires_grad=True) for a in arrays]
            self.sides.append((held, kind(held, **options)))

    def step(self, gradients):
        for (held, optimizer), formulas in zip(self.sides, (False, True), strict=True):
            for p, g in zip(held, gradients, strict=True):
                p.grad = g
            if formulas:
                with formulas_only():
                    optimizer.step()
            else:
                optimizer.step()

    def assert_equal(self):
        (ours, left), (theirs, right) = self.sides
        for p, q in zip(ours, theirs, strict=True):
            assert np.array_equal(p.data, q.data)
            assert p._version == q._version
        a, b = left.state_dict(), right.state_dict()
        assert a["state"].keys() == b["state"].keys()
        for name, entries in a["state"].items():
            assert entries.keys() == b["state"][name].keys()
            for key, value in entries.items():
                assert np.array_equal(value, b["state"][name][key]), (name, key)


@settings(max_examples=40)
@given(
    st.sampled_from(EVERY),
    st.lists(st.tuples(st.sampled_from(SHAPES), st.sampled_from("fd")), min_size=1, max_size=9),
    st.sampled_from([1, 4, 64, 1 << 13]),
    st.sampled_from([8, 100, 1 << 15]),
    st.integers(0, 999),
)
def test_five_steps_are_those_of_the_formula_whatever_the_blocks(rule, parameters, small, block, seed):
    rng = np.random.default_rng(seed)
    shapes, dtypes = zip(*parameters, strict=True)
    pair = Pair(*rule, drawn(rng, shapes, dtypes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizers, "SMALL", small)
        patch.setattr(optimizers, "BLOCK", max(small, block))
        patch.setattr(optimizers, "THREADED", seed % 2 * 50)
        for _ in range(5):
            gs = drawn(rng, shapes, dtypes)
            pair.step([None if rng.random() < 0.15 else np.asarray(g, order=rng.choice(["C", "F"])) for g in gs])
            pair.assert_equal()


@rules
def test_a_layout_is_made_once_and_then_serves(kind, options, monkeypatch):
    monkeypatch.setattr(optimizers, "THREADED", 0)
    rng, shapes = np.random.default_rng(0), [s for s in SHAPES if 0 not in s]
    pair = Pair(kind, options, drawn(rng, shapes, "f" * len(shapes)))
    for _ in range(2):
        pair.step(drawn(rng, shapes, "f" * len(shapes)))
    monkeypatch.setattr(optimizers, "blocks", None)  # whoever lays out again, or asks the formula, fails
    monkeypatch.setattr(pair.sides[0][1], "update", None)
    monkeypatch.setattr(optim.Optimizer, "_walks", lambda self, i: self._laid_out[i] if self._laid_out else [])
    for _ in range(2):
        (held, optimizer), _ = pair.sides
        for p, g in zip(held, drawn(rng, shapes, "f" * len(shapes)), strict=True):
            p.grad = g
        optimizer.step()


def replaced_data(pair):
    for held, _ in pair.sides:
        held[1].data = held[1].data * 2


def replaced_state(pair):
    saved = pair.sides[0][1].state_dict()
    for _, optimizer in pair.sides:
        optimizer.load_state_dict(saved)


def written_state(pair):
    for _, optimizer in pair.sides:
        for entries in optimizer.state.values():
            for key, value in entries.items():
                if hasattr(value, "shape"):
                    entries[key] = value * 0.5


def other_counts(pair):
    for _, optimizer in pair.sides:
        for name in ("0", "2", "4"):
            if "step" in optimizer.state.get(name, {}):
                optimizer.state[name]["step"] = 40 + int(name)


def other_momentum(pair):
    for _, optimizer in pair.sides:
        for key in ("momentum", "weight_decay"):
            if key in optimizer.param_groups[0] and not optimizer.param_groups[0].get("nesterov"):
                optimizer.param_groups[0][key] = 0.25 if optimizer.param_groups[0][key] != 0.25 else 0.0


def a_group_more(pair):
    for held, optimizer in pair.sides:
        held.append(Tensor(np.arange(4.0), requires_grad=True))
        optimizer._add({"params": [(None, held[-1])]})


def copied(pair):
    pair.sides = copy.deepcopy(pair.sides)


def frozen_for_a_step(pair):
    for held, _ in pair.sides:
        held[0].grad = None
    for (held, optimizer), formulas in zip(pair.sides, (False, True), strict=True):
        for p in held[1:]:
            p.grad = np.ones_like(p.data)
        with formulas_only() if formulas else threading.Lock():
            optimizer.step()


INTERFERENCES = [
    replaced_data,
    replaced_state,
    written_state,
    other_counts,
    other_momentum,
    a_group_more,
    copied,
    frozen_for_a_step,
]


@pytest.mark.parametrize("interfere", INTERFERENCES)
@rules
def test_what_happens_between_steps_is_noticed(kind, options, interfere):
    rng = np.random.default_rng(1)
    pair = Pair(kind, options, drawn(rng, SHAPES, "d" * len(SHAPES)))
    for i in range(6):
        if i in (3, 5):
            interfere(pair)
        shapes = [p.shape for p in pair.sides[0][0]]
        pair.step(drawn(rng, shapes, "d" * len(shapes)))
        pair.assert_equal()


@rules
def test_parameters_that_share_memory_are_stepped_one_after_the_other(kind, options):
    rng = np.random.default_rng(2)
    pair = Pair(kind, options, drawn(rng, [(30,)], "d"))
    for held, optimizer in pair.sides:
        for part in (slice(0, 20), slice(10, 30)):
            held.append(Tensor(held[0].data[part], requires_grad=True))
            optimizer._add({"params": [(None, held[-1])]})
        optimizer.param_groups[1]["params"] += optimizer.param_groups.pop()["params"]
        optimizer.param_groups[1]["param_names"].append("2")
    for _ in range(4):
        pair.step(drawn(rng, [(30,), (20,), (20,)], "ddd"))
        pair.assert_equal()


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_the_number_of_threads_changes_nothing(cores, monkeypatch):
    rng, shapes = np.random.default_rng(3), [(400, 300), (70,), (30, 1000)]
    pair = Pair(optim.AdamW, {}, drawn(rng, shapes, "fff"))
    monkeypatch.setattr(optimizers, "THREADED", 0)
    monkeypatch.setattr(threads, "cores", lambda: cores)
    for _ in range(4):
        pair.step(drawn(rng, shapes, "fff"))
    pair.assert_equal()


def test_dtypes_that_no_kernel_takes_are_left_to_the_formula_and_the_others_are_not(monkeypatch):
    rng, shapes = np.random.default_rng(4), [(3,), (4,), (5,)]
    pair = Pair(optim.SGD, {"lr": 0.1, "momentum": 0.9}, drawn(rng, shapes, "Ded"))
    laid = []
    blocks = optimizers.blocks
    monkeypatch.setattr(optimizers, "blocks", lambda members: laid.append(len(members)) or blocks(members))
    for _ in range(5):
        pair.step(drawn(rng, shapes, "Ded"))
        pair.assert_equal()
    assert laid == [0, 1]


def test_a_gradient_is_never_written_to_nor_kept():
    rng = np.random.default_rng(5)
    pair = Pair(
        optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, drawn(rng, [(40,)], "d")
    )
    for _ in range(4):
        g = rng.standard_normal(40)
        g.flags.writeable = False
        pair.step([g])
        pair.assert_equal()
        assert not np.may_share_memory(pair.sides[0][1].state["0"]["momentum_buffer"], g)


def test_an_update_of_ones_own_is_used():
    class Mine(optim.SGD):
        def update(self, p, g, state, options, xp):
            p += 1

    p = Tensor(np.zeros(3), requires_grad=True)
    p.grad = np.ones(3)
    mine = Mine([p])
    mine.step()
    assert np.array_equal(p.data, np.ones(3))
    assert optimizers.walks(Mine.update) == []


@rules
def test_every_optimizer_has_a_kernel_for_numpy(kind, options):
    assert optimizers.NumpyWalk in [type(walk) for walk in optimizers.walks(kind.update)]


def test_a_parameter_that_cannot_be_written_to_is_refused_as_by_the_formula():
    p = Tensor(np.zeros(3), requires_grad=True)
    p.data.flags.writeable = False
    p.grad = np.ones(3)
    with pytest.raises(ValueError, match="read-only"):
        optim.SGD([p]).step()
