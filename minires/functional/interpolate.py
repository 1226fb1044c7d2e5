"""Images at another size, as torch.nn.functional.interpolate."""

from __future__ import annotations

import math
from typing import Any

from minires.engine import Tensor
from minires.errors import RequestError
from minires.ops.interpolate import Bilinear, Nearest

__all__ = ["interpolate"]


def interpolate(
    x: Any,
    size: int | tuple[int, int] | None = None,
    scale_factor: float | tuple[float, float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """Images x, (N, C, H, W), at another height and width, by PyTorch's index rules.

    size             (OH, OW), or one int for both
    scale_factor     instead of size: OH = floor(H * scale), OW likewise; one number for both, or a pair
    mode             "nearest" or "bilinear"
    align_corners    bilinear only: the centers of the corner pixels meet (True) or their outer edges (False, None)

    Returns (N, C, OH, OW). Raises RequestError unless exactly one of size and scale_factor is given.
    """
    if x.ndim != 4:
        raise RequestError(f"interpolate: x is {tuple(x.shape)}, but must be (N, C, H, W)")
    if mode not in ("nearest", "bilinear"):
        raise RequestError(f"interpolate: unknown mode {mode!r}: there are 'nearest' and 'bilinear'")
    if mode == "nearest" and align_corners is not None:
        raise RequestError("interpolate: align_corners has no meaning for mode 'nearest'; leave it out")
    if (size is None) == (scale_factor is None):
        raise RequestError("interpolate: give either size or scale_factor, and not both")
    old = x.shape[2:]
    scales = (None, None) if scale_factor is None else _pair("scale_factor", scale_factor)
    new = _pair("size", size) if scale_factor is None else [math.floor(n * s) for n, s in zip(old, scales, strict=True)]
    if min(*new, *old) < 1:
        raise RequestError(f"interpolate: from {tuple(old)} to {tuple(new)} pixels: both need at least 1 a side")
    steps = [_step(n, m, s, mode, bool(align_corners)) for n, m, s in zip(old, new, scales, strict=True)]
    if mode == "nearest":
        return Nearest.apply(x, size=tuple(new), step=tuple(steps))
    return Bilinear.apply(x, size=tuple(new), step=tuple(steps), align_corners=bool(align_corners))


def _step(old: int, new: int, scale: float | None, mode: str, align_corners: bool) -> float:
    """How many old pixels a new one spans."""
    if align_corners:
        return (old - 1) / (new - 1) if new > 1 else 0.0
    # PyTorch trusts the scale asked for, say 2.2, over the sizes it leads to; but not where these are so simple.
    if scale is None or new == old or (mode == "nearest" and new == 2 * old):
        return old / new
    return 1 / float(scale)  # a NumPy float64 would lift float32 places to float64


def _pair(name: str, value: Any) -> Any:
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise RequestError(f"interpolate: {name} {value} must be one number, or a pair for height and width")
    return pair
