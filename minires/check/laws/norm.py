"""Laws of normalization: what is forgotten in forward cannot be asked for in backward.

A set is what one mean and one variance are taken of: a channel (batch norm), a row (layer and RMS norm), a group of
channels of a sample (group norm). sigma^2 = var + eps, or mean(x^2) + eps for RMS norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minires import functional as F
from minires.backend import Array
from minires.check.cases.norm import spread
from minires.check.draw import Draw
from minires.check.law import law, pull, require, same, same_bits
from minires.engine import Tensor
from minires.ops.norm import BatchNorm, BatchNormEval, GroupNorm, LayerNorm, RmsNorm

LARGE = 1e-12  # rounding, of the largest number that takes part

# --- what a set forgets


@law(BatchNorm, LayerNorm, GroupNorm)
def the_gradients_of_a_normalized_set_sum_to_zero(draw: Draw) -> None:
    """Σ gx = 0 over each set, for y(x + t) = y(x): no gradient flows along (1, ..., 1)."""
    for norm in centering(draw):
        gy, eps = draw.normal(*norm.x.shape), draw.choice([0.1, 1e-5, 0.0])
        y, gx = norm.pulled(gy, eps)
        offsets = np.broadcast_to(draw.normal(norm.sets(norm.x).shape[0], 1), norm.sets(norm.x).shape)
        moved = norm.f(norm.x + norm.back(offsets), norm.w, norm.b, eps).data
        same(moved, y, f"{norm.name}: y at x + t")
        same(norm.sets(gx).sum(axis=1), 0 * norm.sets(gx)[:, 0], f"{norm.name}: Σ gx", LARGE, scale=norm.size(gy))


@law(BatchNorm, LayerNorm, GroupNorm, RmsNorm)
def the_gradient_along_x_is_what_eps_leaves_of_it(draw: Draw) -> None:
    """<gx, x - mean> = <w gy, xhat> eps / sigma^2 over each set: 0 for eps = 0, as then y(a x) = y(x).

    From mean(xhat^2) = var / sigma^2 = 1 - eps / sigma^2. RMS norm takes x itself for x - mean.
    """
    for norm in normalizing(draw):
        gy = draw.normal(*norm.x.shape)
        for eps in (0.0, draw.choice([0.1, 1.0])):
            _, gx = norm.pulled(gy, eps)
            xhat, sigma = norm.standardized(eps)
            along = (norm.sets(gx) * xhat * sigma).sum(axis=1)
            expected = (norm.sets(norm.wide() * gy) * xhat).sum(axis=1) * eps / sigma[:, 0] ** 2
            same(along, expected, f"{norm.name}: <gx, x - mean>", scale=norm.size(gy))


@law(BatchNorm, LayerNorm, GroupNorm, RmsNorm)
def at_a_times_x_the_gradient_is_gx_over_a(draw: Draw) -> None:
    """For eps = 0, y(a x) = y(x) and so gx(a x) = gx(x) / a. Ioffe and Szegedy 2015, section 3.3.

    Weights that grow before a norm learn ever more slowly.
    """
    a = draw.choice([0.5, 3.0, 10.0])
    for norm in normalizing(draw):
        gy = draw.normal(*norm.x.shape)
        y, gx = norm.pulled(gy, 0.0)
        larger, g_larger = replace(norm, x=a * norm.x).pulled(gy, 0.0)
        same(larger, y, f"{norm.name}: y at a x")
        same(g_larger, gx / a, f"{norm.name}: gx at a x", scale=norm.size(gy) / a)


@law(BatchNorm, LayerNorm, GroupNorm, RmsNorm)
def normalizing_has_a_symmetric_jacobian(draw: Draw) -> None:
    """<v, J^T u> = <u, J^T v> without gain: J = (I - 1 1^T / m - xhat xhat^T / m) / sigma for each set."""
    for norm in normalizing(draw):
        u, v = draw.normal(*norm.x.shape), draw.normal(*norm.x.shape)
        eps = draw.choice([0.1, 1e-3])
        _, gu = norm.plain().pulled(u, eps)
        _, gv = norm.plain().pulled(v, eps)
        same(np.sum(v * gu), np.sum(u * gv), f"{norm.name}: <v, J^T u>", scale=norm.size(u))


@law(BatchNorm, LayerNorm, GroupNorm, RmsNorm)
def normalizing_projects_the_gradient(draw: Draw) -> None:
    """For eps = 0 and no gain, sigma gx = P gy with P P = P = P^T: a second pass changes nothing, and |P gy| <= |gy|.

    What P takes away is the set's offset and its scale; RMS norm's takes the scale only.
    """
    for norm in normalizing(draw):
        plain, gy = norm.plain(), draw.normal(*norm.x.shape)
        sigma = norm.back(np.broadcast_to(norm.standardized(0.0)[1], norm.sets(norm.x).shape))
        once = sigma * plain.pulled(gy, 0.0)[1]
        twice = sigma * plain.pulled(once, 0.0)[1]
        same(twice, once, f"{norm.name}: P P gy", scale=float(np.abs(gy).max()))
        shrunk, whole = (np.sum(norm.sets(g) ** 2, axis=1) for g in (once, gy))
        require(np.all(shrunk <= whole * (1 + 1e-9)), f"{norm.name}: |P gy| is larger than |gy|")


@law(BatchNorm, LayerNorm, GroupNorm, RmsNorm)
def a_set_answers_for_itself(draw: Draw) -> None:
    """A cotangent on one set alone gives exactly 0 to all others: other channels, other rows, other groups."""
    for norm in normalizing(draw):
        rows = norm.sets(norm.x).shape
        chosen = draw.integer(0, rows[0] - 1)
        gy = np.zeros(rows)
        gy[chosen] = draw.normal(rows[1])
        gx = norm.sets(norm.pulled(norm.back(gy), 0.1)[1])
        require(np.all(np.delete(gx, chosen, axis=0) == 0), f"{norm.name}: a set gets another's gradient")
        require(np.any(gx[chosen] != 0), f"{norm.name}: a set gets no gradient of its own")


# --- gain and bias


@law(BatchNorm, BatchNormEval, LayerNorm, GroupNorm, RmsNorm)
def a_gain_scales_the_cotangent_once(draw: Draw) -> None:
    """gx(w, gy) = gx(1, w gy): y = w xhat + b hands w gy to xhat, and w appears nowhere else.

    At w = 1 nobody can tell how often it does; Megatron-LM's RMS norm took it twice (pull request 6859).
    """
    for norm in [*normalizing(draw), at_rest(draw)]:
        gy, eps = draw.normal(*norm.x.shape), draw.choice([0.1, 1e-3])
        _, gx = norm.pulled(gy, eps)
        _, expected = norm.plain().pulled(norm.wide() * gy, eps)
        same(gx, expected, f"{norm.name}: gx with a gain", scale=norm.size(gy))


@law(BatchNorm, BatchNormEval, LayerNorm, GroupNorm, RmsNorm)
def gain_and_bias_collect_xhat_and_one(draw: Draw) -> None:
    """gw = Σ gy xhat and gb = Σ gy over all that shares them, where xhat is y without gain and bias."""
    for norm in [*normalizing(draw), at_rest(draw)]:
        gy, eps = draw.normal(*norm.x.shape), draw.choice([0.1, 1e-3])
        xhat = norm.f(norm.x, None, None, eps).data
        size = float(np.abs(gy).sum())
        _, (gw,) = pull(lambda w, norm=norm, eps=eps: norm.f(norm.x, w, norm.b, eps), norm.w, gy=gy)
        same(gw.reshape(norm.beside), norm.shared(gy * xhat), f"{norm.name}: gw", scale=size)
        if norm.b is not None:
            _, (gb,) = pull(lambda b, norm=norm, eps=eps: norm.f(norm.x, norm.w, b, eps), norm.b, gy=gy)
            same(gb.reshape(norm.beside), norm.shared(gy), f"{norm.name}: gb", scale=size)


# --- batch norm


@law(BatchNorm)
def a_bias_before_batch_norm_gets_no_gradient(draw: Draw) -> None:
    """y(x + b) = y(x) for b (C,), so gb = 0: a convolution before a batch norm needs no bias. Ioffe and Szegedy 2015,
    section 3.2.
    """
    norm = batch(draw)
    c, gy = norm.x.shape[1], draw.normal(*norm.x.shape)
    column = (1, c, *[1] * (norm.x.ndim - 2))
    y, (_, gb) = pull(lambda x, b: norm.f(x + b, norm.w, norm.b, 0.1), norm.x, draw.normal(*column), gy=gy)
    same(y, norm.f(norm.x, norm.w, norm.b, 0.1).data, "y with a bias before it")
    same(gb, np.zeros(column), "gb", LARGE, scale=float(np.abs(gy).sum()))


@law(BatchNorm)
def weights_before_batch_norm_get_a_gradient_across_themselves(draw: Draw) -> None:
    """For eps = 0, y(x (a v)) = y(x v) for each column v of weights: <gv, v> = 0, and gv at a v is gv / a.

    So a gradient step can only lengthen them. Ioffe and Szegedy 2015, section 3.3.
    """
    n, d, c, a = draw.size(4, 6), draw.size(1, 3), draw.size(1, 3), draw.choice([0.5, 4.0])
    x, v, w, gy = draw.normal(n, d), draw.normal(d, c), draw.away(c), draw.normal(n, c)

    def net(v: Any) -> Tensor:
        return F.batch_norm(F.matmul(x, v), None, None, w, None, training=True, eps=0.0)

    _, (gv,) = pull(net, v, gy=gy)
    _, (g_longer,) = pull(net, a * v, gy=gy)
    deviation = (x @ v).std(axis=0)
    size = float(np.max(np.abs(w) / deviation) * np.abs(gy).sum() * np.abs(x).max())
    same(np.sum(gv * v, axis=0), np.zeros(c), "<gv, v>", scale=size * float(np.abs(v).max()))
    same(g_longer, gv / a, "gv at a v", scale=size / a)


@law(BatchNorm)
def one_samples_loss_moves_the_whole_batch(draw: Draw) -> None:
    """With a loss on sample k alone, another one n gets gx_n = -(w / (sigma m)) (Σ gy + xhat_n Σ gy xhat).

    So under batch norm the gradient of a batch isn't the sum of its samples' own.
    """
    norm = batch(draw)
    n = norm.x.shape[0]
    k, eps, gy = draw.integer(0, n - 1), draw.choice([0.1, 1e-3]), np.zeros(norm.x.shape)
    gy[k] = draw.normal(*norm.x.shape[1:])
    gx = norm.sets(norm.pulled(gy, eps)[1])
    (xhat, sigma), gy_sets, w = norm.standardized(eps), norm.sets(gy), norm.sets(norm.wide())
    sums = gy_sets.sum(axis=1, keepdims=True) + xhat * (gy_sets * xhat).sum(axis=1, keepdims=True)
    expected = w / sigma * (gy_sets - sums / gy_sets.shape[1])
    same(gx, expected, "gx with a loss on one sample", scale=norm.size(gy))
    others = np.delete(norm.back(gx), k, axis=0)
    require(np.any(others != 0), "the other samples get no gradient")


@law(BatchNorm, BatchNormEval)
def training_projects_the_gradient_at_rest(draw: Draw) -> None:
    """At rest with the batch's own mean and variance y is the same, and its gx, less mean(gx) and xhat mean(gx xhat),
    is that of training: the two terms by which the statistics answer for x.
    """
    norm, eps = batch(draw), draw.choice([0.1, 1e-3])
    gy, sets = draw.normal(*norm.x.shape), norm.sets(norm.x)
    mean, var = sets.mean(axis=1), sets.var(axis=1)
    y, gx = norm.pulled(gy, eps)
    resting, (rest,) = pull(lambda x: F.batch_norm(x, mean, var, norm.w, norm.b, eps=eps), norm.x, gy=gy)
    same(resting, y, "y at rest")
    g, xhat = norm.sets(rest), norm.standardized(eps)[0]
    expected = g - g.mean(axis=1, keepdims=True) - xhat * (g * xhat).mean(axis=1, keepdims=True)
    same(norm.sets(gx), expected, "gx in training", scale=norm.size(gy))


@law(BatchNormEval)
def at_rest_batch_norm_has_one_slope_a_channel(draw: Draw) -> None:
    """gx = w gy / sqrt(var + eps), whatever x is, bit for bit: the statistics are constants. Each number for itself."""
    x = batch(draw).x
    c, gy, eps = x.shape[1], draw.normal(*x.shape), draw.choice([0.1, 1e-5])
    mean, var, w = draw.normal(c), draw.positive(c), draw.away(c)

    def net(x: Any) -> Tensor:
        return F.batch_norm(x, mean, var, w, eps=eps)

    _, (gx,) = pull(net, x, gy=gy)
    _, (elsewhere,) = pull(net, draw.normal(*gy.shape), gy=gy)
    same(gx, gy * (w / np.sqrt(var + eps)).reshape(c, *[1] * (gy.ndim - 2)), "gx at rest")
    same_bits(elsewhere, gx, "gx at another x")


@law(BatchNorm)
def running_statistics_change_no_gradient(draw: Draw) -> None:
    """In training they only watch, r <- 0.7 r + 0.3 s: gx is the same bits with and without them.

    s is the mean and the unbiased variance; an empty batch has none, and leaves r alone.
    """
    norm = batch(draw)
    c, gy = norm.x.shape[1], draw.normal(*norm.x.shape)
    mean, var = draw.normal(c), draw.positive(c)
    old_mean, old_var = mean.copy(), var.copy()

    def net(x: Any) -> Tensor:
        return F.batch_norm(x, mean, var, norm.w, norm.b, training=True, momentum=0.3, eps=0.1)

    _, (gx,) = pull(net, norm.x, gy=gy)
    same_bits(gx, norm.pulled(gy, 0.1)[1], "gx with running statistics")
    sets = norm.sets(norm.x)
    same(mean, 0.7 * old_mean + 0.3 * sets.mean(axis=1), "the running mean")
    same(var, 0.7 * old_var + 0.3 * sets.var(axis=1, ddof=1), "the running variance")
    before = mean.copy(), var.copy()
    pull(net, norm.x[:0], gy=gy[:0])
    same_bits(mean, before[0], "the running mean after an empty batch")
    same_bits(var, before[1], "the running variance after an empty batch")


# --- one norm by another


@law(GroupNorm, LayerNorm)
def one_group_is_a_layer_norm_of_each_sample(draw: Draw) -> None:
    """group_norm(x, 1, w) = layer_norm(x, (C, *), w repeated), in gx too, and its gw is that one's, summed. Wu and He
    2018, section 3.
    """
    norm = group(draw)
    gy, shape = draw.normal(*norm.x.shape), norm.x.shape[1:]
    w = draw.away(shape[0])
    wide = np.broadcast_to(w.reshape(-1, *[1] * (len(shape) - 1)), shape).copy()
    y, (gx, gw) = pull(lambda x, w: F.group_norm(x, 1, w, eps=0.1), norm.x, w, gy=gy)
    layer, (gx_layer, gw_layer) = pull(lambda x, w: F.layer_norm(x, shape, w, eps=0.1), norm.x, wide, gy=gy)
    same(y, layer, "y")
    same(gx, gx_layer, "gx", scale=norm.size(gy))
    same(gw, gw_layer.reshape(shape[0], -1).sum(axis=1), "gw", scale=float(np.abs(gy).sum()))


@law(GroupNorm, BatchNorm)
def a_group_a_channel_is_a_batch_norm_of_each_sample_alone(draw: Draw) -> None:
    """group_norm(x, C) is instance norm: each sample is a batch of one. Wu and He 2018, section 3."""
    norm = batch(draw, room=(3, 2))
    gy, c = draw.normal(*norm.x.shape), norm.x.shape[1]
    _, (gx,) = pull(lambda x: F.group_norm(x, c, norm.w, norm.b, eps=0.1), norm.x, gy=gy)
    alone = [replace(norm, x=norm.x[k : k + 1]).pulled(gy[k : k + 1], 0.1)[1] for k in range(norm.x.shape[0])]
    same(gx, np.concatenate(alone), "gx", scale=norm.size(gy))


@law(LayerNorm, RmsNorm)
def layer_norm_is_the_rms_norm_of_what_was_centered(draw: Draw) -> None:
    """layer_norm(x) = rms_norm(x - mean), so gx of the one is that of the other less its mean. Zhang and Sennrich 2019,
    section 3.
    """
    norm = row(draw)
    gy, shape = draw.normal(*norm.x.shape), norm.x.shape[1:]
    sets = norm.sets(norm.x)
    centered = norm.back(sets - sets.mean(axis=1, keepdims=True))
    y, (gx,) = pull(lambda x: F.layer_norm(x, shape, norm.w, eps=0.1), norm.x, gy=gy)
    rms, (gx_rms,) = pull(lambda x: F.rms_norm(x, shape, norm.w, eps=0.1), centered, gy=gy)
    same(y, rms, "y")
    g = norm.sets(gx_rms)
    same(norm.sets(gx), g - g.mean(axis=1, keepdims=True), "gx", scale=norm.size(gy))


# --- what the laws are made of


@dataclass(frozen=True)
class Norm:
    """A norm, an input for it, and what its sets are.

    Attributes
        name      its name
        f         y = f(x, w, b, eps)
        x, w, b   an input, a gain and a bias; RMS norm has no bias
        beside    the shape in which the gain stands beside x
        sets      an array shaped like x as (sets, m)
        back      the same the other way round
        centers   whether a set's mean is taken away
    """

    name: str
    f: Callable[..., Tensor]
    x: Array
    w: Array | None
    b: Array | None
    beside: tuple[int, ...]
    sets: Callable[[Array], Array]
    back: Callable[[Array], Array]
    centers: bool = True

    def plain(self) -> Norm:
        """Without gain and bias."""
        return replace(self, w=None, b=None)

    def wide(self) -> Array:
        """The gain, repeated over x."""
        return np.ones_like(self.x) if self.w is None else np.broadcast_to(self.w.reshape(self.beside), self.x.shape)

    def pulled(self, gy: Array, eps: float) -> tuple[Array, Array]:
        """y and gx."""
        y, (gx,) = pull(lambda x: self.f(x, self.w, self.b, eps), self.x, gy=gy)
        return y, gx

    def standardized(self, eps: float) -> tuple[Array, Array]:
        """xhat (sets, m) and sigma (sets, 1), by their definition."""
        sets = self.sets(self.x)
        sets = sets - sets.mean(axis=1, keepdims=True) if self.centers else sets
        sigma = np.sqrt((sets**2).mean(axis=1, keepdims=True) + eps)
        return sets / sigma, sigma

    def shared(self, g: Array) -> Array:
        """An array shaped like x, summed over all that has one gain."""
        over = tuple(a for a, n in enumerate(self.beside) if n == 1)
        return g.sum(axis=over, keepdims=True)

    def size(self, gy: Array) -> float:
        """An upper bound of gx's entries and their sums."""
        return float(np.abs(self.wide() * gy).sum() / self.standardized(0.0)[1].min())


