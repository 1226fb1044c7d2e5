"""Normalization, wrong. At w = 1, b = 0 and with a cotangent of ones, most of these are invisible."""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.check.bug import bug, misread
from minires.ops.norm import (
    BatchNorm,
    BatchNormEval,
    GroupNorm,
    LayerNorm,
    RmsNorm,
    by_channel,
    column,
    dot_channels,
    mean_of_products,
    project,
    sum_channels,
)

PROJECTS = "normalizing_projects_the_gradient"
OFFSET = "the_gradients_of_a_normalized_set_sum_to_zero"
ALONG_X = "the_gradient_along_x_is_what_eps_leaves_of_it"
OWN = "a_set_answers_for_itself"
GAIN = "a_gain_scales_the_cotangent_once"
COLLECT = "gain_and_bias_collect_xhat_and_one"
BATCH = "one_samples_loss_moves_the_whole_batch"

# --- batch norm


@bug(
    BatchNorm,
    symptom="training runs and gets somewhere; it bears no larger learning rate than without the norm, and often less",
    killed_by="training_projects_the_gradient_at_rest",
)
class StatisticsTreatedAsConstants(BatchNorm):
    """gx = (w / sigma) gy instead of (w / sigma) (gy - gb / m - xhat gw / m): mean and variance don't answer for x.

    The gradient of evaluation used in training. CrypTen's was like that (pull request 143): its unit test had forgotten
    training=True.
    """

    def backward(self, gy: Array) -> Any:
        _, gw, gb = super().backward(gy)
        scale = self.inv if self.w is None else self.w * self.inv
        return (by_channel(gy) * scale).reshape(gy.shape), gw, gb


@bug(
    BatchNorm,
    symptom="silent at first; weights before the norm grow or shrink where they should only turn",
    killed_by=ALONG_X,
)
class VariancePathDropped(BatchNorm):
    """gx = (w / sigma) (gy - gb / m) instead of (w / sigma) (gy - gb / m - xhat gw / m): sigma taken for a constant."""

    def backward(self, gy: Array) -> Any:
        _, gw, gb = super().backward(gy)
        scale = self.inv if self.w is None else self.w * self.inv
        return ((by_channel(gy) - column(gb / self.m)) * scale).reshape(gy.shape), gw, gb


@bug(
    BatchNorm,
    symptom="a bias before the norm, which can change nothing, gets a gradient and wanders off",
    killed_by="a_bias_before_batch_norm_gets_no_gradient",
)
class MeanPathDropped(BatchNorm):
    """gx = (w / sigma) (gy - xhat gw / m) instead of (w / sigma) (gy - gb / m - xhat gw / m): the mean a constant.

    A true neighbor makes this one plausible: in d var / d mu = -2 mean(x - mu) = 0 the mean's part may be dropped.
    """

    def backward(self, gy: Array) -> Any:
        _, gw, gb = super().backward(gy)
        scale = self.inv if self.w is None else self.w * self.inv
        return ((by_channel(gy) - self.xhat * column(gw / self.m)) * scale).reshape(gy.shape), gw, gb


@bug(
    BatchNorm,
    symptom="none with large batches; with few numbers a channel, gradients along the activations that lead nowhere",
    killed_by=PROJECTS,
)
class BesselInBackward(BatchNorm):
    """gx = (w / sigma) (gy - gb / m - xhat gw / (m - 1)) instead of gw / m: backward of the unbiased variance.

    Forward divides by m; m - 1 belongs to the running variance alone.
    """

    def backward(self, gy: Array) -> Any:
        _, gw, gb = super().backward(gy)
        scale = self.inv if self.w is None else self.w * self.inv
        gx = by_channel(gy) - column(gb / self.m) - self.xhat * column(gw / max(self.m - 1, 1))
        return (gx * scale).reshape(gy.shape), gw, gb


