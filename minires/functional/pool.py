"""Pooling under torch's names. An image is (N, C, H, W), or (C, H, W) for one alone."""

from __future__ import annotations

from typing import Any

from minires.engine import Tensor
from minires.errors import RequestError
from minires.functional.conv import pair
from minires.functional.shape import reshape
from minires.ops.pool import AdaptiveAvgPool2d, AvgPool2d, GlobalAvgPool2d, MaxPool2d

__all__ = ["adaptive_avg_pool2d", "avg_pool1d", "avg_pool2d", "max_pool1d", "max_pool2d"]


def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The largest value of each window; where several are largest, the first takes the gradient.

    kernel_size    an int or (vertical, horizontal), as are the others
    stride         from one window to the next; None: kernel_size
    padding        rows and columns of -inf on either side, at most half of kernel_size
    dilation       from one pixel of a window to the next
    ceil_mode      also keep the windows that hang over the end, if they start inside

    Returns (N, C, OH, OW) with OH = (H + 2 padding - dilation (KH - 1) - 1) / stride + 1, rounded down, or up in
    ceil_mode. Raises RequestError when no window fits. The winners' indices are not available.
    """
    if return_indices:
        raise TypeError("max_pool2d: return_indices=True is not available in minires; only the maxima are returned")
    if input.ndim == 3:
        image = reshape(input, 1, *input.shape)
        y = max_pool2d(image, kernel_size, stride, padding, dilation, ceil_mode)
        return reshape(y, *y.shape[1:])
    sizes = _sizes("max_pool2d", input, kernel_size, stride, padding, dilation, ceil_mode)
    return MaxPool2d.apply(input, **sizes)


def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window.

    padding              rows and columns of zeros on either side, at most half of kernel_size
    count_include_pad    whether the padding counts among the pixels that the sum is divided by
    divisor_override     divide by this number instead

    The rest is as in max_pool2d. What a window in ceil_mode has beyond the padding never counts.
    """
    if input.ndim == 3:
        image = reshape(input, 1, *input.shape)
        y = avg_pool2d(image, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        return reshape(y, *y.shape[1:])
    sizes = _sizes("avg_pool2d", input, kernel_size, stride, padding, 1, ceil_mode)
    del sizes["dilation"]
    if divisor_override is None:
        rows, columns = (_counts(axis, input.shape[2 + axis], sizes, count_include_pad) for axis in (0, 1))
        share: Any = [[1 / (a * b) for b in columns] for a in rows]
        if len(set(rows)) == len(set(columns)) == 1:
            share = share[0][0]
    elif divisor_override == 0:
        raise RequestError("avg_pool2d: divisor_override is 0, but the sums are divided by it")
    else:
        share = 1 / divisor_override
    return AvgPool2d.apply(input, share=share, **sizes)


def adaptive_avg_pool2d(input: Any, output_size: Any) -> Tensor:
    """The mean over each cell of a grid of output_size cells, whatever the image's size.

    output_size    an int or (OH, OW); None keeps the image's own length on that axis

    Returns (N, C, OH, OW). Cell i covers the rows floor(i H / OH) to ceil((i + 1) H / OH) - 1, as in PyTorch:
    cells are equal where OH divides H, else neighbors may share a row.
    """
    if input.ndim == 3:
        y = adaptive_avg_pool2d(reshape(input, 1, *input.shape), output_size)
        return reshape(y, *y.shape[1:])
    _check("adaptive_avg_pool2d", input)
    wanted = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if len(wanted) != 2:
        raise RequestError(f"adaptive_avg_pool2d: output_size is {output_size!r}, but must be one or two integers")
    kept = tuple([n if v is None else v for v, n in zip(wanted, input.shape[2:], strict=True)])
    size = pair("adaptive_avg_pool2d", "output_size", kept)
    if size == (1, 1):
        return GlobalAvgPool2d.apply(input)
    return AdaptiveAvgPool2d.apply(input, size=size)


def max_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """`max_pool2d` of sequences (N, C, L) or (C, L), as images that are one pixel high."""
    image, (kernel, steps, rims) = _flat("max_pool1d", input, kernel_size, stride, padding)
    y = max_pool2d(image, kernel, steps, rims, (1, _one("max_pool1d", dilation)), ceil_mode, return_indices)
    return reshape(y, *y.shape[:-2], y.shape[-1])


def avg_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """`avg_pool2d` of sequences (N, C, L) or (C, L), as images that are one pixel high."""
    image, (kernel, steps, rims) = _flat("avg_pool1d", input, kernel_size, stride, padding)
    y = avg_pool2d(image, kernel, steps, rims, ceil_mode, count_include_pad)
    return reshape(y, *y.shape[:-2], y.shape[-1])


def _flat(name: str, x: Any, kernel: Any, stride: Any, padding: Any) -> tuple[Tensor, tuple[Any, Any, Any]]:
    """Sequences as images one pixel high, and kernel, stride and padding for them."""
    if x.ndim not in (2, 3):
        raise RequestError(f"{name}: input is {tuple(x.shape)}, but must be (N, C, L) or (C, L)")
    k, p = _one(name, kernel), _one(name, padding)
    image = reshape(x, *x.shape[:-1], 1, x.shape[-1])  # (N, C, 1, L)
    return image, ((1, k), (1, k if stride is None else _one(name, stride)), (0, p))


def _one(name: str, value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        if len(value) != 1:
            raise RequestError(f"{name}: {value!r} has {len(value)} numbers, but a sequence has one axis")
        return value[0]
    return value


def _sizes(
    name: str, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> dict[str, tuple[int, int]]:
    """The options of a pooling op, checked: kernel, stride, padding, dilation, out."""
    _check(name, x)
    kernel = pair(name, "kernel_size", kernel_size)
    steps = kernel if stride is None or stride == [] else pair(name, "stride", stride)
    rims, gaps = pair(name, "padding", padding, least=0), pair(name, "dilation", dilation)
    if any(2 * p > k for p, k in zip(rims, kernel, strict=True)):
        raise RequestError(f"{name}: padding {rims} is more than half of kernel_size {kernel}; pad with F.pad instead")
    out = []
    for n, k, s, p, d in zip(x.shape[2:], kernel, steps, rims, gaps, strict=True):
        spare = n + 2 * p - d * (k - 1) - 1
        count = (-(-spare // s) if ceil_mode else spare // s) + 1
        if ceil_mode and (count - 1) * s >= n + p:
            count -= 1  # the last window would begin in the padding
        if count < 1:
            raise RequestError(
                f"{name}: input is {tuple(x.shape)}: a window reaches over {d * (k - 1) + 1} pixels where the padded "
                f"image has {n + 2 * p}; use a smaller kernel_size"
            )
        out.append(count)
    return {"kernel": kernel, "stride": steps, "padding": rims, "dilation": gaps, "out": (out[0], out[1])}


def _counts(axis: int, size: int, sizes: dict[str, tuple[int, int]], include_pad: bool) -> list[int]:
    """How many rows (or columns) count in each window."""
    k, s, p, out = (sizes[what][axis] for what in ("kernel", "stride", "padding", "out"))
    low, high = (-p, size + p) if include_pad else (0, size)
    return [min(i * s - p + k, high) - max(i * s - p, low) for i in range(out)]


def _check(name: str, x: Any) -> None:
    if x.ndim != 4 or min(x.shape[1:]) < 1:
        raise RequestError(f"{name}: input is {tuple(x.shape)}, but must be (N, C, H, W) or (C, H, W), and not empty")
    if x.dtype.kind not in "fc":
        raise TypeError(f"{name}: input is of dtype {x.dtype}, but must be of floats; use .astype('float32')")
