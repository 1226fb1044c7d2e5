"""Losses: how far an answer is from its target, and the gradient with which every backward pass begins.

All take `reduction`: "none" keeps one loss an element (or a sample), "sum" adds them, "mean" divides the sum by
their number. `reduce` and `spread` at the end are the forward and backward of that last step.
"""

from __future__ import annotations

import math
from typing import Any

from minires.backend import Array
from minires.engine import Function
from minires.ops.softmax import log_softmax


class Nll(Function):
    """Negative log-likelihood: the log-probability that was given to the right class, negated.

    Shapes    x: (N, C, *) log-probabilities; t: (N, *) classes 0..C-1; w: (C,) or None; y: (N, *) or ()
              (also x: (C,) with t: ())
    Forward   l_n = -w[t_n] x[n, t_n], and 0 where t_n = ignore_index
              y = l, sum(l), or sum(l) / sum(w[t_n] over the samples not ignored)
    Backward  gx[n, c] = -w[t_n] gl_n at c = t_n, and 0 elsewhere
    Kinks     none. If every sample is ignored the mean is 0 / 0: NaN, as in PyTorch
    Saved     where the targets are, and their weights
    Source    torch.nn.functional.nll_loss
    """

    ignore_index: int
    reduction: str

    def forward(self, x: Array, t: Array, w: Array | None) -> Array:
        x3 = fold_classes(x)  # (N, C, L)
        self.shape, self.folded = x.shape, x3.shape
        self.place, self.kept, self.wt, self.total = find_targets(self.xp, x3, t, w, self.ignore_index)
        losses = self.xp.where(self.kept, -self.wt * x3[self.place], 0.0)  # (N, L)
        return reduce(losses, self.reduction, self.total, t.shape)

    def backward(self, gy: Array) -> Any:
        gl = self.xp.where(self.kept, spread(gy, self.kept.shape, self.reduction, self.total), 0.0)  # (N, L)
        gx = self.xp.zeros(self.folded, gl.dtype)  # (N, C, L)
        gx[self.place] = -self.wt * gl
        return gx.reshape(self.shape), None, None


class CrossEntropy(Function):
    """Log-softmax and negative log-likelihood in one op: the loss of a classifier, from its logits.

    Shapes    x: (N, C, *) logits; t: (N, *) classes 0..C-1; w: (C,) or None; y: (N, *) or ()
              (also x: (C,) with t: ())
    Forward   p = softmax(x) along C;  a = label_smoothing
              l_n = -(1 - a) w[t_n] log p[n, t_n] - (a / C) sum_c w[c] log p[n, c],  and 0 where t_n = ignore_index
              y = l, sum(l), or sum(l) / sum(w[t_n] over the samples not ignored)
    Backward  gx = (p sum_c q - q) gl,  where q[n, c] = w[c] ((1 - a) [c = t_n] + a / C), so that l_n = -sum_c q log p
              Without weights and smoothing, the mean's gradient is (p - onehot(t)) / N
    Derivation  dl/dlogp = -q; log-softmax turns that into -q + p sum_c q (see LogSoftmax). Fused, the
              1 / p of the logarithm has cancelled against the p of softmax's Jacobian before it could overflow.
    Kinks     none. If every sample is ignored the mean is 0 / 0: NaN, as in PyTorch
    Saved     log p, where the targets are, their weights, and w
    Source    torch.nn.functional.cross_entropy; smoothing: Szegedy et al. 2016, Rethinking the Inception
              Architecture, section 7
    """

    ignore_index: int
    label_smoothing: float
    reduction: str

    def forward(self, x: Array, t: Array, w: Array | None) -> Array:
        xp, a, x3 = self.xp, self.label_smoothing, fold_classes(x)  # (N, C, L)
        self.shape = x.shape
        self.place, self.kept, self.wt, self.total = find_targets(xp, x3, t, w, self.ignore_index)
        self.logp = log_softmax(xp, x3, 1)
        losses = (a - 1) * self.wt * self.logp[self.place]  # (N, L)
        if a:
            self.w = xp.ones((1, x3.shape[1], 1), x3.real.dtype) if w is None else w.reshape(1, -1, 1)
            losses = losses - (a / x3.shape[1]) * (self.w * self.logp).sum(axis=1)
        return reduce(xp.where(self.kept, losses, 0.0), self.reduction, self.total, t.shape)

    def backward(self, gy: Array) -> Any:
        xp, a = self.xp, self.label_smoothing
        gl = xp.where(self.kept, spread(gy, self.kept.shape, self.reduction, self.total), 0.0)  # (N, L)
        at_target = (1 - a) * self.wt * gl
        gx = xp.exp(self.logp)  # p, (N, C, L)
        if a:
            everywhere = (a / gx.shape[1]) * gl[:, None] * self.w  # (N, C, L)
            gx *= at_target[:, None] + everywhere.sum(axis=1, keepdims=True)
            gx -= everywhere
        else:
            gx *= at_target[:, None]
        gx[self.place] -= at_target  # one place a sample, so none is written twice
        return gx.reshape(self.shape), None, None