@bug(
    BatchNorm,
    symptom="none at the start, where every gain is 1; later the layers below train at a rate of their own",
    killed_by=GAIN,
)
class GainForgotten(BatchNorm):
    """gx = (gy - ...) / sigma instead of (w / sigma) (gy - ...): right at w = 1, where most tests are made."""

    def backward(self, gy: Array) -> Any:
        with misread(self, w=None):
            return super().backward(gy)


@bug(
    BatchNorm,
    symptom="gradients are off by a factor a channel that drifts to 1 as the running variance settles",
    killed_by=PROJECTS,
)
class RunningVarianceInBackward(BatchNorm):
    """gx = (w / sigma_running) (...) instead of (w / sigma) (...): 1 / sigma saved after the running update, from it.

    Here the running variance is that after one step from 1 with momentum 0.1. xhat is right, so are gw and gb.
    """

    def backward(self, gy: Array) -> Any:
        running = 0.9 + 0.1 * (1 / self.inv**2 - self.eps)
        with misread(self, inv=1 / self.xp.sqrt(running + self.eps)):
            return super().backward(gy)


@bug(
    BatchNorm,
    symptom="silent: each image seems normalized by itself as far as learning goes; worst with small images",
    killed_by=BATCH,
)
class MeansOverPositionsOnly(BatchNorm):
    """gb / m and gw / m taken over (H, W) of each sample instead of over (N, H, W): instance norm's backward.

    With a batch of one, as in a quick test, both are the same.
    """

    def backward(self, gy: Array) -> Any:
        _, gw, gb = super().backward(gy)
        g = by_channel(gy)
        scale = self.inv if self.w is None else self.w * self.inv
        gx = g - g.mean(axis=2, keepdims=True) - self.xhat * (g * self.xhat).mean(axis=2, keepdims=True)
        return (gx * scale).reshape(gy.shape), gw, gb


@bug(
    BatchNorm,
    symptom="none for eps = 1e-5 and activations of size 1; dead or tiny channels get gradients that are too large",
    killed_by="complex-step",
)
class EpsBesideTheRoot(BatchNorm):
    """1 / sigma = 1 / (sqrt(var) + eps) in backward, 1 / sqrt(var + eps) in forward."""

    def backward(self, gy: Array) -> Any:
        var = self.xp.maximum(1 / self.inv**2 - self.eps, 0.0)
        with misread(self, inv=1 / (self.xp.sqrt(var) + self.eps)):
            return super().backward(gy)


@bug(
    BatchNorm,
    symptom="gains drift up and down by no reason of theirs: by how far the channel's output lies from 0",
    killed_by=COLLECT,
)
class GainCollectsTheOutput(BatchNorm):
    """gw = Σ gy y instead of Σ gy xhat: the same at w = 1, b = 0, where each training starts."""

    def forward(self, x: Array, w: Array | None, b: Array | None) -> Array:
        y = super().forward(x, w, b)
        self.y = by_channel(y)
        return y

    def backward(self, gy: Array) -> Any:
        gx, _, gb = super().backward(gy)
        return gx, dot_channels(self.xp, by_channel(gy), self.y), gb


# --- batch norm at rest


@bug(
    BatchNormEval,
    symptom="fine-tuning with frozen statistics hardly moves the layers below, and an attack on the net finds nothing",
    killed_by="at_rest_batch_norm_has_one_slope_a_channel",
)
class StatisticsDifferentiatedAtRest(BatchNormEval):
    """gx = (w / sigma) (gy - mean(gy) - xhat mean(gy xhat)) instead of (w / sigma) gy: training's backward, always.

    The running statistics are constants. DeZero's batch norm in evaluation doesn't even get here: it raises TypeError.
    """

    def backward(self, gy: Array) -> Any:
        _, gw, gb, *rest = super().backward(gy)
        g, xhat = by_channel(gy), self.centered * self.inv
        m = max(g.shape[0] * g.shape[2], 1)
        g = g - column(sum_channels(self.xp, g) / m) - xhat * column(dot_channels(self.xp, g, xhat) / m)
        return (g * (self.inv if self.w is None else self.w * self.inv)).reshape(gy.shape), gw, gb, *rest


