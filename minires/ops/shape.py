"""Ops that move numbers and compute none: their backward is the way back.

Each op here is a linear map of zeros and ones. Its backward is the transpose of that map: what was copied
to several places is summed, what was left out gets zero, and what was only moved is moved back.
The ops come in pairs of which each is the other's backward: concat and split, stack and unbind,
expand and sum, pad and crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minires.backend import Array
from minires.engine import Function


class Reshape(Function):
    """The same numbers, counted off into other axes.

    Shapes    x: any; y: `shape`, with as many elements
    Forward   y = x read in C order (last axis fastest), written in C order
    Backward  gx = gy reshaped back
    Kinks     none; the op is linear
    Saved     x.shape
    Source    torch.reshape
    """

    view = True
    shape: tuple[int, ...]

    def forward(self, x: Array) -> Array:
        self.before = x.shape
        return x.reshape(self.shape)

    def backward(self, gy: Array) -> Array:
        return gy.reshape(self.before)


class Permute(Function):
    """The axes in another order.

    Shapes    x: (n_0, n_1, ...); y: (n_axes[0], n_axes[1], ...)
    Forward   y[i_axes[0], i_axes[1], ...] = x[i_0, i_1, ...]
    Backward  gx = gy with the inverse permutation: axis axes[k] of gx is axis k of gy
    Kinks     none; the op is linear
    Saved     nothing
    Source    torch.permute
    """

    view = True
    axes: tuple[int, ...]

    def forward(self, x: Array) -> Array:
        return x.transpose(self.axes)

    def backward(self, gy: Array) -> Array:
        inverse = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        return gy.transpose(inverse)


class Expand(Function):
    """Broadcasting, as an op: axes of length 1 are repeated, new ones are put in front.

    Shapes    x: broadcastable to `shape`; y: `shape`
    Forward   y[..., i, ...] = x[..., 0, ...] along a repeated axis
    Backward  gx = sum of gy over the repeated axes: the sum is the transpose of the copy.
              It is the sum that undoes every broadcast, so the engine does it.
    Kinks     none; the op is linear
    Saved     nothing
    Source    torch.Tensor.expand
    """

    broadcasts = True
    view = True
    shape: tuple[int, ...]

    def forward(self, x: Array) -> Array:
        return self.xp.broadcast_to(x, self.shape)

    def backward(self, gy: Array) -> Array:
        return gy


class Concat(Function):
    """Arrays end to end along an axis that they have.

    Shapes    x_k: (..., n_k, ...), equal but for `axis`; y: (..., sum n_k, ...)
    Forward   y[..., n_0 + ... + n_(k-1) + i, ...] = x_k[..., i, ...]
    Backward  gx_k = the piece of gy that x_k became
    Kinks     none; the op is linear
    Saved     the lengths n_k
    Source    torch.cat
    """

    axis: int

    def forward(self, *xs: Array) -> Array:
        self.sizes = [x.shape[self.axis] for x in xs]
        return self.xp.concatenate(xs, self.axis)

    def backward(self, gy: Array) -> Any:
        return _cut(gy, self.sizes, self.axis)


class Split(Function):
    """An array cut into pieces along an axis. The pieces are copies, so each is contiguous.

    Shapes    x: (..., sum n_k, ...); y_k: (..., n_k, ...), with n_k = sizes[k]
    Forward   y_k[..., i, ...] = x[..., n_0 + ... + n_(k-1) + i, ...]
    Backward  gx = the pieces' gradients end to end
    Kinks     none; the op is linear
    Saved     nothing
    Source    torch.split
    """

    axis: int
    sizes: Sequence[int]

    def forward(self, x: Array) -> Any:
        return tuple([piece.copy() for piece in _cut(x, self.sizes, self.axis)])

    def backward(self, *gys: Array) -> Array:
        return self.xp.concatenate(gys, self.axis)


class Stack(Function):
    """Equal arrays side by side along a new axis.

    Shapes    x_0 ... x_(k-1): equal; y: the same with an axis of length k at `axis`
    Forward   y[..., j, ...] = x_j
    Backward  gx_j = gy[..., j, ...]
    Kinks     none; the op is linear
    Saved     nothing
    Source    torch.stack
    """

    axis: int

    def forward(self, *xs: Array) -> Array:
        return self.xp.stack(xs, self.axis)

    def backward(self, gy: Array) -> Any:
        return tuple(self.xp.moveaxis(gy, self.axis, 0)[j] for j in range(gy.shape[self.axis]))


class Unbind(Function):
    """An axis taken apart: one array for each index along it. The pieces are copies.

    Shapes    x: (..., k, ...); y_0 ... y_(k-1): without `axis`
    Forward   y_j = x[..., j, ...]
    Backward  gx[..., j, ...] = gy_j
    Kinks     none; the op is linear
    Saved     nothing
    Source    torch.unbind
    """

    axis: int

    def forward(self, x: Array) -> Any:
        return tuple(self.xp.moveaxis(x, self.axis, 0)[j].copy() for j in range(x.shape[self.axis]))

    def backward(self, *gys: Array) -> Array:
        return self.xp.stack(gys, self.axis)


class Flip(Function):
    """The order along some axes turned round. It is its own inverse and its own backward.

    Shapes    x, y: equal
    Forward   y[..., i, ...] = x[..., n - 1 - i, ...] for each axis in `axes`
    Backward  gx = gy flipped along the same axes
    Kinks     none; the op is linear
    Saved     nothing
    Source    torch.flip
    """

    axes: tuple[int, ...]

    def forward(self, x: Array) -> Array:
        return self.xp.flip(x, self.axes).copy()

    def backward(self, gy: Array) -> Array:
        return self.xp.flip(gy, self.axes)


class Pad(Function):
    """A constant border. A negative width crops instead.

    Shapes    x: (..., n, ...); y: (..., before + n + after, ...), widths[axis] = (before, after)
    Forward   y[..., before + i, ...] = x[..., i, ...], and `value` elsewhere
    Backward  gx = gy without the border, and 0 where x was cropped
    Kinks     none; the op is affine
    Saved     x.shape
    Source    torch.nn.functional.pad
    """

    widths: Sequence[tuple[int, int]]
    value: float

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        shape = tuple([b + n + a for n, (b, a) in zip(x.shape, self.widths, strict=True)])
        y = self.xp.full(shape, self.value, x.dtype)
        inner, kept = self._windows()
        y[inner] = x[kept]
        return y

    def backward(self, gy: Array) -> Array:
        gx = self.xp.zeros(self.shape, gy.dtype)
        inner, kept = self._windows()
        gx[kept] = gy[inner]
        return gx

    def _windows(self) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Where x stands in y, and which part of x that is."""
        inner, kept = [], []
        for n, (before, after) in zip(self.shape, self.widths, strict=True):
            length = n + min(before, 0) + min(after, 0)
            inner.append(slice(max(before, 0), max(before, 0) + length))
            kept.append(slice(max(-before, 0), max(-before, 0) + length))
        return tuple(inner), tuple(kept)


