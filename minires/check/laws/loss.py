"""Laws of losses: where backward begins, how large a gradient is there, and who gets none."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from minires import functional as F
from minires.backend import Array
from minires.check.draw import Draw
from minires.check.law import law, pull, require, same, same_bits
from minires.engine import Tensor
from minires.ops.loss import L1, BinaryCrossEntropyWithLogits, CrossEntropy, Dice, Huber, Mse, Nll, SoftCrossEntropy
from minires.ops.softmax import LogSoftmax

Loss = Callable[..., Tensor]
IGNORED = -100

# --- every loss


@law(Nll, CrossEntropy, SoftCrossEntropy, Mse, L1, Huber, BinaryCrossEntropyWithLogits, Dice)
def a_mean_hands_out_the_sums_gradient_over_the_number_of_losses(draw: Draw) -> None:
    """gx of "mean" is gx of "sum" over the number of losses, and gx of "sum" is gx of "none" for a gy that is constant.

    The number counts losses, not elements of x: N for classes (without weights), N C for Dice.
    """
    for name, loss, x in _every(draw):
        losses = loss(x, "none").data
        c = draw.positive()
        _, (none,) = pull(lambda x, loss=loss: loss(x, "none"), x, gy=np.full(losses.shape, c))
        _, (added,) = pull(lambda x, loss=loss: loss(x, "sum"), x, gy=c)
        mean, (g_mean,) = pull(lambda x, loss=loss: loss(x, "mean"), x, gy=c)
        same(added, none, f"{name}: gx of the sum")
        same(g_mean, added / losses.size, f"{name}: gx of the mean")
        same(mean, losses.mean(), f"{name}: the mean")


# --- classes


@law(CrossEntropy, SoftCrossEntropy)
def the_gradient_of_cross_entropy_is_p_minus_the_target_over_n(draw: Draw) -> None:
    """gx = (softmax(x) - t) / N, t the one-hot rows of integer targets, or probabilities. Bridle 1990."""
    x, t = _batch(draw)
    p = F.softmax(x, 1).data
    onehot = np.moveaxis(np.eye(x.shape[1])[t], -1, 1)
    soft = F.softmax(draw.normal(*x.shape), 1).data
    for target, rows in ((t, onehot), (soft, soft)):
        _, (gx,) = pull(lambda x, target=target: F.cross_entropy(x, target), x, gy=np.float64(1.0))
        same(gx, (p - rows) / t.size, "gx", scale=1.0)


@law(CrossEntropy, SoftCrossEntropy)
def cross_entropys_gx_sums_to_zero_over_the_classes(draw: Draw) -> None:
    """Σ_c gx = 0 for each sample, weighted, smoothed or not: an offset common to all logits changes no loss."""
    x, t = _batch(draw)
    w, gy = draw.positive(x.shape[1]), draw.normal(*t.shape)
    for target, a in itertools.product((t, draw.positive(*x.shape)), (0.0, 0.3)):
        options: dict[str, Any] = {"reduction": "none", "label_smoothing": a}
        _, (gx,) = pull(lambda x, t=target, o=options: F.cross_entropy(x, t, w, **o), x, gy=gy)
        same(gx.sum(axis=1), np.zeros(t.shape), "Σ gx", 1e-12, scale=float(np.abs(gy).max()) * x.shape[1])


@law(CrossEntropy, Nll)
def ignored_samples_get_nothing_and_do_not_count(draw: Draw) -> None:
    """Their gx is exactly 0, and the others' is that of the batch without them: the mean is over those that count.

    Also where ignore_index is a class that exists.
    """
    n, c = draw.size(3, 5), draw.size(3, 4)
    x, w, gy = draw.normal(n, c), draw.positive(c), draw.normal()
    ignored = draw.choice([IGNORED, 0, 1])
    t = draw.integers(c - 2, n) + 2  # none of them is ignored yet
    out = np.arange(n) < draw.integer(1, n - 1)
    t[out] = ignored
    for loss, smooth in ((F.cross_entropy, {"label_smoothing": 0.2}), (F.cross_entropy, {}), (F.nll_loss, {})):
        for weight in (None, w):
            options: dict[str, Any] = {"ignore_index": ignored, **smooth}
            _, (gx,) = pull(lambda x, f=loss, v=weight, o=options: f(x, t, v, **o), x, gy=gy)
            require(np.all(gx[out] == 0), f"{loss.__name__}: an ignored sample gets a gradient")
            _, (alone,) = pull(lambda x, f=loss, v=weight, o=options: f(x, t[~out], v, **o), x[~out], gy=gy)
            same(gx[~out], alone, f"{loss.__name__}: gx of those that count")


@law(CrossEntropy)
def label_smoothing_mixes_the_target_with_all_classes(draw: Draw) -> None:
    """gx(a) = (1 - a) gx(0) + a gx(every class 1 / C), with weights too. Szegedy et al. 2016, section 7."""
    x, t = _batch(draw)
    a, w, gy = draw.choice([0.1, 0.5, 1.0]), draw.choice([None, draw.positive(x.shape[1])]), draw.normal(*t.shape)
    even = np.full(x.shape, 1 / x.shape[1])

    def pulled(target: Array, a: float) -> Array:
        return pull(lambda x: F.cross_entropy(x, target, w, reduction="none", label_smoothing=a), x, gy=gy)[1][0]

    same(pulled(t, a), (1 - a) * pulled(t, 0.0) + a * pulled(even, 0.0), "gx", scale=float(np.abs(gy).max()))


@law(CrossEntropy, Nll, LogSoftmax)
def cross_entropy_is_nll_of_log_softmax(draw: Draw) -> None:
    """Value and gx, with class weights, for every reduction."""
    x, t = _batch(draw)
    w, reduction = draw.positive(x.shape[1]), draw.choice(["mean", "none", "sum"])
    gy = draw.normal(*(t.shape if reduction == "none" else ()))
    y, (gx,) = pull(lambda x: F.cross_entropy(x, t, w, reduction=reduction), x, gy=gy)
    apart, (g_apart,) = pull(lambda x: F.nll_loss(F.log_softmax(x, 1), t, w, reduction=reduction), x, gy=gy)
    same(y, apart, "y")
    same(gx, g_apart, "gx", scale=float(np.abs(gy).max()))


@law(CrossEntropy, Nll)
def a_class_of_weight_two_counts_as_if_it_came_twice(draw: Draw) -> None:
    """The weighted mean over (x, t) is the plain mean over a batch in which each sample of that class stands twice.

    So the mean is over Σ w[t], not over N; and a factor common to all weights changes nothing.
    """
    n, c = draw.size(3, 5), draw.size(2, 3)
    x, t, gy = draw.normal(n, c), draw.integers(c, n), draw.normal()
    t[:2] = 0, 1
    w, factor = np.where(np.arange(c) == 0, 2.0, 1.0), draw.positive()
    again = np.concatenate([np.arange(n), np.flatnonzero(t == 0)])
    for loss in (F.cross_entropy, F.nll_loss):
        _, (gx,) = pull(lambda x, f=loss: f(x, t, w), x, gy=gy)
        _, (scaled,) = pull(lambda x, f=loss: f(x, t, factor * w), x, gy=gy)
        _, (twice,) = pull(lambda x, f=loss: f(x, t[again]), x[again], gy=gy)
        expected = twice[:n].copy()
        np.add.at(expected, again[n:], twice[n:])
        same(gx, expected, f"{loss.__name__}: gx with a class of weight 2", scale=float(np.abs(gy)))
        same(scaled, gx, f"{loss.__name__}: gx with all weights scaled")


@law(Nll)
def nll_sends_minus_the_weight_to_the_target_alone(draw: Draw) -> None:
    """gx[n, t_n] = -w[t_n] gy_n and exactly 0 elsewhere; the loss is linear, so <gx, x> = <gy, y>."""
    x, t = _batch(draw)
    w, gy = draw.positive(x.shape[1]), draw.normal(*t.shape)
    y, (gx,) = pull(lambda x: F.nll_loss(x, t, w, reduction="none"), x, gy=gy)
    at = np.moveaxis(np.eye(x.shape[1], dtype=bool)[t], -1, 1)  # (N, C, *)
    same(np.where(at, gx, 0).sum(axis=1), -w[t] * gy, "gx at the target")
    require(np.all(gx[~at] == 0), "a class that is not the target gets a gradient")
    same(np.sum(gx * x), np.sum(gy * y), "<gx, x>", scale=float(np.abs(gy * y).sum()))


@law(SoftCrossEntropy, CrossEntropy)
def a_one_hot_distribution_is_a_class_number(draw: Draw) -> None:
    """Cross-entropy against one-hot rows has the gx of the class numbers, smoothed and weighted alike."""
    x, t = _batch(draw)
    w, a, gy = draw.positive(x.shape[1]), draw.choice([0.0, 0.3]), draw.normal()
    onehot = np.moveaxis(np.eye(x.shape[1])[t], -1, 1)
    options: dict[str, Any] = {"reduction": "sum", "label_smoothing": a}
    _, (hard,) = pull(lambda x: F.cross_entropy(x, t, w, **options), x, gy=gy)
    _, (soft,) = pull(lambda x: F.cross_entropy(x, onehot, w, **options), x, gy=gy)
    same(soft, hard, "gx", scale=float(np.abs(gy)))


@law(SoftCrossEntropy)
def soft_cross_entropy_is_least_where_p_is_the_target(draw: Draw) -> None:
    """At t = softmax(x), gx = 0 and y is the entropy; elsewhere moving against gx lowers y. Gibbs' inequality."""
    x, _ = _batch(draw)
    p = F.softmax(x, 1).data
    y, (gx,) = pull(lambda x: F.cross_entropy(x, p, reduction="none"), x, gy=draw.normal(x.shape[0], *x.shape[2:]))
    same(gx, np.zeros(x.shape), "gx at the target", 1e-12, scale=1.0)
    same(y, -np.sum(p * np.log(p), axis=1), "y at the target")
    there = F.softmax(draw.normal(*x.shape), 1).data
    y, (gx,) = pull(lambda x: F.cross_entropy(x, there), x, gy=np.float64(1.0))
    require(F.cross_entropy(x - 1e-3 * gx, there).item() < float(y), "a step against gx does not lower the loss")


