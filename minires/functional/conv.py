"""Convolutions under torch's names. The weights' axes are torch's: (O, C / groups, KH, KW)."""

from __future__ import annotations

import operator
from typing import Any

from minires.engine import Tensor
from minires.errors import RequestError
from minires.functional.shape import reshape
from minires.ops.conv import Conv2d, ConvTranspose2d

__all__ = ["conv1d", "conv2d", "conv_transpose2d"]


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of images with a kernel.

    input     (N, C, H, W), or one image (C, H, W)
    weight    (O, C / groups, KH, KW)
    bias      (O,) or None
    stride    pixels from one output to the next, an int or (vertical, horizontal); likewise dilation, the pixels
              from one tap to the next
    padding   rows and columns of zeros put on either side, an int or (vertical, horizontal); "valid" is 0; "same"
              keeps the image's size at stride 1, with the odd one at the bottom and on the right
    groups    each of `groups` equal parts of the output channels sees only its part of the input channels

    Returns (N, O, OH, OW) with OH = (H + padded - dilation (KH - 1) - 1) // stride + 1. Raises RequestError when
    the shapes do not fit or the kernel is larger than the padded image.
    """
    if input.ndim == 3 and weight.ndim == 4:
        y = conv2d(reshape(input, 1, *input.shape), weight, bias, stride, padding, dilation, groups)
        return reshape(y, *y.shape[1:])
    _check("conv2d", input, weight, bias, groups, transposed=False)
    steps, gaps = pair("conv2d", "stride", stride), pair("conv2d", "dilation", dilation)
    rims = _padding("conv2d", padding, tuple(weight.shape[2:]), steps, gaps)
    for n, k, d, p in zip(input.shape[2:], weight.shape[2:], gaps, rims, strict=True):
        if n + sum(p) < d * (k - 1) + 1:
            raise RequestError(
                f"conv2d: input is {tuple(input.shape)} and weight is {tuple(weight.shape)}: the kernel reaches over "
                f"{d * (k - 1) + 1} pixels where the padded image has {n + sum(p)}; pad more or use a smaller kernel"
            )
    return Conv2d.apply(input, weight, bias, stride=steps, padding=rims, dilation=gaps, groups=groups)


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of sequences with a kernel: `conv2d` of images that are one pixel high.

    input     (N, C, L), or one sequence (C, L)
    weight    (O, C / groups, K)

    The rest is as in conv2d. Returns (N, O, OL).
    """
    if weight.ndim != 3 or input.ndim not in (2, 3):
        raise RequestError(
            f"conv1d: input is {tuple(input.shape)} and weight is {tuple(weight.shape)}, "
            "but they must be (N, C, L) and (O, C / groups, K)"
        )
    image = reshape(input, *input.shape[:-1], 1, input.shape[-1])  # (N, C, 1, L)
    kernel = reshape(weight, *weight.shape[:2], 1, weight.shape[2])  # (O, C / groups, 1, K)
    steps, gaps = (1, _one("stride", stride)), (1, _one("dilation", dilation))
    rims = padding if isinstance(padding, str) else (0, _one("padding", padding))
    y = conv2d(image, kernel, bias, steps, rims, gaps, groups)
    return reshape(y, *y.shape[:-2], y.shape[-1])


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The transpose of conv2d, as a linear map from its outputs to its inputs.

    input     (N, C, H, W), or one image (C, H, W)
    weight    (C, O / groups, KH, KW)
    bias      (O,) or None
    padding   rows and columns cut from either side of the output: what conv2d would have padded
    output_padding   rows and columns more at the bottom and on the right, fewer than stride or dilation

    stride, dilation and groups are those of the conv2d it transposes. Returns (N, O, OH, OW) with
    OH = (H - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1. Raises RequestError when the shapes do
    not fit.
    """
    name = "conv_transpose2d"
    if input.ndim == 3 and weight.ndim == 4:
        image = reshape(input, 1, *input.shape)
        y = conv_transpose2d(image, weight, bias, stride, padding, output_padding, groups, dilation)
        return reshape(y, *y.shape[1:])
    _check(name, input, weight, bias, groups, transposed=True)
    steps, gaps = pair(name, "stride", stride), pair(name, "dilation", dilation)
    cut, extra = pair(name, "padding", padding, least=0), pair(name, "output_padding", output_padding, least=0)
    if any(e >= max(s, d) for e, s, d in zip(extra, steps, gaps, strict=True)):
        raise RequestError(
            f"{name}: output_padding {extra} must be smaller than stride {steps} or dilation {gaps} on each axis"
        )
    sizes = zip(input.shape[2:], weight.shape[2:], steps, cut, gaps, extra, strict=True)
    out = [(n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, k, s, p, d, e in sizes]
    if min(out) < 1:
        raise RequestError(
            f"{name}: input is {tuple(input.shape)} and weight is {tuple(weight.shape)}: with padding {cut} the output "
            f"would be {out[0]} x {out[1]} pixels; pad less"
        )
    rims = (cut[0], cut[0]), (cut[1], cut[1])
    return ConvTranspose2d.apply(
        input, weight, bias, stride=steps, padding=rims, output_padding=extra, dilation=gaps, groups=groups
    )


def pair(name: str, what: str, value: Any, least: int = 1) -> tuple[int, int]:
    """An option for two axes: an int stands for both. Raises RequestError below `least`, TypeError for non-integers."""
    values = value if isinstance(value, (tuple, list)) else (value, value)
    if len(values) == 1:
        values = values * 2
    try:
        numbers = tuple([operator.index(v) for v in values])
    except TypeError:
        raise TypeError(f"{name}: {what} is {value!r}, but must be an integer or two of them") from None
    if len(numbers) != 2 or min(numbers) < least:
        raise RequestError(f"{name}: {what} is {value!r}, but must be one or two integers of at least {least}")
    return numbers[0], numbers[1]


def _one(what: str, value: Any) -> int:
    if isinstance(value, (tuple, list)):
        if len(value) != 1:
            raise RequestError(f"conv1d: {what} is {value!r}, but must be one integer")
        return value[0]
    return value


def _padding(
    name: str, padding: Any, kernel: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    if padding == "same":
        if stride != (1, 1):
            raise RequestError(f"{name}: padding 'same' needs stride 1, not {stride}; give the padding as integers")
        vertical, horizontal = (d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
        return (vertical // 2, vertical - vertical // 2), (horizontal // 2, horizontal - horizontal // 2)
    if padding == "valid":
        return (0, 0), (0, 0)
    if isinstance(padding, str):
        raise RequestError(f"{name}: unknown padding {padding!r}: there are 'same', 'valid' and integers")
    p, q = pair(name, "padding", padding, least=0)
    return (p, p), (q, q)


def _check(name: str, x: Any, w: Any, b: Any, groups: int, *, transposed: bool) -> None:
    shapes = f"{name}: input is {tuple(x.shape)} and weight is {tuple(w.shape)}"
    axes = "(C, O / groups, KH, KW)" if transposed else "(O, C / groups, KH, KW)"
    if x.ndim != 4 or w.ndim != 4:
        raise RequestError(f"{shapes}, but they must be (N, C, H, W) and {axes}")
    if min(w.shape) < 1 or min(x.shape[1:]) < 1:
        raise RequestError(f"{shapes}: every axis but the batch needs a length of at least 1")
    if not isinstance(groups, int) or groups < 1:
        raise RequestError(f"{name}: groups is {groups!r}, but must be an integer of at least 1")
    if w.shape[0] % groups:
        raise RequestError(f"{shapes}: groups, {groups}, must divide weight's axis 0, {w.shape[0]}")
    if transposed and w.shape[0] != x.shape[1]:
        raise RequestError(f"{shapes}: weight's axis 0 must equal input's channels, {x.shape[1]}")
    if not transposed and w.shape[1] * groups != x.shape[1]:
        times = f" times groups, {groups}," if groups > 1 else ""
        raise RequestError(f"{shapes}: weight's axis 1{times} must equal input's channels, {x.shape[1]}")
    out = w.shape[1] * groups if transposed else w.shape[0]
    if b is not None and tuple(b.shape) != (out,):
        raise RequestError(f"{name}: bias is {tuple(b.shape)}, but {out} output channels need ({out},)")
