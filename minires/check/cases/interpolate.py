"""Images made larger and smaller, by a size or by a factor that doesn't lead to whole sizes."""

from __future__ import annotations

import math
from typing import Any

from minires.check.case import Case, case
from minires.check.draw import Draw
from minires.check.reference import interpolate as loops
from minires.ops.interpolate import Bilinear, Nearest

SCALES = (2.0, 1.5, 2.2, 0.5, 0.7, 3.0, 1.0)


@case(Nearest)
def nearest(draw: Draw) -> Case:
    return _resized(draw, "nearest", False)


@case(Bilinear)
def bilinear(draw: Draw) -> Case:
    return _resized(draw, "bilinear", draw.flag())


def _resized(draw: Draw, mode: str, align_corners: bool) -> Case:
    old = draw.size(1, 4), draw.size(1, 4)
    n, c = draw.choice([(2, 1), (1, 2), (1, 1), (0, 1), (2, 1)])
    size = draw.size(1, 5), draw.size(1, 5)
    scales = None
    if draw.flag():
        scales = _scale(draw, old[0]), _scale(draw, old[1])
        size = math.floor(old[0] * scales[0]), math.floor(old[1] * scales[1])
    down, right = scales or (None, None)
    step = (
        _step(old[0], size[0], mode, align_corners, down),
        _step(old[1], size[1], mode, align_corners, right),
    )

    def torch(x: Any) -> Any:
        from torch.nn import functional as F

        corners = None if mode == "nearest" else align_corners
        return F.interpolate(x, None if scales else size, scales, mode, corners)

    options: dict[str, Any] = {"size": size, "step": step}
    if mode == "bilinear":
        options["align_corners"] = align_corners
    return Case(
        (draw.normal(n, c, *old),),
        options,
        reference=lambda x: loops.interpolate(x, size, mode, align_corners, step),
        torch=torch,
    )


def _scale(draw: Draw, old: int) -> float:
    """A factor that leaves a pixel."""
    return draw.choice([scale for scale in SCALES if old * scale >= 1])


def _step(old: int, new: int, mode: str, align_corners: bool, scale: float | None) -> float:
    """How many old pixels a new one spans, which PyTorch takes from the factor rather than from the sizes."""
    if align_corners:
        return (old - 1) / (new - 1) if new > 1 else 0.0
    if scale is None or new == old or (mode == "nearest" and new == 2 * old):
        return old / new
    return 1 / scale
