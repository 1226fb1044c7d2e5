"""Convolutions with a wrong gradient: most of them are the right sum, read at the wrong pixels."""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.check.bug import bug
from minires.ops.conv import Conv2d, Convolution, ConvTranspose2d, Shape
from minires.ops.linear import swap

# --- gx


@bug(
    Conv2d,
    symptom="silent: the loss falls, since the last layers learn; the first ones get the gradient of a mirrored net",
    killed_by="one_outputs_gradient_paints_the_kernel_where_that_output_looked",
)
class KernelNotFlipped(Conv2d):
    """gx[s i + d k - p] += w[K - 1 - k] gy[i] instead of w[k] gy[i].

    As a convolution of gy, gx needs the kernel turned by 180 degrees; here that turn is missing. Symmetric kernels,
    and those of 1 x 1, don't show it.
    """

    def spread(self, g: Array, w: Array, shape: Shape) -> Array:
        return Conv2d.spread(self, g, w[:, :, ::-1, ::-1], shape)


@bug(
    Conv2d,
    symptom="silent: gradients below each overlapping convolution are too small, by about the number of taps; deep "
    "nets train as if these layers were frozen",
    killed_by="at_stride_1_gx_is_a_convolution_of_gy_with_the_kernel_turned_round",
)
class OverlapAssigned(Conv2d):
    """gx[under] = part instead of gx[under] += part: of all outputs that saw a pixel, only the last tap's counts.

    Also what `gx[indices] += part` does with an index array that names a pixel twice, where `add.at` is meant.
    """

    def scatter(self, rows: Array, shape: Shape) -> Array:
        x = self.xp.zeros(shape, rows.dtype)
        for k, m, seen, under in self.taps(rows.shape[2:4], rows.shape[4:], shape[2:]):
            x[under] = rows[:, :, k, m][seen]
        return x


@bug(
    Conv2d,
    symptom="silent: each padded layer shifts the gradient down and to the right by its padding, so deep nets learn "
    "from the wrong pixels",
    killed_by="a_convolutions_gradients_answer_to_one_form",
)
class PaddingNotCropped(Conv2d):
    """gx = padded_gx[:H, :W] instead of padded_gx[top : top + H, left : left + W]: the crop starts at the corner."""

    def spread(self, g: Array, w: Array, shape: Shape) -> Array:
        return _as(self, padding=((0, 0), (0, 0))).spread(g, w, shape)


@bug(
    Conv2d,
    symptom="silent, and right for equal padding on both sides: with padding='same' and an even kernel the gradient is "
    "off by one pixel",
    killed_by="at_stride_1_gx_is_a_convolution_of_gy_with_the_kernel_turned_round",
)
class PaddingCroppedFromTheOtherSide(Conv2d):
    """gx = padded_gx[bottom : bottom + H, right : right + W] instead of [top : top + H, left : left + W]."""

    def spread(self, g: Array, w: Array, shape: Shape) -> Array:
        return _as(self, padding=tuple(p[::-1] for p in self.padding)).spread(g, w, shape)


@bug(
    Conv2d,
    symptom="silent: gradients below each down-sampling reach the upper left quarter of the image only",
    killed_by="a_shifted_image_shifts_the_output_and_the_gradient_and_leaves_the_weights_gradient_alone",
)
class StrideForgottenInGx(Conv2d):
    """gx[i + d k - p] += w[k] gy[i] instead of gx[s i + d k - p]: gy is not spread apart by the stride first.

    A transposed convolution needs s - 1 zeros between the pixels of gy; without them shapes fit after a crop.
    """

    def spread(self, g: Array, w: Array, shape: Shape) -> Array:
        return _as(self, stride=(1, 1)).spread(g, w, shape)


@bug(
    Conv2d,
    symptom="silent without dilation; a dilated net (segmentation, audio) trains, and ends clearly worse",
    killed_by="at_stride_1_gx_is_a_convolution_of_gy_with_the_kernel_turned_round",
)
class DilationForgottenInGx(Conv2d):
    """gx[s i + k - p] += w[k] gy[i] instead of gx[s i + d k - p]: forward dilates the kernel, backward doesn't."""

    def spread(self, g: Array, w: Array, shape: Shape) -> Array:
        return _as(self, dilation=(1, 1)).spread(g, w, shape)


