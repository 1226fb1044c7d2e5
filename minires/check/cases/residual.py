"""The skip, and the shortcut that pads."""

from __future__ import annotations

from typing import Any

from minires.check.case import Case, case
from minires.check.draw import Draw
from minires.check.reference import residual as loops
from minires.ops.residual import PadChannels, ResidualAdd


@case(ResidualAdd)
def residual_add(draw: Draw) -> Case:
    shape = draw.shape()
    return Case(
        (draw.normal(*shape), draw.normal(*shape)),
        reference=loops.residual_add,
        torch=lambda x, f: x + f,
    )


@case(PadChannels)
def pad_channels(draw: Draw) -> Case:
    c, added, stride = draw.size(), draw.integer(0, 5), draw.size(1, 3)
    x = draw.normal(draw.batch(), c, draw.size(), draw.size(1, 5))
    before, after = added // 2, added - added // 2

    def torch(x: Any) -> Any:
        from torch.nn import functional as F

        return F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, before, after))

    return Case(
        (x,),
        {"before": before, "after": after, "stride": stride},
        reference=lambda x: loops.pad_channels(x, c + added, stride),
        torch=torch,
    )
