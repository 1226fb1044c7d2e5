"""Losses, wrong: mostly by a factor that a learning rate hides."""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.check.bug import bug, misread
from minires.ops.loss import (
    L1,
    BinaryCrossEntropyWithLogits,
    CrossEntropy,
    Dice,
    Huber,
    Mse,
    Nll,
    SoftCrossEntropy,
    spread,
)

MEAN = "a_mean_hands_out_the_sums_gradient_over_the_number_of_losses"
IGNORED = "ignored_samples_get_nothing_and_do_not_count"
TWICE = "a_class_of_weight_two_counts_as_if_it_came_twice"
SMOOTH = "label_smoothing_mixes_the_target_with_all_classes"
P_MINUS_T = "the_gradient_of_cross_entropy_is_p_minus_the_target_over_n"
CLIPPED = "hubers_pull_is_clipped_at_delta"
POSITIVES = "a_positive_of_weight_u_counts_as_u_positives"

# --- classes


@bug(
    CrossEntropy,
    symptom="the learning rate has to shrink as the batch grows; a rate copied from elsewhere diverges at once",
    killed_by=P_MINUS_T,
)
class MeanOfClassesNotDivided(CrossEntropy):
    """gx = p - onehot(t) instead of (p - onehot(t)) / N: the gradient of the sum, under a mean."""

    def backward(self, gy: Array) -> Any:
        gx, *rest = super().backward(gy)
        return gx * self.total if self.reduction == "mean" else gx, *rest


@bug(
    CrossEntropy,
    symptom="training crawls: steps are C times too short, ten times for ten classes, and the rate is raised to match",
    killed_by=MEAN,
)
class DividedByAllLogits(CrossEntropy):
    """gx = (p - onehot(t)) / (N C) instead of / N: the mean over x.size, though there is one loss a sample."""

    def backward(self, gy: Array) -> Any:
        gx, *rest = super().backward(gy)
        return gx / max(self.logp.shape[1], 1) if self.reduction == "mean" else gx, *rest


@bug(
    CrossEntropy,
    symptom="gradients shrink with the share of padding: long and short sentences train at different rates",
    killed_by=IGNORED,
)
class IgnoredCounted(CrossEntropy):
    """gx = (p - onehot(t)) / N instead of over the samples that are not ignored: forward and backward count apart."""

    def backward(self, gy: Array) -> Any:
        gx, *rest = super().backward(gy)
        counted = self.wt.sum()
        return gx * (self.total / counted) if self.reduction == "mean" and counted else gx, *rest


@bug(
    CrossEntropy,
    symptom="a language model learns to predict token 0 on padding; unlabeled pixels all become the first class",
    killed_by=IGNORED,
)
class IgnoredTaughtAsClassZero(CrossEntropy):
    """gx = p - onehot(0) for ignored samples instead of 0: class 0 stands in so that the index is valid, and stays."""

    def backward(self, gy: Array) -> Any:
        with misread(self, kept=self.xp.ones_like(self.kept)):
            return super().backward(gy)


@bug(
    CrossEntropy,
    symptom="label smoothing shows in the loss's value alone; the net grows as sure of itself as without",
    killed_by=SMOOTH,
)
class SmoothingForgotten(CrossEntropy):
    """gx = (p - onehot(t)) w[t] gl instead of (p Σ q - q) gl with q = w ((1 - a) onehot(t) + a / C)."""

    def backward(self, gy: Array) -> Any:
        with misread(self, label_smoothing=0.0):
            return super().backward(gy)


@bug(
    CrossEntropy,
    symptom="gradients grow with the weights of the classes in the batch: rare classes cause jumps in the loss",
    killed_by=TWICE,
)
class WeightsNotInTheMean(CrossEntropy):
    """gx divided by the number of samples instead of by Σ w[t], which forward divides by.

    With weights around 1 both are close.
    """

    def backward(self, gy: Array) -> Any:
        gx, *rest = super().backward(gy)
        return gx * (self.total / self.kept.sum()) if self.reduction == "mean" else gx, *rest


@bug(
    CrossEntropy,
    symptom="class weights seem to help and hurt: scores of all classes drift, as a sample's gradient has a net offset",
    killed_by="cross_entropys_gx_sums_to_zero_over_the_classes",
)
class WeightOfTheColumn(CrossEntropy):
    """gx[n, c] = w[c] (p - onehot(t)) gl instead of w[t_n] (...): each class's own weight, not that of the target."""

    def forward(self, x: Array, t: Array, w: Array | None) -> Array:
        self.column = None if w is None else w.reshape(1, -1, 1)
        return super().forward(x, t, w)

    def backward(self, gy: Array) -> Any:
        gx, *rest = super().backward(gy)
        if self.column is None or self.label_smoothing:
            return gx, *rest
        shape = self.logp.shape
        by_target = self.wt.reshape(shape[0], 1, shape[2])
        return (gx.reshape(shape) / by_target * self.column).reshape(self.shape), *rest