def batch(draw: Draw, room: tuple[int, ...] | None = None) -> Norm:
    """Batch norm of two channels or three, and of two samples at least."""
    shape = (draw.size(2, 3), draw.size(2, 3), *(draw.choice([(3,), (2, 2), (2, 1, 2)]) if room is None else room))
    turned = (shape[1], shape[0], *shape[2:])
    return Norm(
        "batch norm",
        lambda x, w, b, eps: F.batch_norm(x, None, None, w, b, training=True, eps=eps),
        spread(draw, *shape, over=(0, *range(2, len(shape)))),
        draw.away(shape[1]),
        draw.normal(shape[1]),
        (1, shape[1], *[1] * (len(shape) - 2)),
        lambda x: x.swapaxes(0, 1).reshape(shape[1], -1),
        lambda sets: sets.reshape(turned).swapaxes(0, 1),
    )


def row(draw: Draw) -> Norm:
    """Layer norm of two rows at least."""
    shape = draw.choice([(3,), (2, 2), (5,)])
    x = spread(draw, draw.size(2, 3), *shape, over=tuple(range(1, 1 + len(shape))))
    return Norm(
        "layer norm",
        lambda x, w, b, eps: F.layer_norm(x, shape, w, b, eps),
        x,
        draw.away(*shape),
        draw.normal(*shape),
        (1, *shape),
        lambda x: x.reshape(x.shape[0], -1),
        lambda sets: sets.reshape(x.shape),
    )