@law(SoftCrossEntropy)
def soft_cross_entropy_is_linear_in_its_target(draw: Draw) -> None:
    """gt = -(1 - a) w log p gy, the same at any t; so <gt, t> = <gy, y> for a = 0."""
    x, n = _batch(draw)
    w, a, gy = draw.positive(x.shape[1]), draw.choice([0.2, 0.4]), draw.normal(*n.shape)

    def pulled(t: Array, a: float) -> tuple[Array, Array]:
        y, (gt,) = pull(lambda t: F.cross_entropy(x, t, w, reduction="none", label_smoothing=a), t, gy=gy)
        return y, gt

    t, logp = draw.positive(*x.shape), np.log(F.softmax(x, 1).data)
    wide = w.reshape(-1, *[1] * (x.ndim - 2))
    same(pulled(t, a)[1], -(1 - a) * wide * logp * gy[:, None], "gt")
    same_bits(pulled(draw.positive(*x.shape), a)[1], pulled(t, a)[1], "gt at another t")
    y, gt = pulled(t, 0.0)
    same(np.sum(gt * t), np.sum(gy * y), "<gt, t>", scale=float(np.abs(gy * y).sum()))


# --- numbers


@law(Mse)
def mse_pulls_with_twice_the_error_over_n(draw: Draw) -> None:
    """gx = 2 (x - t) gy / N: a spring. And <gx, x - t> = 2 gy y, as the loss is of degree two."""
    x, t = _pair(draw)
    gy = draw.normal()
    y, (gx,) = pull(lambda x: F.mse_loss(x, t), x, gy=gy)
    same(gx, 2 * (x - t) * gy / x.size, "gx")
    same(np.sum(gx * (x - t)), 2 * gy * y, "<gx, x - t>")


