"""Upsample: more pixels from the same picture."""

from __future__ import annotations

from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.nn.module import Module


class Upsample(Module):
    """`F.interpolate` as a layer. Give either `size` or `scale_factor`.

    Shapes    x: (N, C, H, W); y: (N, C, OH, OW)
    """

    def __init__(
        self, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
    ) -> None:
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode
        self.align_corners = align_corners

    def forward(self, x: Any) -> Tensor:
        return F.interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        goal = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{goal}, mode={self.mode!r}"
