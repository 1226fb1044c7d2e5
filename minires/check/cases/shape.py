"""Numbers that move: axes of length 0 and 1, crops, steps backward, elements read many times."""

from __future__ import annotations

from typing import Any

import numpy as np

from minires.backend import Array
from minires.check.case import Case, case
from minires.check.draw import Draw
from minires.check.reference import shape as loops
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


@case(Reshape)
def reshape(draw: Draw) -> Case:
    x = draw.normal(*draw.shape(*_several(draw), longest=3))
    first = draw.choice([n for n in range(1, x.size + 1) if x.size % n == 0] or [3])
    rest = x.size // first
    shape = draw.choice([(first, rest), (x.size,), (rest, 1, first), (1, *x.shape), x.shape[::-1]])
    return Case(
        (x,),
        {"shape": shape},
        reference=lambda x: loops.reshape(x, shape),
        torch=lambda x: x.reshape(shape),
    )


@case(Permute)
def permute(draw: Draw) -> Case:
    x = draw.normal(*draw.shape(draw.choice([3, 0, 3]), 4, longest=draw.choice([3, 2])))
    left = list(range(x.ndim))
    axes = tuple(left.pop(draw.integer(0, len(left) - 1)) for _ in range(x.ndim))
    return Case(
        (x,),
        {"axes": axes},
        reference=lambda x: loops.permute(x, axes),
        torch=lambda x: x.permute(axes),
    )


@case(Expand)
def expand(draw: Draw) -> Case:
    shape = draw.shape(*_several(draw), longest=3)
    return Case(
        (draw.normal(*draw.broadcastable(shape)),),
        {"shape": shape},
        reference=lambda x: loops.expand(x, shape),
        torch=lambda x: x.expand(shape),
    )


@case(Concat)
def cat(draw: Draw) -> Case:
    shape = list(draw.shape(draw.choice([1, 2, 2]), longest=3))
    pieces = draw.choice([2, 3, 1])
    if pieces == 3:  # the third is drawn seldom, so when it is, there must be something to see
        shape = [n or 1 for n in shape]
    axis = draw.integer(0, len(shape) - 1)
    lengths = [draw.size(0 if k == 0 and pieces > 1 else 1, 3) for k in range(pieces)]
    xs = [draw.normal(*shape[:axis], n, *shape[axis + 1 :]) for n in lengths]

    def torch(*xs: Any) -> Any:
        import torch as peer

        return peer.cat(xs, axis)

    return Case(tuple(xs), {"axis": axis}, reference=lambda *xs: loops.cat(xs, axis), torch=torch)


@case(Split)
def split(draw: Draw) -> Case:
    shape = list(draw.shape(draw.choice([1, 2, 2]), longest=3))
    axis = draw.integer(0, len(shape) - 1)
    sizes = [draw.choice([1, 2, 3, 0]) for _ in range(draw.size(1, 3))]
    shape[axis] = int(np.sum(sizes))
    return Case(
        (draw.normal(*shape),),
        {"axis": axis, "sizes": sizes},
        reference=lambda x: loops.split(x, sizes, axis),
        torch=lambda x: x.split(sizes, axis),
    )


@case(Stack)
def stack(draw: Draw) -> Case:
    shape, pieces = draw.shape(draw.choice([0, 1, 2, 2]), 2, longest=3), draw.choice([2, 3, 1])
    if pieces == 3:
        shape = tuple(n or 1 for n in shape)
    axis = draw.integer(0, len(shape))

    def torch(*xs: Any) -> Any:
        import torch as peer

        return peer.stack(xs, axis)

    return Case(
        tuple(draw.normal(*shape) for _ in range(pieces)),
        {"axis": axis},
        reference=lambda *xs: loops.stack(xs, axis),
        torch=torch,
    )


@case(Unbind)
def unbind(draw: Draw) -> Case:
    shape = list(draw.shape(draw.choice([1, 2, 2]), longest=3))
    axis = draw.integer(0, len(shape) - 1)
    shape[axis] = shape[axis] or 1
    return Case(
        (draw.normal(*shape),),
        {"axis": axis},
        reference=lambda x: loops.unbind(x, axis),
        torch=lambda x: x.unbind(axis),
    )


@case(Flip)
def flip(draw: Draw) -> Case:
    x = draw.normal(*draw.shape(*_several(draw), longest=3))
    axes = draw.axes(x.ndim)
    return Case((x,), {"axes": axes}, reference=lambda x: loops.flip(x, axes), torch=lambda x: x.flip(axes))


@case(Pad)
def pad(draw: Draw) -> Case:
    x, value = draw.normal(*draw.shape(*_several(draw), longest=3)), float(draw.normal())
    widths = []
    for n in x.shape:
        before = draw.integer(-1 if n else 0, 2)
        widths.append((before, draw.integer(-1 if n + min(before, 0) else 0, 2)))
    pairs = [width for pair in widths[::-1] for width in pair]

    def torch(x: Any) -> Any:
        from torch.nn import functional as F

        return F.pad(x, pairs, value=value)

    return Case(
        (x,),
        {"widths": widths, "value": value},
        reference=lambda x: loops.pad(x, pairs, value=value),
        torch=torch,
    )