@law(Mse, L1, Huber)
def what_x_gets_the_target_gets_with_the_other_sign(draw: Draw) -> None:
    """gt = -gx, bit for bit, as the loss is of x - t alone."""
    x, t = _pair(draw)
    gy = draw.normal(*x.shape)
    for name, loss in _of_differences(draw):
        _, (gx, gt) = pull(lambda x, t, f=loss: f(x, t, "none"), x, t, gy=gy)
        same_bits(gt, -gx, f"{name}: gt = -gx")


@law(L1)
def l1_pulls_with_the_same_force_from_any_distance(draw: Draw) -> None:
    """gx = gy where x > t and -gy where x < t, bit for bit; and at x = t 0, PyTorch's choice among [-1, 1]."""
    x, t = _pair(draw)
    gy = draw.normal(*x.shape)
    x.flat[0] = t.flat[0]
    _, (gx,) = pull(lambda x: F.l1_loss(x, t, reduction="none"), x, gy=gy)
    same_bits(gx + 0.0, np.where(x > t, gy, np.where(x < t, -gy, 0.0)), "gx")


@law(Huber)
def hubers_pull_is_clipped_at_delta(draw: Draw) -> None:
    """gx = clip(x - t, -delta, delta) gy, so |gx| <= delta |gy|, on both sides of the kink in the slope; smooth_l1's is
    that over beta, at most |gy|. Huber 1964; Girshick 2015, eq. 3.
    """
    delta, n = draw.choice([0.5, 2.0, 3.0]), draw.size(2, 5)
    t, gy = draw.normal(n + 2), draw.normal(n + 2)
    x = t + np.concatenate([[0.5 * delta, -2.5 * delta], 2 * delta * draw.normal(n)])
    clipped = np.clip(x - t, -delta, delta)
    _, (gx,) = pull(lambda x: F.huber_loss(x, t, "none", delta), x, gy=gy)
    _, (smooth,) = pull(lambda x: F.smooth_l1_loss(x, t, reduction="none", beta=delta), x, gy=gy)
    same(gx, clipped * gy, "gx of huber_loss")
    same(smooth, clipped * gy / delta, "gx of smooth_l1_loss")


