"""Laws of attention: what it treats alike, whom it may not hear, and what adds up."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minires import functional as F
from minires.backend import Array
from minires.check.draw import Draw
from minires.check.law import law, pull, require, same, same_bits
from minires.check.oracles import steady
from minires.ops.attention import ScaledDotProductAttention

# --- order


@law(ScaledDotProductAttention)
def permuted_queries_get_permuted_gradients(draw: Draw) -> None:
    """Permute queries and gy: y and gq are permuted, gk and gv unchanged. A query does not know where it stands."""
    q, k, v, gy = _tokens(draw)
    order = draw.rng.permutation(q.shape[1])
    y, (gq, gk, gv) = _pulled(q, k, v, gy)
    turned, (hq, hk, hv) = _pulled(q[:, order], k, v, gy[:, order])
    same(turned, y[:, order], "y")
    for name, a, b in (("gq", hq, gq[:, order]), ("gk", hk, gk), ("gv", hv, gv)):
        same(a, b, name, scale=_size(gy))


@law(ScaledDotProductAttention)
def permuted_keys_and_values_change_no_answer(draw: Draw) -> None:
    """Permute keys and values alike: y and gq are unchanged, gk and gv permuted. Attention reads a set."""
    q, k, v, gy = _tokens(draw)
    order = draw.rng.permutation(k.shape[1])
    y, (gq, gk, gv) = _pulled(q, k, v, gy)
    turned, (hq, hk, hv) = _pulled(q, k[:, order], v[:, order], gy)
    same(turned, y, "y")
    for name, a, b in (("gq", hq, gq), ("gk", hk, gk[:, order]), ("gv", hv, gv[:, order])):
        same(a, b, name, scale=_size(gy))


# --- who is heard


@law(ScaledDotProductAttention)
def not_one_bit_of_gradient_comes_from_the_future(draw: Draw) -> None:
    """Causal, with a loss at position t alone: keys and values up to t get a gradient, those beyond it exactly 0.

    Vaswani et al. 2017, section 3.2.3.
    """
    q, k, v, gy = _tokens(draw, square=True)
    t = draw.integer(0, q.shape[1] - 1)
    gy[:, np.arange(q.shape[1]) != t] = 0
    _, (gq, gk, gv) = _pulled(q, k, v, gy, is_causal=True)
    for name, g in (("gk", gk), ("gv", gv)):
        require(np.all(g[:, t + 1 :] == 0), f"{name} comes from the future")
    require(np.all(gv[:, : t + 1] != 0), "gv: the present or the past is not heard")
    require(np.all(np.delete(gq, t, axis=1) == 0), "gq of a query that was not asked")


@law(ScaledDotProductAttention)
def a_causal_prefix_does_not_know_what_follows(draw: Draw) -> None:
    """Causal attention over t tokens gives the y and the gradients that they have as the first t of more tokens."""
    q, k, v, gy = _tokens(draw, square=True)
    t = draw.integer(1, q.shape[1] - 1)
    gy[:, t:] = 0
    whole, long = _pulled(q, k, v, gy, is_causal=True)
    y, short = _pulled(q[:, :t], k[:, :t], v[:, :t], gy[:, :t], is_causal=True)
    same(whole[:, :t], y, "y")
    for name, a, b in zip(("gq", "gk", "gv"), long, short, strict=True):
        same(a[:, :t], b, f"{name} of a prefix", scale=_size(gy))


@law(ScaledDotProductAttention)
def a_key_nobody_may_see_could_be_left_out(draw: Draw) -> None:
    """Hidden from all, key and value get exactly 0, and the rest's gradients are those without the two."""
    q, k, v, gy = _tokens(draw)
    s = k.shape[1]
    hidden = draw.integer(0, s - 1)
    mask = np.arange(s) != hidden
    _, (gq, gk, gv) = _pulled(q, k, v, gy, np.broadcast_to(mask, (q.shape[1], s)))
    require(np.all(gk[:, hidden] == 0) and np.all(gv[:, hidden] == 0), "a hidden key gets a gradient")
    _, (hq, hk, hv) = _pulled(q, k[:, mask], v[:, mask], gy)
    for name, a, b in (("gq", gq, hq), ("gk", gk[:, mask], hk), ("gv", gv[:, mask], hv)):
        same(a, b, name, scale=_size(gy))


