"""Images at another size. Along each axis the new pixels are a matrix times the old ones: y = R x C^T.

Row p of R says which of the H old pixels new pixel p is made of, and C says the same for the columns. An
image is resized by resizing its columns and then its rows, so R and C are all there is, and the backward is
the transpose, gx = R^T gy C.
"""

from __future__ import annotations

from minires.backend import Array
from minires.engine import Function


class Nearest(Function):
    """Each new pixel is a copy of an old one.

    Shapes    x: (N, C, H, W); y: (N, C, OH, OW), with (OH, OW) = size
    Forward   y[n, c, p, q] = x[n, c, r(p), s(q)],  r(p) = floor(p step_h), s(q) = floor(q step_w),
              at most H - 1 and W - 1; a step is the number of old pixels a new one spans
    Backward  gx[n, c, i, j] = sum of gy[n, c, p, q] over r(p) = i and s(q) = j
    Derivation  y = R x C^T with R[p, i] = 1 where i = r(p), else 0, and C likewise, so gx = R^T gy C: each
              copied pixel sums the gradients of its copies.
    Kinks     none; the op is linear
    Saved     x.shape, r, s
    Source    PyTorch's rule for mode="nearest" and float32: the product is rounded to float32 before floor, which
              decides between two pixels where p step is almost whole
    """

    size: tuple[int, int]
    step: tuple[float, float]

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        self.r, self.s = self._source(0), self._source(1)  # (OH,), (OW,)
        return x[:, :, self.r][:, :, :, self.s]  # (N, C, OH, OW)

    def backward(self, gy: Array) -> Array:
        rows = (self.r[:, None] == self.xp.arange(self.shape[2])).astype(gy.dtype)  # (OH, H)
        cols = (self.s[:, None] == self.xp.arange(self.shape[3])).astype(gy.dtype)  # (OW, W)
        return rows.T @ gy @ cols  # (N, C, H, W)

    def _source(self, axis: int) -> Array:
        p = self.xp.arange(self.size[axis], dtype="float32")
        return self.xp.floor(p * self.step[axis]).astype("int64").clip(0, self.shape[2 + axis] - 1)


class Bilinear(Function):
    """Each new pixel is a weighted mean of the 2 x 2 old ones around it.

    Shapes    x: (N, C, H, W); y: (N, C, OH, OW), with (OH, OW) = size; R: (OH, H); C: (OW, W)
    Forward   y = R x C^T, where R[p, i] = max(0, 1 - |u(p) - i|) and u(p) is where new pixel p lies on the old
              grid, kept within 0 ... H - 1:
              u(p) = p step                  with align_corners: corner centers meet
              u(p) = (p + 1/2) step - 1/2    otherwise: corner edges meet
    Backward  gx = R^T gy C: each old pixel collects from the new ones it went into, with the same weights
    Derivation  dL = <gy, R dx C^T> = <R^T gy C, dx>
    Kinks     none; the op is linear in x. The products are dense, so a pixel that is not finite spreads along
              its row and column.
    Saved     R, C
    Source    PyTorch's rule for mode="bilinear"; the weights are the hat function of linear interpolation
    """

    size: tuple[int, int]
    step: tuple[float, float]
    align_corners: bool

    def forward(self, x: Array) -> Array:
        self.rows, self.cols = self._weights(x, 0), self._weights(x, 1)
        return self.rows @ x @ self.cols.T  # (N, C, OH, OW)

    def backward(self, gy: Array) -> Array:
        return self.rows.T @ gy @ self.cols  # (N, C, H, W)

    def _weights(self, x: Array, axis: int) -> Array:
        xp, n = self.xp, x.shape[2 + axis]
        p = xp.arange(self.size[axis], dtype="float64")
        u = p * self.step[axis] if self.align_corners else (p + 0.5) * self.step[axis] - 0.5
        distance = abs(u.clip(0, n - 1)[:, None] - xp.arange(n))  # (new, old)
        return xp.maximum(0.0, 1.0 - distance).astype(x.real.dtype)
