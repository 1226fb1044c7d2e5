"""The grid world as a task: its figures, its boards, a run that learns, its picture, and what is refused."""

import itertools
import json

import numpy as np
import pytest

from minires import backend, models
from minires.data.gridworld import GridWorlds, distances, make_boards, neighbors
from minires.engine import Tensor
from minires.nn import Module, Parameter
from minires.train import config, loop, tasks, world_figure
from minires.train.task import answer
from minires.train.tasks import gridworld
from minires.train.tasks.gridworld import TASK
from tests.devices import library as library  # the fixture
from tests.runs import refused

QUICK = {
    "data": "gridworld",
    "data_options": {"size": 2, "walls": 0.0},
    "model_options": {"width": 8, "blocks": 1, "hidden": 8},
    "batch_size": 32,
}


@pytest.fixture(autouse=True)
def _few_boards(monkeypatch):
    """A few boards, so that a run takes a moment."""
    monkeypatch.setattr(gridworld, "WORLDS", {"train": 128, "validation": 16, "test": 16})


class Oracle(Module):
    """Scores that send every agent the shortest way, and 0 for a value."""

    def __init__(self):
        self.nothing = Parameter(np.zeros((), np.float64))

    def forward(self, x):
        free, goal, agent = (np.asarray(x)[:, i].reshape(len(x), -1) for i in range(3))
        away = distances(free == 0, goal.argmax(1))
        near = away[np.arange(len(x))[:, None], neighbors(x.shape[2])[agent.argmax(1)]]  # (N, 4)
        scores = np.where(np.isfinite(near), -50.0 * near, -1e4)
        return Tensor(scores) + self.nothing, Tensor(np.zeros(len(x))) * self.nothing


class Stubborn(Module):
    """Always up."""

    def __init__(self):
        self.nothing = Parameter(np.zeros((), np.float64))

    def forward(self, x):
        return Tensor(np.tile([9.0, 0.0, 0.0, 0.0], (len(x), 1))) + self.nothing, Tensor(np.zeros(len(x)))


def judged(model, boards):
    loss, counts = TASK.judge(model.eval(), *boards)
    assert np.isfinite(loss.item())
    assert all(np.shape(c) == () for c in counts)
    return TASK.metrics(dict(zip(TASK.counts, map(float, counts), strict=True)), TASK.size(*boards))


# --- figures


def test_who_knows_the_shortest_way_gets_every_figure_right():
    boards = make_boards(np.arange(30), 5, 0.3)
    away = distances(boards[0], boards[1])[np.arange(30), boards[2]]
    figures = judged(Oracle(), boards)
    assert figures["acc"] == figures["directness"] == 1
    assert figures["return"] == pytest.approx(np.mean(1 - 0.02 * (away - 1)))


