"""Images in memory: the kernels keep the channels of a pixel together (NHWC), whatever the logical order says.

Every array of images is (N, C, H, W) by shape. Where `x.transpose(0, 2, 3, 1)` is contiguous, it is *channels-last* in
memory: a window of a row, (KW, C), is then one run of KW C numbers, and a row of the image a long axis to fold the
short axis of the channels into. Kernels hand on channels-last arrays, and copy what comes in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minires.backend import Array
from minires.kernels.memory import empty, empty_like
from minires.kernels.threads import each

BLOCK = 1 << 17  # numbers of one array in a block: several such arrays fit in a core's cache together
Shape = tuple[int, int, int, int]


def channels_last(x: Array) -> Array:
    """The same images as a contiguous (N, H, W, C) array: a view where memory allows, else a copy."""
    seen = x.transpose(0, 2, 3, 1)
    if seen.flags.c_contiguous:
        return seen
    copy = empty(seen.shape, x.dtype)  # (N, H, W, C)
    in_images(copy, lambda i: np.copyto(copy[i], seen[i]))
    return copy


def alike_reals(x: Any, f: Any) -> bool:
    """Whether both are arrays of real numbers, of one shape and dtype, and no plain Python numbers."""
    same = type(x) is np.ndarray is type(f) and x.shape == f.shape and x.dtype == f.dtype
    return same and x.dtype.char in "fd"


def logical(y: Array) -> Array:
    """(N, H, W, C) seen as (N, C, H, W)."""
    return y.transpose(0, 3, 1, 2)


def in_slices(count: int, size: int, work: Callable[[slice], Any], blas: bool = True) -> None:
    """work(slice) for slices of `size` that cover 0 ... count - 1, on all cores."""
    each(-(-count // size), lambda i: work(slice(i * size, min(count, (i + 1) * size))), blas)


def in_images(x: Array, work: Callable[[slice], Any]) -> None:
    """work(slice) for as many images of (N, ...) at a time as fit in the cache, on all cores."""
    in_slices(len(x), max(1, BLOCK * len(x) // max(1, x.size)), work)


def folded(x: Array) -> Array:
    """A contiguous (N, H, W, C) array as (R, F C): pixels side by side, so that loops over a row are long."""
    n, h, w, c = x.shape
    long = w * c if w * c >= 256 else h * w * c
    return x.reshape(n * h * w * c // long, long)


def repeated(v: Array, length: int) -> Array:
    """(C,) as often as it takes to stand beside a folded row: (length,)."""
    return np.tile(v, length // v.size)


def each_block(rows: Array, work: Callable[[slice], Any]) -> None:
    """work(slice) for slices of a folded array's rows that fit in the cache."""
    in_slices(rows.shape[0], max(1, BLOCK // rows.shape[1]), work)


def channel_sums(x: Array) -> Array:
    """The sum over everything but the channels of a contiguous (N, H, W, C) array: (C,)."""
    rows = folded(x)  # (R, F C)
    ones = np.ones(len(rows), x.dtype)
    parts: dict[int, Array] = {}

    def work(block: slice) -> None:
        parts[block.start] = ones[: block.stop - block.start] @ rows[block]  # (F C,)

    each_block(rows, work)
    return total(parts).reshape(-1, x.shape[3]).sum(axis=0).astype(x.dtype)


def total(parts: dict[int, Array]) -> Array:
    """The sum of the blocks' results in float64 and in the order of the blocks, whichever thread was first."""
    return np.sum([parts[start] for start in sorted(parts)], axis=0, dtype=np.float64)


def flat(*arrays: Array) -> tuple[Array, ...] | None:
    """Arrays of one shape that lie in memory alike and without gaps, as long rows; None where they do not."""
    first = arrays[0]
    if any(a.strides != first.strides for a in arrays[1:]):
        return None
    if not (first.flags.c_contiguous or (first.ndim == 4 and first.transpose(0, 2, 3, 1).flags.c_contiguous)):
        return None
    return tuple(a.ravel(order="K") for a in arrays)


def alike(*arrays: Array) -> tuple[Array, ...]:
    """Arrays of one shape, brought to one memory order where they differ: channels-last for images."""
    if flat(*arrays) is not None:
        return arrays
    if arrays[0].ndim == 4:
        return tuple(logical(channels_last(a)) for a in arrays)
    return tuple(np.ascontiguousarray(a) for a in arrays)


def pointwise(work: Callable[..., Any], *arrays: Array) -> Array:
    """A new array y like the given ones, filled by work(*blocks, y's block), block by block."""
    arrays = alike(*arrays)
    y = empty_like(arrays[0])
    rows = flat(*arrays, y)
    if rows is None:  # not reached for arrays made alike, but for what empty_like makes of odd ones
        work(*arrays, y)
        return y
    in_slices(rows[0].size, BLOCK, lambda i: work(*(r[i] for r in rows)))
    return y
