"""What assignment A5 asks for beside `ResidualAdd`: whole residual blocks, with every gradient written out by hand.

In the library a block's backward stands nowhere: the engine puts it together from the backward of its ops. Written out
it shows where the two terms of gx = gy + J_F^T gy come from.
"""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.engine import Function


class ResidualBlock(Function):
    """A residual block of two matrices, y = x + F(x) with F(x) = relu(x w1^T) w2^T.

    Shapes    x, y: (N, D); w1: (H, D); w2: (D, H)
    Forward   a = x w1^T;  h = relu(a);  y = x + h w2^T
    Backward  gw2 = gy^T h;  ga = (gy w2) [a > 0];  gw1 = ga^T x
              gx = gy + ga w1, which is gy + J_F^T gy
    Kinks     relu has slope 0 at 0
    Saved     x, w1, w2, h
    Source    He et al. 2016, Identity Mappings in Deep Residual Networks, eq. 4-5
    """

    def forward(self, x: Array, w1: Array, w2: Array) -> Array:
        self.x, self.w1, self.w2 = x, w1, w2
        self.h = self.xp.maximum(x @ w1.T, 0)  # (N, H)
        return x + self.h @ w2.T  # (N, D)

    def backward(self, gy: Array) -> Any:
        gw2 = gy.T @ self.h  # (D, H)
        ga = (gy @ self.w2) * (self.h > 0)  # (N, H)
        gw1 = ga.T @ self.x  # (H, D)
        gx = gy + ga @ self.w1  # (N, D)
        return gx, gw1, gw2


class ProjectionBlock(Function):
    """A residual block that changes the width, y = x ws^T + F(x) with F as in `ResidualBlock`.

    x cannot be added to what has another width, so the skip carries W_s x. On images W_s is a 1x1 convolution: the
    same matrix at each pixel, and a pixel is a row here.

    Shapes    x: (N, D); ws: (O, D); w1: (H, D); w2: (O, H); y: (N, O)
    Forward   a = x w1^T;  h = relu(a);  y = x ws^T + h w2^T
    Backward  gw2 = gy^T h;  ga = (gy w2) [a > 0];  gw1 = ga^T x;  gws = gy^T x
              gx = gy ws + ga w1: the +1 has become W_s^T
    Kinks     relu has slope 0 at 0
    Saved     x, ws, w1, w2, h
    Source    He et al. 2015, Deep Residual Learning, eq. 2
    """

    def forward(self, x: Array, ws: Array, w1: Array, w2: Array) -> Array:
        self.x, self.ws, self.w1, self.w2 = x, ws, w1, w2
        self.h = self.xp.maximum(x @ w1.T, 0)  # (N, H)
        return x @ ws.T + self.h @ w2.T  # (N, O)

    def backward(self, gy: Array) -> Any:
        gws = gy.T @ self.x  # (O, D)
        gw2 = gy.T @ self.h  # (O, H)
        ga = (gy @ self.w2) * (self.h > 0)  # (N, H)
        gw1 = ga.T @ self.x  # (H, D)
        gx = gy @ self.ws + ga @ self.w1  # (N, D)
        return gx, gws, gw1, gw2


def start_as_identity(w1: Array, w2: Array) -> tuple[Array, Array]:
    """The two matrices of a `ResidualBlock`, changed as little as it takes for y = x at the start of training.

    Shapes    w1: (H, D); w2: (D, H)
    Returns   (w1, w2), new arrays. The block must be able to leave the identity: for a random x and gy, one of the two
              gradients is not zero
    Source    Goyal et al. 2017, Accurate, Large Minibatch SGD, section 5.1 (the last norm's gain starts at 0)
    """
    return w1.copy(), 0 * w2
