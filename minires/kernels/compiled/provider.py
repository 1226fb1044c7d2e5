"""The compiled kernels: `pip install "minires[fast]"` is all it takes, `MINIRES_FAST=off` leaves them out.

The first op that could use a family of them has it compiled, for its dtype: some seconds once, a fraction of one from
numba's cache afterwards. The cache lies in `__pycache__` beside these files or, where that cannot be written, in the
user's cache folder; `NUMBA_CACHE_DIR` puts it elsewhere. Should compiling fail, one warning says so, and the NumPy
kernels do the work.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
import threading
import warnings
from typing import Any

import numpy as np

from minires.backend import Array
from minires.engine import Meeting, kernel
from minires.kernels import threads
from minires.kernels.layout import alike, alike_reals, channels_last, flat, logical
from minires.kernels.threads import pays
from minires.ops.activation import Relu
from minires.ops.conv import Conv2d, Convolution, ConvTranspose2d, Pair, Shape
from minires.ops.elementwise import Add
from minires.ops.norm import BatchNorm, BatchNormEval
from minires.ops.residual import ResidualAdd
from minires.switches import state

WORTH = 1 << 14  # multiplications, or numbers, below which NumPy is as quick
_compiling = threading.Lock()


def ready(family: str, size: int, *arrays: Array | None) -> bool:
    """Whether the compiled functions of minires.kernels.compiled.<family> can take these arrays, and it pays."""
    first = arrays[0]
    if first is None or not state.compiled or first.size == 0 or not pays(size, WORTH):
        return False
    if first.dtype.char not in "fd" or any(a is not None and a.dtype != first.dtype for a in arrays):
        return False
    return _installed() and _compiled(family, first.dtype.char)


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("numba") is not None


@functools.cache
def _compiled(family: str, dtype: str) -> bool:
    """Compiles a family for a dtype; if that fails, says so once."""
    with _compiling:
        try:
            _family(family).warm_up(np.dtype(dtype).type)
            _family("waiting").warm_up()
            threads.stay_awake = _family("waiting").stay_awake
        except Exception as error:  # whatever numba, LLVM or the file system has to say: NumPy does without them
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            warnings.warn(
                f"the compiled kernels of {family} are left out, as numba could not compile them ({reason}); "
                "MINIRES_FAST=off silences this",
                RuntimeWarning,
                stacklevel=2,
            )
            return False
    return True


@functools.cache
def _family(name: str) -> Any:
    return importlib.import_module(f"minires.kernels.compiled.{name}")


# --- convolution --------------------------------------------------------------------------------------


class Compiled(Convolution):
    """The three maps of `Convolution`, for one group."""

    bias: Array | None = None

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        x, w, b = arrays
        return options["groups"] == 1 and w.size > 0 and ready("conv", x.size // x.shape[1] * w.size, x, w, b)

    def correlate(self, x: Array, w: Array, out: Pair) -> Array:
        look = self.stride, self.starts(), self.dilation
        return logical(_family("conv").correlate(usable(x), writable(w), self.bias, *look, out))

    def spread(self, g: Array, w: Array, shape: Shape) -> Array:
        look = self.stride, self.starts(), self.dilation
        return logical(_family("conv").spread(usable(g), writable(w), self.bias, *look, shape[2:]))

    def weigh(self, x: Array, g: Array, shape: Shape) -> Array:
        return _family("conv").weigh(usable(x), usable(g), shape[2:], self.stride, self.starts(), self.dilation)

    def starts(self) -> Pair:
        return self.padding[0][0], self.padding[1][0]

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        self.bias = None if b is None else writable(b)
        y = super().forward(x, w, None)
        del self.bias
        return y

    def backward(self, gy: Array) -> Any:
        needs, self.needs = self.needs, (*self.needs[:2], False)
        gx, gw, _ = super().backward(gy)
        self.needs = needs
        gb = _family("norm").channel_sums(usable(gy)).astype(gy.dtype) if needs[2] else None
        return gx, gw, gb


@kernel(Conv2d, "numpy")
class CompiledConv2d(Compiled, Conv2d):
    """`Conv2d`, compiled."""


@kernel(ConvTranspose2d, "numpy")
class CompiledConvTranspose2d(Compiled, ConvTranspose2d):
    """`ConvTranspose2d`, compiled."""


# --- batch norm ---------------------------------------------------------------------------------------


@kernel(BatchNorm, "numpy")
class CompiledBatchNorm(BatchNorm):
    """`BatchNorm`, compiled. Saved: x, mu, 1 / sigma, w."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return ready("norm", arrays[0].size, *arrays)

    def forward(self, x: Array, w: Array | None, b: Array | None) -> Array:
        self.x, self.w = x, w
        rows = by_pixel(x)
        mean, var = _family("norm").statistics(rows)
        self.m = x.size // x.shape[1]
        if self.observe is not None:
            self.observe(mean.astype(x.dtype), var.astype(x.dtype))
        self.mean, self.sigma = mean, np.sqrt(var + self.eps)  # (C,), float64
        scale = 1 / self.sigma if w is None else w / self.sigma
        return in_place_of(x, _family("norm").normalize(rows, mean, scale, np.zeros_like(mean) if b is None else b))

    def backward(self, gy: Array) -> Any:
        x, g = by_pixel(self.x), by_pixel(gy)
        gb, agreement = _family("norm").sums(x, g, self.mean)
        gw, gx = agreement / self.sigma, None
        if self.needs[0]:
            # gx = (w / sigma) (gy - gb / m - xhat gw / m), and xhat = (x - mu) / sigma
            scale = 1 / self.sigma if self.w is None else self.w / self.sigma
            slope, offset = scale * gw / (self.sigma * self.m), scale * gb / self.m
            gx = in_place_of(self.x, _family("norm").project(x, g, self.mean, slope, offset, scale))
        return gx, gw.astype(gy.dtype), gb.astype(gy.dtype)


