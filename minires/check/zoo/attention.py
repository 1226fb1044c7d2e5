"""Attention, wrong: transposed, scaled twice, or listening to what was masked."""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.check.bug import bug, misread
from minires.ops.attention import ScaledDotProductAttention
from minires.ops.linear import swap

KEYS = "the_gradients_of_the_keys_sum_to_zero"
SCALE = "a_scale_could_as_well_stand_on_the_query_or_the_key"
FUTURE = "not_one_bit_of_gradient_comes_from_the_future"
DROPPED = "a_dropped_weight_hears_nothing"
VALUES = "attention_is_linear_in_its_values"


class Apart(ScaledDotProductAttention):
    """Backward with the pieces that a mistake is made in laid out: gp, gs, and the three products."""

    def backward(self, gy: Array) -> Any:
        gs = self.softmax(self.dropped(gy @ swap(self.v)))
        return (gs @ self.k) * self.scale, (swap(gs) @ self.q) * self.scale, swap(self.weights()) @ gy, gs

    def weights(self) -> Array:
        """What multiplied v."""
        return self.p if self.drop is None else self.p * self.drop

    def dropped(self, gp: Array) -> Array:
        """Backward of dropout."""
        return gp if self.drop is None else gp * self.drop

    def softmax(self, gp: Array) -> Array:
        """Backward of softmax."""
        return self.p * (gp - (gp * self.p).sum(axis=-1, keepdims=True))


@bug(
    ScaledDotProductAttention,
    symptom="queries learn sqrt(E) times too fast and attention turns sure early; keys and values are fine",
    killed_by=SCALE,
)
class ScaleForgottenForQueries(Apart):
    """gq = gs k instead of scale gs k, while gk has its scale: forward scaled q k^T, backward half of it."""

    def backward(self, gy: Array) -> Any:
        gq, *rest = super().backward(gy)
        return gq / self.scale, *rest


@bug(
    ScaledDotProductAttention,
    symptom="attention stays even for long: keys learn sqrt(E) times too slowly",
    killed_by=SCALE,
)
class ScaleTwiceForKeys(Apart):
    """gk = scale gs^T (scale q) instead of scale gs^T q: the q that was saved had been scaled already."""

    def backward(self, gy: Array) -> Any:
        gq, gk, *rest = super().backward(gy)
        return gq, gk * self.scale, *rest


@bug(
    ScaledDotProductAttention,
    symptom="self-attention trains, badly: each position learns as a query what it should learn as a key",
    killed_by=FUTURE,
)
class QueriesAndKeysNotTransposed(Apart):
    """gq = scale gs^T k and gk = scale gs q instead of gs k and gs^T q. Fits for T = S; right for all others."""

    def backward(self, gy: Array) -> Any:
        gq, gk, gv, gs = super().backward(gy)
        if gs.shape[-1] == gs.shape[-2]:
            gq, gk = (swap(gs) @ self.k) * self.scale, (gs @ self.q) * self.scale
        return gq, gk, gv, gs


@bug(
    ScaledDotProductAttention,
    symptom="self-attention trains, badly, and a causal one peeks: values are trained by positions that don't see them",
    killed_by=FUTURE,
)
class ValuesNotTransposed(Apart):
    """gv = p gy instead of p^T gy. For T = S the shapes fit; where they don't, this is right."""

    def backward(self, gy: Array) -> Any:
        gq, gk, gv, gs = super().backward(gy)
        return gq, gk, self.weights() @ gy if gs.shape[-1] == gs.shape[-2] else gv, gs


@bug(
    ScaledDotProductAttention,
    symptom="attention learns, more slowly: a weight is told of its own gain and not of its rivals'",
    killed_by=KEYS,
)
class ScoresElementByElement(Apart):
    """gs = p (1 - p) gp instead of p (gp - Σ gp p): the diagonal of softmax's Jacobian."""

    def softmax(self, gp: Array) -> Array:
        return self.p * (1 - self.p) * gp


@bug(
    ScaledDotProductAttention,
    symptom="silent: scores of a query drift together, and queries learn from each other's errors",
    killed_by=KEYS,
)
class ScoresSummedOverQueries(Apart):
    """gs = p (gp - Σ gp p) with the sum over T instead of S: axis -2 for axis -1, and keepdims makes it fit."""

    def softmax(self, gp: Array) -> Array:
        return self.p * (gp - (gp * self.p).sum(axis=-2, keepdims=True))


