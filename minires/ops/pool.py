"""Pooling: one number for each window. The maximum hands its gradient to the winner, a mean to all alike.

Every average pool sends each input its share: y = sum of a x with weights a that sum to one, so gx = a gy, and
where windows overlap, the shares add up.
"""

from __future__ import annotations

import math
from typing import Any

from minires.backend import Array
from minires.engine import Function
from minires.ops.conv import Pair, taps


class MaxPool2d(Function):
    """The largest value of each window.

    Shapes    x: (N, C, H, W); y: (N, C, OH, OW), with (OH, OW) = out, as the caller rounded it
    Forward   y[n, c, i, j] = max over (k, l) of x[n, c, s i + d k - p, s j + d l - p]; padding counts as -inf
    Backward  gx = gy at the pixel that won, summed over the windows it won; 0 elsewhere
    Derivation  Near x the winner stays the winner, so y is that pixel and its derivative is 1 there.
    Kinks     where two pixels of a window are equal. The first of them, row by row, wins and takes the whole
              gradient, as in PyTorch. Complex numbers are compared by their real parts first. A NaN passes
              through, without gradient.
    Saved     x, y
    Source    Ranzato et al. 2007, Unsupervised Learning of Invariant Feature Hierarchies; PyTorch's choice at ties
    """

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    out: Pair

    def forward(self, x: Array) -> Array:
        xp, self.x = self.xp, x
        self.y = xp.full((*x.shape[:2], *self.out), -math.inf, x.dtype)  # (N, C, OH, OW)
        for _, _, seen, under in self.taps():
            self.y[seen] = xp.maximum(self.y[seen], x[under])
        return self.y

    def backward(self, gy: Array) -> Array:
        gx = self.xp.zeros(self.x.shape, gy.dtype)  # (N, C, H, W)
        pending = self.xp.ones(gy.shape, bool)  # the windows whose winner has not come yet
        for _, _, seen, under in self.taps():
            won = (self.x[under] == self.y[seen]) & pending[seen]
            pending[seen] ^= won
            gx[under] += gy[seen] * won
        return gx

    def taps(self) -> Any:
        """The taps of the kernel, row by row; see `minires.ops.conv.taps`."""
        return taps(self.kernel, self.out, self.x.shape[2:], self.stride, self.padding, self.dilation)


class AvgPool2d(Function):
    """The mean of each window.

    Shapes    x: (N, C, H, W); y: (N, C, OH, OW), with (OH, OW) = out, as the caller rounded it
    Forward   y[n, c, i, j] = (1 / size[i, j]) sum over (k, l) of x[n, c, s i + k - p, s j + l - p]; padding is 0
    Backward  gx[n, c, h, w] = sum of gy[n, c, i, j] / size[i, j] over the windows that see (h, w)
    Derivation  y is linear in x with the weight 1 / size, so every pixel of a window gets that share of its gradient.
    Kinks     none; the op is linear
    Saved     x.shape, 1 / size
    Source    LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition, section II B

    `share` is 1 / size: one number where all windows are equal, else (OH, OW) nested lists, one number a window.
    """

    kernel: Pair
    stride: Pair
    padding: Pair
    out: Pair
    share: Any

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        if not isinstance(self.share, float):
            self.share = self.lib.asarray(self.share, x.real.dtype)  # (OH, OW)
        y = self.xp.zeros((*x.shape[:2], *self.out), x.dtype)  # (N, C, OH, OW)
        for _, _, seen, under in self.taps():
            y[seen] += x[under]
        y *= self.share
        return y

    def backward(self, gy: Array) -> Array:
        shares = gy * self.share
        gx = self.xp.zeros(self.shape, gy.dtype)  # (N, C, H, W)
        for _, _, seen, under in self.taps():
            gx[under] += shares[seen]
        return gx

    def taps(self) -> Any:
        """The taps of the kernel; see `minires.ops.conv.taps`."""
        return taps(self.kernel, self.out, self.shape[2:], self.stride, self.padding, (1, 1))


class AdaptiveAvgPool2d(Function):
    """The mean over each cell of a grid of `size` cells, whatever the image's size.

    Shapes    x: (N, C, H, W); y: (N, C, OH, OW), with (OH, OW) = size; R: (OH, H); S: (OW, W)
    Forward   y = R x Sᵀ: cell i is the mean of the rows floor(i H / OH) ... ceil((i + 1) H / OH) - 1, so R[i] is one
              over their number there and 0 elsewhere; S does the same for the columns
    Backward  gx = Rᵀ gy S: each cell hands every pixel in it an equal share
    Derivation  <gy, R dx Sᵀ> = <Rᵀ gy S, dx>
    Kinks     none; the op is linear. The products are dense, so a pixel that is not finite spreads along its row
              and column.
    Saved     R, S
    Source    He et al. 2014, Spatial Pyramid Pooling, section 2.2, and PyTorch's rule for where a cell ends
    """

    size: Pair

    def forward(self, x: Array) -> Array:
        self.rows, self.columns = self.means(0, x), self.means(1, x)  # (OH, H), (OW, W)
        return self.rows @ x @ self.columns.T  # (N, C, OH, OW)

    def backward(self, gy: Array) -> Array:
        return self.rows.T @ gy @ self.columns  # (N, C, H, W)

    def means(self, axis: int, x: Array) -> Array:
        """The matrix that averages each cell of one axis."""
        cells, size = self.size[axis], x.shape[2 + axis]
        matrix = self.xp.zeros((cells, size), x.real.dtype)
        for i in range(cells):
            first, last = i * size // cells, -(-(i + 1) * size // cells)
            matrix[i, first:last] = 1 / (last - first)
        return matrix


class GlobalAvgPool2d(Function):
    """The mean of every channel's image: `AdaptiveAvgPool2d` to one cell.

    Shapes    x: (N, C, H, W); y: (N, C, 1, 1)
    Forward   y[n, c] = mean over (h, w) of x[n, c, h, w]
    Backward  gx[n, c, h, w] = gy[n, c] / (H W), the same for every pixel
    Kinks     none; the op is linear
    Saved     x.shape
    Source    Lin, Chen and Yan 2014, Network in Network, section 3.2
    """

    def forward(self, x: Array) -> Array:
        self.shape = n, c, h, w = x.shape
        return x.reshape(n, c, h * w).mean(axis=2).reshape(n, c, 1, 1)

    def backward(self, gy: Array) -> Array:
        return self.xp.broadcast_to(gy / (self.shape[2] * self.shape[3]), self.shape)  # (N, C, H, W)