class SoftCrossEntropy(Function):
    """Cross-entropy against a target distribution: distillation, mixup, soft labels.

    Shapes    x: (N, C, *) logits; t: like x, class probabilities; w: (C,) or None; y: (N, *) or () (also x: (C,))
    Forward   l_n = -sum_c q[n, c] log p[n, c],  q[n, c] = w[c] ((1 - a) t[n, c] + a / C),  a = label_smoothing
              y = l, sum(l), or sum(l) / (number of l)
    Backward  gx = (p sum_c q - q) gl
              gt = -(1 - a) w log p gl
    Derivation  as for CrossEntropy; l is linear in t
    Kinks     none
    Saved     log p, q, w
    Source    torch.nn.functional.cross_entropy with class probabilities; Hinton et al. 2015, Distilling, eq. 2
    """

    label_smoothing: float
    reduction: str

    def forward(self, x: Array, t: Array, w: Array | None) -> Array:
        self.shape, kept = x.shape, x.shape[:1] * (x.ndim > 1) + x.shape[2:]  # (N, *)
        x3, t3 = fold_classes(x), fold_classes(t)  # (N, C, L)
        self.w = None if w is None else w.reshape(1, -1, 1)
        q = (1 - self.label_smoothing) * t3 + self.label_smoothing / x3.shape[1]
        self.q = q if self.w is None else self.w * q
        self.logp = log_softmax(self.xp, x3, 1)
        self.total = math.prod(kept)
        return reduce(-(self.q * self.logp).sum(axis=1), self.reduction, self.total, kept)

    def backward(self, gy: Array) -> Any:
        n, _, length = self.logp.shape
        gl = spread(gy, (n, length), self.reduction, self.total)[:, None]  # (N, 1, L)
        gx = gt = None
        if self.needs[0]:
            gx = (self.xp.exp(self.logp) * self.q.sum(axis=1, keepdims=True) - self.q) * gl
            gx = gx.reshape(self.shape)
        if self.needs[1]:
            gt = self.logp * ((self.label_smoothing - 1) * gl)
            gt = (gt if self.w is None else self.w * gt).reshape(self.shape)
        return gx, gt, None


class Mse(Function):
    """Mean squared error.

    Shapes    x, t: (*); y: (*) or ()
    Forward   l = (x - t)^2
    Backward  gx = 2 (x - t) gl;  gt = -gx
    Kinks     none
    Saved     x - t
    Source    Legendre 1805; torch.nn.functional.mse_loss
    """

    reduction: str

    def forward(self, x: Array, t: Array) -> Array:
        self.d = x - t
        return reduce(self.d * self.d, self.reduction, self.d.size)

    def backward(self, gy: Array) -> Any:
        gx = self.d * (2 * spread(gy, self.d.shape, self.reduction, self.d.size))
        return gx, -gx if self.needs[1] else None


