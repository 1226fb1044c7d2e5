"""Pooling with windows that overlap, leave gaps, hang over the end or lie half in the padding, and cells that share
rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from minires import functional as F
from minires.backend import Array
from minires.check.case import Case, case
from minires.check.draw import Draw
from minires.check.reference import pool as loops
from minires.ops.conv import Pair
from minires.ops.pool import AdaptiveAvgPool2d, AvgPool2d, GlobalAvgPool2d, MaxPool2d


@case(MaxPool2d)
def max_pool2d(draw: Draw) -> Case:
    sizes = windows(draw)
    sizes["dilation"] = dilation = draw.choice([(1, 1), (2, 1), (1, 1), (1, 2), (1, 1)])
    shape, ceil_mode = image(draw, sizes, dilation), draw.flag()
    sizes["out"] = out_size(shape, sizes, dilation, ceil_mode)
    kernel, stride, padding = sizes["kernel"], sizes["stride"], sizes["padding"]

    def torch(x: Any) -> Any:
        from torch.nn import functional as F

        return F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode)

    x = draw.apart(*shape)
    if draw.flag():
        x = x - x.max(initial=0.0) - 0.5  # all negative: a padding of 0 would win

    return Case(
        (x,),
        dict(sizes),
        reference=lambda x: loops.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode),
        torch=torch,
    )


@case(AvgPool2d)
def avg_pool2d(draw: Draw) -> Case:
    sizes = windows(draw)
    shape, ceil_mode, include_pad = image(draw, sizes, (1, 1)), draw.flag(), draw.flag()
    divisor = draw.choice([None, None, 3, None, -2])
    sizes["out"] = out_size(shape, sizes, (1, 1), ceil_mode)
    kernel, stride, padding = sizes["kernel"], sizes["stride"], sizes["padding"]
    share: Any = 1 / divisor if divisor else shares(shape, sizes, include_pad)

    def torch(x: Any) -> Any:
        from torch.nn import functional as F

        return F.avg_pool2d(x, kernel, stride, padding, ceil_mode, include_pad, divisor)

    return Case(
        (draw.normal(*shape),),
        {**sizes, "share": share},
        reference=lambda x: loops.avg_pool2d(x, kernel, stride, padding, ceil_mode, include_pad, divisor),
        torch=torch,
    )


@case(AdaptiveAvgPool2d)
def adaptive_avg_pool2d(draw: Draw) -> Case:
    size = draw.size(1, 4), draw.size(1, 4)

    def torch(x: Any) -> Any:
        from torch.nn import functional as F

        return F.adaptive_avg_pool2d(x, size)

    return Case(
        (draw.normal(draw.batch(2), draw.size(1, 2), draw.size(1, 5), draw.size(1, 3)),),
        {"size": size},
        reference=lambda x: loops.adaptive_avg_pool2d(x, size),
        torch=torch,
    )


@case(GlobalAvgPool2d)
def global_avg_pool2d(draw: Draw) -> Case:
    return Case(
        (draw.normal(draw.batch(2), draw.size(1, 3), draw.size(1, 4), draw.size(1, 3)),),
        reference=lambda x: loops.adaptive_avg_pool2d(x, (1, 1)),
        composed=lambda x: F.mean(x, (2, 3), keepdim=True),
        torch=lambda x: x.mean((2, 3), keepdim=True),
    )


def windows(draw: Draw) -> dict[str, Pair]:
    """Kernel, stride and padding: windows that overlap, tile, or leave pixels out."""
    kernel = draw.choice([(2, 2), (2, 3), (3, 2), (1, 2), (3, 1), (2, 2), (1, 1)])
    return {
        "kernel": kernel,
        "stride": kernel if draw.integer(0, 2) == 2 else (draw.choice([1, 2, 1, 3]), draw.choice([1, 2, 4, 1])),
        "padding": (draw.integer(0, kernel[0] // 2), draw.integer(0, kernel[1] // 2)),
    }


def image(draw: Draw, sizes: dict[str, Pair], dilation: Pair) -> tuple[int, int, int, int]:
    """A shape of images in which every window sees a pixel; its taps may pass over fewer than `dilation` of them."""
    h, w = (
        max(1, d * (k - 1) + 1 - 2 * p, d if p else 1) + draw.integer(0, 3)
        for k, p, d in zip(sizes["kernel"], sizes["padding"], dilation, strict=True)
    )
    n, c = draw.choice([(1, 1), (2, 1), (1, 2), (2, 2), (0, 1)])
    return n, c, h, w


def out_size(shape: tuple[int, ...], sizes: dict[str, Pair], dilation: Pair, ceil_mode: bool) -> Pair:
    """How many windows there are, as max_pool2d counts them."""
    y = F.max_pool2d(np.zeros(shape), sizes["kernel"], sizes["stride"], sizes["padding"], dilation, ceil_mode)
    return y.shape[2], y.shape[3]


def shares(shape: tuple[int, ...], sizes: dict[str, Pair], include_pad: bool) -> float | list[list[float]]:
    """One over the pixels that count in each window: one number where all windows are equal."""
    counts: list[Array] = []
    for axis, n in enumerate(shape[2:]):
        k, s, p, out = (sizes[what][axis] for what in ("kernel", "stride", "padding", "out"))
        places = np.arange(out)[:, None] * s + np.arange(k) - p  # (OH, KH)
        counts.append(np.sum((places >= 0) & (places < n) | include_pad & (places < n + p), axis=1))
    sizes_of_windows = np.outer(*counts)  # (OH, OW)
    if len(np.unique(sizes_of_windows)) == 1:
        return float(1 / sizes_of_windows[0, 0])
    result: list[list[float]] = (1 / sizes_of_windows).tolist()
    return result