@law(Huber, Mse, L1)
def huber_is_half_mse_near_and_delta_l1_far(draw: Draw) -> None:
    """gx = gx of mse_loss / 2 where delta is larger than every error, and delta gx of l1_loss where it is smaller."""
    n = draw.size(1, 5)
    t, gy = draw.normal(n), draw.normal(n)
    x = t + np.where(draw.mask(n), 1.0, -1.0) * draw.positive(n)
    gradients = {}
    for name, loss in (
        ("near", lambda x: F.huber_loss(x, t, "none", 5.0)),
        ("far", lambda x: F.huber_loss(x, t, "none", 0.3)),
        ("mse", lambda x: F.mse_loss(x, t, reduction="none")),
        ("l1", lambda x: F.l1_loss(x, t, reduction="none")),
    ):
        gradients[name] = pull(loss, x, gy=gy)[1][0]
    same(gradients["near"], gradients["mse"] / 2, "gx near")
    same(gradients["far"], 0.3 * gradients["l1"], "gx far")


# --- masks


@law(BinaryCrossEntropyWithLogits)
def the_gradient_of_binary_cross_entropy_is_p_minus_the_target_over_n(draw: Draw) -> None:
    """gx = (sigmoid(x) - t) / N, N all elements: no factor p (1 - p) is left that could vanish."""
    x = draw.normal(*_shape(draw))
    t = draw.rng.random(x.shape)
    _, (gx,) = pull(lambda x: F.binary_cross_entropy_with_logits(x, t), x, gy=np.float64(1.0))
    same(gx, (1 / (1 + np.exp(-x)) - t) / x.size, "gx", scale=1 / x.size)


@law(BinaryCrossEntropyWithLogits)
def yes_and_no_are_treated_alike_without_pos_weight(draw: Draw) -> None:
    """y(-x, 1 - t) = y(x, t), so both gradients change their sign."""
    x = draw.normal(*_shape(draw))
    t, w, gy = draw.rng.random(x.shape), draw.positive(*x.shape), draw.normal(*x.shape)

    def loss(x: Any, t: Any) -> Tensor:
        return F.binary_cross_entropy_with_logits(x, t, w, reduction="none")

    y, (gx, gt) = pull(loss, x, t, gy=gy)
    turned, (hx, ht) = pull(loss, -x, 1 - t, gy=gy)
    same(turned, y, "y")
    same(hx, -gx, "gx", scale=float(np.abs(gy).max()))
    same(ht, -gt, "gt", scale=float(np.abs(gy).max()))


