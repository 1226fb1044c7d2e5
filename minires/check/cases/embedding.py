"""Rows looked up again and again.

The gradient of the padding row is a convention, no derivative: no oracle could agree with it. So here that row is
never looked up, and a law says what happens when it is. OneHot has no case: integers in, integers out, and with no
gradient every oracle would agree with everything. A law holds it to the table that it multiplies.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minires.check.case import Case, case
from minires.check.draw import Draw
from minires.check.reference import embedding as loops
from minires.ops.embedding import Embedding


@case(Embedding)
def embedding(draw: Draw) -> Case:
    rows, shape = draw.size(1, 5), draw.shape(0, 2, longest=3)
    padding = draw.integer(0, rows - 1) if rows > 1 and draw.flag() else None
    indices = draw.integers(rows if padding is None else rows - 1, *shape)
    if padding is not None:
        indices = np.asarray(indices + (indices >= padding))

    def torch(w: Any, indices: Any) -> Any:
        from torch.nn import functional as F

        return F.embedding(indices, w, padding_idx=padding)

    return Case(
        (draw.normal(rows, draw.size(1, 3)), indices),
        {"padding_idx": padding},
        reference=lambda w, indices: loops.embedding(indices, w),
        torch=torch,
    )