# --- gw and gb


@bug(
    Conv2d,
    symptom="silent for stride 1: filters of strided layers, the stem among them, stay blurred noise",
    killed_by="one_outputs_gradient_paints_the_kernel_where_that_output_looked",
)
class StrideAndDilationNotExchanged(Conv2d):
    """gw[k] = sum_i gy[i] x[d i + s k - p] instead of sum_i gy[i] x[s i + d k - p].

    gw is the convolution of x by gy, with the forward's stride as its dilation and the forward's dilation as its
    stride. Here the two stay where they were. With s = d there is no difference.
    """

    def weigh(self, x: Array, g: Array, shape: Shape) -> Array:
        return _as(self, stride=self.dilation, dilation=self.stride).weigh(x, g, shape)


@bug(
    Conv2d,
    symptom="silent: convolutions learn N times too slowly beside the other layers; batch norm hides most of it",
    killed_by="a_batchs_weight_gradient_is_the_sum_over_its_images",
)
class WeightGradientAveraged(Conv2d):
    """gw = mean_n gw_n instead of sum_n gw_n. The mean is the loss's: gy has its 1/N already."""

    def weigh(self, x: Array, g: Array, shape: Shape) -> Array:
        return Conv2d.weigh(self, x, g, shape) / max(1, len(x))


@bug(
    Conv2d,
    symptom="silent: the loss falls, as noisily as with batch size 1, and a larger batch doesn't help",
    killed_by="a_batchs_weight_gradient_is_the_sum_over_its_images",
)
class LastImageOnly(Conv2d):
    """gw = gw_N of the last image instead of sum_n gw_n: in the loop over the images, `=` where `+=` was meant."""

    def weigh(self, x: Array, g: Array, shape: Shape) -> Array:
        return Conv2d.weigh(self, x[-1:], g[-1:], shape)


@bug(
    Conv2d,
    symptom="the loss falls and MNIST comes to about 96 %: the layers after it learn from random filters",
    killed_by="a_convolutions_gradients_answer_to_one_form",
)
class FiltersNeverLearn(Conv2d):
    """gw = 0 instead of sum gy x: the weights' gradient never reaches them. Seen in taper (PR #9).

    That a net trains does not show that its gradients are right.
    """

    def weigh(self, x: Array, g: Array, shape: Shape) -> Array:
        return self.xp.zeros(shape, g.dtype)


@bug(
    Conv2d,
    symptom="silent: biases learn OH OW times too slowly, the more so the earlier the layer",
    killed_by="a_channels_bias_gets_the_sum_of_gy_over_images_and_pixels",
)
class BiasAveragedOverPixels(Conv2d):
    """gb[o] = sum_n mean_{i, j} gy[n, o, i, j] instead of the sum over n, i and j: b[o] stands in every pixel."""

    def backward(self, gy: Array) -> Any:
        gx, gw, gb = Conv2d.backward(self, gy)
        return gx, gw, None if gb is None else gb / (gy.shape[2] * gy.shape[3])


# --- groups


