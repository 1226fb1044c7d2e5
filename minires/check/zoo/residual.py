"""The skip connection, wrong."""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.check.bug import bug
from minires.ops.residual import ResidualAdd


@bug(
    ResidualAdd,
    symptom="a residual network trains like a plain one: gradients fade (or explode) with depth as if nothing skipped",
    killed_by="both_gradients_of_residual_add_are_gy_bit_for_bit",
)
class SkipDropped(ResidualAdd):
    """The +1 is missing: gx = 0 instead of gy, so that only the branch hands gradient back.

    Comes from writing the block's gradient as J_F^T gy, or from detaching the skip "to save memory".
    """

    def backward(self, gy: Array) -> Any:
        return self.xp.zeros_like(gy), gy