@law(BinaryCrossEntropyWithLogits)
def a_positive_of_weight_u_counts_as_u_positives(draw: Draw) -> None:
    """With t 0 or 1: gx = u (p - 1) gy where t = 1, and p gy where t = 0, which pos_weight leaves alone."""
    shape = _shape(draw)
    x, u, gy = draw.normal(*shape), draw.choice([3.0, 0.25]), draw.normal(*shape)
    t = np.where(np.arange(x.size).reshape(shape) % 2 == 0, 1.0, 0.0)

    def pulled(u: Array | None) -> Array:
        loss = F.binary_cross_entropy_with_logits
        return pull(lambda x: loss(x, t, reduction="none", pos_weight=u), x, gy=gy)[1][0]

    same(pulled(np.full(shape[-1:], u)), np.where(t == 1, u, 1.0) * pulled(None), "gx")


@law(BinaryCrossEntropyWithLogits, SoftCrossEntropy)
def a_yes_or_no_is_a_choice_of_two_classes(draw: Draw) -> None:
    """bce(x, t) = cross_entropy((0, x), (1 - t, t)): sigmoid is softmax of two. Value, gx and gt."""
    n = draw.size(2, 5)
    x, t, gy = draw.normal(n), draw.rng.random(n), draw.normal(n)

    def two(x: Any, t: Any) -> Tensor:
        logits = F.stack([F.mul(x, 0.0), x], 1)
        return F.cross_entropy(logits, F.stack([F.sub(1.0, t), t], 1), reduction="none")

    y, gs = pull(lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="none"), x, t, gy=gy)
    expected, hs = pull(two, x, t, gy=gy)
    same(y, expected, "y")
    for name, a, b in zip(("gx", "gt"), gs, hs, strict=True):
        same(a, b, name, scale=float(np.abs(gy).max()))


@law(BinaryCrossEntropyWithLogits)
def a_sure_answer_that_is_wrong_gets_all_of_gy(draw: Draw) -> None:
    """At x = 800 and t = 0, gx = gy, at x = -800 and t = 1, gx = -gy; sure and right gets 0. Nothing overflows."""
    x = np.array([800.0, -800.0, 800.0, -800.0])
    t, gy = np.array([0.0, 1.0, 1.0, 0.0]), draw.normal(4)
    y, (gx,) = pull(lambda x: F.binary_cross_entropy_with_logits(x, t, reduction="none"), x, gy=gy)
    require(np.all(np.isfinite(y)), "y is not finite")
    same(gx, gy * np.array([1.0, -1.0, 0.0, 0.0]), "gx")


@law(Dice)
def dice_asks_prediction_and_target_alike(draw: Draw) -> None:
    """dice(x, t) = dice(t, x), so gx and gt change places."""
    x, t, gy = _masks(draw)
    y, (gx, gt) = pull(lambda x, t: F.dice_loss(x, t, reduction="none"), x, t, gy=gy)
    turned, (ht, hx) = pull(lambda x, t: F.dice_loss(x, t, reduction="none"), t, x, gy=gy)
    same(turned, y, "y")
    same(hx, gx, "gx")
    same(ht, gt, "gt")


@law(Dice)
def a_perfect_mask_is_pushed_up_inside_and_down_outside(draw: Draw) -> None:
    """At x = t, 0 or 1: y = 0 and gx = (1 - 2 t) gy / b, b = 2 Σ t + eps. Equal forces, and none would be zero."""
    _, t, gy = _masks(draw)
    eps = draw.choice([1.0, 0.1])
    t = np.where(t > 0.5, 1.0, 0.0)
    y, (gx,) = pull(lambda x: F.dice_loss(x, t, eps=eps, reduction="none"), t.copy(), gy=gy)
    b = 2 * t.sum(axis=2) + eps
    same(y, np.zeros(y.shape), "y", 1e-12, scale=1.0)
    same(gx, (1 - 2 * t) * (gy / b)[:, :, None], "gx")


