"""The figure: a bar for every candidate and item, its speed as a multiple of PyTorch's better layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.benchmarks.peers import CANDIDATES
from tests.benchmarks.race import Outcome
from tests.benchmarks.report import TORCH, best_torch, of_minires, outcomes_of, speed, times

COLORS = {
    "minires": "#0b5fa5",
    "minires-numpy": "#5b9bd5",
    "minires-formulas": "#b7d3ee",
    "torch": "#d1491b",
    "torch-channels-last": "#f0a07f",
    "jax": "#6b4c9a",
    "chainer": "#3d8b4f",
    "mygrad": "#8fbf5f",
    "autograd": "#b8a12e",
    "tinygrad": "#555555",
    "dezero": "#b07aa1",
}
BAR = 0.2  # inches
COLUMN = 13  # items one below the other, at most


def draw(kept: dict[str, Any], path: Path) -> None:
    """Writes the figure of a comparison. Needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    items = {name: outcomes_of(item) for name, item in kept["items"].items()}
    items = {name: o for name, o in items.items() if any(x.median for x in o.values())}
    names, columns = list(items), max(1, -(-len(items) // COLUMN))
    share = -(-len(names) // columns)
    parts = [names[i * share : (i + 1) * share] for i in range(columns)]
    rows = max(sum(sum(1 for x in items[n].values() if x.median) + 1.2 for n in part) for part in parts)
    size = (9 * columns, max(3.0, BAR * rows + 1.2))
    figure, panels = plt.subplots(1, columns, figsize=size, layout="constrained", squeeze=False)
    with_torch = any(best_torch(o) for o in items.values())
    for part, axes in zip(parts, panels[0], strict=True):
        _panel(axes, {name: items[name] for name in part}, with_torch)
    shown: dict[str, Any] = {}
    for axes in panels[0]:
        shown.update(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.suptitle(f"{kept['machine']['cpu']}, {kept['machine']['threads']} threads, float32", fontsize=9)
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _panel(axes: Any, items: dict[str, dict[str, Outcome]], with_torch: bool) -> None:
    """A column of items, one below the other."""
    place, ticks, shown = 0.0, [], set()
    for name, outcomes in items.items():
        base, first = best_torch(outcomes) or of_minires(outcomes), place
        for candidate in [n for n in CANDIDATES if n in outcomes and outcomes[n].median]:
            ratio = speed(outcomes[candidate], base)
            label = None if candidate in shown else CANDIDATES[candidate].label
            shown.add(candidate)
            axes.barh(place, ratio - 1, left=1, height=0.9, color=COLORS[candidate], label=label)
            _tell(axes, ratio, place)
            place += 1
        ticks.append(((first + place - 1) / 2, name))
        place += 1.2
    _finish(axes, ticks, place, with_torch)


def _tell(axes: Any, ratio: float, place: float) -> None:
    """The number beside a bar's end."""
    side, align = (1, "left") if ratio >= 1 else (-1, "right")
    options = {"textcoords": "offset points", "xytext": (3 * side, 0), "ha": align, "va": "center", "fontsize": 7}
    axes.annotate(times(ratio), (ratio, place), color="#333333", **options)


def _finish(axes: Any, ticks: list[tuple[float, str]], end: float, with_torch: bool) -> None:
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks([at for at, _ in ticks], [name for _, name in ticks], fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(end - 0.6, -1)
    low, high = axes.get_xlim()
    axes.set_xlim(low / 1.4, max(high, 1.2) * 1.4)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(axis="x", which="major", color="#dddddd")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    base = f"{CANDIDATES[TORCH[0]].label} (better layout)" if with_torch else "minires"
    axes.set_xlabel(f"speed as a multiple of {base}'s; to the right is faster", fontsize=9)