@bug(
    Conv2d,
    symptom="silent: below a grouped layer all groups get the gradient through group 0's weights; ResNeXt and "
    "depthwise nets train, badly",
    killed_by="groups_are_convolutions_side_by_side",
)
class FirstGroupsWeightsForAll(Conv2d):
    """gx of group q = spread(gy_q, w_0) instead of spread(gy_q, w_q): the group's index is missing."""

    def spread(self, g: Array, w: Array, shape: Shape) -> Array:
        n, o, oh, ow = g.shape
        rows = swap(self.matrix(w)[:1]) @ g.reshape(n, self.groups, o // self.groups, oh * ow)
        return self.scatter(rows.reshape(n, shape[1], *w.shape[2:], oh, ow), shape)


@bug(
    Conv2d,
    symptom="silent, and right for plain and for depthwise convolutions: between, groups get each other's gradient",
    killed_by="no_gradient_crosses_from_one_group_to_another",
)
class GroupsInterleaved(Conv2d):
    """Backward reads output channel o as group o mod groups instead of group floor(o / (O / groups)).

    The reshape to (O / groups, groups) for (groups, O / groups): as many numbers, another order.
    """

    def spread(self, g: Array, w: Array, shape: Shape) -> Array:
        return Conv2d.spread(self, self._dealt(g), w, shape)

    def weigh(self, x: Array, g: Array, shape: Shape) -> Array:
        return Conv2d.weigh(self, x, self._dealt(g), shape)

    def _dealt(self, g: Array) -> Array:
        n, o, oh, ow = g.shape
        return g.reshape(n, o // self.groups, self.groups, oh, ow).swapaxes(1, 2).reshape(n, o, oh, ow)


# --- the transposed convolution


@bug(
    ConvTranspose2d,
    symptom="silent: a decoder's loss falls, its encoder's hardly; pictures stay blurred",
    killed_by="a_transposed_convolutions_gx_is_the_convolution_of_gy",
)
class KernelFlippedTwice(ConvTranspose2d):
    """gx[i] = sum_k w[K - 1 - k] gy[s i + d k - p] instead of sum_k w[k] gy[s i + d k - p].

    "A transposed convolution is one with the kernel flipped", said of the backward too, where the flip is undone.
    """

    def correlate(self, x: Array, w: Array, out: tuple[int, int]) -> Array:
        return ConvTranspose2d.correlate(self, x, w[:, :, ::-1, ::-1], out)


@bug(
    ConvTranspose2d,
    symptom="silent: the gradient of a decoder's input is shifted up and to the left by the padding of each layer",
    killed_by="a_transposed_convolutions_gradients_answer_to_one_form",
)
class CutNotPaddedBack(ConvTranspose2d):
    """gx[i] = sum_k w[k] gy[s i + d k] instead of sum_k w[k] gy[s i + d k - p].

    Forward cuts p rows off, so backward must put p rows of zeros there before it convolves. It doesn't.
    """

    def correlate(self, x: Array, w: Array, out: tuple[int, int]) -> Array:
        return _as(self, padding=((0, 0), (0, 0))).correlate(x, w, out)


@bug(
    ConvTranspose2d,
    symptom="silent without output_padding; with it, as where a 3 x 3 kernel doubles the image, the gradient is off by "
    "one pixel",
    killed_by="one_pixel_paints_the_kernel_and_collects_its_gradient_with_the_same_weights",
)
class OutputPaddingBefore(ConvTranspose2d):
    """gx[i] = sum_k w[k] gy[s i + d k - p + e] instead of gy[s i + d k - p], for output_padding e.

    Backward takes the added rows and columns for the first ones. They are the last: at the bottom, on the right.
    """

    def correlate(self, x: Array, w: Array, out: tuple[int, int]) -> Array:
        moved = tuple((first - e, last + e) for (first, last), e in zip(self.padding, self.output_padding, strict=True))
        return _as(self, padding=moved).correlate(x, w, out)


@bug(
    ConvTranspose2d,
    symptom="silent: filters of up-sampling layers learn too slowly, by the square of the stride; stride 1 is right",
    killed_by="a_transposed_convolutions_gradients_answer_to_one_form",
)
class WeightGradientSharedAmongTheStride(ConvTranspose2d):
    """gw = S / (sh sw) instead of S: "every input pixel was spread over sh sw output pixels, so divide by them".

    A mean where the chain rule has a sum. Each product of a weight and a pixel went into one output, undivided.
    """

    def weigh(self, x: Array, g: Array, shape: Shape) -> Array:
        return ConvTranspose2d.weigh(self, x, g, shape) / (self.stride[0] * self.stride[1])


def _as(op: Convolution, **options: Any) -> Convolution:
    """The right formulas with other options."""
    twin = Convolution()
    vars(twin).update(vars(op), **options)
    twin.xp = op.xp
    return twin