@bug(
    BatchNormEval,
    symptom="none in a fresh net, where the running variance is 1; later gradients are off by 1 / sigma a channel",
    killed_by="at_rest_batch_norm_has_one_slope_a_channel",
)
class VarianceNotRooted(BatchNormEval):
    """gx = w gy / (var + eps) instead of w gy / sqrt(var + eps): divided by the variance, not by the deviation."""

    def backward(self, gy: Array) -> Any:
        gx, *rest = super().backward(gy)
        return (by_channel(gx) * self.inv).reshape(gy.shape), *rest


@bug(
    BatchNormEval,
    symptom="none in a fresh net, where the running mean is 0; later gains are drawn to where the mean lies",
    killed_by=COLLECT,
)
class GainCollectsWhatIsNotCentered(BatchNormEval):
    """gw = Σ gy x / sigma instead of Σ gy (x - mean) / sigma: x was saved where x - mean is needed."""

    def forward(self, x: Array, w: Array | None, b: Array | None, mean: Array, var: Array) -> Array:
        self.x = by_channel(x)
        return super().forward(x, w, b, mean, var)

    def backward(self, gy: Array) -> Any:
        gx, _, *rest = super().backward(gy)
        return gx, dot_channels(self.xp, by_channel(gy), self.x) * self.inv.reshape(-1), *rest


# --- layer norm


@bug(
    LayerNorm,
    symptom="a token's gradient depends on who else is in the batch; training stalls with batches of one",
    killed_by=OWN,
)
class OverTheBatch(LayerNorm):
    """The two means of gx run over the rows instead of over the features: axis 0 for axis 1, and every shape fits.

    PyDyNet's layer norm normalizes over the batch axis altogether.
    """

    def backward(self, gy: Array) -> Any:
        _, gw, gb = super().backward(gy)
        rows = gy.reshape(self.xhat.shape)
        g = rows if self.w is None else rows * self.w
        if g.shape[0]:
            g = g - g.mean(axis=0) - self.xhat * (g * self.xhat).mean(axis=0)
        return (g * self.inv).reshape(gy.shape), gw, gb


@bug(
    LayerNorm,
    symptom="none while all gains are equal, as at the start; as they part, gradient leaks along ones",
    killed_by=OFFSET,
)
class GainOutsideTheMeans(LayerNorm):
    """gx = w (gy - mean(gy) - xhat mean(gy xhat)) / sigma instead of gxhat = w gy inside the means.

    Batch norm's formula, where the gain is one number a set and can be drawn out. Here it varies within a set.
    """

    def backward(self, gy: Array) -> Any:
        _, gw, gb = super().backward(gy)
        gx = project(self.xp, gy.reshape(self.xhat.shape), self.xhat, self.inv)
        return (gx if self.w is None else gx * self.w).reshape(gy.shape), gw, gb


@bug(
    LayerNorm,
    symptom="hardly anything: means drift, as the offset that forward takes away is trained all the same",
    killed_by=OFFSET,
)
class CenteringForgotten(LayerNorm):
    """gx = (gxhat - xhat mean(gxhat xhat)) / sigma instead of (gxhat - mean(gxhat) - ...): RMS norm's backward."""

    def backward(self, gy: Array) -> Any:
        _, gw, gb = super().backward(gy)
        rows = gy.reshape(self.xhat.shape)
        g = rows if self.w is None else rows * self.w
        gx = (g - self.xhat * mean_of_products(self.xp, g, self.xhat)) * self.inv
        return gx.reshape(gy.shape), gw, gb


@bug(
    LayerNorm,
    symptom="gains and biases move in step, and a layer norm with a gain is no better than one without",
    killed_by=COLLECT,
)
class GainCollectsGy(LayerNorm):
    """gw = Σ gy instead of Σ gy xhat: the line for gb, copied, in which xhat was to be filled in."""

    def backward(self, gy: Array) -> Any:
        gx, gw, gb = super().backward(gy)
        return gx, gw if gw is None else gy.reshape(self.xhat.shape).sum(axis=0).reshape(self.normalized_shape), gb


