"""Where each number goes, one at a time. Arrays are NumPy's; `y` is filled element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minires.backend import Array


def permute(x: Array, dims: Sequence[int]) -> Array:
    """y[i_dims[0], i_dims[1], ...] = x[i_0, i_1, ...]."""
    y = np.empty([x.shape[d] for d in dims], x.dtype)
    for i in np.ndindex(x.shape):
        y[tuple(i[d] for d in dims)] = x[i]
    return y


def reshape(x: Array, shape: Sequence[int]) -> Array:
    """The k-th element of y, last axis fastest, is the k-th element of x."""
    y = np.empty(shape, x.dtype)
    for i, j in zip(np.ndindex(x.shape), np.ndindex(y.shape), strict=True):
        y[j] = x[i]
    return y


def expand(x: Array, shape: Sequence[int]) -> Array:
    """y[..., i, ...] = x[..., 0, ...] where x has length 1, else x[..., i, ...]."""
    y = np.empty(shape, x.dtype)
    new = y.ndim - x.ndim
    for i in np.ndindex(y.shape):
        y[i] = x[tuple(0 if n == 1 else k for k, n in zip(i[new:], x.shape, strict=True))]
    return y


def flip(x: Array, dims: Sequence[int]) -> Array:
    """y[..., i, ...] = x[..., n - 1 - i, ...] along each axis in dims."""
    y = np.empty_like(x)
    for i in np.ndindex(x.shape):
        y[i] = x[tuple(x.shape[a] - 1 - k if a in dims else k for a, k in enumerate(i))]
    return y


def cat(tensors: Sequence[Array], dim: int) -> Array:
    """y[..., n_0 + ... + n_(k-1) + i, ...] = x_k[..., i, ...]."""
    shape = list(tensors[0].shape)
    shape[dim] = sum(x.shape[dim] for x in tensors)
    y = np.empty(shape, tensors[0].dtype)
    start = 0
    for x in tensors:
        for i in np.ndindex(x.shape):
            y[(*i[:dim], start + i[dim], *i[dim + 1 :])] = x[i]
        start += x.shape[dim]
    return y


def stack(tensors: Sequence[Array], dim: int) -> Array:
    """y[..., k, ...] = x_k[...]."""
    shape = list(tensors[0].shape)
    shape.insert(dim, len(tensors))
    y = np.empty(shape, tensors[0].dtype)
    for k, x in enumerate(tensors):
        for i in np.ndindex(x.shape):
            y[(*i[:dim], k, *i[dim:])] = x[i]
    return y


def split(x: Array, sizes: Sequence[int], dim: int) -> tuple[Array, ...]:
    """y_k[..., i, ...] = x[..., n_0 + ... + n_(k-1) + i, ...]."""
    ys = []
    start = 0
    for size in sizes:
        y = np.empty((*x.shape[:dim], size, *x.shape[dim + 1 :]), x.dtype)
        for i in np.ndindex(y.shape):
            y[i] = x[(*i[:dim], start + i[dim], *i[dim + 1 :])]
        ys.append(y)
        start += size
    return tuple(ys)


def unbind(x: Array, dim: int) -> tuple[Array, ...]:
    """y_k[...] = x[..., k, ...]."""
    ys = []
    for k in range(x.shape[dim]):
        y = np.empty((*x.shape[:dim], *x.shape[dim + 1 :]), x.dtype)
        for i in np.ndindex(y.shape):
            y[i] = x[(*i[:dim], k, *i[dim:])]
        ys.append(y)
    return tuple(ys)


def pad(x: Array, pad: Sequence[int], mode: str = "constant", value: float = 0.0) -> Array:
    """y[p] = x[s(p - before)] where s leads back into x, else `value`; pad's pairs start at the last axis."""
    pairs = [(pad[2 * k], pad[2 * k + 1]) for k in range(len(pad) // 2)][::-1]
    pairs = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    y = np.full([n + b + a for n, (b, a) in zip(x.shape, pairs, strict=True)], value, x.dtype)
    for p in np.ndindex(y.shape):
        source = [_source(k - b, n, mode) for k, n, (b, _) in zip(p, x.shape, pairs, strict=True)]
        if all(s is not None for s in source):
            y[p] = x[tuple(source)]
    return y


def _source(p: int, n: int, mode: str) -> int | None:
    """Which of 0 ... n - 1 stands at place p, walking from the array outward."""
    if 0 <= p < n:
        return p
    if mode == "constant":
        return None
    if mode == "replicate":
        return 0 if p < 0 else n - 1
    if mode == "circular":
        return p + n if p < 0 else p - n
    return -p if p < 0 else 2 * (n - 1) - p  # reflect: as far inside the edge as p is outside


def basic_index(x: Array, index: Sequence[Any]) -> Array:
    """y[k_0, ...] = x[start_0 + k_0 step_0, ...]; an integer takes no axis of y, None takes one of length 1."""
    items, lengths = _walk(x, index)
    y = np.empty([n for n in lengths if n is not None], x.dtype)
    for k in np.ndindex(y.shape):
        y[k] = x[_source_of(items, list(k), (), x.shape)]
    return y


def advanced_index(x: Array, index: Sequence[Any]) -> Array:
    """y[..., j, ...] = x[..., a[j], ..., b[j], ...] for arrays of integers a, b, broadcast against each other.

    Their common axes j stand where the arrays stand; in front, if something stands between the arrays.
    """
    items, lengths = _walk(x, index)
    places = [k for k, item in enumerate(items) if isinstance(item, np.ndarray)]
    common = np.broadcast_shapes(*[items[k].shape for k in places])
    together = places[-1] - places[0] == len(places) - 1
    front = len([n for n in lengths[: places[0]] if n is not None]) if together else 0
    others = [n for n in lengths if n is not None]
    y = np.empty([*others[:front], *common, *others[front:]], x.dtype)
    items = [np.broadcast_to(item, common) if isinstance(item, np.ndarray) else item for item in items]
    for k in np.ndindex(y.shape):
        j = k[front : front + len(common)]
        y[k] = x[_source_of(items, [*k[:front], *k[front + len(common) :]], j, x.shape)]
    return y


def _walk(x: Array, index: Sequence[Any]) -> tuple[list[Any], list[int | None]]:
    """The index with a slice for every axis that it leaves out, and the length of the axis that each item gives y."""
    used = len([i for i in index if i is not None and i is not Ellipsis])
    rest = [slice(None)] * (x.ndim - used)
    at = next((k for k, i in enumerate(index) if i is Ellipsis), len(index))
    items = [*index[:at], *rest, *index[at + 1 :]]
    lengths: list[int | None] = []
    axis = 0
    for item in items:
        if isinstance(item, slice):
            lengths.append(len(range(*item.indices(x.shape[axis]))))
        else:
            lengths.append(1 if item is None else None)
        axis += item is not None
    return items, lengths


def _source_of(items: Sequence[Any], k: list[int], j: tuple[int, ...], shape: Sequence[int]) -> tuple[int, ...]:
    """Which element of x stands at k, and j along the axes that arrays share."""
    place: list[int] = []
    for item in items:
        if item is None:
            k.pop(0)
        elif isinstance(item, slice):
            start, _, step = item.indices(shape[len(place)])
            place.append(start + k.pop(0) * step)
        else:
            i = int(item[j]) if isinstance(item, np.ndarray) else item
            place.append(i if i >= 0 else i + shape[len(place)])
    return tuple(place)
