"""Reductions, wrong."""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.check.bug import bug
from minires.ops.reduce import Amax, Amin, Logsumexp, Max, Mean, Min, Sum, Var, count, put_back, spread

SHARED = "equal_extremes_share_the_gradient_evenly"
FIRST = "max_and_min_along_an_axis_give_all_to_the_first_of_equals"
EVEN = "the_gradient_of_a_mean_is_even_and_adds_up_to_gy"


@bug(
    Sum,
    symptom="silent: shapes fit and the gradient's size is right, but rows and columns of a batch learn each other's",
    killed_by="sum_and_expand_are_each_others_gradient",
)
class SumRepeatedAlongTheLastAxis(Sum):
    """gx = repeat(gy, n).reshape(x.shape) instead of gy put back at the reduced axes and broadcast.

    `repeat` writes each gy n times in a row, which is right when the last axes were summed over and wrong for any
    other. A test that sums over the last axis, or over all, passes.
    """

    def backward(self, gy: Array) -> Any:
        return gy.reshape(-1).repeat(count(self.shape, self.axes)).reshape(self.shape)


@bug(
    Mean,
    symptom="gradients grow with the batch: a larger batch seems to need a smaller learning rate, up to divergence",
    killed_by=EVEN,
)
class MeanNotDivided(Mean):
    """gx = gy instead of gy / n: the backward of a sum under the forward of a mean."""

    def backward(self, gy: Array) -> Any:
        return spread(self.xp, gy, self.shape, self.axes)


@bug(
    Mean,
    symptom="learning is too slow by a constant factor wherever the mean runs over some axes only (pooling, norms)",
    killed_by=EVEN,
)
class MeanDividedByTheSizeOfX(Mean):
    """gx = gy / x.size instead of gy / n, n being the length of the reduced axes.

    The two are equal for a mean over everything, such as a loss; so the loss's own test passes.
    """

    def backward(self, gy: Array) -> Any:
        return spread(self.xp, gy / max(count(self.shape, tuple(range(len(self.shape)))), 1), self.shape, self.axes)


@bug(
    Var,
    symptom="hardly anything: the gradient is short by (n - 1) / n, one per cent at n = 100, half at n = 2",
    killed_by="var_is_of_degree_two",
)
class VarBackwardForgetsBessel(Var):
    """gx = 2 d gy / n, while forward divided by n - correction.

    Forward takes the sample variance (Bessel's correction, PyTorch's default), backward was derived for the other.
    """

    def backward(self, gy: Array) -> Any:
        return self.d * spread(self.xp, gy * 2 / count(self.d.shape, self.axes), self.d.shape, self.axes)


@bug(
    Var,
    symptom="a variance penalty works at half its weight; direction and sign are right, so training goes on",
    killed_by="var_is_of_degree_two",
)
class VarFactorTwoDropped(Var):
    """gx = d gy / (n - correction): the 2 of d(d^2) = 2 d is missing."""

    def backward(self, gy: Array) -> Any:
        return self.d * spread(self.xp, gy / self.freedom, self.d.shape, self.axes)


@bug(
    Var,
    symptom="nothing while the data are centered; else every value is drawn to zero and the mean drifts there",
    killed_by="var_gx_sums_to_zero_along_the_reduced_axes",
)
class VarNotCentered(Var):
    """gx = 2 x gy / (n - correction) instead of 2 (x - mean) gy / (n - correction): the mean's gradient is left out.

    On data of mean zero both are equal. A close relative, a batch norm whose input gradient ignored
    that mean and variance depend on x, is CrypTen's (pull request 143).
    """

    def forward(self, x: Array) -> Any:
        self.x = x
        return super().forward(x)

    def backward(self, gy: Array) -> Any:
        return self.x * spread(self.xp, gy * 2 / self.freedom, self.x.shape, self.axes)


@bug(
    Amax,
    symptom="none on random floats; on images with flat areas, or after a ReLU, the gradient is too large by the ties",
    killed_by=SHARED,
)
class AmaxTiesAllGetFull(Amax):
    """gx = gy where x = y, at every tie, instead of gy / k at each of the k ties.

    What `(x == y) * gy` does. Each step along this gradient counts one maximum k times.
    """

    def backward(self, gy: Array) -> Any:
        return self.reached * spread(self.xp, gy, self.reached.shape, self.axes)


@bug(
    Amin,
    symptom="whatever is minimized over a minimum climbs instead: the loss rises steadily from the first step",
    killed_by="the_extreme_takes_the_gradient_and_nobody_else",
)
class AminNegatedOnce(Amin):
    """gx = -gy where x = y: min x = -max(-x), with one of the two minus signs undone."""

    def backward(self, gy: Array) -> Any:
        return -super().backward(gy)


@bug(
    Max,
    symptom="silent: the gradient's size is right, but in a max over channels or time other elements get it",
    killed_by="max_and_min_along_an_axis_hand_the_gradient_to_the_one_they_name",
)
class MaxScatteredAlongTheLastAxis(Max):
    """gx.reshape(-1, n)[row, i] = gy, whatever the axis: right for the last axis and wrong for all others.

    The shapes fit for each axis, since there are as many rows of n as there are maxima.
    """

    def backward(self, gy: Array, gi: Array) -> Any:
        n = self.shape[self.axis]
        rows = (self.chosen.size, n)
        return put_back(self.xp, gy.reshape(-1), self.chosen.reshape(-1, 1), rows, 1).reshape(self.shape)


@bug(
    Max,
    symptom="none on random floats; with equal values (flat images, zeros after a ReLU) gradient appears from nowhere",
    killed_by=FIRST,
)
class MaxTiesAllGetFull(Max):
    """gx = gy wherever x = y instead of at i alone: with k ties the gradient is k times too large."""

    def forward(self, x: Array) -> Any:
        self.x = x
        return super().forward(x)

    def backward(self, gy: Array, gi: Array) -> Any:
        y = self.xp.take_along_axis(self.x, self.chosen, axis=self.axis)
        return self.xp.where(self.x.real == y.real, gy.reshape(y.shape), 0)


@bug(
    Min,
    symptom="none on random floats; with equal values the gradient reaches another element than `indices` names",
    killed_by=FIRST,
)
class MinHandsItToTheLastOfEquals(Min):
    """gx[j] = gy at the last of equal minima, while forward returned the index of the first.

    The index was found anew in backward, from the end; any single choice is a subgradient, but it must be one choice.
    """

    def forward(self, x: Array) -> Any:
        self.x = x
        return super().forward(x)

    def backward(self, gy: Array, gi: Array) -> Any:
        n = self.shape[self.axis]
        last = n - 1 - self.xp.flip(self.x.real, self.axis).argmin(axis=self.axis)
        return put_back(self.xp, gy, self.xp.expand_dims(last, self.axis), self.shape, self.axis)


@bug(
    Logsumexp,
    symptom="gradients up to n times too large where the values are close; right where one of them dominates",
    killed_by="logsumexp_hands_gy_out_in_the_proportions_of_softmax",
)
class LogsumexpNotNormalized(Logsumexp):
    """gx = exp(x - m) gy instead of exp(x - m) / Σ exp(x - m) gy: the derivative of the logarithm is left out."""

    def backward(self, gy: Array) -> Any:
        return spread(self.xp, gy, self.e.shape, self.axes) * self.e
