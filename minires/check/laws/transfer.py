"""Laws of moving an array: nothing happens to the numbers."""

from __future__ import annotations

from minires.check.draw import Draw
from minires.check.law import law, pull, same_bits
from minires.ops.transfer import To


@law(To)
def a_transfer_hands_values_and_gradient_over_bit_for_bit(draw: Draw) -> None:
    """y = x and gx = gy: memory is copied, numbers are not computed."""
    shape = draw.shape()
    x, gy = draw.normal(*shape), draw.normal(*shape)
    y, (gx,) = pull(lambda x: To.apply(x, device="cpu"), x, gy=gy)
    same_bits(y, x, "the values")
    same_bits(gx, gy, "the gradient")
