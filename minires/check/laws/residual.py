"""Laws of the skip connection: what the +1 does, and what it does not."""

from __future__ import annotations

from minires import functional as F
from minires.check.draw import Draw
from minires.check.law import law, pull, same, same_bits
from minires.ops.residual import ResidualAdd


@law(ResidualAdd)
def both_gradients_of_residual_add_are_gy_bit_for_bit(draw: Draw) -> None:
    """gx = gy and gf = gy, untouched. He et al. 2016, eq. 5."""
    shape = draw.shape()
    gy = draw.normal(*shape)
    _, (gx, gf) = pull(F.residual_add, draw.normal(*shape), draw.normal(*shape), gy=gy)
    same_bits(gx, gy, "the skip's gradient")
    same_bits(gf, gy, "the branch's gradient")


@law(ResidualAdd)
def a_blocks_gradient_is_gy_plus_the_branchs_transposed_jacobian_times_gy(draw: Draw) -> None:
    """For y = x + tanh(x w): gx = gy + w (gy (1 - tanh^2))^T, with J_F written out by hand."""
    n, d = draw.size(), draw.size(1, 5)
    x, w, gy = draw.normal(n, d), draw.normal(d, d), draw.normal(n, d)
    _, (gx,) = pull(lambda x: F.residual_add(x, F.tanh(F.matmul(x, w))), x, gy=gy)
    t = F.tanh(x @ w).data
    same(gx, gy + (gy * (1 - t * t)) @ w.T, "gx = gy + J_F^T gy")
