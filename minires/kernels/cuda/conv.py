"""Convolution on CuPy, channels last: through cuDNN where it is installed, else by patches and products.

The patches of the batch are the rows of one large matrix, which meets the weights in one product through cuBLAS.
Launches: 3 forward (the weights reordered, the patches, the product), 6 backward (the weights, the product and
`scatter` for gx; the patches, the product and the order of the weights for gw), where the formula takes one for each
tap and more. A 1 by 1 kernel at stride 1 takes 2 and 4, as its patches are the image itself. The patches are KH KW
times the image, and are written and read three times a step, which bounds the speed.

With cuDNN: 2 forward and 4 backward, and no patches. A bias takes 1 forward and up to 2 backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.cuda.cudnn import convolve
from minires.kernels.cuda.gemm import product, turn
from minires.kernels.cuda.layout import THREADS, channels_last, logical, power
from minires.kernels.cuda.source import LIMIT, Source, ceil, takes
from minires.kernels.cuda.sums import column_sums
from minires.ops.conv import Conv2d, Convolution, ConvTranspose2d, Pair, Shape

ROOM = 1 << 29  # bytes of patches that are laid out at a time


class OnDevice(Convolution):
    """The three maps of `Convolution`, for real numbers of one dtype."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return takes(*arrays) and arrays[1].size > 0

    def correlate(self, x: Array, w: Array, out: Pair) -> Array:
        made = self.by_cudnn("conv_fprop", x, w, (x.shape[0], w.shape[0], *out))
        if made is not None:
            return made
        xp, images, groups = self.xp, channels_last(self.xp, x), self.groups  # (N, H, W, C)
        y = xp.empty((x.shape[0], *out, w.shape[0]), x.dtype)  # (N, OH, OW, O)
        matrix = turn(self.by_taps(w))  # (groups, R, O / groups)
        for part, rows in self.pieces(images, w.shape, out):
            product(xp, rows, matrix, out=grouped(y[part], groups))
        return logical(y)

    def weigh(self, x: Array, g: Array, shape: Shape) -> Array:
        made = self.by_cudnn("conv_wgrad", x, g, shape)
        if made is not None:
            return self.xp.ascontiguousarray(made)
        xp, images, gy = self.xp, channels_last(self.xp, x), channels_last(self.xp, g)
        o, c, kh, kw = shape
        gw = xp.empty((self.groups, o // self.groups, kh * kw * c), x.dtype)
        for part, rows in self.pieces(images, shape, g.shape[2:]):
            product(xp, turn(grouped(gy[part], self.groups)), rows, out=gw, beta=float(part.start > 0))
        return xp.ascontiguousarray(gw.reshape(o, kh, kw, c).transpose(0, 3, 1, 2))  # (O, C / groups, KH, KW)

    def spread(self, g: Array, w: Array, shape: Shape) -> Array:
        made = self.by_cudnn("conv_dgrad", g, w, shape)
        if made is not None:
            return made
        xp, gy, matrix = self.xp, channels_last(self.xp, g), self.by_taps(w)
        n, c, h, wide = shape
        x = xp.empty((n, h, wide, c), g.dtype)  # (N, H, W, C)
        out = g.shape[2:]
        for part in self.parts(n, w.shape, out, g.dtype):
            count = part.stop - part.start
            if self.is_plain(w.shape, out, (h, wide)):
                product(xp, grouped(gy[part], self.groups), matrix, out=grouped(x[part], self.groups))
                continue
            rows = xp.empty((count * out[0] * out[1], self.groups, matrix.shape[2]), g.dtype)
            product(xp, grouped(gy[part], self.groups), matrix, out=rows.swapaxes(0, 1))
            self.launch("scatter", rows, x[part], count, out, (h, wide), w.shape, count * h * wide)
        return logical(x)

    def by_cudnn(self, node: str, a: Array, b: Array, shape: Shape) -> Array | None:
        """One map by cuDNN, or None where that cannot be."""
        return convolve(self.xp, node, a, b, shape, self.padding, self.stride, self.dilation)

    def by_taps(self, w: Array) -> Array:
        """The weights as the rows of the patches: (groups, O / groups, KH KW C / groups)."""
        o = w.shape[0]
        return self.xp.ascontiguousarray(w.transpose(0, 2, 3, 1)).reshape(self.groups, o // self.groups, -1)

    def pieces(self, images: Array, w: Shape, out: Pair) -> Iterator[tuple[slice, Array]]:
        """The patches (groups, M, R) of some images at a time, and which images those are."""
        n, h, wide, _ = images.shape
        taps = w[1] * w[2] * w[3]
        for part in self.parts(n, w, out, images.dtype):
            if self.is_plain(w, out, (h, wide)):
                yield part, grouped(images[part], self.groups)
                continue
            count = part.stop - part.start
            rows = self.xp.empty((count * out[0] * out[1], self.groups, taps), images.dtype)
            self.launch("patches", images[part], rows, count, out, (h, wide), w, rows.shape[0])
            yield part, rows.swapaxes(0, 1)  # (groups, M, R)

    def parts(self, n: int, w: Shape, out: Pair, dtype: Any) -> Iterator[slice]:
        """Slices of the batch whose patches fit in the room for them."""
        numbers = max(1, out[0] * out[1] * self.groups * w[1] * w[2] * w[3])  # in the patches of one image
        images = max(1, min(ROOM // dtype.itemsize, LIMIT - 1) // numbers)
        for start in range(0, n, images):
            yield slice(start, min(n, start + images))

    def is_plain(self, w: Shape, out: Pair, image: Pair) -> bool:
        """Whether a pixel of the image is a row of the patches as it is."""
        return w[2:] == (1, 1) and out == image and self.padding == ((0, 0), (0, 0))

    def launch(
        self, name: str, source: Array, target: Array, n: int, out: Pair, image: Pair, w: Shape, pixels: int
    ) -> None:
        """One thread for each pixel and some of its channels."""
        across = power(w[1], 32)
        block = across, THREADS // across
        starts = self.padding[0][0], self.padding[1][0]
        axes = n, *out, *image, self.groups, w[1], *w[2:], *self.stride, *starts, *self.dilation
        run = Source(self.xp, "conv", source.dtype)
        run(name, (ceil(pixels, block[1]),), block, source, target, *axes)


@kernel(Conv2d, "cupy")
class CudaConv2d(OnDevice, Conv2d):
    """`Conv2d` on the GPU."""

    def backward(self, gy: Array) -> Any:
        gx = self.spread(gy, self.w, self.x.shape) if self.needs[0] else None
        gw = self.weigh(self.x, gy, self.w.shape) if self.needs[1] else None
        return gx, gw, bias_gradient(self.xp, gy) if self.needs[2] else None


@kernel(ConvTranspose2d, "cupy")
class CudaConvTranspose2d(OnDevice, ConvTranspose2d):
    """`ConvTranspose2d` on the GPU."""

    def backward(self, gy: Array) -> Any:
        gx = self.correlate(gy, self.w, self.x.shape[2:]) if self.needs[0] else None
        gw = self.weigh(gy, self.x, self.w.shape) if self.needs[1] else None
        return gx, gw, bias_gradient(self.xp, gy) if self.needs[2] else None


def grouped(images: Array, groups: int) -> Array:
    """Contiguous (N, H, W, C) as (groups, M, C / groups), a view: all pixels of the channels of each group."""
    n, h, w, c = images.shape
    return images.reshape(n * h * w, groups, c // groups).swapaxes(0, 1)


def bias_gradient(xp: Any, gy: Array) -> Array:
    """The sum of each channel, (O,)."""
    return column_sums(xp, channels_last(xp, gy).reshape(-1, gy.shape[1]))[0]
