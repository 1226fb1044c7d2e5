"""Where the boxes of a graph stand, and how the edges run: layers from top to bottom, after Sugiyama.

    1  a layer for every node: ops by the longest path that leads to them, leaves right above the first that reads them
    2  an edge over several layers gets a bend in each layer between, so that it passes beside the boxes
    3  the order in a layer: nodes move to the mean place of their neighbors, sweep by sweep, while crossings go down
    4  the x of each: as near to its neighbors as order and distances allow

Source    Sugiyama, Tagawa and Toda 1981, Methods for Visual Understanding of Hierarchical System Structures
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

SIDE, LAYER = 26.0, 72.0  # pixels between boxes, and between layers
SWEEPS = 12
LIGHT, HEAVY = 0.05, 4.0  # weights of leaves, which follow and do not lead, and of bends, so that edges are straight

Node = Hashable


@dataclass(frozen=True)
class Box:
    """A node's place: its center, its width and its height."""

    x: float
    y: float
    width: float
    height: float

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2


@dataclass(frozen=True)
class Drawing:
    """Boxes by node, and for each edge the points between its ends that it passes through, from source to target."""

    boxes: Mapping[Node, Box]
    bends: Sequence[Sequence[tuple[float, float, float]]]  # x, and from which y to which y the edge runs straight
    width: float
    height: float


@dataclass(eq=False)
class _Place:
    """A node in its layer, or the bend of an edge."""

    width: float
    layer: int
    above: list[_Place] = field(default_factory=list)
    below: list[_Place] = field(default_factory=list)
    x: float = 0.0
    weight: float = 1.0  # how much its wish counts where several want the same place


def arranged(sizes: Mapping[Node, tuple[float, float]], edges: Sequence[tuple[Node, Node, float]]) -> Drawing:
    """Places every node of an acyclic graph.

    sizes    (width, height) by node, in an order in which sources stand before their targets
    edges    (source, target, the width to keep free where it passes beside boxes); several may join the same two
    """
    layers = _layers(sizes, edges)
    places = {node: _Place(sizes[node][0], layers[node]) for node in sizes}
    chains = [_chained(places[a], places[b], width) for a, b, width in edges]
    for place in places.values():
        place.weight = 1.0 if place.above else LIGHT
    rows: list[list[_Place]] = [[] for _ in range(max(layers.values(), default=-1) + 1)]
    for place in itertools.chain(places.values(), *(chain[1:-1] for chain in chains)):
        rows[place.layer].append(place)
    _order(rows)
    _settle(rows)
    _straighten([chain[1:-1] for chain in chains], rows)
    return _drawing(sizes, places, chains, rows)


def _layers(sizes: Mapping[Node, tuple[float, float]], edges: Sequence[tuple[Node, Node, float]]) -> dict[Node, int]:
    into: dict[Node, list[Node]] = {node: [] for node in sizes}
    out: dict[Node, list[Node]] = {node: [] for node in sizes}
    for a, b, _ in edges:
        into[b].append(a)
        out[a].append(b)
    layers: dict[Node, int] = {}
    for node in sizes:
        layers[node] = max((layers[a] + 1 for a in into[node]), default=0)
    for node in sizes:
        if not into[node] and out[node]:
            layers[node] = min(layers[b] for b in out[node]) - 1
    return layers


def _chained(source: _Place, target: _Place, width: float) -> list[_Place]:
    """Source, a bend in every layer between, target, each joined to the next."""
    chain = [source, *(_Place(width, k, weight=HEAVY) for k in range(source.layer + 1, target.layer)), target]
    for a, b in itertools.pairwise(chain):
        a.below.append(b)
        b.above.append(a)
    return chain


# --- the order in each layer


def _order(rows: list[list[_Place]]) -> None:
    best, fewest = [list(row) for row in rows], _crossings(rows)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for k in range(1, len(rows)) if down else range(len(rows) - 2, -1, -1):
            _by_mean(rows[k], rows[k - 1] if down else rows[k + 1], down)
        now = _crossings(rows)
        if now < fewest:
            best, fewest = [list(row) for row in rows], now
    for row, found in zip(rows, best, strict=True):
        row[:] = found


