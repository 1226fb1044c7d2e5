"""Softmax, wrong. With a cotangent of ones its true gradient is zero, so that most checks see none of these."""

from __future__ import annotations

from minires.backend import Array
from minires.check.bug import bug
from minires.ops.softmax import LogSoftmax, Softmax

SLICE = "a_slice_of_scores_gets_its_own_gradient"
SUM = "softmax_gx_sums_to_zero"


@bug(
    Softmax,
    symptom="a classifier learns, more slowly: a score is told of its own error and not of its rivals'",
    killed_by="softmax_gx_is_p_times_gy_less_its_mean",
)
class SoftmaxElementByElement(Softmax):
    """gx = y (1 - y) gy instead of y (gy - Σ gy y): the diagonal of the Jacobian, as for a sigmoid.

    The off-diagonal -y_i y_j is lost: raising one score lowers every other probability.
    """

    def backward(self, gy: Array) -> Array:
        return self.y * (1 - self.y) * gy


@bug(
    Softmax,
    symptom="silent, as every shape fits: tokens learn from each other's errors, and nothing from a batch of one",
    killed_by=SLICE,
)
class SoftmaxOverTheFirstAxis(Softmax):
    """gx = y (gy - Σ gy y) with the sum over axis 0, whatever dim is. For a vector of scores it is right."""

    def backward(self, gy: Array) -> Array:
        return self.y * (gy - (gy * self.y).sum(axis=0, keepdims=True))


@bug(
    Softmax,
    symptom="scores drift up or down together, which softmax doesn't show; what learns from them slows down",
    killed_by=SUM,
)
class SoftmaxMeanNotWeighted(Softmax):
    """gx = y (gy - mean(gy)) instead of y (gy - Σ gy y): the mean under even weights, not under y.

    At the start of training, where all scores are alike, both are the same.
    """

    def backward(self, gy: Array) -> Array:
        return self.y * (gy - gy.sum(axis=self.dim, keepdims=True) / gy.shape[self.dim])


@bug(
    Softmax,
    symptom="attention sharpens too slowly: gradients are too small by the weight they belong to",
    killed_by="what_softmax_hands_back_is_the_variance_of_gy",
)
class SoftmaxWeightedTwice(Softmax):
    """gx = y y (gy - Σ gy y) instead of y (gy - Σ gy y): diag(y) applied again, after the Jacobian that holds it."""

    def backward(self, gy: Array) -> Array:
        return self.y * super().backward(gy)


@bug(
    LogSoftmax,
    symptom="right for a loss on one class of weight 1; weighted, smoothed or masked losses pull all scores down",
    killed_by=SUM,
)
class LogSoftmaxSumOfOne(LogSoftmax):
    """gx = gy + exp(y) instead of gy - exp(y) Σ gy: the sum of gy is taken for -1.

    So it is where gy = -onehot(t), the only cotangent a plain classifier sends; for a mean over N it isn't.
    """

    def backward(self, gy: Array) -> Array:
        return gy + self.xp.exp(self.y)


@bug(
    LogSoftmax,
    symptom="the loss stalls after a few steps: all scores are pushed up, those of improbable classes the hardest",
    killed_by="log_softmax_gx_is_gy_less_p_times_its_sum",
)
class LogSoftmaxLogOfP(LogSoftmax):
    """gx = gy - y Σ gy instead of gy - exp(y) Σ gy: what was saved is log p, and p is needed."""

    def backward(self, gy: Array) -> Array:
        return gy - self.y * gy.sum(axis=self.dim, keepdims=True)


@bug(
    LogSoftmax,
    symptom="silent in a classifier of (N, C); a segmentation net with classes on axis 1 blurs rows into each other",
    killed_by=SLICE,
)
class LogSoftmaxSumOverTheLastAxis(LogSoftmax):
    """gx = gy - exp(y) Σ gy with the sum over the last axis, whatever dim is: right for (N, C), not for (N, C, *)."""

    def backward(self, gy: Array) -> Array:
        return gy - self.xp.exp(self.y) * gy.sum(axis=-1, keepdims=True)
