"""Pooling with a wrong gradient: it goes to the wrong pixel, to too many of them, or in the wrong share."""

from __future__ import annotations

import math

from minires.backend import Array
from minires.check.bug import bug
from minires.ops.pool import AdaptiveAvgPool2d, AvgPool2d, GlobalAvgPool2d, MaxPool2d

# --- the maximum


@bug(
    MaxPool2d,
    symptom="silent, and right in every test on random floats; after a ReLU most windows tie at 0, and gradients are "
    "several times too large",
    killed_by="max_pool_keeps_the_sum_of_the_gradient_even_at_ties",
)
class EveryWinnerTakesAll(MaxPool2d):
    """gx = gy [x = y] for each pixel of a window that equals its maximum, instead of for one of them.

    DeZero's max does so: tied, every winner gets the full gradient, which is no subgradient.
    """

    def backward(self, gy: Array) -> Array:
        gx = self.xp.zeros(self.x.shape, gy.dtype)
        for _, _, seen, under in self.taps():
            gx[under] += gy[seen] * (self.x[under] == self.y[seen])
        return gx


@bug(
    MaxPool2d,
    symptom="silent: training runs differ from PyTorch's from the first tie on; windows of zeros after a ReLU are "
    "enough",
    killed_by="of_equal_pixels_the_first_row_by_row_takes_the_whole_gradient",
)
class LastWinnerTakesAll(MaxPool2d):
    """Of equal pixels the last one gets gy instead of the first: `>=` where forward's search has `>`.

    A subgradient as good as any, but not the one that is documented, nor PyTorch's.
    """

    def backward(self, gy: Array) -> Array:
        gx = self.xp.zeros(self.x.shape, gy.dtype)
        pending = self.xp.ones(gy.shape, bool)
        for _, _, seen, under in reversed(list(self.taps())):
            won = (self.x[under] == self.y[seen]) & pending[seen]
            pending[seen] ^= won
            gx[under] += gy[seen] * won
        return gx


@bug(
    MaxPool2d,
    symptom="silent after a ReLU, where nothing is below 0; after another activation zeros appear along the border, "
    "and their gradient is lost",
    killed_by="max_pool_never_picks_padding",
)
class PaddedWithZero(MaxPool2d):
    """y = max(x, 0) in windows that touch the padding, instead of the maximum of their pixels: padding 0, not -inf.

    DeZero pads so: an image of -1 gives zeros.
    """

    def forward(self, x: Array) -> Array:
        y = MaxPool2d.forward(self, x)
        pixels = self.xp.zeros(self.out)  # how many of each window's taps lie on the image
        for _, _, seen, _ in self.taps():
            pixels[seen] += 1
        self.y = self.xp.where((pixels < math.prod(self.kernel)) & (y.real < 0), 0, y).astype(x.dtype)
        return self.y


@bug(
    MaxPool2d,
    symptom="silent for windows that tile; with overlapping ones (kernel 3, stride 2, as after the stem of a ResNet) "
    "part of the gradient is lost",
    killed_by="a_pixel_that_wins_several_windows_gets_the_sum_of_their_gradients",
)
class LastWindowWins(MaxPool2d):
    """gx[winner] = gy instead of gx[winner] += gy: a pixel that wins several windows keeps one window's gradient."""

    def backward(self, gy: Array) -> Array:
        gx = self.xp.zeros(self.x.shape, gy.dtype)
        pending = self.xp.ones(gy.shape, bool)
        for _, _, seen, under in self.taps():
            won = (self.x[under] == self.y[seen]) & pending[seen]
            pending[seen] ^= won
            gx[under] = self.xp.where(won, gy[seen], gx[under])
        return gx


@bug(
    MaxPool2d,
    symptom="the net converges all the same: everything below the pool learns from one corner of the image",
    killed_by="max_pool_keeps_the_sum_of_the_gradient_even_at_ties",
)
class ReturnedAfterTheFirstWindow(MaxPool2d):
    """gx has the gradient of window (0, 0) only: the `return` stands inside the loop over the windows.

    Seen in CNN-from-scratch (issue #1), where "the model as-is still converges".
    """

    def backward(self, gy: Array) -> Array:
        first = self.xp.zeros_like(gy)
        first[:, :, :1, :1] = gy[:, :, :1, :1]
        return MaxPool2d.backward(self, first)


@bug(
    MaxPool2d,
    symptom="silent: gradients are blurred and too large by the size of the window at every pool",
    killed_by="max_pool_sends_each_gradient_to_the_pixel_that_won",
)
class WholeWindowTakesAll(MaxPool2d):
    """gx = gy for every pixel of the window instead of for the largest: up-sampling for a backward."""

    def backward(self, gy: Array) -> Array:
        gx = self.xp.zeros(self.x.shape, gy.dtype)
        for _, _, seen, under in self.taps():
            gx[under] += gy[seen]
        return gx


@bug(
    MaxPool2d,
    symptom="silent: shapes fit and the loss falls, slowly; channels get each other's gradient",
    killed_by="pooling_treats_every_channel_of_every_image_alone",
)
class ReshapedAlongTheWrongAxes(MaxPool2d):
    """gy is read as (C, N, OH, OW), turned and reshaped to (N, C, OH, OW): the right shape, the wrong content.

    Right is to leave it as it came. The pool of HIPS autograd's MNIST example was reshaped along wrong axes (PR #245).
    """

    def backward(self, gy: Array) -> Array:
        return MaxPool2d.backward(self, gy.swapaxes(0, 1).reshape(gy.shape))


