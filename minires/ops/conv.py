"""Convolution and its transpose: three maps that one sum holds together.

With x an image, g an image of outputs and w the weights, take the sum of all their products over every *tap*,
that is, every place (k, l) of the kernel and what lies under it:

    S(x, w, g) = sum over n, o, c, i, j, k, l of  g[n, o, i, j]  w[o, c, k, l]  x[n, c, s i + d k - p, s j + d l - p]

S, tutorial 5, (5.7), is linear in each of the three, so leaving one of them out gives everything there is:

    correlate(x, w)    leaves out g: each output is the sum of what lies under the kernel     Conv2d forward
    spread(g, w)       leaves out x: each output's gradient goes back to where it came from   Conv2d gx
    weigh(x, g)        leaves out w: how well each tap's pixels agree with the outputs        Conv2d gw

ConvTranspose2d is the same three, with the images' roles exchanged. On arrays, S is a matrix product: `patches`
lays what is under each tap out as rows of a matrix ("im2col"), and `scatter`, its transpose, adds such rows back:
tutorial 5, (5.12).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minires.backend import Array
from minires.engine import Function
from minires.ops.linear import add_bias, swap
from minires.ops.norm import by_channel, sum_channels

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]  # ((top, bottom), (left, right))
Shape = tuple[int, int, int, int]


class Convolution(Function):
    """What Conv2d and ConvTranspose2d share: the options, and the three maps of the sum S above.

    Shapes    x: (N, C, H, W); w: (O, C / groups, KH, KW); g: (N, O, OH, OW). Group q holds channels
              q C / groups ... of x and q O / groups ... of g, and sees nothing else. Below, L = OH OW
              and R = C / groups KH KW.
    """

    stride: Pair
    padding: Padding
    dilation: Pair
    groups: int

    def correlate(self, x: Array, w: Array, out: Pair) -> Array:
        g = self.matrix(w) @ self.patches(x, w.shape[2:], out)  # (N, groups, O / groups, L)
        return g.reshape(x.shape[0], w.shape[0], *out)  # (N, O, OH, OW)

    def spread(self, g: Array, w: Array, shape: Shape) -> Array:
        n, o, oh, ow = g.shape
        rows = swap(self.matrix(w)) @ g.reshape(n, self.groups, o // self.groups, oh * ow)  # (N, groups, R, L)
        return self.scatter(rows.reshape(n, shape[1], *w.shape[2:], oh, ow), shape)  # (N, C, H, W)

    def weigh(self, x: Array, g: Array, shape: Shape) -> Array:
        n, o, oh, ow = g.shape
        rows = self.patches(x, shape[2:], (oh, ow))  # (N, groups, R, L)
        gw = g.reshape(n, self.groups, o // self.groups, oh * ow) @ swap(rows)  # (N, groups, O / groups, R)
        return gw.sum(axis=0).reshape(shape)  # (O, C / groups, KH, KW)

    def matrix(self, w: Array) -> Array:
        """The weights, one row an output channel: (groups, O / groups, R)."""
        o, c, kh, kw = w.shape
        return w.reshape(self.groups, o // self.groups, c * kh * kw)

    def patches(self, x: Array, kernel: Pair, out: Pair) -> Array:
        """Row (c, k, l), column (i, j): the pixel of channel c under tap (k, l) of output (i, j)."""
        n, c = x.shape[:2]
        rows = self.xp.zeros((n, c, *kernel, *out), x.dtype)  # (N, C, KH, KW, OH, OW); padding stays 0
        for k, m, seen, under in self.taps(kernel, out, x.shape[2:]):
            rows[:, :, k, m][seen] = x[under]
        size = c // self.groups * kernel[0] * kernel[1]
        return rows.reshape(n, self.groups, size, out[0] * out[1])  # (N, groups, R, L)

    def scatter(self, rows: Array, shape: Shape) -> Array:
        """The transpose of `patches`: every entry is added to the pixel it would have been read from."""
        x = self.xp.zeros(shape, rows.dtype)  # (N, C, H, W)
        for k, m, seen, under in self.taps(rows.shape[2:4], rows.shape[4:], shape[2:]):
            x[under] += rows[:, :, k, m][seen]
        return x

    def taps(self, kernel: Pair, out: Pair, image: Pair) -> Iterator[tuple[int, int, Any, Any]]:
        """(k, l, seen, under) for each tap: outputs `seen` look through it at the pixels `under`, none at padding."""
        starts = self.padding[0][0], self.padding[1][0]
        return taps(kernel, out, image, self.stride, starts, self.dilation)


class Conv2d(Convolution):
    """Convolution, as deep learning calls it: cross-correlation, the kernel is not flipped.

    Shapes    x: (N, C, H, W); w: (O, C / groups, KH, KW); b: (O,) or None;
              y: (N, O, OH, OW) with OH = floor((H + top + bottom - d (KH - 1) - 1) / s) + 1
    Forward   y[n, o, i, j] = b[o] + sum_{c, k, l} w[o, c, k, l] x[n, c, s i + d k - p, s j + d l - p]
    Backward  gx = spread(gy, w): w[o, c, k, l] gy[n, o, i, j], summed into the pixel it read; a transposed convolution
              gw[o, c, k, l] = sum_{n, i, j} gy[n, o, i, j] x[n, c, s i + d k - p, s j + d l - p]
              gb[o] = sum_{n, i, j} gy[n, o, i, j]
    Derivation  gx: tutorial 5, (5.5). gw: tutorial 5, (5.8). gb: tutorial 5, (5.9). In short: <gy, y> = S(x, w, gy) +
              <gb, b>, and S is linear in x and in w, so each gradient is S with that factor left out (the top of
              this file). As matrices y = w P(x), so gw = gy P(x)ᵀ and gx = Pᵀ(wᵀ gy): tutorial 5, (5.11).
    Kinks     none; the op is bilinear
    Saved     x, w; the patches are laid out anew, since they would take KH KW times the memory of x
    Source    LeCun et al. 1989, Backpropagation Applied to Handwritten Zip Code Recognition; as matrices:
              Chellapilla, Puri and Simard 2006, High Performance Convolutional Neural Networks, section 3
    """

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        self.x, self.w = x, w
        axes = zip(x.shape[2:], self.padding, self.dilation, w.shape[2:], self.stride, strict=True)
        oh, ow = ((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in axes)
        return add_bias(self.correlate(x, w, (oh, ow)), per_channel(b))  # (N, O, OH, OW)

    def backward(self, gy: Array) -> Any:
        gx = self.spread(gy, self.w, self.x.shape) if self.needs[0] else None
        gw = self.weigh(self.x, gy, self.w.shape) if self.needs[1] else None
        gb = sum_channels(self.xp, by_channel(gy)) if self.needs[2] else None
        return gx, gw, gb


class ConvTranspose2d(Convolution):
    """Transposed convolution: forward is Conv2d's gx, and backward is its forward. It is no inverse of Conv2d.

    Shapes    x: (N, C, H, W); w: (C, O / groups, KH, KW); b: (O,) or None;
              y: (N, O, OH, OW) with OH = (H - 1) s - top - bottom + d (KH - 1) + output_padding + 1
    Forward   y = b[o] + spread(x, w): x[n, c, i, j] paints w[c] into y, with its corner at (s i - p, s j - p)
    Backward  gx = correlate(gy, w): gx[n, c, i, j] = sum_{o, k, l} w[c, o, k, l] gy[n, o, s i + d k - p, s j + d l - p]
              gw[c, o, k, l] = sum_{n, i, j} x[n, c, i, j] gy[n, o, s i + d k - p, s j + d l - p]
              gb[o] = sum_{n, i, j} gy[n, o, i, j]
    Derivation  tutorial 5, (5.15): <gy, y> = S(gy, w, x) + <gb, b>, the sum of Conv2d with x and gy in each other's
              place.
              output_padding says which of the s image sizes is meant that Conv2d maps to (H, W).
    Kinks     none; the op is bilinear
    Saved     x, w
    Source    Zeiler et al. 2010, Deconvolutional Networks; Dumoulin and Visin 2016, A Guide to Convolution
              Arithmetic, chapter 4
    """

    output_padding: Pair

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        self.x, self.w = x, w
        axes = zip(x.shape[2:], self.padding, self.dilation, w.shape[2:], self.stride, self.output_padding, strict=True)
        oh, ow = ((n - 1) * s - sum(p) + d * (k - 1) + extra + 1 for n, p, d, k, s, extra in axes)
        shape = x.shape[0], w.shape[1] * self.groups, oh, ow
        return add_bias(self.spread(x, w, shape), per_channel(b))  # (N, O, OH, OW)

    def backward(self, gy: Array) -> Any:
        gx = self.correlate(gy, self.w, self.x.shape[2:]) if self.needs[0] else None
        gw = self.weigh(gy, self.x, self.w.shape) if self.needs[1] else None
        gb = sum_channels(self.xp, by_channel(gy)) if self.needs[2] else None
        return gx, gw, gb


def taps(
    kernel: Pair, out: Pair, image: Pair, stride: Pair, starts: Pair, dilation: Pair
) -> Iterator[tuple[int, int, Any, Any]]:
    """(k, l, seen, under) for each tap (k, l) of the kernel that meets the image, row by row.

    Output (i, j) looks through the tap at pixel (s i + d k - start, s j + d l - start). `seen` slices the outputs
    that find a pixel there, and not padding; `under` slices those pixels, in the same order.
    """
    vertical = [along(k * dilation[0] - starts[0], stride[0], out[0], image[0]) for k in range(kernel[0])]
    horizontal = [along(m * dilation[1] - starts[1], stride[1], out[1], image[1]) for m in range(kernel[1])]
    for k, (i, rows) in enumerate(vertical):
        for m, (j, columns) in enumerate(horizontal):
            if i.start < i.stop and j.start < j.stop:
                yield k, m, (..., i, j), (..., rows, columns)


def along(offset: int, stride: int, out: int, size: int) -> tuple[slice, slice]:
    """On one axis: the outputs i in 0 ... out - 1 with 0 <= stride i + offset < size, and those pixels."""
    first = max(0, -(offset // stride))  # the ceiling of -offset / stride
    last = min(out - 1, (size - 1 - offset) // stride)
    return slice(first, last + 1), slice(stride * first + offset, stride * last + offset + 1, stride)


def per_channel(b: Array | None) -> Array | None:
    """(O,) as (O, 1, 1), to stand beside (N, O, H, W)."""
    return None if b is None else b.reshape(-1, 1, 1)
