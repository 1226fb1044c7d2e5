"""Softmax and its logarithm: scores in, a probability distribution along one axis out.

Both shift the scores by their largest, which changes nothing (softmax forgets a common offset) and keeps
exp from overflowing. As nothing depends on the offset, no gradient flows along it: gx sums to zero.
"""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.engine import Function


class Softmax(Function):
    """Positive numbers that sum to one along `dim`.

    Shapes    x, y: (*)
    Forward   y = exp(x) / sum(exp(x))
    Backward  gx = y (gy - sum(gy y))
    Derivation  dy_i/dx_j = y_i ([i = j] - y_j), a symmetric matrix: diag(y) - y y^T. Hence
              gx_j = sum_i gy_i y_i ([i = j] - y_j) = y_j (gy_j - sum_i gy_i y_i)
    Kinks     none. A slice that is -inf throughout has no distribution: NaN, with NumPy's warning, as in PyTorch
    Saved     y
    Source    Bridle 1990, Probabilistic Interpretation of Feedforward Classification Network Outputs
    """

    dim: int

    def forward(self, x: Array) -> Array:
        e = self.xp.exp(x - x.real.max(axis=self.dim, keepdims=True))
        self.y = e / e.sum(axis=self.dim, keepdims=True)
        return self.y

    def backward(self, gy: Array) -> Array:
        return self.y * (gy - (gy * self.y).sum(axis=self.dim, keepdims=True))


class LogSoftmax(Function):
    """log(softmax(x)) along `dim`, exact where softmax itself would underflow to zero.

    Shapes    x, y: (*)
    Forward   y = x - log(sum(exp(x)))
    Backward  gx = gy - exp(y) sum(gy)
    Derivation  d log sum(exp(x)) / dx_j = exp(x_j) / sum(exp(x)) = softmax(x)_j = exp(y_j), and every y_i
              contains that term once.
    Kinks     none. A slice that is -inf throughout is NaN, with NumPy's warning, as in PyTorch
    Saved     y
    Source    Goodfellow, Bengio and Courville 2016, Deep Learning, section 6.2.2.3
    """

    dim: int

    def forward(self, x: Array) -> Array:
        self.y = log_softmax(self.xp, x, self.dim)
        return self.y

    def backward(self, gy: Array) -> Array:
        return gy - self.xp.exp(self.y) * gy.sum(axis=self.dim, keepdims=True)


def log_softmax(xp: Any, x: Array, dim: int) -> Array:
    """x - log(sum(exp(x))) along `dim`. The fused cross-entropy uses it too."""
    z = x - x.real.max(axis=dim, keepdims=True)
    return z - xp.log(xp.exp(z).sum(axis=dim, keepdims=True))
