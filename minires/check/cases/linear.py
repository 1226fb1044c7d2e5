"""Matrix products over every number of axes that the two operands may have."""

from __future__ import annotations

from typing import Any

from minires import functional as F
from minires.backend import Array
from minires.check.case import Case, case
from minires.check.draw import Draw
from minires.check.reference import linear as loops
from minires.engine import Tensor
from minires.ops.linear import Linear, Matmul


def factors(draw: Draw) -> tuple[Array, Array]:
    """x and w that may be multiplied: vectors, matrices, square ones too, and batches whose leading axes broadcast."""
    lead = draw.choice([(2,), (), (3,), (2, 2), (1, 3), (0,)])
    square = draw.size(2, 3)
    t, k, d = (square, square, square) if draw.flag() else (draw.size(1, 3), draw.size(1, 4), draw.size(1, 3))
    empty = draw.integer(0, 14)
    t, k, d = (0 if empty == place else n for place, n in zip((12, 13, 14), (t, k, d), strict=True))
    x_lead, w_lead = draw.choice(
        [(lead, ()), (draw.broadcastable(lead), draw.broadcastable(lead)), ((), lead), (lead, lead)]
    )
    x = (k,) if draw.integer(0, 4) == 4 else (*x_lead, t, k)
    w = (k,) if draw.integer(0, 4) == 4 else (*w_lead, k, d)
    return draw.normal(*x), draw.normal(*w)


def layer(draw: Draw) -> tuple[Array, Array, Array | None]:
    """x with up to three leading axes, w and, mostly, b."""
    o, d = draw.size(1, 4), draw.size(1, 4)
    b = draw.normal(o) if draw.integer(0, 3) < 3 else None
    lead = draw.choice([(2,), (3,), (), (2, 2), (1, 3), (0,), (2, 1, 3), (4,), (2, 0)])
    return draw.normal(*lead, d), draw.normal(o, d), b


@case(Matmul)
def matmul(draw: Draw) -> Case:
    return Case(factors(draw), reference=loops.matmul, torch=lambda x, w: x @ w)


@case(Linear)
def linear(draw: Draw) -> Case:
    def composed(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        y = F.matmul(x, F.transpose(w, 0, 1))
        return y if b is None else F.add(y, b)

    def torch(x: Any, w: Any, b: Any) -> Any:
        from torch.nn import functional as F

        return F.linear(x, w, b)

    return Case(layer(draw), reference=loops.linear, composed=composed, torch=torch)