# --- group norm


@bug(
    GroupNorm,
    symptom="silent; right with one channel a group, and the more channels share a group the further off",
    killed_by=OFFSET,
)
class MeansByChannel(GroupNorm):
    """The two means of gx are taken over each channel instead of over its group: instance norm's backward."""

    def backward(self, gy: Array) -> Any:
        _, gw, gb = super().backward(gy)
        g = by_channel(gy)
        g = g if self.w is None else g * self.w
        if g.size:
            g = g - g.mean(axis=2, keepdims=True) - self.xhat * (g * self.xhat).mean(axis=2, keepdims=True)
        gx = g.reshape(self.rows) * self.inv
        return gx.reshape(gy.shape), gw, gb


@bug(
    GroupNorm,
    symptom="none while all gains are equal, as at the start; later channels of a group pull at each other's offset",
    killed_by=OFFSET,
)
class GroupGainOutsideTheMeans(GroupNorm):
    """gx = w (gy - mean(gy) - xhat mean(gy xhat)) / sigma instead of gxhat = w gy inside the means.

    Right for one channel a group. Within a group each channel has a gain of its own.
    """

    def backward(self, gy: Array) -> Any:
        _, gw, gb = super().backward(gy)
        gx = project(self.xp, gy.reshape(self.rows), self.xhat.reshape(self.rows), self.inv).reshape(gy.shape)
        return gx if self.w is None else (by_channel(gx) * self.w).reshape(gy.shape), gw, gb


# --- RMS norm


@bug(
    RmsNorm,
    symptom="none at w = 1; as gains leave 1, the layers below get gradients scaled by them once too often",
    killed_by=GAIN,
)
class GainTwice(RmsNorm):
    """gx = w (gxhat - xhat mean(gxhat xhat)) / r with gxhat = w gy: the gain is multiplied in twice.

    Megatron-LM's RMS norm (pull request 6859), invisible at w = 1.
    """

    def backward(self, gy: Array) -> Any:
        gx, gw = super().backward(gy)
        return gx if self.w is None else (gx.reshape(self.xhat.shape) * self.w).reshape(gy.shape), gw


@bug(
    RmsNorm,
    symptom="none at w = 1; later the gradient has a part along x, and the stream's scale is trained for nothing",
    killed_by=ALONG_X,
)
class GainForgottenInTheMean(RmsNorm):
    """gx = (gxhat - xhat mean(gy xhat)) / r instead of (gxhat - xhat mean(gxhat xhat)) / r, with gxhat = w gy."""

    def backward(self, gy: Array) -> Any:
        _, gw = super().backward(gy)
        rows = gy.reshape(self.xhat.shape)
        g = rows if self.w is None else rows * self.w
        gx = (g - self.xhat * mean_of_products(self.xp, rows, self.xhat)) * self.inv
        return gx.reshape(gy.shape), gw


@bug(
    RmsNorm,
    symptom="hardly anything: what all features have in common is never learned by the layers below",
    killed_by=PROJECTS,
)
class CenteredLikeLayerNorm(RmsNorm):
    """gx = (gxhat - mean(gxhat) - xhat mean(gxhat xhat)) / r instead of without mean(gxhat): layer norm's backward."""

    def backward(self, gy: Array) -> Any:
        _, gw = super().backward(gy)
        rows = gy.reshape(self.xhat.shape)
        gx = project(self.xp, rows if self.w is None else rows * self.w, self.xhat, self.inv)
        return gx.reshape(gy.shape), gw


@bug(
    RmsNorm,
    symptom="gradients explode for small activations and fade for large ones, though outputs look all the same",
    killed_by="at_a_times_x_the_gradient_is_gx_over_a",
)
class RootTwice(RmsNorm):
    """gx = (gxhat - xhat mean(gxhat xhat)) / r^2 instead of ... / r: one r belongs to xhat already."""

    def backward(self, gy: Array) -> Any:
        gx, gw = super().backward(gy)
        return (gx.reshape(self.xhat.shape) * self.inv).reshape(gy.shape), gw