# --- means


@bug(
    AvgPool2d,
    symptom="silent without padding; with count_include_pad=False the border's gradient is too small",
    killed_by="an_average_pool_without_padding_keeps_the_sum_of_the_gradient",
)
class DividedByTheKernel(AvgPool2d):
    """gx += gy / (KH KW) instead of gy / size[i, j], the number of pixels that forward divided by in that window."""

    def backward(self, gy: Array) -> Array:
        self.share = 1 / math.prod(self.kernel)
        return AvgPool2d.backward(self, gy)


@bug(
    AvgPool2d,
    symptom="silent for windows that tile; where they overlap, gradients are too small",
    killed_by="where_averaging_windows_overlap_their_shares_add_up",
)
class OverlappingSharesAssigned(AvgPool2d):
    """gx[window] = gy / size instead of gx[window] += gy / size: where windows overlap, the last tap's share stays."""

    def backward(self, gy: Array) -> Array:
        shares = gy * self.share
        gx = self.xp.zeros(self.shape, gy.dtype)
        for _, _, seen, under in self.taps():
            gx[under] = shares[seen]
        return gx


@bug(
    AvgPool2d,
    symptom="gradients grow by KH KW at every pool: a smaller learning rate seems to help, and then some layers starve",
    killed_by="an_average_pool_without_padding_keeps_the_sum_of_the_gradient",
)
class MeanTakenForASum(AvgPool2d):
    """gx += gy instead of gy / size: every pixel gets the whole gradient, not its share."""

    def backward(self, gy: Array) -> Array:
        self.share = 1.0
        return AvgPool2d.backward(self, gy)


@bug(
    AvgPool2d,
    symptom="silent for kernel 2, stride 2, no padding, which is all that most nets use; elsewhere pixels are missed",
    killed_by="an_average_pool_is_a_depthwise_convolution_with_equal_weights",
)
class WindowsAssumedToTile(AvgPool2d):
    """gx = gy / size, each value repeated KH x KW times, instead of added where its window lay.

    Right where stride = kernel, padding = 0 and the windows cover the image; else cut, or filled with zeros.
    """

    def backward(self, gy: Array) -> Array:
        tiles = (gy * self.share).repeat(self.kernel[0], axis=2).repeat(self.kernel[1], axis=3)
        gx = self.xp.zeros(self.shape, gy.dtype)
        h, w = (min(a, b) for a, b in zip(tiles.shape[2:], self.shape[2:], strict=True))
        gx[:, :, :h, :w] = tiles[:, :, :h, :w]
        return gx


@bug(
    AdaptiveAvgPool2d,
    symptom="silent where the cells divide the image (224 to 7); at other image sizes the gradient is off by some "
    "percent",
    killed_by="an_adaptive_pool_keeps_the_sum_of_the_gradient",
)
class AverageCellsSize(AdaptiveAvgPool2d):
    """gx = gy OH OW / (H W) instead of gy / size of its own cell: cells differ where OH does not divide H."""

    def backward(self, gy: Array) -> Array:
        rows, columns = ((m > 0) * (m.shape[0] / m.shape[1]) for m in (self.rows, self.columns))
        return rows.astype(gy.dtype).T @ gy @ columns.astype(gy.dtype)


@bug(
    AdaptiveAvgPool2d,
    symptom="silent where the cells divide the image; elsewhere pixels that two cells share hear from one of them",
    killed_by="a_cell_shares_its_gradient_equally_among_its_own_pixels",
)
class CellsEndTooEarly(AdaptiveAvgPool2d):
    """Backward lets cell i end at floor((i + 1) H / OH), forward at ceil((i + 1) H / OH), as is right.

    So neighbors share no row, and where there are more cells than rows some have none.
    """

    def backward(self, gy: Array) -> Array:
        return self._floored(self.rows).T @ gy @ self._floored(self.columns)

    def _floored(self, means: Array) -> Array:
        cells, size = means.shape
        matrix = self.xp.zeros(means.shape, means.dtype)
        for i in range(cells):
            first, last = i * size // cells, (i + 1) * size // cells
            matrix[i, first:last] = 1 / max(1, last - first)
        return matrix


@bug(
    GlobalAvgPool2d,
    symptom="the whole body of the net gets H W times its gradient: NaN at the usual learning rate, or a body that "
    "learns and a classifier that doesn't",
    killed_by="a_global_mean_spreads_its_gradient_evenly",
)
class GlobalSumsGradient(GlobalAvgPool2d):
    """gx = gy instead of gy / (H W): the gradient of a sum over the pixels, where forward takes the mean."""

    def backward(self, gy: Array) -> Array:
        return self.xp.broadcast_to(gy, self.shape)


@bug(
    GlobalAvgPool2d,
    symptom="silent for square images; others learn with a wrong learning rate below the pool",
    killed_by="a_global_mean_spreads_its_gradient_evenly",
)
class ImagesAssumedSquare(GlobalAvgPool2d):
    """gx = gy / H^2 instead of gy / (H W): the number of pixels is taken from the image's height alone."""

    def backward(self, gy: Array) -> Array:
        return self.xp.broadcast_to(gy / self.shape[2] ** 2, self.shape)