@kernel(BatchNormEval, "numpy")
class CompiledBatchNormEval(BatchNormEval):
    """`BatchNormEval`, compiled. Saved: x, mean, sigma, w."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return ready("norm", arrays[0].size, *arrays)

    def forward(self, x: Array, w: Array | None, b: Array | None, mean: Array, var: Array) -> Array:
        self.x, self.mean, self.w = x, mean.copy(), w  # running statistics move on before backward
        self.sigma = np.sqrt(var.astype(np.float64) + self.eps)  # (C,)
        scale = 1 / self.sigma if w is None else w / self.sigma
        shift = np.zeros_like(mean) if b is None else b
        return in_place_of(x, _family("norm").normalize(by_pixel(x), mean, scale, shift))

    def backward(self, gy: Array) -> Any:
        g, gx, gw, gb = by_pixel(gy), None, None, None
        if self.needs[0]:
            zero, scale = np.zeros_like(self.mean), 1 / self.sigma if self.w is None else self.w / self.sigma
            gx = in_place_of(gy, _family("norm").normalize(g, zero, scale, zero))
        if self.needs[1] or self.needs[2]:
            gb, agreement = _family("norm").sums(by_pixel(self.x), g, self.mean)
            gw, gb = (agreement / self.sigma).astype(gy.dtype), gb.astype(gy.dtype)
        return gx, gw, gb, None, None


# --- one number at a time -----------------------------------------------------------------------------


@kernel(Relu, "numpy")
class CompiledRelu(Relu):
    """`Relu`, compiled. Saved: y, as y > 0 where x > 0."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return ready("pointwise", arrays[0].size, arrays[0])

    def forward(self, x: Array) -> Array:
        self.y = pointwise("relu", x)
        return self.y

    def backward(self, gy: Array) -> Array:
        return pointwise("relu_backward", gy, self.y)


class CompiledSum:
    """x + f for two arrays of one shape and dtype."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        x, f = arrays
        return alike_reals(x, f) and ready("pointwise", x.size, x, f)

    def forward(self, x: Array, f: Array) -> Array:
        return pointwise("add", x, f)


@kernel(ResidualAdd, "numpy")
class CompiledResidualAdd(CompiledSum, ResidualAdd):
    """`ResidualAdd`, compiled; its gradient is the formula's."""


@kernel(Add, "numpy")
class CompiledAdd(CompiledSum, Add):
    """`Add` without broadcasting, compiled; its gradient is the formula's."""


@kernel(Meeting, "numpy")
class CompiledMeeting(CompiledSum, Meeting):
    """`Meeting`, compiled."""


def pointwise(name: str, *arrays: Array) -> Array:
    """A new array like the given ones, which may lie in memory in any order."""
    arrays = alike(*arrays)
    rows = flat(*arrays)
    if rows is None:  # one array with gaps
        arrays = tuple(np.ascontiguousarray(a) for a in arrays)
        rows = tuple(a.reshape(-1) for a in arrays)
    y = getattr(_family("pointwise"), name)(*(writable(r) for r in rows))
    like = arrays[0]
    if like.flags.c_contiguous:
        return y.reshape(like.shape)
    n, c, h, w = like.shape
    return logical(y.reshape(n, h, w, c))


# --- what the compiled functions want -----------------------------------------------------------------


def writable(a: Array) -> Array:
    """The array, or a copy where it is read-only: for numba that is another type, to compile for anew."""
    return a if a.flags.writeable else a.copy()


def usable(x: Array) -> Array:
    """(N, C, H, W) as a contiguous, writable (N, H, W, C)."""
    return writable(channels_last(x))


def by_pixel(x: Array) -> Array:
    """(N, C, *) as a contiguous, writable array with the channels last."""
    if x.ndim == 4:
        return usable(x)
    return writable(np.ascontiguousarray(x.reshape(*x.shape[:2], math.prod(x.shape[2:])).swapaxes(1, 2)))  # (N, L, C)


def in_place_of(x: Array, rows: Array) -> Array:
    """The inverse of `by_pixel`, for an array shaped like x."""
    if x.ndim == 4:
        return logical(rows)
    return rows.swapaxes(1, 2).reshape(x.shape)