@case(PadAxis)
def pad_axis(draw: Draw) -> Case:
    shape = list(draw.shape(draw.choice([1, 2, 2]), longest=3))
    axis, mode = draw.integer(0, len(shape) - 1), draw.choice(["reflect", "replicate", "circular"])
    n = shape[axis] = draw.size(1, 4)
    widest = {"reflect": n - 1, "replicate": 3, "circular": n}[mode]
    before = draw.integer(-1, widest)
    after = draw.integer(max(-1, -(n + before)), widest)
    pairs = [0, 0] * (len(shape) - 1 - axis) + [before, after]

    def torch(x: Any) -> Any:
        from torch.nn import functional as F

        rows = x.movedim(axis, -1)
        y = F.pad(rows.reshape(1, -1, n), (before, after), mode)
        return y.reshape(*rows.shape[:-1], n + before + after).movedim(-1, axis)

    return Case(
        (draw.normal(*shape),),
        {"axis": axis, "before": before, "after": after, "mode": mode},
        reference=lambda x: loops.pad(x, pairs, mode),
        torch=torch if np.prod(shape) and min(before, after) >= 0 else None,
    )


@case(BasicIndex)
def basic_index(draw: Draw) -> Case:
    x = draw.normal(*draw.shape(draw.choice([1, 2, 0, 1]), longest=4 if draw.flag() else 3))
    index = _loosened(draw, [_of_axis(draw, n) for n in x.shape])
    forward = all(not isinstance(i, slice) or (i.step or 1) > 0 for i in index)
    return Case(
        (x,),
        {"index": index},
        reference=lambda x: loops.basic_index(x, index),
        torch=(lambda x: x[index]) if forward else None,
    )


@case(AdvancedIndex)
def advanced_index(draw: Draw) -> Case:
    x = draw.normal(*[draw.size(1, 3) for _ in range(draw.integer(1, 3))])
    index = _loosened(draw, _with_arrays(draw, x.shape))
    forward = all(not isinstance(i, slice) or (i.step or 1) > 0 for i in index)

    def torch(x: Any) -> Any:
        import torch as peer

        return x[tuple(peer.tensor(i) if isinstance(i, np.ndarray) else i for i in index)]

    return Case(
        (x,),
        {"index": index},
        reference=lambda x: loops.advanced_index(x, index),
        torch=torch if forward else None,
    )


def _several(draw: Draw) -> tuple[int, int]:
    """How many axes at least, and at most: mostly several, for with one axis there is little that can go wrong."""
    return draw.choice([0, 1, 2, 2]), 3


def _of_axis(draw: Draw, n: int) -> Any:
    """All of an axis, one place, or a slice: steps backward, ends left out or counted from the end."""
    kind = draw.integer(0, 5)
    if kind == 0 or n == 0:
        return slice(None)
    if kind == 1:
        return draw.integer(-n, n - 1)
    return _slice(draw, n)


def _slice(draw: Draw, n: int) -> slice:
    step = draw.choice([None, 1, -1, 2, -2, -1])
    start = draw.choice([None, None, draw.integer(-n, n - 1)])
    stop = draw.choice([None, None, None, draw.integer(-n - 1, n + 1)])
    return slice(start, stop, step)


def _with_arrays(draw: Draw, shape: tuple[int, ...]) -> list[Any]:
    """At least one array of integers, or a mask as the arrays that it stands for; slices for the other axes."""
    if draw.integer(0, 3) == 3:
        return _with_mask(draw, shape)
    common = draw.choice([(3,), (2, 2), (1,), (4,), (2, 1), (0,)])
    chosen = draw.integer(0, len(shape) - 1)
    return [
        draw.integers(n, *(common if a == chosen else draw.broadcastable(common) or (1,))) - draw.choice([0, n])
        if a == chosen or draw.flag()
        else _slice(draw, n)
        for a, n in enumerate(shape)
    ]


def _with_mask(draw: Draw, shape: tuple[int, ...]) -> list[Any]:
    """A mask over some axes side by side, and on one of the others perhaps an array as long as the mask is true."""
    first = draw.integer(0, len(shape) - 1)
    last = draw.integer(first + 1, len(shape))
    arrays: tuple[Array, ...] = draw.mask(*shape[first:last]).nonzero()
    items: list[Any] = [*[_slice(draw, n) for n in shape[:first]], *arrays]
    for n in shape[last:]:
        items.append(draw.integers(n, len(arrays[0])) if draw.flag() else _slice(draw, n))
    return items


def _loosened(draw: Draw, items: list[Any]) -> tuple[Any, ...]:
    """Now and then an Ellipsis in place of some slices that take all, the last of them left out, or a new axis."""
    everything = [k for k, i in enumerate(items) if isinstance(i, slice) and i == slice(None)]
    how = draw.integer(0, 3)
    if how == 1 and everything:
        items = [*items[: everything[0]], Ellipsis, *items[everything[0] + 1 :]]
    elif how == 2 and everything and everything[-1] == len(items) - 1:
        items = items[:-1]
    elif how == 3:
        items = [*items, Ellipsis]
    if draw.integer(0, 2) == 2:
        items.insert(draw.integer(0, len(items)), None)
    return tuple(items)
