"""The two pictures of a run: its learning curves, and the gradient's norm from layer to layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minires.train.task import Task

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#555555"  # told apart by readers with any color vision


def available() -> bool:
    """Whether matplotlib can be imported."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def curves(path: Path, history: list[dict[str, Any]], best_epoch: int, title: str, task: Task) -> None:
    """The loss and the task's best figure, training and validation, by epoch; `best_epoch` is marked."""
    second = "acc" if task.best == "loss" else task.best
    figure = blank(9.5, 3.9)
    left, right = figure.subplots(1, 2)
    epochs = [record["epoch"] for record in history]
    marker = "o" if len(epochs) <= 30 else ""
    for axes, quantity in ((left, "loss"), (right, second)):
        train, held_out = ([record.get(f"{part}_{quantity}") for record in history] for part in ("train", "val"))
        if None not in train:  # what costs too much to measure in training is measured on validation data alone
            axes.plot(epochs, train, color=BLUE, marker=marker, ms=4, lw=1.6, label="training")
        axes.plot(epochs, held_out, color=ORANGE, marker=marker, ms=4, lw=1.6, ls="--", label="validation")
        best = history[best_epoch - 1][f"val_{quantity}"]
        axes.plot(
            best_epoch,
            best,
            "o",
            ms=10,
            mfc="none",
            mec=GREY,
            mew=1.4,
            label=f"tested: the weights of epoch {best_epoch}",
        )
        axes.set(xlabel="epoch", xlim=(0.5, len(epochs) + 0.5))
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        plain(axes)
    positive = all(value > 0 for record in history for key, value in record.items() if key.endswith("_loss"))
    left.set(title="loss", ylabel=task.loss_label + (", log scale" if positive else ""))
    if positive:  # an actor-critic's loss need not be
        _log_scale(left)
    keys = (f"train_{second}", f"val_{second}")
    lowest = min(record[key] for record in history for key in keys if key in record)
    right.set(title=task.words.get(second, second), ylabel=task.best_label, ylim=(max(0.0, lowest - 0.05), 1.01))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"{title}: learning curves", fontweight="bold")
    figure.savefig(path, dpi=150)


def gradient_flow(path: Path, norms: dict[str, dict[str, float]], title: str) -> None:
    """|dL/dW| of each weight from the input to the output, on a log scale: one line for each entry of `norms`.

    norms    {"epoch 1": {parameter: norm}, ...}
    """
    figure = blank(9.5, 4.4)
    axes = figure.subplots()
    layers = [name.removesuffix(".weight") for name in next(iter(norms.values()))]
    depth = range(1, len(layers) + 1)
    styles = ((BLUE, "o", "-"), (ORANGE, "s", "--"))
    for (label, by_name), (color, marker, line) in zip(norms.items(), styles, strict=False):
        axes.plot(
            depth,
            list(by_name.values()),
            color=color,
            marker=marker,
            ms=5,
            lw=1.5,
            ls=line,
            label=f"last batch of {label}",
        )
    axes.set_ylabel(r"norm of $\partial L\,/\,\partial W$, log scale")
    if any(norm > 0 for by_name in norms.values() for norm in by_name.values()):
        _log_scale(axes)
    if len(layers) <= 40:
        axes.set_xticks(depth, layers, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_xlabel("layer, from the input to the output")
    else:
        axes.set_xlabel("index of the layer, from the input to the output")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    plain(axes)
    figure.suptitle(f"{title}: does the gradient reach the first layers?", fontweight="bold")
    figure.savefig(path, dpi=150)


def blank(width: float, height: float) -> Any:
    """An empty figure, in inches, on the Agg canvas, without pyplot and its global state. Needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain(axes: Any) -> None:
    """No frame but the two axes, and faint lines to read heights by."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)


def _log_scale(axes: Any) -> None:
    """A log axis that is labeled with plain numbers; with the numbers between the powers of ten where it spans few."""
    from matplotlib.ticker import LogFormatter

    axes.set_yscale("log")

    class Plain(LogFormatter):  # shows the ticks that LogFormatter would, as 0.2 and not as 2e-01
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""

    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(Plain(minor_thresholds=(1.5, 0.6)))
    axes.grid(axis="y", which="minor", alpha=0.12)
