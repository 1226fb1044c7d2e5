"""A small world to act in: a square board with walls, an agent and a goal, many boards at once. NumPy only.

A board is made from its seed, and only boards on which the goal can be reached are made. The five values that `step`
returns are those of gymnasium, for a batch: observation, reward, terminated, truncated, info.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from minires.data.datasets import require_whole
from minires.errors import RequestError

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # (down, right) of each action: up, right, down, left
PLANES = 3


class GridWorlds:
    """N boards, each with its own walls, goal and agent; an action moves the agent by one cell, unless a wall is there.

    size        cells a side
    walls       share of the cells that are drawn as walls
    limit       moves after which an episode is cut off (truncated); 4 size unless given
    step_cost   what a move costs that does not reach the goal

    Observation    (N, 3, size, size) float32: free cells, the goal, the agent. What lies outside is not free, so the
                   zeros that a convolution pads with are walls
    Actions        (N,) integers: 0 up, 1 right, 2 down, 3 left
    Reward         1 for the move that reaches the goal (terminated), -step_cost for every other
    Afterwards     gymnasium leaves undefined what a finished episode does; here it stands still, its reward is 0, and
                   its flags stay as they were

    Raises RequestError for values that cannot be.
    """

    def __init__(self, size: int = 6, walls: float = 0.3, limit: int | None = None, step_cost: float = 0.02) -> None:
        require_whole("grid world: size", size, low=2)
        if not isinstance(walls, (int, float)) or not 0 <= walls < 1 or (limit is not None and limit < 1):
            raise RequestError(
                f"grid world: walls {walls!r} and limit {limit} cannot be: a board has a share of walls from 0 to "
                "below 1, and an episode at least 1 move"
            )
        self.size = size
        self.share = walls
        self.limit = 4 * size if limit is None else limit
        self.step_cost = step_cost
        self.next = neighbors(size)  # (size^2, 4)

    def reset(self, seed: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """The boards of these seeds (an integer, or N of them), each at its start: (observation, info).

        info["distance"]    (N,): the least number of moves to the goal
        """
        walls, goals, agents = make_boards(np.atleast_1d(seed), self.size, self.share)
        return self.place(walls, goals, agents)

    def place(self, walls: np.ndarray, goals: np.ndarray, agents: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """Boards of your own: walls (N, size^2) of booleans, goals and agents (N,), cells counted row by row.

        Raises RequestError for shapes that do not fit, for a goal or an agent inside a wall, and for an agent that is
        at its goal already.
        """
        rows = np.arange(len(walls))
        if walls.shape != (len(rows), self.size**2) or goals.shape != rows.shape or agents.shape != rows.shape:
            raise RequestError(
                f"grid world: walls {walls.shape}, goals {goals.shape} and agents {agents.shape} must be "
                f"(N, {self.size**2}), (N,) and (N,)"
            )
        if walls[rows, goals].any() or walls[rows, agents].any():
            raise RequestError("grid world: a goal or an agent stands inside a wall; put it on a free cell")
        if (goals == agents).any():
            raise RequestError("grid world: an agent stands at its goal already; an episode needs a move at least")
        self.walls, self.goals, self.agents = walls, goals, agents.copy()
        self.terminated, self.truncated = np.zeros((2, len(rows)), bool)
        self.moves = np.zeros(len(rows), np.int64)
        return self.observation(), {"distance": distances(walls, goals)[rows, agents]}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One move of each agent: (observation, reward, terminated, truncated, info).

        info["moves"]    (N,): moves made since the start

        Raises RequestError before the first reset, and for actions that are not N integers from 0 to 3.
        """
        if not hasattr(self, "agents"):
            raise RequestError("grid world: there is no board yet; call reset(seed) first")
        if actions.shape != self.agents.shape or actions.dtype.kind not in "iu" or not np.isin(actions, range(4)).all():
            raise RequestError(
                f"grid world: actions must be {len(self.agents)} integers from 0 to 3, one for each board, "
                f"not {actions.dtype} {actions.shape}"
            )
        rows, going = np.arange(len(self.agents)), ~(self.terminated | self.truncated)
        target = self.next[self.agents, actions]
        self.agents = np.where(going & ~self.walls[rows, target], target, self.agents)
        self.moves += going
        arrived = going & (self.agents == self.goals)
        reward = np.where(arrived, 1.0, np.where(going, -self.step_cost, 0.0))
        self.terminated = self.terminated | arrived
        self.truncated = self.truncated | (going & ~arrived & (self.moves >= self.limit))
        return self.observation(), reward, self.terminated, self.truncated, {"moves": self.moves.copy()}

    def observation(self) -> np.ndarray:
        """What is seen now: (N, 3, size, size) float32."""
        n, cells = self.walls.shape
        planes = np.zeros((n, PLANES, cells), np.float32)
        rows = np.arange(n)
        planes[:, 0] = ~self.walls
        planes[rows, 1, self.goals] = 1
        planes[rows, 2, self.agents] = 1
        return planes.reshape(n, PLANES, self.size, self.size)


