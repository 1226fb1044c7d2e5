"""Work in parallel on the host: NumPy drops the interpreter's lock while it copies and multiplies.

The threads are started when first needed, one fewer than there are cores, since the caller works too. Which
thread takes which piece is left to chance, so a piece's result may depend on its number only.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from minires.switches import state

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

KEPT = 1 << 24  # bytes; a scratch buffer beyond this is not held on to


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pays(size: int, least: int) -> bool:
    """Whether an array of `size` numbers is worth blocks and threads, which pay from `least` on."""
    return size >= least or state.any_size


def each(pieces: int, work: Callable[[int], None]) -> None:
    """work(i) for every i in 0 ... pieces - 1, on all cores, with one BLAS thread each. Raises what `work` raises."""
    helpers = min(cores(), pieces) - 1
    if helpers < 1:
        for i in range(pieces):
            work(i)
        return
    numbers = itertools.count()  # next() is atomic

    def take() -> None:
        while (i := next(numbers)) < pieces:
            work(i)

    with _one_blas_thread():
        running = [_pool().submit(take) for _ in range(helpers)]
        try:
            take()
        finally:
            errors = [future.exception() for future in running]  # waits for all
    for error in errors:
        if error is not None:
            raise error


@functools.cache
def _pool() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(max(1, cores() - 1), thread_name_prefix="minires")


if hasattr(os, "register_at_fork"):  # a forked child has no threads, so it needs a pool of its own
    os.register_at_fork(after_in_child=_pool.cache_clear)


# --- memory that a thread uses again and again: fresh pages cost more than the copy into them ---------


class _Buffers(threading.local):
    def __init__(self) -> None:
        self.held: dict[str, np.ndarray] = {}


_buffers = _Buffers()


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An uninitialized array in this thread's buffer of that name, valid until the thread asks for it again."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size > KEPT:
        return np.empty(shape, dtype)
    held = _buffers.held.get(name)
    if held is None or held.size < size:
        held = _buffers.held[name] = np.empty(size, np.uint8)
    return held[:size].view(dtype).reshape(shape)


# --- BLAS: its own threads and ours would wait for each other ------------------------------------------

_lock = threading.Lock()
_inside = 0
_limit: Any = None


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """BLAS on one thread a caller for the length of the block; the last caller to leave puts back what was."""
    global _inside, _limit
    with _lock:
        if _inside == 0:
            _limit = _blas().limit(limits=1, user_api="blas")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limit.restore_original_limits()


@functools.cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