class L1(Function):
    """Absolute error.

    Shapes    x, t: (*); y: (*) or ()
    Forward   l = |x - t|
    Backward  gx = sign(x - t) gl;  gt = -gx
    Kinks     at x = t any slope in [-1, 1] is a subgradient; 0 is chosen, as in PyTorch
    Saved     sign(x - t)
    Source    torch.nn.functional.l1_loss
    """

    reduction: str

    def forward(self, x: Array, t: Array) -> Array:
        d = x - t
        self.sign = self.xp.sign(d.real)
        return reduce(self.sign * d, self.reduction, d.size)

    def backward(self, gy: Array) -> Any:
        gx = self.sign * spread(gy, self.sign.shape, self.reduction, self.sign.size)
        return gx, -gx if self.needs[1] else None


class Huber(Function):
    """Squared error near zero, absolute error far away: outliers pull with a bounded force.

    Shapes    x, t: (*); y: (*) or ()
    Forward   d = x - t;  l = gain d^2 / 2 where |d| < delta, else gain delta (|d| - delta / 2)
    Backward  gx = gain clip(d, -delta, delta) gl;  gt = -gx
    Derivation  with s = clip(d, -delta, delta) both branches read l = gain s (d - s / 2): for |d| < delta, s = d; else
              s = delta sign(d). And dl/dd = gain s in both.
    Kinks     none in the gradient, which is continuous at |d| = delta
    Saved     s
    Source    Huber 1964, Robust Estimation of a Location Parameter. smooth_l1_loss(beta) is delta = beta and
              gain = 1 / beta (Girshick 2015, Fast R-CNN, eq. 3)
    """

    delta: float
    gain: float
    reduction: str

    def forward(self, x: Array, t: Array) -> Array:
        d = x - t
        near = (d.real < self.delta) & (d.real > -self.delta)
        self.s = self.xp.where(near, d, self.delta * self.xp.sign(d.real))
        return reduce(self.gain * self.s * (d - self.s / 2), self.reduction, d.size)

    def backward(self, gy: Array) -> Any:
        gx = self.s * (self.gain * spread(gy, self.s.shape, self.reduction, self.s.size))
        return gx, -gx if self.needs[1] else None


class BinaryCrossEntropyWithLogits(Function):
    """Sigmoid and binary cross-entropy in one op: independent yes-or-no questions.

    Shapes    x, t: (*), t in [0, 1]; w and u (pos_weight): broadcast to (*), or None, which stands for 1; y: (*) or ()
    Forward   p = sigmoid(x);  l = -w (u t log p + (1 - t) log(1 - p))
    Backward  gx = w ((1 - t) p - u t (1 - p)) gl;  without weights, (p - t) gl
              gt = w (log(1 - p) - u log p) gl
    Derivation  -log p = softplus(-x) and -log(1 - p) = softplus(x) never overflow, with softplus' = sigmoid:
              d(-log p)/dx = -(1 - p) and d(-log(1 - p))/dx = p
    Kinks     none
    Saved     x, t, w, u
    Source    torch.nn.functional.binary_cross_entropy_with_logits
    """

    reduction: str

    def forward(self, x: Array, t: Array, w: Array | None, u: Array | None) -> Array:
        self.x, self.t, self.w, self.u = x, t, w, u
        yes, no = softplus(self.xp, -x), softplus(self.xp, x)  # -log p, -log(1 - p)
        losses = (t if u is None else u * t) * yes + (1 - t) * no
        return reduce(losses if w is None else w * losses, self.reduction, x.size)

    def backward(self, gy: Array) -> Any:
        x, t, u = self.x, self.t, self.u
        gl = spread(gy, x.shape, self.reduction, x.size)
        gl = gl if self.w is None else self.w * gl
        gx = gt = None
        if self.needs[0]:
            p = 0.5 * (1 + self.xp.tanh(x / 2))
            gx = ((1 - t) * p - (t if u is None else u * t) * (1 - p)) * gl
        if self.needs[1]:
            yes, no = softplus(self.xp, -x), softplus(self.xp, x)
            gt = ((yes if u is None else u * yes) - no) * gl
        return gx, gt, None, None


