"""Laws of pooling: a maximum hands its gradient to one pixel, a mean to all alike, and no gradient gets lost."""

from __future__ import annotations

from typing import Any

import numpy as np

from minires import functional as F
from minires.backend import Array
from minires.check.case import Case
from minires.check.cases import pool as cases
from minires.check.draw import Draw
from minires.check.law import law, pull, require, same, same_bits
from minires.ops.conv import Pair
from minires.ops.pool import AdaptiveAvgPool2d, AvgPool2d, GlobalAvgPool2d, MaxPool2d

# --- the maximum


@law(MaxPool2d)
def max_pool_sends_each_gradient_to_the_pixel_that_won(draw: Draw) -> None:
    """For gy at one window alone, gx is gy at that window's largest pixel, bit for bit, and 0 elsewhere."""
    x, options = _pooled(cases.max_pool2d(draw), draw)
    at = n, c, i, j = _anywhere((*x.shape[:2], *options["out"]), draw)
    gy = np.zeros((*x.shape[:2], *options["out"]))
    gy[at] = draw.normal()
    _, (gx,) = pull(lambda x: MaxPool2d.apply(x, **options), x, gy=gy)
    row, column = max(_window(x.shape, options, i, j), key=lambda pixel: x[n, c, pixel[0], pixel[1]])
    expected = np.zeros(x.shape)
    expected[n, c, row, column] = gy[at]
    same_bits(gx + 0.0, expected, "gx")  # + 0.0: a zero has no sign here


@law(MaxPool2d)
def max_pool_keeps_the_sum_of_the_gradient_even_at_ties(draw: Draw) -> None:
    """sum gx = sum gy for every image and channel: a window's gradient goes to one pixel, however many are equal.

    Half of it to each of two winners would be a subgradient too, and all of it to both none.
    """
    x, options = _pooled(cases.max_pool2d(draw), draw)
    x = draw.integers(3, *x.shape).astype(float)  # hardly a window without a tie
    gy = draw.normal(*x.shape[:2], *options["out"])
    _, (gx,) = pull(lambda x: MaxPool2d.apply(x, **options), x, gy=gy)
    same(gx.sum(axis=(2, 3)), gy.sum(axis=(2, 3)), "the sum of gx", scale=1e-1)


@law(MaxPool2d)
def of_equal_pixels_the_first_row_by_row_takes_the_whole_gradient(draw: Draw) -> None:
    """On a constant image every window's gradient goes to the first pixel that it sees. PyTorch's choice."""
    x, options = _pooled(cases.max_pool2d(draw), draw)
    gy = draw.normal(*x.shape[:2], *options["out"])
    expected = np.zeros(x.shape)
    for i, j in np.ndindex(options["out"]):
        row, column = min(_window(x.shape, options, i, j))
        expected[:, :, row, column] += gy[:, :, i, j]
    _, (gx,) = pull(lambda x: MaxPool2d.apply(x, **options), np.full(x.shape, draw.normal()), gy=gy)
    same(gx, expected, "gx of a constant image", scale=1e-3)