def test_who_always_goes_up_reaches_what_lies_straight_above():
    walls, goals, agents = make_boards(np.arange(200), 4, 0.2)
    reached = [
        goal % 4 == agent % 4 and goal < agent and not board[goal:agent:4].any()
        for board, goal, agent in zip(walls, goals, agents, strict=True)
    ]
    assert 0 < sum(reached) < 100
    figures = judged(Stubborn(), (walls, goals, agents))
    assert figures["acc"] == np.mean(reached)
    assert figures["directness"] == 1
    moves = np.where(reached, (agents - goals) // 4, 16)
    assert figures["return"] == pytest.approx(np.mean(np.array(reached) - 0.02 * (moves - np.array(reached))))


def test_without_a_single_success_directness_is_zero():
    board = (np.zeros((1, 9), bool), np.array([8]), np.array([0]))
    assert judged(Stubborn(), board)["directness"] == 0


def test_training_draws_moves_and_judging_does_not():
    model = models.create("policy_value_tower", size=3, width=4, blocks=1, norm="group")
    boards = make_boards(np.arange(8), 3, 0.2)
    state = backend.generator_state()
    TASK.judge(model.eval(), *boards)
    assert backend.generator_state() == state
    TASK.loss(model.train(), *boards)
    assert backend.generator_state() != state


# --- boards


def test_no_board_of_validation_or_test_is_one_of_training(monkeypatch):
    monkeypatch.undo()
    parts = [loader.arrays for loader in TASK.loaders(config.create(data="gridworld"))]
    assert [len(walls) for walls, *_ in parts] == [4096, 512, 512]
    train, *others = ({(w.tobytes(), int(g), int(a)) for w, g, a in zip(*part, strict=True)} for part in parts)
    assert len(train) > 4000
    for other in others:
        assert not train & other


def test_the_default_tower_fits_the_boards_and_judges_each_alone():
    model = TASK.model(config.create(data="gridworld", data_options={"size": 4}))
    scores, values = answer(model, np.zeros((2, 3, 4, 4), np.float32))
    assert (scores.shape, values.shape) == ((2, 4), (2,))
    assert {type(m).__name__ for m in model.modules() if "Norm" in type(m).__name__} == {"GroupNorm"}


# --- runs


def test_a_run_learns_to_cross_the_smallest_board_and_leaves_a_picture(tmp_path, capsys):
    """Two moves round the one corner of an empty 2 x 2 board; a policy that knows nothing often misses it."""
    untrained = models.create("policy_value_tower", size=2, width=8, blocks=1, hidden=8, norm="group")
    boards = make_boards(np.arange(64), 2, 0.0)
    assert judged(untrained, boards)["acc"] < 0.9
    options = config.create(**QUICK, epochs=12, lr=0.01, out=str(tmp_path / "run"))
    summary = loop.start(options, quiet=True).fit()
    assert summary["test_acc"] == 1
    assert summary["test_directness"] == 1
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"train_acc", "val_acc", "val_return", "val_directness", "episodes_per_second"} <= set(last)
    pytest.importorskip("matplotlib")
    assert (tmp_path / "run" / "worlds.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_on_a_device_gives_the_figures_of_numpy(library, tmp_path, monkeypatch):
    """Its steps draw moves, so they go to the device one by one: no recorded step repeats the same draws."""
    monkeypatch.setattr("minires.train.figures.available", lambda: False)
    summaries = []
    for device in ("cpu", "cuda"):
        trainer = loop.start(config.create(**QUICK, epochs=2, device=device, out=str(tmp_path / device)), quiet=True)
        trainer.parts.model.to(np.float64)
        summaries.append(trainer.fit())
    for key in ("test_loss", "test_acc", "test_return"):
        assert summaries[1][key] == pytest.approx(summaries[0][key], rel=1e-8), key


# --- the picture


def test_the_way_that_is_drawn_is_the_way_that_is_walked():
    (walls,), (goal,), (start,) = make_boards(np.array([3]), 5, 0.3)
    way, least = world_figure.walk(Oracle(), walls, goal, start)
    assert way[0] == start
    assert way[-1] == goal
    assert len(way) - 1 == least == distances(walls[None], np.array([goal]))[0, start]
    assert all(b in neighbors(5)[a] for a, b in itertools.pairwise(way))
    stuck, _ = world_figure.walk(Stubborn(), np.zeros(4, bool), 3, 0)
    assert stuck == [0] * (GridWorlds(2).limit + 1)


def test_opinions_cover_every_free_cell_but_the_goal():
    (walls,), (goal,), _ = make_boards(np.array([3]), 5, 0.3)
    cells, values, best = world_figure.opinions(Oracle(), walls, goal)
    assert sorted([*cells, goal]) == list(np.flatnonzero(~walls))
    assert values.shape == best.shape == cells.shape
    away = distances(walls[None], np.array([goal]))[0]
    for cell, move in zip(cells, best, strict=True):
        assert not np.isfinite(away[cell]) or away[neighbors(5)[cell, move]] == away[cell] - 1


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "resnet8"], "resnet8 does not play; for gridworld, use --model policy_value_tower"),
        (["--option", "actions=5"], "--option actions: these boards need actions=4"),
        (["--data-option", "size=1"], "grid world: size"),
        (["--data-option", "walls=2"], "walls 2 and limit None cannot be"),
        (["--data-option", "walls=0.99", "--data-option", "size=9"], "99% walls leave no way to the goal"),
        (["--data-option", "goals=2"], "--data-option goals: gridworld has no such option"),
        (["--label-smoothing", "0.1"], "--label-smoothing: gridworld has no use for it; drop it"),
    ],
)
def test_bad_requests_are_one_line(arguments, said, tmp_path, capsys):
    assert said in refused(["train", "--data", "gridworld", "--out", str(tmp_path / "run"), *arguments], capsys)
    assert not (tmp_path / "run").exists()


def test_the_task_is_found_by_its_name():
    assert tasks.find("gridworld") is TASK
