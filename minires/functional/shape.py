"""Tensor shapes under torch's names: reshape, permute, cat, split, pad, indexing."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from minires import backend
from minires.engine import Tensor
from minires.errors import RequestError
from minires.ops.shape import (
    AdvancedIndex,
    BasicIndex,
    Concat,
    Expand,
    Flip,
    Pad,
    PadAxis,
    Permute,
    Reshape,
    Split,
    Stack,
    Unbind,
)

__all__ = [
    "broadcast_to",
    "cat",
    "chunk",
    "concat",
    "expand",
    "flatten",
    "flip",
    "getitem",
    "movedim",
    "pad",
    "permute",
    "reshape",
    "split",
    "squeeze",
    "stack",
    "transpose",
    "unbind",
    "unsqueeze",
    "view",
]


# --- the same numbers under another shape


def reshape(x: Any, *shape: Any) -> Tensor:
    """x with another shape of as many elements, in C order; one length may be -1.

    shape    a tuple, or the lengths one by one

    Shares x's memory where strides allow. Raises RequestError when the element counts differ.
    """
    lengths = _ints(shape)
    known = math.prod(n for n in lengths if n != -1)
    size = math.prod(x.shape)
    if lengths.count(-1) > 1 or any(n < -1 for n in lengths):
        raise RequestError(f"reshape: shape {lengths} is not usable: lengths are at least 0, and only one may be -1")
    fits = (known and size % known == 0) if -1 in lengths else known == size
    if not fits:
        raise RequestError(f"reshape: x is {tuple(x.shape)}, {size} elements, which do not fill {lengths}")
    return Reshape.apply(x, shape=tuple([size // known if n == -1 else n for n in lengths]))


def view(x: Any, *shape: Any) -> Tensor:
    """`reshape`, under the name of torch's method; where strides forbid a view, it copies instead of refusing."""
    return reshape(x, *shape)


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Axes start_dim ... end_dim joined into one. A 0-d x becomes 1-d."""
    start, end = _axis("flatten", start_dim, x.ndim or 1), _axis("flatten", end_dim, x.ndim or 1)
    if start > end:
        raise RequestError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim} in x of shape {x.shape}")
    joined = math.prod(x.shape[start : end + 1])
    return Reshape.apply(x, shape=(*x.shape[:start], joined, *x.shape[end + 1 :]))


def squeeze(x: Any, dim: int | Sequence[int] | None = None) -> Tensor:
    """x without its axes of length 1: all of them, or those in `dim` (others there are left alone)."""
    chosen = range(x.ndim) if dim is None else _axes("squeeze", dim, x.ndim)
    return Reshape.apply(x, shape=tuple([n for i, n in enumerate(x.shape) if n != 1 or i not in chosen]))


def unsqueeze(x: Any, dim: int) -> Tensor:
    """x with a new axis of length 1 at `dim`, -(ndim + 1) ... ndim."""
    axis = _axis("unsqueeze", dim, x.ndim + 1)
    return Reshape.apply(x, shape=(*x.shape[:axis], 1, *x.shape[axis:]))


def expand(x: Any, *sizes: Any) -> Tensor:
    """x repeated along its axes of length 1 without copying; -1 keeps an axis, new axes go in front.

    sizes    a tuple, or the lengths one by one

    Raises RequestError when an axis longer than 1 would have to change.
    """
    lengths = _ints(sizes)
    new = len(lengths) - x.ndim
    shape = tuple([x.shape[i - new] if n == -1 and i >= new else n for i, n in enumerate(lengths)])
    if new < 0 or -1 in shape or any(old not in (1, n) for old, n in zip(x.shape, shape[new:], strict=True)):
        raise RequestError(
            f"expand: x of shape {tuple(x.shape)} cannot become {lengths}: only an axis of length 1 grows"
        )
    return Expand.apply(x, shape=shape)


def broadcast_to(x: Any, shape: Sequence[int]) -> Tensor:
    """x repeated along its axes of length 1 to `shape`, without copying."""
    return expand(x, tuple(shape))


# --- the axes in another order


def permute(x: Any, *dims: Any) -> Tensor:
    """x with axis dims[k] at place k. dims: a tuple, or the axes one by one; each axis once."""
    axes = _axes("permute", _ints(dims), x.ndim)
    if len(axes) != x.ndim:
        raise RequestError(f"permute: dims {axes} must name each of the {x.ndim} axes of x, {tuple(x.shape)}, once")
    return Permute.apply(x, axes=axes)


def transpose(x: Any, dim0: int, dim1: int) -> Tensor:
    """x with two axes exchanged."""
    axes = list(range(x.ndim))
    a, b = _axis("transpose", dim0, x.ndim), _axis("transpose", dim1, x.ndim)
    if axes:  # a 0-d tensor is its own transpose, as in torch
        axes[a], axes[b] = axes[b], axes[a]
    return Permute.apply(x, axes=tuple(axes))


def movedim(x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """x with the axes `source` at the places `destination`, and the others in their old order."""
    froms, tos = _axes("movedim", source, x.ndim), _axes("movedim", destination, x.ndim)
    if len(froms) != len(tos):
        raise RequestError(f"movedim: source {source} and destination {destination} must name as many axes")
    axes = [i for i in range(x.ndim) if i not in froms]
    for to, axis in sorted(zip(tos, froms, strict=True)):
        axes.insert(to, axis)
    return Permute.apply(x, axes=tuple(axes))


def flip(x: Any, dims: int | Sequence[int]) -> Tensor:
    """A copy of x with the order along `dims` turned round."""
    return Flip.apply(x, axes=_axes("flip", dims, x.ndim))


# --- joining and taking apart


def cat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """`tensors` end to end along an axis that they have.

    Raises RequestError when they differ along another axis, naming the first that does.
    """
    xs = _sequence("cat", tensors)
    if not xs[0].ndim:
        raise RequestError("cat: a 0-d tensor has no axis to join along; use stack")
    axis = _axis("cat", dim, xs[0].ndim)
    first = tuple(xs[0].shape)
    for k, x in enumerate(xs):
        if (*x.shape[:axis], *x.shape[axis + 1 :]) != (*first[:axis], *first[axis + 1 :]) or x.ndim != len(first):
            raise RequestError(
                f"cat: tensor {k} is {tuple(x.shape)} and tensor 0 is {first}: they must be equal but for axis {axis}"
            )
    return Concat.apply(*xs, axis=axis)


concat = cat


def stack(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Equal `tensors` side by side along a new axis at `dim`."""
    xs = _sequence("stack", tensors)
    for k, x in enumerate(xs):
        if x.shape != xs[0].shape:
            raise RequestError(
                f"stack: tensor {k} is {tuple(x.shape)} and tensor 0 is {tuple(xs[0].shape)}: they must be equal"
            )
    return Stack.apply(*xs, axis=_axis("stack", dim, xs[0].ndim + 1))


