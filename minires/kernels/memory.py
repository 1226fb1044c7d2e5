"""Large arrays in memory that was used before: the system hands out fresh pages one by one, each cleared first.

An activation of a few megabytes is freed and made again in every training step. Where the allocator gives such memory
back to the system, a step of ResNet-20 meets some ten thousand page faults. Here a block is kept, and lent again
once nothing refers to it: every view of an array holds a reference to the block under it, so the interpreter's own
count says when that is.
"""

from __future__ import annotations

import math
import sys
import threading
from typing import Any

import numpy as np

from minires.backend import Array

LINE = 64  # bytes in a cache line, and in the widest vector
LARGE = 1 << 20  # bytes; smaller arrays are the allocator's, which keeps their memory itself
SIZES = 64  # a training step has fewer; where batches come in ever new sizes, idle blocks would pile up
_ALONE = 2  # references to a block that nobody has borrowed: the list's, and the argument of getrefcount

_lock = threading.Lock()
_blocks: dict[int, list[Array]] = {}


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialized C-contiguous array, as `numpy.empty` makes, if possible in memory that was used before."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE:
        return np.empty(shape, dtype)
    with _lock:
        if size not in _blocks and len(_blocks) >= SIZES:
            _let_go()
        blocks = _blocks.setdefault(size, [])
        for i in range(len(blocks)):
            if sys.getrefcount(blocks[i]) == _ALONE:
                return _within(blocks[i], size).view(dtype).reshape(shape)
        blocks.append(np.empty(size + LINE, np.uint8))
        return _within(blocks[-1], size).view(dtype).reshape(shape)


def _within(block: Array, size: int) -> Array:
    """`size` bytes of the block that begin with a cache line: a vector that straddles two of them takes two loads."""
    start = -block.__array_interface__["data"][0] % LINE
    return block[start : start + size]


def empty_like(a: Array) -> Array:
    """`empty` in the memory order of a, which is C-contiguous or, for (N, C, H, W), channels-last."""
    if a.ndim == 4 and not a.flags.c_contiguous:
        n, c, h, w = a.shape
        return empty((n, h, w, c), a.dtype).transpose(0, 3, 1, 2)
    return empty(a.shape, a.dtype)


def release() -> int:
    """Gives blocks that nobody has borrowed back to the system. Returns their bytes."""
    with _lock:
        return _let_go()


def _let_go() -> int:
    freed = 0
    for size, blocks in list(_blocks.items()):
        lent = [i for i in range(len(blocks)) if sys.getrefcount(blocks[i]) > _ALONE]
        freed += size * (len(blocks) - len(lent))
        blocks[:] = [blocks[i] for i in lent]
        if not blocks:
            del _blocks[size]
    return freed
