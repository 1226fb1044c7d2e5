"""A picture of what a policy thinks of a few boards: the value of every cell, the best move there, the way it walks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from minires import backend
from minires.data.gridworld import MOVES, GridWorlds
from minires.nn import Module
from minires.train.figures import ORANGE, blank
from minires.train.task import answer


def opinions(model: Module, walls: np.ndarray, goal: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(cells (n,), values (n,), best moves (n,)) for an agent in every free cell of one board but the goal's.

    walls    (size^2,), booleans
    """
    cells = np.flatnonzero(~walls)
    cells = cells[cells != goal]
    worlds = GridWorlds(math.isqrt(len(walls)))
    observation, _ = worlds.place(np.tile(walls, (len(cells), 1)), np.full(len(cells), goal), cells)
    scores, values = answer(model, observation.astype(next(model.parameters()).dtype))
    return cells, backend.to_host(values.data), backend.to_host(scores.data).argmax(1)


def walk(model: Module, walls: np.ndarray, goal: int, start: int) -> tuple[list[int], int]:
    """(the cells that the best moves lead through, start first; the least number of moves there could be)."""
    worlds = GridWorlds(math.isqrt(len(walls)))
    _, info = worlds.place(walls[None], np.array([goal]), np.array([start]))
    cells, _, best = opinions(model, walls, goal)
    move_at = dict(zip(cells.tolist(), best.tolist(), strict=True))
    way = [start]
    while not (worlds.terminated[0] or worlds.truncated[0]):
        worlds.step(np.array([move_at[way[-1]]]))
        way.append(int(worlds.agents[0]))
    return way, int(info["distance"][0])


def draw(path: Path, model: Module, walls: np.ndarray, goals: np.ndarray, agents: np.ndarray) -> None:
    """Writes a PNG with one panel a board. walls (N, size^2), goals (N,), agents (N,); the model evaluates."""
    columns = min(3, len(walls))
    rows = -(-len(walls) // columns)
    figure = blank(3.2 * columns + 0.8, 3.4 * rows + 0.5)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, *board in zip(panels, walls, goals.tolist(), agents.tolist(), strict=False):
        shown = _board(axes, model, *board)
    figure.colorbar(shown, ax=panels.tolist(), shrink=0.8, label="value: what the tower expects from here")
    figure.suptitle("arrows: the best move; orange: the way from the dot to the star", fontsize=10)
    figure.savefig(path, dpi=150)


def _board(axes: Any, model: Module, walls: np.ndarray, goal: int, start: int) -> Any:
    size = math.isqrt(len(walls))
    cells, values, best = opinions(model, walls, goal)
    way, least = walk(model, walls, goal, start)
    board = np.full(size * size, np.nan)
    board[cells] = values
    shown = axes.imshow(board.reshape(size, size), vmin=-1, vmax=1, cmap="cividis")
    for wall in np.flatnonzero(walls):
        axes.add_patch(_square(*divmod(int(wall), size)))
    moves = np.array(MOVES)[best]  # (n, 2): down, right
    edged: dict[str, Any] = {"color": "white", "edgecolor": "black", "linewidth": 0.7}  # seen on every value
    axes.quiver(cells % size, cells // size, moves[:, 1], -moves[:, 0], scale=2.6 * size, width=0.014, **edged)
    axes.plot([c % size for c in way], [c // size for c in way], color=ORANGE, lw=2.2)
    axes.plot(start % size, start // size, "o", color=ORANGE, ms=9)
    axes.plot(goal % size, goal // size, "*", color=ORANGE, ms=15)
    reached = f"{len(way) - 1} moves" if way[-1] == goal else f"not reached in {len(way) - 1}"
    axes.set_title(f"{reached}; the shortest way has {least}", fontsize=9)
    return shown


def _square(row: int, column: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, color="black")