@law(MaxPool2d)
def max_pool_never_picks_padding(draw: Draw) -> None:
    """Where every pixel is negative so is every maximum, and no gradient runs off into the border: sum gx = sum gy."""
    x, options = _pooled(cases.max_pool2d(draw), draw)
    options["padding"] = tuple(k // 2 for k in options["kernel"])
    options["dilation"] = (1, 1)
    sizes = {name: options[name] for name in ("kernel", "stride", "padding")}
    options["out"] = cases.out_size(x.shape, sizes, (1, 1), False)
    x = -draw.positive(*x.shape)
    gy = draw.normal(*x.shape[:2], *options["out"])
    y, (gx,) = pull(lambda x: MaxPool2d.apply(x, **options), x, gy=gy)
    require(bool(np.isin(y, x).all()), "a maximum is none of the pixels")
    same(gx.sum(axis=(2, 3)), gy.sum(axis=(2, 3)), "the sum of gx", scale=1e-1)


@law(MaxPool2d)
def a_pixel_that_wins_several_windows_gets_the_sum_of_their_gradients(draw: Draw) -> None:
    """A peak that every one of OH x OW overlapping windows sees: gx is sum gy there, and 0 elsewhere."""
    k, l_ = draw.size(2, 3), draw.size(2, 3)
    x = -draw.positive(draw.size(1, 2), draw.size(1, 2), 2 * k - 1, 2 * l_ - 1)
    x[:, :, k - 1, l_ - 1] = 1.0  # the center, in all k x l windows
    gy = draw.normal(*x.shape[:2], k, l_)
    y, (gx,) = pull(lambda x: F.max_pool2d(x, (k, l_), stride=1), x, gy=gy)
    require(bool((y == 1.0).all()), "a window did not see the peak")
    expected = np.zeros(x.shape)
    expected[:, :, k - 1, l_ - 1] = gy.sum(axis=(2, 3))
    same(gx, expected, "gx", scale=1e-1)


@law(MaxPool2d)
def max_pooling_commutes_with_what_is_increasing(draw: Draw) -> None:
    """max(exp(x)) = exp(max(x)) window by window, so gx is the same either way; likewise for a ReLU after or before."""
    x, options = _pooled(cases.max_pool2d(draw), draw)
    gy = draw.normal(*x.shape[:2], *options["out"])
    for f in (F.exp, F.relu):
        y, (gx,) = pull(lambda x, f=f: f(MaxPool2d.apply(x, **options)), x, gy=gy)
        z, (hx,) = pull(lambda x, f=f: MaxPool2d.apply(f(x), **options), x, gy=gy)
        same(z, y, "the output")
        same(hx, gx, "gx")


@law(MaxPool2d)
def a_maximum_is_its_gradient_times_its_input(draw: Draw) -> None:
    """<gx, x> = <gy, y>: the maximum of t x is t times that of x for t > 0. Euler's theorem, away from ties."""
    x, options = _pooled(cases.max_pool2d(draw), draw)
    gy = draw.normal(*x.shape[:2], *options["out"])
    y, (gx,) = pull(lambda x: MaxPool2d.apply(x, **options), x, gy=gy)
    same(np.sum(gx * x), np.sum(gy * y), "<gx, x>", scale=float(np.abs(gy * y).sum()) + 1e-3)


@law(MaxPool2d, AvgPool2d)
def pooling_treats_every_channel_of_every_image_alone(draw: Draw) -> None:
    """gx[n, c] is what image n's channel c gives by itself, bit for bit."""
    for op, drawn in ((MaxPool2d, cases.max_pool2d), (AvgPool2d, cases.avg_pool2d)):
        x, options = _pooled(drawn(draw), draw)
        x = draw.normal(2, 3, *x.shape[2:])
        gy = draw.normal(2, 3, *options["out"])
        _, (gx,) = pull(lambda x, op=op, options=options: op.apply(x, **options), x, gy=gy)
        n, c = draw.integer(0, 1), draw.integer(0, 2)
        alone, gy_alone = x[n : n + 1, c : c + 1], gy[n : n + 1, c : c + 1]
        _, (hx,) = pull(lambda x, op=op, options=options: op.apply(x, **options), alone, gy=gy_alone)
        same_bits(np.ascontiguousarray(gx[n : n + 1, c : c + 1]), hx, f"gx of {op.__name__}")


@law(MaxPool2d, AvgPool2d)
def rows_and_columns_play_the_same_part_in_pooling(draw: Draw) -> None:
    """An image and windows turned on the diagonal turn y and gx on the diagonal."""
    for op, drawn in ((MaxPool2d, cases.max_pool2d), (AvgPool2d, cases.avg_pool2d)):
        x, options = _pooled(drawn(draw), draw)
        share = options.get("share")
        turned = {k: v[::-1] for k, v in options.items() if k != "share"}
        if share is not None:
            turned["share"] = share if isinstance(share, float) else [list(row) for row in zip(*share, strict=True)]
        gy = draw.normal(*x.shape[:2], *options["out"])
        y, (gx,) = pull(lambda x, op=op, options=options: op.apply(x, **options), x, gy=gy)
        z, (hx,) = pull(lambda x, op=op, turned=turned: op.apply(x, **turned), _diagonal(x), gy=_diagonal(gy))
        same(_diagonal(z), y, f"the output of {op.__name__}")
        same(_diagonal(hx), gx, f"gx of {op.__name__}")


# --- means


@law(AvgPool2d)
def an_average_pool_without_padding_keeps_the_sum_of_the_gradient(draw: Draw) -> None:
    """sum gx = sum gy for every image and channel, since the weights of each mean sum to one.

    So it is with padding that does not count; where it counts, its share of the gradient is lost.
    """
    x, sizes = _windows(draw)
    gy = draw.normal(*x.shape[:2], *sizes["out"])
    share = cases.shares(x.shape, sizes, False)
    _, (gx,) = pull(lambda x: AvgPool2d.apply(x, **sizes, share=share), x, gy=gy)
    same(gx.sum(axis=(2, 3)), gy.sum(axis=(2, 3)), "the sum of gx", scale=1e-1)
    counted = cases.shares(x.shape, sizes, True)
    kept = gy * np.asarray(counted) / np.asarray(share)  # the part of each window that is no padding
    _, (gx,) = pull(lambda x: AvgPool2d.apply(x, **sizes, share=counted), x, gy=gy)
    same(gx.sum(axis=(2, 3)), kept.sum(axis=(2, 3)), "the sum of gx where padding counts", scale=1e-1)


@law(AvgPool2d)
def an_average_pool_reaches_every_pixel_that_a_window_saw_and_no_other(draw: Draw) -> None:
    """With gy > 0: gx > 0 where a window looked, and gx = 0 in the gaps that a long stride leaves."""
    x, sizes = _windows(draw)
    gy = draw.positive(*x.shape[:2], *sizes["out"])
    share = cases.shares(x.shape, sizes, draw.flag())
    _, (gx,) = pull(lambda x: AvgPool2d.apply(x, **sizes, share=share), x, gy=gy)
    seen = np.zeros(x.shape[2:], bool)
    for i, j in np.ndindex(sizes["out"]):
        for row, column in _window(x.shape, sizes, i, j):
            seen[row, column] = True
    require(bool((gx[:, :, seen] > 0).all()), "a pixel that a window saw got no gradient")
    require(not gx[:, :, ~seen].any(), "a pixel that no window saw got a gradient")


@law(AvgPool2d)
def where_averaging_windows_overlap_their_shares_add_up(draw: Draw) -> None:
    """gx[h, w] = sum of gy[i, j] / size[i, j] over all windows (i, j) that see (h, w)."""
    x, sizes = _windows(draw)
    sizes["kernel"], sizes["stride"] = draw.choice([(2, 2), (3, 2), (2, 3)]), (1, draw.size(1, 2))
    x = draw.normal(*x.shape[:2], draw.size(3, 4), draw.size(3, 4))
    sizes["out"] = cases.out_size(x.shape, sizes, (1, 1), draw.flag())
    gy = draw.normal(*x.shape[:2], *sizes["out"])
    expected = np.zeros(x.shape)
    for i, j in np.ndindex(sizes["out"]):
        seen = list(_window(x.shape, sizes, i, j))
        for row, column in seen:
            expected[:, :, row, column] += gy[:, :, i, j] / len(seen)
    share = cases.shares(x.shape, sizes, False)
    _, (gx,) = pull(lambda x: AvgPool2d.apply(x, **sizes, share=share), x, gy=gy)
    same(gx, expected, "gx", scale=1e-3)


@law(AvgPool2d)
def an_average_pool_is_a_depthwise_convolution_with_equal_weights(draw: Draw) -> None:
    """y and gx are those of conv2d with C groups of one channel, every weight 1 / (KH KW), and the same padding."""
    x, sizes = _windows(draw)
    c, (k, l_) = x.shape[1], sizes["kernel"]
    options = {"stride": sizes["stride"], "padding": sizes["padding"]}
    w = np.full((c, 1, k, l_), 1 / (k * l_))
    gy = draw.normal(*F.conv2d(x, w, groups=c, **options).shape)
    y, (gx,) = pull(lambda x: F.avg_pool2d(x, (k, l_), **options), x, gy=gy)
    z, (hx,) = pull(lambda x: F.conv2d(x, w, groups=c, **options), x, gy=gy)
    same(y, z, "the output")
    same(gx, hx, "gx")


@law(AdaptiveAvgPool2d)
def an_adaptive_pool_keeps_the_sum_of_the_gradient(draw: Draw) -> None:
    """sum gx = sum gy for every image and channel, whether or not the cells are equal."""
    x, size = _cells(draw)
    gy = draw.normal(*x.shape[:2], *size)
    _, (gx,) = pull(lambda x: AdaptiveAvgPool2d.apply(x, size=size), x, gy=gy)
    same(gx.sum(axis=(2, 3)), gy.sum(axis=(2, 3)), "the sum of gx", scale=1e-1)


@law(AdaptiveAvgPool2d)
def a_cell_shares_its_gradient_equally_among_its_own_pixels(draw: Draw) -> None:
    """gx[h, w] = sum of gy[i, j] / size[i, j] over the cells (i, j) that hold (h, w), each by its own size."""
    x, size = _cells(draw)
    gy, expected = draw.normal(*x.shape[:2], *size), np.zeros(x.shape)
    for i, j in np.ndindex(size):
        (top, bottom), (left, right) = _cell(x.shape[2], size[0], i), _cell(x.shape[3], size[1], j)
        share = gy[:, :, i : i + 1, j : j + 1] / ((bottom - top) * (right - left))
        expected[:, :, top:bottom, left:right] += share
    _, (gx,) = pull(lambda x: AdaptiveAvgPool2d.apply(x, size=size), x, gy=gy)
    same(gx, expected, "gx", scale=1e-2)


@law(AdaptiveAvgPool2d, AvgPool2d)
def where_cells_are_equal_adaptive_pooling_is_average_pooling(draw: Draw) -> None:
    """For H = OH k and W = OW l, y and gx are those of avg_pool2d with kernel and stride (k, l)."""
    size, (k, l_) = (draw.size(1, 3), draw.size(1, 3)), (draw.size(1, 3), draw.size(1, 3))
    x = draw.normal(draw.size(1, 2), draw.size(1, 2), size[0] * k, size[1] * l_)
    gy = draw.normal(*x.shape[:2], *size)
    y, (gx,) = pull(lambda x: AdaptiveAvgPool2d.apply(x, size=size), x, gy=gy)
    z, (hx,) = pull(lambda x: F.avg_pool2d(x, (k, l_)), x, gy=gy)
    same(y, z, "the output")
    same(gx, hx, "gx")


@law(AdaptiveAvgPool2d, GlobalAvgPool2d)
def to_one_cell_or_to_as_many_as_pixels_an_adaptive_pool_is_plain(draw: Draw) -> None:
    """One cell: the mean of the image, gx = gy / (H W). A cell a pixel: the identity, gx = gy."""
    x, _ = _cells(draw)
    gy = draw.normal(*x.shape[:2], 1, 1)
    y, (gx,) = pull(lambda x: AdaptiveAvgPool2d.apply(x, size=(1, 1)), x, gy=gy)
    z, (hx,) = pull(GlobalAvgPool2d.apply, x, gy=gy)
    same(y, z, "the mean")
    same(gx, hx, "gx of the mean")
    gy = draw.normal(*x.shape)
    y, (gx,) = pull(lambda x: AdaptiveAvgPool2d.apply(x, size=x.shape[2:]), x, gy=gy)
    same(y, x, "the image itself")
    same(gx, gy, "gx of the image itself")


@law(GlobalAvgPool2d)
def a_global_mean_spreads_its_gradient_evenly(draw: Draw) -> None:
    """gx[n, c, h, w] = gy[n, c] / (H W) for every pixel, so that gx sums to gy. Lin, Chen and Yan 2014, section 3.2."""
    x, _ = _cells(draw)
    gy = draw.normal(*x.shape[:2], 1, 1)
    _, (gx,) = pull(GlobalAvgPool2d.apply, x, gy=gy)
    same(gx, gy / (x.shape[2] * x.shape[3]) * np.ones(x.shape), "gx", 1e-14)
    same(gx.sum(axis=(2, 3), keepdims=True), gy, "the sum of gx")


@law(GlobalAvgPool2d)
def a_global_mean_does_not_care_where_a_pixel_is(draw: Draw) -> None:
    """Pixels in another order leave y and gx as they were: what a classifier after it cannot know is where."""
    x, _ = _cells(draw)
    n, c, h, w = x.shape
    gy = draw.normal(n, c, 1, 1)
    shuffled = x.reshape(n, c, h * w)[:, :, draw.rng.permutation(h * w)].reshape(x.shape)
    y, (gx,) = pull(GlobalAvgPool2d.apply, x, gy=gy)
    z, (hx,) = pull(GlobalAvgPool2d.apply, shuffled, gy=gy)
    same(z, y, "the mean", scale=1e-3)
    same_bits(hx, gx, "gx")


# --- words


def _pooled(case: Case, draw: Draw) -> tuple[Array, dict[str, Any]]:
    """An image, and options over the op's whole range."""
    x = case.inputs[0]
    return x if x.size else draw.apart(1, *x.shape[1:]), dict(case.options)


def _windows(draw: Draw) -> tuple[Array, dict[str, Any]]:
    """An image, and windows all over it, some of them beyond its border."""
    sizes: dict[str, Any] = cases.windows(draw)
    _, _, h, w = cases.image(draw, sizes, (1, 1))
    x = draw.normal(draw.size(1, 2), draw.size(1, 2), h, w)
    return x, {**sizes, "out": cases.out_size(x.shape, sizes, (1, 1), draw.flag())}


def _cells(draw: Draw) -> tuple[Array, Pair]:
    """An image, and a number of cells."""
    x = draw.normal(draw.size(1, 2), draw.size(1, 2), draw.size(1, 6), draw.size(1, 6))
    return x, (draw.size(1, 4), draw.size(1, 4))


def _window(shape: tuple[int, ...], options: dict[str, Any], i: int, j: int) -> list[Pair]:
    """The pixels that window (i, j) sees, row by row."""
    lines = []
    for axis, at in enumerate((i, j)):
        k, s, p = (options[name][axis] for name in ("kernel", "stride", "padding"))
        d = options.get("dilation", (1, 1))[axis]
        lines.append([s * at + d * tap - p for tap in range(k) if 0 <= s * at + d * tap - p < shape[2 + axis]])
    return [(row, column) for row in lines[0] for column in lines[1]]


def _cell(size: int, cells: int, i: int) -> Pair:
    """Where cell i begins and ends: the rows that any part of [i H / OH, (i + 1) H / OH) touches."""
    touched = [h for h in range(size) if (h + 1) * cells > i * size and h * cells < (i + 1) * size]
    return touched[0], touched[-1] + 1


def _anywhere(shape: tuple[int, ...], draw: Draw) -> tuple[int, ...]:
    return tuple(draw.integer(0, n - 1) for n in shape)


def _diagonal(x: Array) -> Array:
    return np.ascontiguousarray(x.swapaxes(2, 3))