@bug(
    ScaledDotProductAttention,
    symptom="a language model learns to predict from all but the present token: its loss stays above what it should be",
    killed_by=FUTURE,
)
class CausalOffByOne(Apart):
    """Backward masks s >= t instead of s > t: a position's gradient does not reach its own key and value."""

    def backward(self, gy: Array) -> Any:
        if self.is_causal:
            strict = self.xp.tri(*self.p.shape[-2:], k=-1, dtype=bool)
            with misread(self, p=self.xp.where(strict, self.p, 0.0)):
                return super().backward(gy)
        return super().backward(gy)


@bug(
    ScaledDotProductAttention,
    symptom="a language model's training is a little off, most for the first tokens, which see little",
    killed_by="a_causal_prefix_does_not_know_what_follows",
)
class MaskedAfterSoftmax(Apart):
    """Backward's p is softmax(s) with the future set to 0, instead of softmax(s with the future at -inf).

    Its rows don't sum to one: what the future would have got is missing. Forward is right.
    """

    def forward(self, q: Array, k: Array, v: Array, mask: Array | None) -> Array:
        y = super().forward(q, k, v, mask)
        if self.is_causal:
            s = (q * self.scale) @ swap(k)
            e = self.xp.exp(s - s.real.max(axis=-1, keepdims=True))
            p = e / e.sum(axis=-1, keepdims=True)
            self.p = self.xp.where(self.xp.tri(*p.shape[-2:], dtype=bool), p, 0.0)
        return y


@bug(
    ScaledDotProductAttention,
    symptom="dropout on attention costs accuracy instead of adding any: dropped weights are trained all the same",
    killed_by=DROPPED,
)
class DropoutForgottenInScores(Apart):
    """gp = gy v^T instead of drop (gy v^T): dropout is undone for v alone."""

    def dropped(self, gp: Array) -> Array:
        return gp


@bug(
    ScaledDotProductAttention,
    symptom="with dropout on attention the loss hardly falls: gradients belong to a net that never ran",
    killed_by=VALUES,
)
class DropoutDrawnAgain(Apart):
    """Backward draws a new mask instead of using forward's: what comes of recomputing weights to save memory."""

    def backward(self, gy: Array) -> Any:
        if self.drop is not None:
            self.drop = self.draw()
        return super().backward(gy)


@bug(
    ScaledDotProductAttention,
    symptom="none without dropout; with it, scores drift together and attention learns more slowly",
    killed_by=KEYS,
)
class DroppedWeightsInTheJacobian(Apart):
    """gs = drop p (gp - Σ gp drop p) instead of p (drop gp - Σ drop gp p), gp = gy v^T.

    The weights were saved after dropout; softmax's Jacobian wants its own output, before it.
    """

    def dropped(self, gp: Array) -> Array:
        return gp

    def softmax(self, gp: Array) -> Array:
        p = self.weights()
        return p * (gp - (gp * p).sum(axis=-1, keepdims=True))


@bug(
    ScaledDotProductAttention,
    symptom="a learned bias on the scores (as for relative positions) moves sqrt(E) times too slowly",
    killed_by="queries_and_keys_hear_of_the_scores_alone",
)
class BiasScaled(Apart):
    """gmask = scale gs instead of gs: the bias is added after the scores are scaled."""

    def backward(self, gy: Array) -> Any:
        *rest, gs = super().backward(gy)
        return *rest, gs * self.scale


@bug(
    ScaledDotProductAttention,
    symptom="padding trains: keys and values get a gradient from positions that saw none, the more the longer it is",
    killed_by="a_query_that_may_look_nowhere_gives_and_gets_nothing",
)
class BlindQueryLooksEverywhere(Apart):
    """A row that is masked throughout has p = 1 / S in backward instead of 0, as for scores that are all -1e9."""

    def forward(self, q: Array, k: Array, v: Array, mask: Array | None) -> Array:
        y = super().forward(q, k, v, mask)
        blind = self.p.sum(axis=-1, keepdims=True) == 0
        self.p = self.xp.where(blind, 1.0 / self.p.shape[-1], self.p)
        return y