def root(draw: Draw) -> Norm:
    """RMS norm of two rows at least."""
    norm = row(draw)
    shape = norm.x.shape[1:]
    return replace(norm, name="RMS norm", f=lambda x, w, b, eps: F.rms_norm(x, shape, w, eps), b=None, centers=False)


def group(draw: Draw) -> Norm:
    """Group norm of two channels or three a group, in one, two or three groups, of two samples at least."""
    groups, width, room = draw.size(1, 3), draw.size(2, 3), draw.choice([(2,), (2, 2), (3,)])
    shape = (draw.size(2, 3), groups * width, *room)
    rows = (shape[0] * groups, width * math.prod(room))
    return Norm(
        "group norm",
        lambda x, w, b, eps: F.group_norm(x, groups, w, b, eps),
        spread(draw, *rows, over=(1,)).reshape(shape),
        draw.away(shape[1]),
        draw.normal(shape[1]),
        (1, shape[1], *[1] * len(room)),
        lambda x: x.reshape(rows),
        lambda sets: sets.reshape(shape),
    )


def at_rest(draw: Draw) -> Norm:
    """Batch norm at rest."""
    norm = batch(draw)
    mean, var = draw.normal(norm.x.shape[1]), draw.positive(norm.x.shape[1])
    return replace(norm, name="batch norm at rest", f=lambda x, w, b, eps: F.batch_norm(x, mean, var, w, b, eps=eps))


def centering(draw: Draw) -> list[Norm]:
    """The norms that take the mean away."""
    return [batch(draw), row(draw), group(draw)]


def normalizing(draw: Draw) -> list[Norm]:
    """All that take statistics of their input."""
    return [*centering(draw), root(draw)]
