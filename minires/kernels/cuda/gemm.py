"""Matrix products through cuBLAS. CuPy's own, of more than two axes, copies operands and never uses tensor cores.

One call serves all: gemmStridedBatchedEx, for matrices whose rows or columns are contiguous, wherever they lie.
cuBLAS reads memory by columns, where ours is by rows. It then sees every matrix transposed, so it is asked for
yᵀ = bᵀ aᵀ, whose memory by columns is that of y by rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minires.backend import Array
from minires.kernels.cuda.precision import tf32

TYPES = {"f": 0, "d": 1, "e": 2}  # cudaDataType_t: CUDA_R_32F, CUDA_R_64F, CUDA_R_16F
COMPUTE_32F, COMPUTE_64F, COMPUTE_32F_FAST_TF32 = 68, 70, 77  # cublasComputeType_t
DEFAULT = -1  # cublasGemmAlgo_t: cuBLAS chooses


def multiplies(*arrays: Array | None) -> bool:
    """Whether `product` takes such arrays: two axes or more, of one dtype that cuBLAS knows."""
    first = arrays[0]
    return first is not None and first.dtype.char in TYPES and all(a is None or a.dtype == first.dtype for a in arrays)


def product(xp: Any, a: Array, b: Array, alpha: float = 1.0, out: Array | None = None, beta: float = 0.0) -> Array:
    """alpha a b + beta out for each of B pairs of matrices, in one launch.

    a      (B, M, K) and b (B, K, N), strided as they come; copied only if neither their rows nor their columns are
           contiguous
    out    (B, M, N) with contiguous rows, overwritten; a new array unless given

    float16 is summed in float32; so is float32, with factors rounded to TF32 where `precision` allows it.
    """
    count, m, k = a.shape
    n = b.shape[2]
    out = xp.empty((count, m, n), a.dtype) if out is None else out
    if not out.size:
        return out
    if not k:
        out[...] = out * beta if beta else 0.0  # a new array's numbers mean nothing, and may be NaN
        return out
    first, second = operand(xp, b), operand(xp, a)
    kind, double = TYPES[a.dtype.char], a.dtype.char == "d"
    fast = COMPUTE_32F_FAST_TF32 if kind == 0 and tf32() else COMPUTE_32F
    scalars = np.array([alpha, beta], np.float64 if double else np.float32)
    at = scalars.ctypes.data
    step, row = strides(out)[:2]
    cuda = xp.cuda
    cuda.cublas.gemmStridedBatchedEx(
        *(cuda.device.get_cublas_handle(), first.turned, second.turned, n, m, k, at),
        *(first.array.data.ptr, kind, first.leading, first.step),
        *(second.array.data.ptr, kind, second.leading, second.step),
        *(at + scalars.itemsize, out.data.ptr, kind, max(row, n), step, count),
        *(COMPUTE_64F if double else fast, DEFAULT),
    )
    return out


class operand:
    """One factor as BLAS takes it: whether it is read by columns, the numbers from line to line, and to the next."""

    def __init__(self, xp: Any, a: Array) -> None:
        count, rows, columns = a.shape
        step, down, right = strides(a)
        by_rows = (right == 1 or columns == 1) and (down >= columns or rows == 1)
        by_columns = (down == 1 or rows == 1) and (right >= rows or columns == 1)
        if step < 0 or not (by_rows or by_columns):
            a = xp.ascontiguousarray(a)
            by_rows, step, down = True, rows * columns, columns
        self.array, self.turned = a, int(not by_rows)
        self.leading = max(down, columns) if by_rows else max(right, rows)
        self.step = step if count > 1 else 0


def strides(a: Array) -> tuple[int, ...]:
    """Strides in numbers."""
    return tuple([s // a.itemsize for s in a.strides])


def batches(a: Array) -> Array:
    """(*, M, K) as (B, M, K): a view where the leading axes lie evenly, else a copy."""
    return a.reshape(math.prod(a.shape[:-2]), *a.shape[-2:])


def turn(a: Array) -> Array:
    """The transpose of each matrix."""
    return a.swapaxes(1, 2)