@bug(
    SoftCrossEntropy,
    symptom="none for targets that sum to 1; with class weights, or several labels a sample, scores drift together",
    killed_by="cross_entropys_gx_sums_to_zero_over_the_classes",
)
class TargetsTakenToSumToOne(SoftCrossEntropy):
    """gx = (p - q) gl instead of (p Σ_c q - q) gl, where q = w ((1 - a) t + a / C).

    Derived for a distribution, Σ_c q = 1. Class weights alone undo that.
    """

    def backward(self, gy: Array) -> Any:
        _, gt, *rest = super().backward(gy)
        n, _, length = self.logp.shape
        gl = spread(gy, (n, length), self.reduction, self.total)[:, None]
        return ((self.xp.exp(self.logp) - self.q) * gl).reshape(self.shape), gt, *rest


@bug(
    SoftCrossEntropy,
    symptom="none while the teacher is frozen; trained along with the student, it learns 1 / (1 - a) times too fast",
    killed_by="soft_cross_entropy_is_linear_in_its_target",
)
class TargetsSmoothingForgotten(SoftCrossEntropy):
    """gt = -w log p gl instead of -(1 - a) w log p gl: the target has a share of 1 - a in q, and a / C is constant."""

    def backward(self, gy: Array) -> Any:
        gx, gt, *rest = super().backward(gy)
        a = self.label_smoothing
        return gx, gt if gt is None else gt / (1 - a), *rest


@bug(
    Nll,
    symptom="class weights show in the loss's value alone; rare classes are learned no better than without",
    killed_by="nll_sends_minus_the_weight_to_the_target_alone",
)
class NllWeightForgotten(Nll):
    """gx[n, t_n] = -gl_n instead of -w[t_n] gl_n: forward weighs each class, and backward none."""

    def backward(self, gy: Array) -> Any:
        with misread(self, wt=self.xp.ones_like(self.wt)):
            return super().backward(gy)


@bug(
    Nll,
    symptom="padding trains: token 0 becomes likely wherever the target is ignored",
    killed_by=IGNORED,
)
class NllIgnoredTaught(Nll):
    """gx[n, 0] = -w[0] gl_n for ignored samples instead of 0: the mask is applied in forward and not in backward."""

    def backward(self, gy: Array) -> Any:
        with misread(self, kept=self.xp.ones_like(self.kept)):
            return super().backward(gy)


# --- numbers


@bug(
    Mse,
    symptom="steps are half as long as elsewhere at the same learning rate; nothing else",
    killed_by="mse_pulls_with_twice_the_error_over_n",
)
class MseFactorTwoDropped(Mse):
    """gx = (x - t) gl instead of 2 (x - t) gl: the gradient of (x - t)^2 / 2, as textbooks have it."""

    def backward(self, gy: Array) -> Any:
        return tuple(g if g is None else g / 2 for g in super().backward(gy))


@bug(
    Mse,
    symptom="the more numbers a sample has, the faster it learns; images need another learning rate than labels",
    killed_by=MEAN,
)
class MseMeanOverTheBatch(Mse):
    """gx = 2 (x - t) / N instead of 2 (x - t) / x.size: the mean over samples, under one over elements.

    For vectors of targets, (N,) or (N, 1), both are the same.
    """

    def backward(self, gy: Array) -> Any:
        factor = self.d.size / max(len(self.d), 1) if self.reduction == "mean" and self.d.ndim else 1
        return tuple(g if g is None else g * factor for g in super().backward(gy))


@bug(
    Mse,
    symptom="none while targets are data; two nets that should approach each other run in one direction",
    killed_by="what_x_gets_the_target_gets_with_the_other_sign",
)
class MseTargetsSign(Mse):
    """gt = gx instead of -gx: "it is symmetric in x and t", said of the value."""

    def backward(self, gy: Array) -> Any:
        gx, gt = super().backward(gy)
        return gx, gt if gt is None else -gt


@bug(
    L1,
    symptom="a fit that is exact does not stay so: it trembles by a learning rate's width",
    killed_by="l1_pulls_with_the_same_force_from_any_distance",
)
class L1OneSided(L1):
    """gx = gl where x >= t, else -gl, instead of 0 at x = t: a subgradient too, but one that moves what is right."""

    def backward(self, gy: Array) -> Any:
        side = self.xp.where(self.sign >= 0, 1.0, -1.0).astype(self.sign.dtype)
        gx = side * spread(gy, side.shape, self.reduction, side.size)
        return gx, -gx


@bug(
    Huber,
    symptom="one outlier and the loss explodes: what Huber's loss is taken to prevent",
    killed_by=CLIPPED,
)
class HuberNotClipped(Huber):
    """gx = gain (x - t) gl everywhere instead of gain clip(x - t, -delta, delta) gl: the parabola's slope only."""

    def forward(self, x: Array, t: Array) -> Array:
        self.d = x - t
        return super().forward(x, t)

    def backward(self, gy: Array) -> Any:
        gx = self.d * (self.gain * spread(gy, self.d.shape, self.reduction, self.d.size))
        return gx, -gx