def split(x: Any, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """x cut along an axis into pieces of one size (the last may be smaller), or of the sizes listed.

    Unlike torch's, the pieces are copies. Raises RequestError when the sizes do not add up to the axis.
    """
    axis, n = _length("split", x, dim)
    if isinstance(split_size_or_sections, Sequence):
        sizes = [operator.index(s) for s in split_size_or_sections]
        if sum(sizes) != n or any(s < 0 for s in sizes):
            raise RequestError(f"split: sections {sizes} do not add up to {n}, the length of axis {axis} of x")
    else:
        size = operator.index(split_size_or_sections)
        if size < 0 or (size == 0 and n):
            raise RequestError(f"split: split_size {size} is not usable: it must be at least 1")
        sizes = [min(size, n - start) for start in range(0, n, size)] if n else [0]
    return Split.apply(x, axis=axis, sizes=sizes)


def chunk(x: Any, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """x cut along an axis into at most `chunks` pieces of ceil(n / chunks); the last may be smaller."""
    axis, n = _length("chunk", x, dim)
    if chunks < 1:
        raise RequestError(f"chunk: chunks is {chunks}, but there must be at least 1")
    return split(x, -(-n // chunks), axis) if n else split(x, [0] * chunks, axis)


def unbind(x: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """The pieces x[..., j, ...] along an axis, which they no longer have. They are copies."""
    return Unbind.apply(x, axis=_length("unbind", x, dim)[0])


# --- a border


def pad(x: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """x with a border.

    pad      (before, after) for the last axis, then for the one before it, and so on; a negative width crops
    mode     "constant": filled with `value` (0); "reflect": the mirror image without the edge itself, narrower than
             the axis; "replicate": the edge; "circular": the other end, at most as wide as the axis
    value    for mode "constant" only
    """
    widths = [operator.index(w) for w in pad]
    if len(widths) % 2 or len(widths) > 2 * x.ndim:
        raise RequestError(
            f"pad: {tuple(widths)} must hold a (before, after) pair for each of at most {x.ndim} axes, last axis first"
        )
    pairs = [(0, 0)] * (x.ndim - len(widths) // 2) + list(zip(widths[-2::-2], widths[::-2], strict=True))
    if mode == "constant":
        for axis, (n, (before, after)) in enumerate(zip(x.shape, pairs, strict=True)):
            if n + min(before, 0) + min(after, 0) < 0:
                raise RequestError(f"pad: ({before}, {after}) crops more than axis {axis} of x has, {n}")
        return Pad.apply(x, widths=pairs, value=0.0 if value is None else value)
    if mode not in ("reflect", "replicate", "circular"):
        raise RequestError(f"pad: unknown mode {mode!r}: there are 'constant', 'reflect', 'replicate' and 'circular'")
    if value is not None:
        raise RequestError(f"pad: mode {mode!r} takes no value; only 'constant' does")
    y: Any = x
    for axis, (before, after) in enumerate(pairs):
        n = x.shape[axis]
        widest = {"reflect": n - 1, "circular": n, "replicate": math.inf if n else 0}[mode]
        if max(before, after) > widest or n + before + after < 0:
            raise RequestError(
                f"pad: ({before}, {after}) in mode {mode!r} does not fit axis {axis} of x, which is {n} long"
            )
        if before or after:
            y = PadAxis.apply(y, axis=axis, before=before, after=after, mode=mode)
    return y if isinstance(y, Tensor) else Tensor(y)


# --- indexing


def getitem(x: Any, index: Any) -> Tensor:
    """x[index], by NumPy's rules: integers, slices, None, Ellipsis, and arrays of integers or booleans.

    Without an array the result is a view. With one it is a copy, and an element read twice gets both gradients.
    One rule is torch's: an integer beside an array picks its slice first, so x[0, :, [1, 2]] is x[0][:, [1, 2]].
    Raises IndexError for an index of another kind, out of range, or a mask that does not fit.
    """
    items = index if isinstance(index, tuple) else (index,)
    if all(i is None or i is Ellipsis or type(i) in (int, slice) for i in items):
        return BasicIndex.apply(x, index=items)
    lib = backend.find((x.data if isinstance(x, Tensor) else x,), "getitem")
    plain = [_plain(lib, i) for i in items]
    used = sum(_axes_used(i) for i in plain)
    found: list[Any] = []
    axis = 0
    for i in plain:
        if _is_mask(i):
            if i.shape != x.shape[axis : axis + i.ndim]:
                raise IndexError(f"getitem: a mask of shape {i.shape} does not fit axis {axis} of x, {tuple(x.shape)}")
            found.extend(i.nonzero())
        else:
            found.append(i)
        axis += x.ndim - used if i is Ellipsis else _axes_used(i)
    if not any(hasattr(i, "dtype") for i in found):
        return BasicIndex.apply(x, index=tuple(found))
    if any(type(i) is int for i in found):
        first = [i if type(i) is int or i is Ellipsis else slice(None) for i in found if i is not None]
        x = BasicIndex.apply(x, index=tuple(first))
    return AdvancedIndex.apply(x, index=tuple([i for i in found if type(i) is not int]))


def _plain(lib: backend.Library, i: Any) -> Any:
    """One item of an index as an int, a slice, None, Ellipsis, or an array that nobody else can change."""
    if i is None or i is Ellipsis or isinstance(i, slice):
        return i
    array = lib.asarray(i.data if isinstance(i, Tensor) else i)
    kind = array.dtype.kind
    if kind in "iu" and not array.ndim:
        return int(array)
    if kind in "iu" or (kind == "f" and isinstance(i, list) and not array.size):
        return array.astype("int64")
    if kind == "b" and array.ndim:
        return array
    raise IndexError(
        f"getitem: {type(i).__name__} of dtype {array.dtype} and shape {array.shape} is no index; "
        "use integers, slices, None, Ellipsis, or arrays of integers or booleans"
    )


def _axes_used(i: Any) -> int:
    """How many axes of x one item of an index stands for (Ellipsis takes what the others leave)."""
    if i is None or i is Ellipsis:
        return 0
    return i.ndim if _is_mask(i) else 1


def _is_mask(i: Any) -> bool:
    return hasattr(i, "dtype") and i.dtype.kind == "b"


# --- arguments


def _ints(values: tuple[Any, ...]) -> tuple[int, ...]:
    """(2, 3) from f(x, 2, 3) as well as from f(x, (2, 3))."""
    if len(values) == 1 and isinstance(values[0], (tuple, list)):
        values = tuple(values[0])
    return tuple([operator.index(n) for n in values])


def _axis(name: str, dim: int, ndim: int) -> int:
    """dim counted from the front. Raises IndexError when x has no such axis."""
    if not -max(ndim, 1) <= dim < max(ndim, 1):
        raise IndexError(
            f"{name}: dim {dim} is out of range for {ndim} axes: use {-max(ndim, 1)} to {max(ndim, 1) - 1}"
        )
    return dim % max(ndim, 1)


def _axes(name: str, dims: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    axes = tuple([_axis(name, d, ndim) for d in (dims if isinstance(dims, (tuple, list)) else (dims,))])
    if len(set(axes)) != len(axes):
        raise RequestError(f"{name}: dims {dims} name an axis twice")
    return axes


def _length(name: str, x: Any, dim: int) -> tuple[int, int]:
    """An axis of x, counted from the front, and its length."""
    if not x.ndim:
        raise RequestError(f"{name}: a 0-d tensor has no axis to be taken apart along")
    axis = _axis(name, dim, x.ndim)
    return axis, x.shape[axis]


def _sequence(name: str, tensors: Sequence[Any]) -> Sequence[Any]:
    if not isinstance(tensors, (tuple, list)) or not tensors:
        raise RequestError(f"{name}: expected a non-empty tuple or list of tensors, as in {name}((a, b))")
    return tensors
