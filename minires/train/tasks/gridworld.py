"""Finding the way through small mazes by trial and error: actor-critic on boards that a policy/value tower looks at."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from minires import backend, models
from minires.backend import Array
from minires.data.arrays import ArrayLoader
from minires.data.gridworld import MOVES, PLANES, GridWorlds, make_boards
from minires.engine import Tensor
from minires.errors import RequestError
from minires.nn import Module
from minires.train import figures, world_figure
from minires.train.actor_critic import actor_critic_loss, play
from minires.train.task import Loader, Task

GAMMA, TRACE = 0.9, 0.9  # a goal ten moves away is still worth a third of one that is next door
VALUE_WEIGHT = 3.0  # returns lie close together: with less, the tower hardly learns values, and advantages are noise
ENTROPY_WEIGHT = 0.01
WORLDS = {"train": 4096, "validation": 512, "test": 512}


class GridWorldTask(Task):
    """Boards as (walls (N, size^2), goals (N,), agents (N,)); a step plays each once, and learns from how that went.

    In training the moves are drawn from the policy; on validation and test boards, none of which was trained on, the
    best one is made. The environment is on the host, so that on a device each move waits for it.

    Options    size: cells a side; walls: share of them that are walls
    Figures    acc, the share of episodes that reach the goal; return, the rewards added up; directness, in the
               episodes that reach it, the least number of moves over those made
    """

    names = ("gridworld",)
    options: ClassVar[dict[str, Any]] = {"size": 5, "walls": 0.25}
    uses = ()
    unit = "episodes"
    words: ClassVar[dict[str, str]] = {"acc": "goals reached"}
    counts = ("reached", "rewards", "shortest", "walked")
    loss_label = "actor-critic loss, per episode"
    best_label = "share of episodes that reach the goal"

    def usual(self, name: str) -> dict[str, Any]:
        return USUAL

    def model(self, config: Any) -> Module:
        about = models.info(config.model)
        if not {"planes", "actions", "size"} <= set(about.options):
            raise RequestError(f"{config.model} does not play; for {self.names[0]}, use --model {USUAL['model']}")
        fixed = {"planes": PLANES, "actions": len(MOVES), "size": self.worlds(config).size}
        for name, value in fixed.items():
            if config.model_options.get(name, value) != value:
                raise RequestError(f"--option {name}: these boards need {name}={value}; drop the option")
        # the policy that acts must be the one that learns, hence no batch norm; small boards need a small tower
        options = {**SMALL, **config.model_options, **fixed}
        with backend.device(config.device):
            return models.create(config.model, **options).to(config.device)

    def worlds(self, config: Any) -> GridWorlds:
        """The environment that `--data-option` asks for. Raises RequestError when there can be no such boards."""
        return GridWorlds(self.option(config, "size"), self.option(config, "walls"))

    def loaders(self, config: Any) -> tuple[Loader, Loader, Loader]:
        worlds = self.worlds(config)
        ends = np.cumsum(list(WORLDS.values()))
        walls, goals, agents = make_boards(np.arange(ends[-1]), worlds.size, worlds.share)
        train, validation, test = (
            (walls[part], goals[part], agents[part]) for part in np.split(np.arange(ends[-1]), ends[:-1])
        )
        batches = self.training_batches(train, config, prefetch=0)
        return batches, ArrayLoader(validation, 256, prefetch=0), ArrayLoader(test, 256, prefetch=0)

    def loss(self, model: Module, *batch: Array, smoothing: float = 0.0) -> tuple[Tensor, list[Array]]:
        draws = backend.generator() if model.training else None  # first of all: a step that draws is not captured
        walls, goals, agents = (backend.to_host(a) for a in batch)
        worlds = GridWorlds(math.isqrt(walls.shape[1]))
        observation, info = worlds.place(walls, goals, agents)
        episodes = play(model, worlds, observation, draws)
        loss = actor_critic_loss(model, episodes, GAMMA, TRACE, VALUE_WEIGHT, ENTROPY_WEIGHT)
        reached = episodes.reached
        counts = reached, episodes.rewards, info["distance"][reached], episodes.going[:, reached]
        library = backend.find((loss.data,))
        return loss, [library.asarray(np.float64(count.sum())) for count in counts]

    def metrics(self, counts: dict[str, float], size: int) -> dict[str, float]:
        return {
            "acc": counts["reached"] / max(size, 1),
            "return": counts["rewards"] / max(size, 1),
            "directness": counts["shortest"] / max(counts["walked"], 1.0),
        }

    def finish(self, model: Module, config: Any, run: Path) -> list[tuple[str, str]]:
        if not figures.available():
            return []
        walls, goals, agents = next(iter(self.loaders(config)[2]))
        world_figure.draw(run / "worlds.png", model, walls[:6], goals[:6], agents[:6])
        return [("worlds.png", "six test boards: values, best moves, the way walked")]


SMALL = {"norm": "group", "blocks": 3, "width": 16, "hidden": 32, "policy_planes": 8, "value_planes": 8}
USUAL: dict[str, Any] = {
    "model": "policy_value_tower",
    "epochs": 20,
    "batch_size": 64,
    "optimizer": "adam",
    "lr": 5e-3,
    "weight_decay": 0.0,
    "pct_start": 0.1,
    "clip_norm": 1.0,
}

TASK = GridWorldTask()