class Dice(Function):
    """Soft Dice loss: one minus the overlap of a predicted and a true mask, so that rare pixels count.

    Shapes    x, t: (N, C, *), probabilities and mask; y: (N, C) or ()
    Forward   a = 2 sum(x t) + eps;  b = sum(x) + sum(t) + eps;  l = 1 - a / b, for each sample and channel
    Backward  gx = (a - 2 t b) / b^2 gl;  gt = (a - 2 x b) / b^2 gl
    Derivation  the quotient rule: dl/dx_i = -(2 t_i b - a) / b^2, as da/dx_i = 2 t_i and db/dx_i = 1
    Kinks     none for x, t >= 0 and eps > 0
    Saved     x, t, a, b
    Source    Milletari, Navab and Ahmadi 2016, V-Net, section 3, whose denominator sums x^2 + t^2; the plain sums
              here are the usual later form, and equal it for masks of 0 and 1
    """

    eps: float
    reduction: str

    def forward(self, x: Array, t: Array) -> Array:
        over = tuple(range(2, x.ndim))
        self.x, self.t = x, t
        self.a = 2 * (x * t).sum(axis=over, keepdims=True) + self.eps  # (N, C, 1...)
        self.b = x.sum(axis=over, keepdims=True) + t.sum(axis=over, keepdims=True) + self.eps
        return reduce(1 - self.a / self.b, self.reduction, self.a.size, x.shape[:2])

    def backward(self, gy: Array) -> Any:
        gl = spread(gy, self.a.shape, self.reduction, self.a.size) / (self.b * self.b)  # (N, C, 1...)
        gx = (self.a - 2 * self.b * self.t) * gl if self.needs[0] else None
        gt = (self.a - 2 * self.b * self.x) * gl if self.needs[1] else None
        return gx, gt


def reduce(losses: Array, reduction: str, total: Any, shape: tuple[int, ...] | None = None) -> Array:
    """The last step of every loss: all of them (in `shape`), their sum, or their sum over `total`."""
    if reduction == "none":
        return losses if shape is None else losses.reshape(shape)
    return losses.sum() if reduction == "sum" else losses.sum() / total


def spread(gy: Array, shape: tuple[int, ...], reduction: str, total: Any) -> Array:
    """Backward of `reduce`: what each loss receives, an array that broadcasts to `shape`."""
    if reduction == "none":
        return gy.reshape(shape)
    gl = gy.reshape((1,) * len(shape))
    return gl if reduction == "sum" else gl / total


def fold_classes(x: Array) -> Array:
    """(N, C, *) as (N, C, L), and one sample (C,) as (1, C, 1)."""
    return x.reshape(1, -1, 1) if x.ndim == 1 else x.reshape(*x.shape[:2], math.prod(x.shape[2:]))


def find_targets(xp: Any, x3: Array, t: Array, w: Array | None, ignore_index: int) -> tuple[Any, Array, Array, Array]:
    """Of (N, C, L) scores: the index of each sample's target, whether it counts, its weight (N, L), their sum."""
    n, _, length = x3.shape
    t = t.reshape(n, length).astype(xp.int64)
    kept = t != ignore_index
    t = xp.where(kept, t, 0)  # class 0 stands in, so that the index is in bounds
    wt = xp.ones((n, length), x3.real.dtype) if w is None else w[t]
    return (xp.arange(n)[:, None], t, xp.arange(length)), kept, wt, xp.where(kept, wt, 0.0).sum()


def softplus(xp: Any, x: Array) -> Array:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), which never overflows."""
    negative = x.real < 0
    return xp.where(negative, 0.0, x) + xp.log1p(xp.exp(xp.where(negative, x, -x)))