@law(Dice)
def each_mask_of_dice_has_a_loss_of_its_own(draw: Draw) -> None:
    """gx of one sample's channel comes from its own gy alone, and the order of its pixels does not matter."""
    x, t, gy = _masks(draw)
    n, c = draw.integer(0, x.shape[0] - 1), draw.integer(0, x.shape[1] - 1)
    only = np.zeros(gy.shape)
    only[n, c] = gy[n, c]
    order = draw.rng.permutation(x.shape[2])
    _, (gx,) = pull(lambda x: F.dice_loss(x, t, reduction="none"), x, gy=only)
    _, (alone,) = pull(
        lambda x: F.dice_loss(x, t[n, c, order][None, None], reduction="sum"), x[n, c, order][None, None], gy=gy[n, c]
    )
    same(gx[n, c, order], alone[0, 0], "gx of one mask")
    gx[n, c] = 0
    require(np.all(gx == 0), "a mask gets another's gradient")


# --- what the laws are made of


def _batch(draw: Draw) -> tuple[Array, Array]:
    """Logits (N, C, *) of two classes at least, and targets (N, *)."""
    n, c, room = draw.size(2, 4), draw.size(2, 4), draw.choice([(), (2,), (1, 3)])
    return draw.normal(n, c, *room), draw.integers(c, n, *room)


def _shape(draw: Draw) -> tuple[int, ...]:
    """One axis or two, of two at least."""
    return draw.choice([(2, 3), (3, 2), (5,), (2, 4)])


def _pair(draw: Draw) -> tuple[Array, Array]:
    shape = _shape(draw)
    return draw.normal(*shape), draw.normal(*shape)


def _masks(draw: Draw) -> tuple[Array, Array, Array]:
    """x and t (N, C, L), and a cotangent (N, C)."""
    shape = (draw.size(2, 3), draw.size(2, 3), draw.size(2, 4))
    x, t = (draw.positive(*shape, low=0.1, high=0.9) for _ in range(2))
    return x, t, draw.normal(*shape[:2])


def _of_differences(draw: Draw) -> list[tuple[str, Callable[[Any, Any, str], Tensor]]]:
    """The losses of x - t."""
    delta = draw.choice([0.5, 2.0])
    return [
        ("mse_loss", lambda x, t, how: F.mse_loss(x, t, reduction=how)),
        ("l1_loss", lambda x, t, how: F.l1_loss(x, t, reduction=how)),
        ("huber_loss", lambda x, t, how: F.huber_loss(x, t, how, delta)),
        ("smooth_l1_loss", lambda x, t, how: F.smooth_l1_loss(x, t, reduction=how, beta=delta)),
    ]


def _every(draw: Draw) -> list[tuple[str, Callable[[Any, str], Tensor], Array]]:
    """Every loss as a function of x and a reduction, and an x for it."""
    logits, labels = _batch(draw)
    q, (x, t), a = draw.positive(*logits.shape), _pair(draw), draw.choice([0.0, 0.2])
    p, m, _ = _masks(draw)
    w, u, yes = draw.positive(*x.shape), draw.positive(*x.shape), draw.rng.random(x.shape)

    def binary(x: Any, how: str) -> Tensor:
        return F.binary_cross_entropy_with_logits(x, yes, w, reduction=how, pos_weight=u)

    return [
        ("nll_loss", lambda x, how: F.nll_loss(x, labels, reduction=how), logits),
        ("cross_entropy", lambda x, how: F.cross_entropy(x, labels, reduction=how, label_smoothing=a), logits),
        ("cross_entropy", lambda x, how: F.cross_entropy(x, q, reduction=how, label_smoothing=a), logits),
        *((name, lambda x, how, f=f: f(x, t, how), x) for name, f in _of_differences(draw)),
        ("binary_cross_entropy_with_logits", binary, x),
        ("dice_loss", lambda x, how: F.dice_loss(x, m, reduction=how), p),
    ]