@bug(
    Huber,
    symptom="none for delta = 1, the default; else outliers pull too hard or not hard enough, with a jump at delta",
    killed_by=CLIPPED,
)
class HuberSlopeOne(Huber):
    """gx = gain sign(x - t) gl beyond delta instead of gain delta sign(x - t) gl."""

    def backward(self, gy: Array) -> Any:
        far = self.xp.abs(self.s) >= self.delta
        with misread(self, s=self.xp.where(far, self.s / self.delta, self.s)):
            return super().backward(gy)


# --- masks


@bug(
    BinaryCrossEntropyWithLogits,
    symptom="pos_weight shows in the loss's value alone: rare positives are missed as before",
    killed_by=POSITIVES,
)
class PosWeightForgotten(BinaryCrossEntropyWithLogits):
    """gx = w (p - t) gl instead of w ((1 - t) p - u t (1 - p)) gl: the tidy formula, which holds for u = 1."""

    def backward(self, gy: Array) -> Any:
        _, gt, *rest = super().backward(gy)
        with misread(self, u=None):
            return super().backward(gy)[0], gt, *rest


@bug(
    BinaryCrossEntropyWithLogits,
    symptom="with a large pos_weight everything is learned faster, negatives too, and recall gains nothing by it",
    killed_by=POSITIVES,
)
class PosWeightOnEverything(BinaryCrossEntropyWithLogits):
    """gx = u w (p - t) gl instead of w ((1 - t) p - u t (1 - p)) gl: pos_weight multiplies negatives too."""

    def backward(self, gy: Array) -> Any:
        _, gt, *rest = super().backward(gy)
        with misread(self, u=None):
            gx = super().backward(gy)[0]
        return gx if gx is None or self.u is None else gx * self.u, gt, *rest


@bug(
    BinaryCrossEntropyWithLogits,
    symptom="a net that is sure and wrong stays so; others learn at a quarter of the rate at most",
    killed_by="a_sure_answer_that_is_wrong_gets_all_of_gy",
)
class SigmoidsSlopeLeftIn(BinaryCrossEntropyWithLogits):
    """gx = (p - t) p (1 - p) gl instead of (p - t) gl: sigmoid's derivative, which had cancelled, put in again."""

    def backward(self, gy: Array) -> Any:
        gx, *rest = super().backward(gy)
        p = 0.5 * (1 + self.xp.tanh(self.x / 2))
        return gx if gx is None else gx * p * (1 - p), *rest


@bug(
    BinaryCrossEntropyWithLogits,
    symptom="none for one question a sample; with C labels, steps are C times too long",
    killed_by="the_gradient_of_binary_cross_entropy_is_p_minus_the_target_over_n",
)
class BinaryMeanOverTheBatch(BinaryCrossEntropyWithLogits):
    """gx = (p - t) / N instead of (p - t) / x.size: the mean over samples, under one over elements."""

    def backward(self, gy: Array) -> Any:
        factor = self.x.size / max(len(self.x), 1) if self.reduction == "mean" and self.x.ndim else 1
        return tuple(g if g is None else g * factor for g in super().backward(gy))


@bug(
    Dice,
    symptom="masks grow: pixels of the object are pushed up and those outside never down",
    killed_by="a_perfect_mask_is_pushed_up_inside_and_down_outside",
)
class HalfTheQuotientRule(Dice):
    """gx = -2 t / b gl instead of (a - 2 t b) / b^2 gl: the denominator, Σ x + Σ t + eps, is taken for a constant."""

    def backward(self, gy: Array) -> Any:
        gl = spread(gy, self.a.shape, self.reduction, self.a.size) / self.b
        return -2 * self.t * gl, -2 * self.x * gl


@bug(
    Dice,
    symptom="small objects are learned too slowly and large ones too fast, or the other way round, by the mask's size",
    killed_by="a_perfect_mask_is_pushed_up_inside_and_down_outside",
)
class DenominatorNotSquared(Dice):
    """gx = (a - 2 t b) / b gl instead of (a - 2 t b) / b^2 gl: the quotient rule without the square below the line."""

    def backward(self, gy: Array) -> Any:
        gx, gt = super().backward(gy)
        return tuple(g if g is None else g * self.b for g in (gx, gt))


@bug(
    Dice,
    symptom="none while targets are data; where the target is another net's mask, that net learns from its own",
    killed_by="dice_asks_prediction_and_target_alike",
)
class DiceTargetGetsThePredictionsGradient(Dice):
    """gt = (a - 2 t b) / b^2 gl, which is gx, instead of (a - 2 x b) / b^2 gl."""

    def backward(self, gy: Array) -> Any:
        gl = spread(gy, self.a.shape, self.reduction, self.a.size) / (self.b * self.b)
        gx = (self.a - 2 * self.b * self.t) * gl
        return gx, gx
