"""The CUDA sources: the .cu files beside this one, compiled by CuPy when first used, and launched.

A source is written once in terms of `real` and compiled as float and as double. Kernels take pointers to `real` (and
to bool, int or long long where they say so), whole numbers as `long long` and others as `double`: that is what CuPy
makes of Python's int and float. Arrays must lie without gaps, in the order the kernel expects: it sees their address.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from minires.backend import Array

REAL = {"f": "float", "d": "double"}
NAMES = ("batch_norm", "conv", "loss", "optimizers", "pointwise", "pool", "row_norm", "softmax", "sums")
LIMIT = 2**31  # numbers in an array: beyond, the kernels' indices would overflow
NULL = np.int64(0)  # CuPy would pass None as no argument at all


def text(name: str, dtype: Any) -> str:
    """The whole CUDA text of one source for float32 or float64."""
    folder = Path(__file__).parent
    parts = (f"typedef {REAL[np.dtype(dtype).char]} real;\n", "common.cuh", f"{name}.cu")
    return parts[0] + "\n".join((folder / part).read_text(encoding="utf-8") for part in parts[1:])


@functools.cache
def _function(xp: Any, name: str, char: str, kernel: str) -> Any:
    return _module(xp, name, char).get_function(kernel)


@functools.cache
def _module(xp: Any, name: str, char: str) -> Any:
    return xp.RawModule(code=text(name, char))


class Source:
    """One source for one dtype: source(kernel, grid, block, *arguments) launches, on CuPy's current stream.

    None stands for the null pointer.
    """

    def __init__(self, xp: Any, name: str, dtype: Any) -> None:
        self.xp, self.name, self.char = xp, name, np.dtype(dtype).char

    def __call__(self, kernel: str, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Any) -> None:
        launch = _function(self.xp, self.name, self.char, kernel)
        launch(grid, block, tuple([NULL if a is None else a for a in arguments]))


def takes(*arrays: Array | None) -> bool:
    """Whether all arrays are real numbers of one dtype that kernels are compiled for, and few enough to index."""
    first = arrays[0]
    if first is None or first.dtype.char not in REAL or not 0 < first.size < LIMIT:
        return False
    return all(a is None or a.dtype == first.dtype for a in arrays)


def ceil(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)