def _by_mean(row: list[_Place], fixed: list[_Place], down: bool) -> None:
    at = {place: k for k, place in enumerate(fixed)}
    keys = {}
    for k, place in enumerate(row):
        neighbors = place.above if down else place.below
        keys[place] = sum(at[n] for n in neighbors) / len(neighbors) if neighbors else k
    row.sort(key=keys.__getitem__)


def _crossings(rows: list[list[_Place]]) -> int:
    total = 0
    for upper, lower in itertools.pairwise(rows):
        at = {place: k for k, place in enumerate(lower)}
        ends = [at[n] for place in upper for n in sorted(place.below, key=at.__getitem__)]
        total += sum(a > b for a, b in itertools.combinations(ends, 2))
    return total


# --- the place along each layer


def _settle(rows: list[list[_Place]]) -> None:
    for row in rows:
        x = 0.0
        for a, b in itertools.pairwise([None, *row]):
            x += _distance(a, b) if a is not None and b is not None else 0.0
            if b is not None:
                b.x = x
    for sweep in range(2 * SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            _nearest(row, both=sweep >= SWEEPS)


def _nearest(row: list[_Place], both: bool) -> None:
    """Moves each to the mean x of its neighbors, as near as the distances allow: least squares, exactly.

    With the distances taken off, the wanted places only have to be in order; where they are not, neighbors share
    the weighted mean of what they want (pool adjacent violators).
    """
    offset, offsets = 0.0, []
    for k, place in enumerate(row):
        offset += _distance(row[k - 1], place) if k else 0.0
        offsets.append(offset)
    pools: list[list[float]] = []  # weighted sum, weight, how many
    for place, off in zip(row, offsets, strict=True):
        neighbors = place.above + place.below if both or not place.above else place.above
        pulls = [n.weight for n in neighbors]
        wanted = sum(n.x * p for n, p in zip(neighbors, pulls, strict=True)) / sum(pulls) if neighbors else place.x
        pools.append([(wanted - off) * place.weight, place.weight, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    places = iter(zip(row, offsets, strict=True))
    for total, weight, count in pools:
        for place, off in itertools.islice(places, int(count)):
            place.x = total / weight + off


def _straighten(chains: Sequence[Sequence[_Place]], rows: Sequence[Sequence[_Place]]) -> None:
    """Puts the bends of each edge on one line, as far as their neighbors leave room for it."""
    for chain in chains:
        start = 0
        while start < len(chain):
            low, high, end = -math.inf, math.inf, start
            while end < len(chain):
                left, right = _room(chain[end], rows)
                if max(low, left) > min(high, right):
                    break
                low, high, end = max(low, left), min(high, right), end + 1
            middle = sum(bend.x for bend in chain[start:end]) / max(end - start, 1)
            for bend in chain[start:end]:
                bend.x = min(max(middle, low), high)
            start = max(end, start + 1)


def _room(place: _Place, rows: Sequence[Sequence[_Place]]) -> tuple[float, float]:
    row = rows[place.layer]
    k = row.index(place)
    left = row[k - 1].x + _distance(row[k - 1], place) if k else -math.inf
    right = row[k + 1].x - _distance(place, row[k + 1]) if k + 1 < len(row) else math.inf
    return left - 1e-6, right + 1e-6


def _distance(a: _Place, b: _Place) -> float:
    return (a.width + b.width) / 2 + SIDE


def _drawing(
    sizes: Mapping[Node, tuple[float, float]],
    places: Mapping[Node, _Place],
    chains: Sequence[Sequence[_Place]],
    rows: Sequence[Sequence[_Place]],
) -> Drawing:
    heights = [0.0] * len(rows)
    for node, place in places.items():
        heights[place.layer] = max(heights[place.layer], sizes[node][1])
    tops = [sum(heights[:k]) + (k + 0.5) * LAYER for k in range(len(rows))]
    left = min((p.x - p.width / 2 for row in rows for p in row), default=0.0) - SIDE
    right = max((p.x + p.width / 2 for row in rows for p in row), default=0.0) + SIDE
    boxes = {
        node: Box(place.x - left, tops[place.layer] + heights[place.layer] / 2, *sizes[node])
        for node, place in places.items()
    }
    bends = [[(p.x - left, tops[p.layer], tops[p.layer] + heights[p.layer]) for p in chain[1:-1]] for chain in chains]
    return Drawing(boxes, bends, right - left, sum(heights) + len(rows) * LAYER)
