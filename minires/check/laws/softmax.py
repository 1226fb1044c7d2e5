"""Laws of softmax and its logarithm: a common offset is forgotten, and what comes back is a covariance."""

from __future__ import annotations

import itertools
import math

import numpy as np

from minires import functional as F
from minires.backend import Array
from minires.check.draw import Draw
from minires.check.law import law, pull, require, same, same_bits
from minires.ops.softmax import LogSoftmax, Softmax

BOTH = (F.softmax, F.log_softmax)

# --- both


@law(Softmax, LogSoftmax)
def softmax_gx_sums_to_zero(draw: Draw) -> None:
    """Σ gx = 0 along dim, for y(x + t) = y(x): no gradient flows along (1, ..., 1)."""
    x, dim, gy = _scores(draw)
    t = draw.normal(*[1 if a == dim else n for a, n in enumerate(x.shape)])
    for f in BOTH:
        y, (gx,) = pull(lambda x, f=f: f(x, dim), x, gy=gy)
        moved, (g_moved,) = pull(lambda x, f=f: f(x, dim), x + 10 * t, gy=gy)
        total = gx.sum(axis=dim)
        same(total, np.zeros(total.shape), f"{f.__name__}: Σ gx", 1e-13, scale=float(np.abs(gy).sum()))
        same(moved, y, f"{f.__name__}: y at x + t")
        same(g_moved, gx, f"{f.__name__}: gx at x + t", scale=float(np.abs(gy).max()))


@law(Softmax, LogSoftmax)
def a_slice_of_scores_gets_its_own_gradient(draw: Draw) -> None:
    """A cotangent on one slice along dim gives exactly 0 to all others, and the others' scores change nothing."""
    x = _scores(draw)[0]
    for f, dim in itertools.product(BOTH, range(x.ndim)):
        rows = np.moveaxis(x, dim, -1)
        gy = np.zeros(rows.shape)
        chosen = tuple(draw.integer(0, n - 1) for n in rows.shape[:-1])
        gy[chosen] = draw.normal(rows.shape[-1])
        _, (gx,) = pull(lambda x, f=f, dim=dim: f(x, dim), x, gy=np.moveaxis(gy, -1, dim))
        _, (alone,) = pull(lambda x, f=f: f(x, 0), rows[chosen], gy=gy[chosen])
        got = np.moveaxis(gx, dim, -1)
        same(got[chosen], alone, f"{f.__name__}: gx of one slice", scale=float(np.abs(gy).max()))
        got[chosen] = 0
        require(np.all(got == 0), f"{f.__name__}: a slice gets another's gradient")


@law(Softmax, LogSoftmax)
def the_order_of_scores_does_not_matter_to_softmax(draw: Draw) -> None:
    """Permute x and gy along dim, and gx is permuted."""
    x, dim, gy = _scores(draw)
    order = draw.rng.permutation(x.shape[dim])
    for f in BOTH:
        _, (gx,) = pull(lambda x, f=f: f(x, dim), x, gy=gy)
        _, (permuted,) = pull(lambda x, f=f: f(x, dim), x.take(order, dim), gy=gy.take(order, dim))
        same(permuted, gx.take(order, dim), f"{f.__name__}: gx", scale=float(np.abs(gy).max()))


@law(Softmax, LogSoftmax)
def a_score_of_minus_infinity_gets_no_gradient(draw: Draw) -> None:
    """Its p is 0, so softmax gives it exactly 0; log softmax gives it its own gy. The others do not see it."""
    n, hidden = draw.size(3, 5), draw.integer(0, 2)
    x, gy = draw.normal(n), draw.normal(n)
    x[hidden] = -math.inf
    rest = np.delete(x, hidden)
    for f in BOTH:
        sent = gy if f is F.softmax else np.where(x == -math.inf, 0.0, gy)
        _, (gx,) = pull(lambda x, f=f: f(x, 0), x, gy=sent)
        _, (without,) = pull(lambda x, f=f: f(x, 0), rest, gy=np.delete(sent, hidden))
        require(gx[hidden] == 0, f"{f.__name__}: a score of -inf gets a gradient")
        same(np.delete(gx, hidden), without, f"{f.__name__}: gx without that score", scale=float(np.abs(gy).max()))


# --- softmax


@law(Softmax)
def softmax_gx_is_p_times_gy_less_its_mean(draw: Draw) -> None:
    """gx_j = p_j (gy_j - E gy), E the mean under p: J = diag(p) - p p^T, written out. Bridle 1990."""
    n = draw.size(2, 5)
    x, gy = draw.normal(n), draw.normal(n)
    p, (gx,) = pull(lambda x: F.softmax(x, 0), x, gy=gy)
    jacobian = np.array([[p[i] * ((i == j) - p[j]) for j in range(n)] for i in range(n)])
    same(p, np.exp(x) / np.exp(x).sum(), "p")
    same(gx, jacobian.T @ gy, "gx", scale=float(np.abs(gy).max()))


@law(Softmax)
def softmax_has_a_symmetric_jacobian(draw: Draw) -> None:
    """<v, J^T u> = <u, J^T v>: it is the gradient of log sum exp, so its Jacobian is a Hessian."""
    x, dim, u = _scores(draw)
    v = draw.normal(*x.shape)
    (_, (gu,)), (_, (gv,)) = (pull(lambda x: F.softmax(x, dim), x, gy=g) for g in (u, v))
    same(np.sum(v * gu), np.sum(u * gv), "<v, J^T u>", scale=float(np.abs(u * v).sum()))