@law(ScaledDotProductAttention)
def a_bool_mask_is_one_of_zeros_and_minus_infinities(draw: Draw) -> None:
    """Value and gradients, and is_causal is the mask s <= t."""
    q, k, v, gy = _tokens(draw)
    t, s = q.shape[1], k.shape[1]
    causal = np.arange(s) <= np.arange(t)[:, None]
    mask = draw.mask(t, s) | (np.arange(s) == draw.integer(0, s - 1))
    for shown, options in ((mask, {}), (causal, {"is_causal": True})):
        y, gs = _pulled(q, k, v, gy, None if options else shown, **options)
        added, hs = _pulled(q, k, v, gy, np.where(shown, 0.0, -math.inf))
        same_bits(y, added, "y")
        for name, a, b in zip(("gq", "gk", "gv"), gs, hs, strict=True):
            same_bits(a, b, name)


@law(ScaledDotProductAttention)
def a_query_that_may_look_nowhere_gives_and_gets_nothing(draw: Draw) -> None:
    """Its y is 0, its gq too, and what the others hand to keys and values is as if it were not there."""
    q, k, v, gy = _tokens(draw)
    t, s = q.shape[1], k.shape[1]
    blind = np.arange(t) == draw.integer(0, t - 1)
    y, (gq, gk, gv) = _pulled(q, k, v, gy, np.broadcast_to(~blind[:, None], (t, s)))
    require(np.all(y[:, blind] == 0) and np.all(gq[:, blind] == 0), "a blind query answers or learns")
    _, (_, hk, hv) = _pulled(q[:, ~blind], k, v, gy[:, ~blind])
    same(gk, hk, "gk", scale=_size(gy))
    same(gv, hv, "gv", scale=_size(gy))


# --- what adds up


@law(ScaledDotProductAttention)
def the_gradients_of_the_keys_sum_to_zero(draw: Draw) -> None:
    """Σ_s gk = 0: a vector added to all keys adds the same to all scores of a query, which softmax forgets.

    With any mask, and with dropout. For the same reason each row of a float mask's gradient sums to zero.
    """
    for mask, options in _ways(draw):
        q, k, v, gy = _tokens(draw)
        bias = draw.normal(q.shape[1], k.shape[1]) if mask is None else mask(q.shape[1], k.shape[1])
        _, (_, gk, _, gmask) = _pulled_with_bias(q, k, v, bias, gy, **options)
        same(gk.sum(axis=1), np.zeros(gk[:, 0].shape), "Σ gk", 1e-12, scale=_size(gy))
        same(gmask.sum(axis=1), np.zeros(gmask[:, 0].shape), "Σ gmask", 1e-12, scale=_size(gy))


@law(ScaledDotProductAttention)
def values_share_gy_among_themselves(draw: Draw) -> None:
    """Σ_s gv = Σ_t gy, as a query's weights sum to 1: every y is a mean of values."""
    q, k, v, gy = _tokens(draw)
    _, (_, _, gv) = _pulled(q, k, v, gy, is_causal=draw.flag())
    same(gv.sum(axis=1), gy.sum(axis=1), "Σ gv", scale=_size(gy))


@law(ScaledDotProductAttention)
def attention_is_linear_in_its_values(draw: Draw) -> None:
    """<gv, v> = <gy, y> with any mask, and with dropout, whose mask is the same in backward. Euler's theorem."""
    for mask, options in _ways(draw):
        q, k, v, gy = _tokens(draw)
        bias = draw.normal(q.shape[1], k.shape[1]) if mask is None else mask(q.shape[1], k.shape[1])
        y, (_, _, gv, _) = _pulled_with_bias(q, k, v, bias, gy, **options)
        same(np.sum(gv * v), np.sum(gy * y), "<gv, v>", scale=_size(gy))


