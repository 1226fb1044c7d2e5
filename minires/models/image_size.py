"""Images that are too small for a network are refused at its door, not by the layer that runs out of pixels."""

from __future__ import annotations

from typing import Any

from minires.errors import RequestError


def require_side(model: str, x: Any, least: int) -> None:
    """Raises RequestError unless x is (N, C, H, W) with H and W of at least `least` pixels."""
    if x.ndim != 4:
        raise RequestError(f"{model}: x is {tuple(x.shape)}, but must be images (N, C, H, W)")
    if min(x.shape[2:]) < least:
        raise RequestError(
            f"{model}: images of {x.shape[2]} x {x.shape[3]} are too small for its depth; the smallest are "
            f"{least} x {least}, so enlarge them, or choose a model for small images such as resnet20"
        )
