"""Noise that is switched off at test time: a random mask, and nothing else."""

from __future__ import annotations

from minires.backend import Array
from minires.engine import Function


class Dropout(Function):
    """Each entry of the mask is 0 with probability p, and 1 / (1 - p) otherwise.

    Shapes    x, y: equal; the mask: `mask_shape`, which broadcasts to x:
              x.shape             drops elements        (dropout)
              (N, C, 1, 1)        drops feature maps    (dropout2d)
              (N, 1, 1, 1)        drops whole samples   (drop_path, on a residual branch)
    Forward   m = 1[u >= p] / (1 - p) with u ~ U[0, 1), and y = m x
    Backward  gx = m gy, with the same m: what was silent forward learns nothing
    Derivation  E[m] = (1 - p) / (1 - p) = 1, so y is x in expectation and evaluation needs no rescaling
    Kinks     none; the op is linear in x. p = 1 gives m = 0.
    Saved     m
    Source    Srivastava et al. 2014, Dropout, section 10 (the inverted scaling); Huang et al. 2016, Deep
              Networks with Stochastic Depth, section 3
    """

    p: float
    mask_shape: tuple[int, ...]

    def forward(self, x: Array) -> Array:
        dtype = x.real.dtype
        kept = (self.lib.uniform(self.mask_shape, dtype) >= self.p).astype(dtype)
        self.mask = kept * (1 / (1 - self.p) if self.p < 1 else 0.0)
        return x * self.mask

    def backward(self, gy: Array) -> Array:
        return gy * self.mask