@law(ScaledDotProductAttention)
def queries_and_keys_have_equal_shares_in_the_scores(draw: Draw) -> None:
    """<gq, q> = <gk, k>, as y depends on q and k by q k^T alone: y(c q, k / c) = y(q, k)."""
    q, k, v, gy = _tokens(draw)
    c = draw.choice([0.5, 3.0])
    y, (gq, gk, _) = _pulled(q, k, v, gy)
    same(np.sum(gq * q), np.sum(gk * k), "<gq, q> and <gk, k>", scale=_size(gy))
    scaled, (hq, hk, _) = _pulled(c * q, k / c, v, gy)
    same(scaled, y, "y")
    same(hq, gq / c, "gq", scale=_size(gy))
    same(hk, gk * c, "gk", scale=_size(gy))


@law(ScaledDotProductAttention)
def queries_and_keys_hear_of_the_scores_alone(draw: Draw) -> None:
    """gq = scale gs k and gk = scale gs^T q, with gs the gradient of a bias b on the scores: s = scale q k^T + b."""
    q, k, v, gy = _tokens(draw)
    scale = draw.choice([0.3, 1.7])
    bias = draw.normal(2, q.shape[1], k.shape[1])
    _, (gq, gk, _, gs) = _pulled_with_bias(q, k, v, bias, gy, scale=scale)
    same(gq, scale * gs @ k, "gq", scale=_size(gy))
    same(gk, scale * gs.swapaxes(1, 2) @ q, "gk", scale=_size(gy))


@law(ScaledDotProductAttention)
def a_scale_could_as_well_stand_on_the_query_or_the_key(draw: Draw) -> None:
    """y(q, k; c) = y(c q, k; 1) = y(q, c k; 1): gq(c) = c gq(1) at c q, and gk(c) = c gk(1) at c k."""
    q, k, v, gy = _tokens(draw)
    c = draw.choice([0.3, 1 / math.sqrt(q.shape[2]), 1.7])
    _, (gq, gk, gv) = _pulled(q, k, v, gy, scale=c)
    _, (hq, hk, hv) = _pulled(c * q, k, v, gy, scale=1.0)
    same(gq, c * hq, "gq", scale=_size(gy))
    same(gk, hk, "gk with the scale on q", scale=_size(gy))
    same(gv, hv, "gv", scale=_size(gy))
    _, (hq, hk, _) = _pulled(q, c * k, v, gy, scale=1.0)
    same(gq, hq, "gq with the scale on k", scale=_size(gy))
    same(gk, c * hk, "gk", scale=_size(gy))


@law(ScaledDotProductAttention)
def a_querys_gradient_is_a_covariance_under_its_weights(draw: Draw) -> None:
    """gq_t = scale Cov_p(k, <v, gy_t>): towards keys whose values would have helped, less the mean key.

    From gs = p (gp - E gp), gp_s = <v_s, gy_t>; E k = Σ_s p_s k_s.
    """
    q, k, v, gy = _tokens(draw)
    scale = draw.choice([0.5, 1.0])
    _, (gq, _, _) = _pulled(q, k, v, gy, scale=scale)
    for n, t in np.ndindex(q.shape[:2]):
        p = np.exp(scale * k[n] @ q[n, t])
        p /= p.sum()
        gain = v[n] @ gy[n, t]
        expected = scale * ((p * gain) @ k[n] - (p @ gain) * (p @ k[n]))
        same(gq[n, t], expected, "gq", scale=_size(gy))


