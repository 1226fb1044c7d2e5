"""Dropout of elements, of feature maps and of samples. The oracles draw the same mask every time."""

from __future__ import annotations

from typing import Any

from minires import backend
from minires.check.case import Case, case
from minires.check.draw import Draw
from minires.check.oracles import steady
from minires.check.reference import dropout as loops
from minires.ops.dropout import Dropout


@case(Dropout)
def dropout(draw: Draw) -> Case:
    shape = (draw.batch(), draw.size(), *draw.shape(0, 2, longest=2))
    shared = draw.choice([0, 1, 2])  # how many axes, from the front, a fate is drawn for; 0: for every element
    mask_shape = tuple(n if not shared or a < shared else 1 for a, n in enumerate(shape))
    p = draw.choice([0.5, 0.2, 0.35, 0.7, 0.1, 1.0])
    with steady():
        u = backend.generator().random(mask_shape)

    def torch(x: Any) -> Any:
        import torch as peer

        kept = peer.tensor(u >= p)
        return peer.where(kept, x, 0.0) / (1 - p) if p < 1 else x * 0.0

    return Case(
        (draw.normal(*shape),),
        {"p": p, "mask_shape": mask_shape},
        reference=lambda x: loops.dropout(x, u, p),
        torch=torch,
    )
