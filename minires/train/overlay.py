"""The picture of a segmentation: test images from the worst to the best, with true and predicted outlines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minires.train import figures

TRUE, PREDICTED = "#ffb000", "#2ec4ff"  # told apart by readers with any color vision, and from gray
ROWS, COLUMNS = 2, 4


def draw(path: Path, images: np.ndarray, true: np.ndarray, predicted: np.ndarray, title: str) -> None:
    """Eight images, evenly spaced in the order of their IoU, above the IoU of all.

    images             (N, H, W) uint8
    true, predicted    (N, H, W) bool

    Needs matplotlib.
    """
    from matplotlib.lines import Line2D

    scores = np.array([iou(a, b) for a, b in zip(true, predicted, strict=True)])
    order = np.argsort(scores, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(ROWS * COLUMNS, len(order))).round().astype(int))
    figure = figures.blank(12.4, 8.3)
    grid = figure.add_gridspec(ROWS + 1, COLUMNS, height_ratios=[1] * ROWS + [0.42])
    for panel, place in enumerate(places):
        axes = figure.add_subplot(grid[panel // COLUMNS, panel % COLUMNS])
        i = order[place]
        _outlined(axes, images[i], true[i], predicted[i])
        rank = "worst, " if place == 0 else "best, " if place == len(order) - 1 else ""
        axes.set_title(f"{'abcdefgh'[panel]}   {rank}IoU {scores[i]:.2f}", fontsize=10.5, loc="left")
    _ranked(figure.add_subplot(grid[ROWS, :]), scores[order], places)
    handles = [Line2D([], [], color=c, lw=2.5) for c in (TRUE, PREDICTED)]
    figure.legend(
        handles, ["outline in the data", "outline predicted"], loc="outside lower center", ncols=2, frameon=False
    )
    figure.suptitle(
        f"{title}: {len(scores)} test images, IoU {iou(true, predicted):.3f} over all their pixels, "
        f"{scores.mean():.3f} in the mean over images",
        fontweight="bold",
    )
    figure.savefig(path, dpi=150)


def iou(true: np.ndarray, predicted: np.ndarray) -> float:
    """Intersection over union of two masks; 1 where both are empty."""
    either = int((true | predicted).sum())
    return int((true & predicted).sum()) / either if either else 1.0


def _outlined(axes: Any, image: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> None:
    dark, bright = np.percentile(image, (0.5, 99.8))
    light = np.clip((image - dark) / max(bright - dark, 1), 0, 1) ** 0.6  # dim nuclei would not be seen otherwise
    axes.imshow(light, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    for mask, color, width in ((true, TRUE, 2.2), (predicted, PREDICTED, 0.9)):
        framed = np.pad(mask, 1)  # so that an outline also closes along the image's border
        if framed.any():
            at = (np.arange(n) - 1 for n in reversed(framed.shape))
            axes.contour(*at, framed.astype(float), levels=[0.5], colors=[color], linewidths=width)
    height, width = image.shape
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])


def _ranked(axes: Any, scores: np.ndarray, places: np.ndarray) -> None:
    """The IoU of every image, from the worst to the best; those shown above carry their letter."""
    ranks = np.arange(1, len(scores) + 1)
    axes.bar(ranks, scores, width=0.85, color=[figures.BLUE if r - 1 in places else "#b8c4cc" for r in ranks])
    for letter, place in zip("abcdefgh", places, strict=False):
        axes.annotate(letter, (place + 1, scores[place]), (0, 2), textcoords="offset points", ha="center", fontsize=9)
    axes.set(xlabel="test images, from the worst to the best", ylabel="IoU", ylim=(0, 1.12), yticks=(0, 0.5, 1))
    axes.set_xlim(0.3, len(scores) + 0.7)
    axes.xaxis.get_major_locator().set_params(integer=True)
    figures.plain(axes)