@law(ScaledDotProductAttention)
def with_one_key_there_is_nothing_to_choose(draw: Draw) -> None:
    """y = v and gv = Σ_t gy, while q and k get exactly 0."""
    q, k, v, gy = _tokens(draw)
    _, (gq, gk, gv) = _pulled(q, k[:, :1], v[:, :1], gy)
    require(np.all(gq == 0) and np.all(gk == 0), "gq and gk of a single key")
    same(gv[:, 0], gy.sum(axis=1), "gv")


@law(ScaledDotProductAttention)
def heads_that_share_a_key_sum_their_gradients(draw: Draw) -> None:
    """With k and v (1, S, ·) broadcast over H heads, gk and gv are the sums of what each head alone hands back."""
    q, k, v, gy = _tokens(draw)
    _, (gq, gk, gv) = _pulled(q, k[:1], v[:1], gy)
    alone = [_pulled(q[h : h + 1], k[:1], v[:1], gy[h : h + 1])[1] for h in range(q.shape[0])]
    same(gq, np.concatenate([each[0] for each in alone]), "gq", scale=_size(gy))
    same(gk, np.sum([each[1] for each in alone], axis=0), "gk", scale=_size(gy))
    same(gv, np.sum([each[2] for each in alone], axis=0), "gv", scale=_size(gy))


@law(ScaledDotProductAttention)
def a_dropped_weight_hears_nothing(draw: Draw) -> None:
    """Where drop is 0, no gy changes a bit of gq and gk. For v = I, y is the weights, which shows where that is.

    Srivastava et al. 2014, Dropout, section 5.1: what is dropped is dropped in backward too.
    """
    q, k, _, _ = _tokens(draw)
    s = k.shape[1]
    v, gy = np.broadcast_to(np.eye(s), (2, s, s)), draw.normal(2, q.shape[1], s)
    y, (gq, gk, _) = _pulled(q, k, v, gy, dropout_p=0.5)
    _, (hq, hk, _) = _pulled(q, k, v, np.where(y == 0, draw.normal(*gy.shape), gy), dropout_p=0.5)
    same_bits(hq, gq, "gq")
    same_bits(hk, gk, "gk")
    y, gs = _pulled(q, k, v, gy, dropout_p=1.0)
    require(np.all(y == 0) and all(np.all(g == 0) for g in gs), "something passes though all was dropped")


# --- what the laws are made of


def _tokens(draw: Draw, square: bool = False) -> tuple[Array, Array, Array, Array]:
    """q (N, T, E), k (N, S, E), v (N, S, D), gy (N, T, D): two of each at least, and T = S if `square`."""
    n, t, s = 2, draw.size(2, 4), draw.size(2, 4)
    s = t if square else s
    e, d = draw.size(1, 3), draw.size(1, 3)
    return draw.normal(n, t, e), draw.normal(n, s, e), draw.normal(n, s, d), draw.normal(n, t, d)


def _pulled(
    q: Array, k: Array, v: Array, gy: Array, mask: Array | None = None, **options: Any
) -> tuple[Array, list[Array]]:
    """y and gq, gk, gv; dropout draws the same every time."""
    with steady():
        return pull(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, mask, **options), q, k, v, gy=gy)


def _pulled_with_bias(
    q: Array, k: Array, v: Array, bias: Array, gy: Array, **options: Any
) -> tuple[Array, list[Array]]:
    """y and gq, gk, gv and the float mask's gradient."""
    with steady():
        return pull(lambda *xs: F.scaled_dot_product_attention(*xs, **options), q, k, v, bias, gy=gy)


def _ways(draw: Draw) -> list[tuple[Callable[[int, int], Array] | None, dict[str, Any]]]:
    """With a dense float mask, with a causal one, with dropout."""

    def causal(t: int, s: int) -> Array:
        return np.where(np.tri(t, s, dtype=bool), 0.0, -math.inf)

    return [(None, {}), (causal, {}), (None, {"dropout_p": 0.4})]


def _size(gy: Array) -> float:
    """A scale for gradients that cotangents gy were turned into."""
    return float(np.abs(gy).sum())
