"""Resizing, pixel by pixel, the way PyTorch numbers the pixels. `size` is (OH, OW)."""

from __future__ import annotations

import math

import numpy as np

from minires.backend import Array


def interpolate(
    x: Array,
    size: tuple[int, int],
    mode: str = "nearest",
    align_corners: bool = False,
    step: tuple[float, float] | None = None,
) -> Array:
    """Nearest: y[p, q] = x[floor(p * H / OH), floor(q * W / OW)]. Bilinear: the mean of four, weighted by nearness.

    `step` stands for (H / OH, W / OW) where a scale was asked for that does not lead to whole sizes.
    """
    n_, c_, h_, w_ = x.shape
    oh, ow = size
    down_by, right_by = step or (h_ / oh, w_ / ow)
    y = np.empty((n_, c_, oh, ow), x.dtype)
    for n in range(n_):
        for c in range(c_):
            for p in range(oh):
                for q in range(ow):
                    if mode == "nearest":
                        y[n, c, p, q] = x[n, c, _nearest(p, h_, down_by), _nearest(q, w_, right_by)]
                        continue
                    i, down = _place(p, h_, oh, down_by, align_corners)
                    j, right = _place(q, w_, ow, right_by, align_corners)
                    i2, j2 = min(i + 1, h_ - 1), min(j + 1, w_ - 1)
                    top = (1 - right) * x[n, c, i, j] + right * x[n, c, i, j2]
                    bottom = (1 - right) * x[n, c, i2, j] + right * x[n, c, i2, j2]
                    y[n, c, p, q] = (1 - down) * top + down * bottom
    return y


def _nearest(p: int, old: int, step: float) -> int:
    """The old pixel in which new pixel p starts. PyTorch multiplies in float32, so this does."""
    return min(math.floor(np.float32(p) * np.float32(step)), old - 1)


def _place(p: int, old: int, new: int, step: float, align_corners: bool) -> tuple[int, float]:
    """New pixel p on the old grid: the old pixel before it, and how far it is on the way to the next."""
    u = p * (old - 1) / max(new - 1, 1) if align_corners else max((p + 0.5) * step - 0.5, 0.0)
    i = min(math.floor(u), old - 1)
    return i, u - i
