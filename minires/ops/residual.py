"""The residual connection: the +1, and the shortcut for a stage that widens.

For a block y = x + F(x), backpropagation is

    gx = gy + J_F^T gy = (I + J_F)^T gy

The first term is `ResidualAdd` below: the skip hands the gradient back untouched. The second is what F's own
ops make of gf. The engine adds the two where the paths meet again, at x: tutorial 8, (8.3).
"""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.engine import Function


class ResidualAdd(Function):
    """The skip connection, y = x + f.

    Shapes    x, f, y: equal. A skip that broadcasts is a bug, so it is refused.
    Forward   y = x + f
    Backward  gx = gy          the "+1": the skip hands the gradient back untouched
              gf = gy          F's own backward turns this into J_F^T gy
              so for a whole block, gx = gy + J_F^T gy = (I + J_F)^T gy
    Derivation  tutorial 8, (8.2) for the sum, tutorial 8, (8.3) for the block, tutorial 8, (8.6) for many of them
    Kinks     none
    Saved     nothing
    Source    He et al. 2016, Identity Mappings in Deep Residual Networks, eq. 4-5
    """

    def forward(self, x: Array, f: Array) -> Array:
        return x + f

    def backward(self, gy: Array) -> Any:
        return gy, gy


class PadChannels(Function):
    """The parameter-free shortcut (option A): every `stride`-th pixel, and zeros for the new channels.

    Shapes    x: (N, C, H, W); y: (N, before + C + after, ceil(H / stride), ceil(W / stride))
    Forward   y[n, before + c, i, j] = x[n, c, stride i, stride j], and 0 in the added channels
    Backward  gx[n, c, stride i, stride j] = gy[n, before + c, i, j], and 0 at the pixels passed over
    Derivation  tutorial 8, (8.8), where W_s is this op's matrix of zeros and ones
    Kinks     none; the op is linear, and its backward is its adjoint
    Saved     x.shape
    Source    He et al. 2015, Deep Residual Learning, section 3.3 (A) and 4.2
    """

    before: int
    after: int
    stride: int

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        kept = x[:, :, :: self.stride, :: self.stride]  # (N, C, OH, OW)
        n, c, oh, ow = kept.shape
        y = self.xp.zeros((n, self.before + c + self.after, oh, ow), x.dtype)
        y[:, self.before : self.before + c] = kept
        return y

    def backward(self, gy: Array) -> Array:
        gx = self.xp.zeros(self.shape, gy.dtype)
        gx[:, :, :: self.stride, :: self.stride] = gy[:, self.before : self.before + self.shape[1]]
        return gx
