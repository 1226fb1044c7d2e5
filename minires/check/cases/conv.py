"""Convolutions of every geometry: strided past the kernel, padded on one side, dilated, grouped, depthwise, 1x1."""

from __future__ import annotations

from typing import Any

import numpy as np

from minires import functional as F
from minires.backend import Array
from minires.check.case import Case, case
from minires.check.draw import Draw
from minires.check.reference import conv as loops
from minires.engine import Tensor
from minires.ops.conv import Conv2d, ConvTranspose2d, Padding, Pair

NONE: Pair = (0, 0)


@case(Conv2d)
def conv2d(draw: Draw) -> Case:
    kernel, options = geometry(draw)
    c, o = channels(draw, options["groups"])
    size = image_size(draw, kernel, options)
    x = draw.normal(draw.batch(2), c * options["groups"], *size)
    w = draw.normal(o * options["groups"], c, *kernel)
    padding, rest = options["padding"], {k: v for k, v in options.items() if k != "padding"}

    def reference(x: Array, w: Array, b: Array | None) -> Array:
        if symmetric(padding):
            return loops.conv2d(x, w, b, padding=(padding[0][0], padding[1][0]), **rest)
        return loops.conv2d(np.pad(x, (NONE, NONE, *padding)), w, b, **rest)

    def torch(x: Any, w: Any, b: Any) -> Any:
        from torch.nn import functional as F

        return F.conv2d(F.pad(x, (*padding[1], *padding[0])), w, b, **rest)

    return Case(
        (x, w, bias(draw, len(w))),
        options,
        reference=reference,
        composed=lambda x, w, b: tap_by_tap(x, w, b, **options),
        torch=torch,
    )


@case(ConvTranspose2d)
def conv_transpose2d(draw: Draw) -> Case:
    kernel, options = geometry(draw)
    c, o = channels(draw, options["groups"])
    sizes, extra = [], []
    for k, s, p, d in zip(kernel, options["stride"], options["padding"], options["dilation"], strict=True):
        added = draw.integer(0, max(s, d) - 1)
        least = 1 + max(0, -((d * (k - 1) + added - sum(p)) // s))  # so that the output has a pixel
        sizes.append(least + draw.integer(0, 1))
        extra.append(added)
    options["output_padding"] = (extra[0], extra[1])
    x = draw.normal(draw.batch(2), c * options["groups"], *sizes)
    w = draw.normal(c * options["groups"], o, *kernel)
    padding, rest = options["padding"], {k: v for k, v in options.items() if k != "padding"}

    def cut(conv: Any, x: Any, w: Any, b: Any) -> Any:
        """Padding is what is cut off, so where the sides differ: paint all of it, then cut."""
        (top, bottom), (left, right) = padding
        if symmetric(padding):
            return conv(x, w, b, padding=(top, left), **rest)
        y = conv(x, w, b, padding=NONE, **rest)
        return y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]

    def torch(x: Any, w: Any, b: Any) -> Any:
        from torch.nn import functional as F

        return cut(F.conv_transpose2d, x, w, b)

    return Case(
        (x, w, bias(draw, o * options["groups"])),
        options,
        reference=lambda x, w, b: cut(loops.conv_transpose2d, x, w, b),
        torch=torch,
    )


def geometry(draw: Draw) -> tuple[Pair, dict[str, Any]]:
    """The kernel's height and width, and stride, padding, dilation and groups."""
    kernel = draw.choice([(2, 2), (3, 2), (1, 1), (2, 3), (1, 2), (2, 2), (3, 1)])
    rims = [0, 1, 0, 2, 1]
    top, left = draw.choice(rims), draw.choice(rims)
    bottom, right = (draw.choice(rims), draw.choice(rims)) if draw.integer(0, 2) else (top, left)
    return kernel, {
        "stride": (draw.choice([1, 2, 1, 3]), draw.choice([1, 2, 1, 3])),
        "padding": ((top, bottom), (left, right)),
        "dilation": draw.choice([(1, 1), (2, 1), (1, 2), (2, 2), (1, 1), (2, 3)]),
        "groups": draw.choice([1, 2, 1, 3, 1]),
    }


def channels(draw: Draw, groups: int) -> Pair:
    """How many channels one group has, in and out; several groups of one channel are a depthwise convolution."""
    return (draw.size(1, 3), draw.size(1, 3)) if groups == 1 else (draw.size(1, 2), draw.size(1, 2))


def image_size(draw: Draw, kernel: Pair, options: dict[str, Any]) -> Pair:
    """An image's height and width: that of the dilated kernel, less the padding, or up to three pixels more."""
    h, w = (
        max(1, d * (k - 1) + 1 - sum(p)) + draw.choice([1, 0, 2, 3, 1])
        for k, p, d in zip(kernel, options["padding"], options["dilation"], strict=True)
    )
    return h, w


def bias(draw: Draw, channels: int) -> Array | None:
    """One number a channel, or none."""
    return draw.normal(channels) if draw.integer(0, 3) < 3 else None


def symmetric(padding: Padding) -> bool:
    """Whether both sides are padded alike, as PyTorch and the loops want it."""
    return all(first == last for first, last in padding)


def tap_by_tap(
    x: Tensor, w: Tensor, b: Tensor | None, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> Tensor:
    """Convolution out of elementary ops: for each tap a strided slice of the padded image, times a matrix."""
    image = F.pad(x, (*padding[1], *padding[0]))
    (n, c, h, wide), (o, _, kh, kw) = image.shape, w.shape
    oh, ow = (
        (size - d * (k - 1) - 1) // s + 1 for size, d, k, s in zip((h, wide), dilation, (kh, kw), stride, strict=True)
    )
    y: Any = None
    for k, m in np.ndindex(kh, kw):
        rows = slice(dilation[0] * k, dilation[0] * k + stride[0] * (oh - 1) + 1, stride[0])
        columns = slice(dilation[1] * m, dilation[1] * m + stride[1] * (ow - 1) + 1, stride[1])
        under = F.reshape(image[:, :, rows, columns], n, groups, c // groups, oh * ow)
        term = F.matmul(F.reshape(w[:, :, k, m], groups, o // groups, c // groups), under)  # (N, groups, O / groups, L)
        y = term if y is None else F.add(y, term)
    y = F.reshape(y, n, o, oh, ow)
    return y if b is None else F.add(y, F.reshape(b, o, 1, 1))