class PadAxis(Function):
    """A border along one axis that continues the array: by its mirror image, its edge or its other end.

    Shapes    x: (..., n, ...); y: (..., before + n + after, ...)
    Forward   y[..., before + p, ...] = x[..., s(p), ...] for p = -before ... n + after - 1, where
              reflect     s(p) = (n - 1) - |(n - 1) - |p||     2 1 | 0 1 2 3 | 2 1
              replicate   s(p) = p, but at least 0 and at most n - 1     0 0 | 0 1 2 3 | 3 3
              circular    s(p) = p mod n     2 3 | 0 1 2 3 | 0 1
    Backward  gx[..., i, ...] = sum of gy[..., before + p, ...] over all p with s(p) = i
    Kinks     none; the op is linear
    Saved     x.shape, s
    Source    torch.nn.functional.pad, modes reflect, replicate and circular
    """

    axis: int
    before: int
    after: int
    mode: str

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        n = x.shape[self.axis]
        p = self.xp.arange(-self.before, n + self.after)
        if self.mode == "reflect":
            self.source = (n - 1) - abs((n - 1) - abs(p))
        elif self.mode == "replicate":
            self.source = p.clip(0, n - 1)
        else:
            self.source = p % n
        return x.take(self.source, self.axis)

    def backward(self, gy: Array) -> Array:
        gx = self.xp.zeros(self.shape, gy.dtype)
        self.lib.add_at(gx, (slice(None),) * self.axis + (self.source,), gy)
        return gx


class BasicIndex(Function):
    """x[index] with integers, slices, None and Ellipsis: no element is read twice, and y is a view.

    Shapes    x: any; y: as NumPy's basic indexing gives it
    Forward   y = x[index]
    Backward  gx[index] = gy, and 0 elsewhere
    Kinks     none; the op is linear
    Saved     x.shape
    Source    NumPy, basic indexing
    """

    view = True
    index: tuple[Any, ...]

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x[self.index]

    def backward(self, gy: Array) -> Array:
        gx = self.xp.zeros(self.shape, gy.dtype)
        gx[self.index] = gy
        return gx


class AdvancedIndex(Function):
    """x[index] with at least one array of integers: an element may be read many times.

    Shapes    x: any; y: as NumPy's advanced indexing gives it
    Forward   y = x[index]
    Backward  gx[i] = sum of gy[j] over all j at which forward read x[i]
    Derivation  y_j = x_s(j), so dL/dx_i = sum_j gy_j dy_j/dx_i = sum of gy_j over s(j) = i. A plain
              gx[index] = gy would keep one of several gradients and lose the rest.
    Kinks     none; the op is linear in x
    Saved     x.shape, the index
    Source    NumPy, advanced indexing
    """

    index: tuple[Any, ...]

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x[self.index]

    def backward(self, gy: Array) -> Array:
        gx = self.xp.zeros(self.shape, gy.dtype)
        self.lib.add_at(gx, self.index, gy)
        return gx


def _cut(x: Array, sizes: Sequence[int], axis: int) -> tuple[Array, ...]:
    """Consecutive pieces of x along an axis, as views."""
    pieces, end = [], 0
    for size in sizes:
        start, end = end, end + size
        pieces.append(x[(slice(None),) * axis + (slice(start, end),)])
    return tuple(pieces)