@law(Softmax)
def what_softmax_hands_back_is_the_variance_of_gy(draw: Draw) -> None:
    """<gy, gx> = E (gy - E gy)^2 >= 0 under p, and |gx| <= |gy| / 2: the variance is at most a quarter of the range's
    square (Popoviciu 1935), so no softmax amplifies a gradient.
    """
    n = draw.size(2, 5)
    x, gy = draw.choice([0.1, 1.0, 4.0]) * draw.normal(n), draw.normal(n)
    p, (gx,) = pull(lambda x: F.softmax(x, 0), x, gy=gy)
    variance = np.sum(p * (gy - np.sum(p * gy)) ** 2)
    same(np.dot(gy, gx), variance, "<gy, gx>", scale=float(np.dot(gy, gy)))
    require(np.linalg.norm(gx) <= 0.5 * np.linalg.norm(gy) * (1 + 1e-12), "|gx| is larger than |gy| / 2")


@law(Softmax)
def of_two_scores_softmax_is_a_sigmoid_of_their_difference(draw: Draw) -> None:
    """p_0 = sigmoid(x_0 - x_1), so gx_0 = -gx_1 = p_0 p_1 (gy_0 - gy_1)."""
    n = draw.size(1, 4)
    x, gy = draw.normal(n, 2), draw.normal(n, 2)
    p, (gx,) = pull(lambda x: F.softmax(x, 1), x, gy=gy)
    _, (g0, g1) = pull(lambda a, b: F.sigmoid(a - b), x[:, 0], x[:, 1], gy=gy[:, 0] - gy[:, 1])
    same(gx, np.stack([g0, g1], axis=1), "gx", scale=float(np.abs(gy).max()))
    same(gx[:, 0], p[:, 0] * p[:, 1] * (gy[:, 0] - gy[:, 1]), "gx_0", scale=float(np.abs(gy).max()))


@law(Softmax)
def a_sure_softmax_learns_nothing(draw: Draw) -> None:
    """With one score 800 ahead p is 1 and 0 to the last bit, and gx exactly 0: attention that is sure stays so."""
    n = draw.size(2, 5)
    x, gy = draw.normal(n), draw.normal(n)
    x[draw.integer(0, n - 1)] += 800.0
    _, (gx,) = pull(lambda x: F.softmax(x, 0), x, gy=gy)
    require(np.all(gx == 0), "gx of a sure softmax")


# --- its logarithm


@law(LogSoftmax)
def log_softmax_gx_is_gy_less_p_times_its_sum(draw: Draw) -> None:
    """gx = gy - p Σ gy: for gy = -onehot(t) that is p - onehot(t), the gradient of every classifier."""
    n, t = draw.size(2, 5), draw.integer(0, 1)
    x, gy = draw.normal(n), draw.normal(n)
    p = np.exp(x) / np.exp(x).sum()
    _, (gx,) = pull(lambda x: F.log_softmax(x, 0), x, gy=gy)
    same(gx, gy - p * gy.sum(), "gx", scale=float(np.abs(gy).max()))
    _, (gx,) = pull(lambda x: F.log_softmax(x, 0), x, gy=-np.eye(n)[t])
    same(gx, p - np.eye(n)[t], "gx for -onehot(t)", scale=1.0)


@law(LogSoftmax, Softmax)
def log_softmax_is_the_logarithm_of_softmax(draw: Draw) -> None:
    """Value and gradient, by the chain rule through log."""
    x, dim, gy = _scores(draw)
    y, (gx,) = pull(lambda x: F.log_softmax(x, dim), x, gy=gy)
    apart, (g_apart,) = pull(lambda x: F.log(F.softmax(x, dim)), x, gy=gy)
    same(y, apart, "y")
    same(gx, g_apart, "gx", scale=float(np.abs(gy).sum()))


@law(LogSoftmax)
def a_wrong_classifier_that_is_sure_still_learns(draw: Draw) -> None:
    """Where softmax underflows to 0, log softmax still gives gx = gy - onehot(top) Σ gy: finite, and not small."""
    n = draw.size(2, 5)
    x, gy, top = draw.normal(n), draw.normal(n), draw.integer(0, 1)
    x[top] += 800.0
    y, (gx,) = pull(lambda x: F.log_softmax(x, 0), x, gy=gy)
    require(np.all(np.isfinite(y)), "y is not finite")
    same(gx, gy - np.eye(n)[top] * gy.sum(), "gx", scale=float(np.abs(gy).max()))


@law(LogSoftmax)
def log_softmax_leaves_gradients_that_sum_to_zero_alone(draw: Draw) -> None:
    """Σ gy = 0 gives gx = gy, whatever x: of differences of log-probabilities the normalizer is gone."""
    n = draw.size(2, 5)
    gy = draw.normal(n)
    gy -= gy.mean()
    gy[0] -= gy.sum()
    _, (here,) = pull(lambda x: F.log_softmax(x, 0), draw.normal(n), gy=gy)
    same(here, gy, "gx", scale=1.0)
    difference = np.zeros(n)
    difference[:2] = 1.5, -1.5
    _, (exact,) = pull(lambda x: F.log_softmax(x, 0), draw.normal(n), gy=difference)
    same_bits(exact, difference, "gx of a difference of two")


def _scores(draw: Draw) -> tuple[Array, int, Array]:
    """x with two axes or three, each of two at least and of different lengths, one of them, and a cotangent."""
    shape = draw.choice([(2, 3), (3, 2), (2, 4, 3), (4, 2)])
    return draw.normal(*shape), draw.integer(0, len(shape) - 1), draw.normal(*shape)
