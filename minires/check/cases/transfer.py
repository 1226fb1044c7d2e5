"""From the host's memory to the host's memory: what can be shown without a device."""

from __future__ import annotations

from minires.check.case import Case, case
from minires.check.draw import Draw
from minires.ops.transfer import To


@case(To)
def to(draw: Draw) -> Case:
    return Case((draw.normal(*draw.shape()),), {"device": "cpu"}, torch=lambda x: x.to("cpu"))