@functools.cache
def neighbors(size: int) -> np.ndarray:
    """The cell that each action leads to from each cell, (size^2, 4); off the board is where one was."""
    rows, columns = np.divmod(np.arange(size * size), size)
    to = []
    for down, right in MOVES:
        row, column = rows + down, columns + right
        inside = (row >= 0) & (row < size) & (column >= 0) & (column < size)
        to.append(np.where(inside, row * size + column, rows * size + columns))
    return np.stack(to, axis=1)


def make_boards(seeds: np.ndarray, size: int, share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(walls (N, size^2), goals (N,), agents (N,)): a board is a function of its seed.

    Drawn again until the goal is two moves away or more and can be reached.
    Raises RequestError for seeds below 0, and when a hundred draws gave no such board.
    """
    if seeds.dtype.kind not in "iu" or (seeds < 0).any():
        raise RequestError("grid world: seeds must be integers of at least 0")
    draws = [np.random.default_rng(int(seed)) for seed in seeds]
    walls, ends = np.zeros((len(seeds), size * size), bool), np.zeros((len(seeds), 2), np.int64)
    pending = np.arange(len(seeds))
    for _ in range(100):
        for i in pending:
            ends[i] = draws[i].choice(size * size, 2, replace=False)
            walls[i] = draws[i].random(size * size) < share
            walls[i, ends[i]] = False
        away = distances(walls[pending], ends[pending, 0])[np.arange(len(pending)), ends[pending, 1]]
        pending = pending[(away < min(2, size * size - 2)) | ~np.isfinite(away)]
        if not len(pending):
            return walls, ends[:, 0], ends[:, 1]
    raise RequestError(f"grid world: {share:.0%} walls leave no way to the goal; take fewer")


def distances(walls: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Moves from every cell to the goal, (N, size^2); inf in walls and where no way leads.

    walls: (N, size^2), booleans; goals: (N,). A breadth-first search on all boards at once.
    """
    to = neighbors(round(walls.shape[1] ** 0.5))
    away = np.full(walls.shape, np.inf)
    away[np.arange(len(walls)), goals] = 0
    while True:
        found = np.where(walls, np.inf, np.minimum(away, away[:, to].min(axis=2) + 1))
        if np.array_equal(found, away):
            return away
        away = found


def optimal_values(walls: np.ndarray, goals: np.ndarray, step_cost: float, gamma: float) -> np.ndarray:
    """The return of the best policy from every cell, (N, size^2), by value iteration; 0 at the goal.

    V(s) = max over actions of r + gamma V(s'), begun at -inf, so that after k rounds V is the best of all ways of at
    most k moves: exact after size^2 rounds, and -inf in walls and where no way leads.
    """
    to, rows = neighbors(round(walls.shape[1] ** 0.5)), np.arange(len(walls))
    values = np.full(walls.shape, -np.inf)
    values[rows, goals] = 0
    arrives = to[None] == goals[:, None, None]  # (N, size^2, 4)
    for _ in range(walls.shape[1]):
        values = np.where(arrives, 1.0, -step_cost + gamma * values[:, to]).max(axis=2)
        values[walls] = -np.inf
        values[rows, goals] = 0
    return values
