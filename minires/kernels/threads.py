"""Work in parallel on the host: NumPy drops the interpreter's lock while it copies and multiplies.

The threads are started when first needed, one fewer than there are cores, since the caller works too. Which
thread takes which piece is left to chance, so a piece's result may depend on its number only.

To wake a sleeping thread takes as long as a small piece of work. The compiled kernels lend `stay_awake`, with which a
thread that has nothing to do watches a number for a moment before it goes to sleep.
"""

from __future__ import annotations

import contextvars
import functools
import itertools
import math
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from minires.switches import state

KEPT = 1 << 24  # bytes; a scratch buffer beyond this is not held on to

# (number, seen): returns when number[0] is no longer `seen`, or after a moment; without the interpreter's lock
stay_awake: Callable[[np.ndarray, int], None] | None = None


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pays(size: int, least: int) -> bool:
    """Whether an array of `size` numbers is worth blocks and threads, which pay from `least` on."""
    return size >= least or state.any_size


def each(pieces: int, work: Callable[[int], None], blas: bool = True) -> None:
    """work(i) for every i in 0 ... pieces - 1, on all cores, with one BLAS thread each. Raises what `work` raises.

    blas    whether `work` calls BLAS; holding it to one thread takes as long as a small piece
    """
    if pieces == 1:  # BLAS may have all cores
        work(0)
    if pieces < 2:
        return
    task, helpers = _Task(pieces, work), min(cores(), pieces) - 1
    with _one_blas_thread() if blas else nullcontext():
        for _ in range(helpers):
            _tasks(helpers).put((contextvars.copy_context(), task))  # np.errstate holds for the helpers, too
        _calls[0] += 1
        task.run()
        task.wait()
    if task.errors:
        raise task.errors[min(task.errors)]


class _Task:
    """Pieces of work that whoever is free takes from. A thread that comes when all are taken is not waited for."""

    def __init__(self, pieces: int, work: Callable[[int], None]) -> None:
        self.pieces, self.work = pieces, work
        self.numbers = itertools.count()  # next() is atomic
        self.left = pieces
        self.counting = threading.Lock()
        self.finished = threading.Lock()
        self.finished.acquire()
        self.over = np.zeros(1, np.int64)
        self.errors: dict[int, BaseException] = {}

    def run(self) -> None:
        done = 0
        while (i := next(self.numbers)) < self.pieces:
            try:
                self.work(i)
            except BaseException as error:  # handed to the caller of `each`
                self.errors[i] = error
            done += 1
        with self.counting:
            self.left -= done
            if done and not self.left:
                self.finished.release()
                self.over[0] = 1

    def wait(self) -> None:
        """Returns when all pieces are done."""
        if not self.finished.acquire(blocking=False):
            if stay_awake is not None:
                stay_awake(self.over, 0)
            self.finished.acquire()


_started: list[threading.Thread] = []
_waiting: queue.SimpleQueue[tuple[contextvars.Context, _Task]] = queue.SimpleQueue()
_calls = np.zeros(1, np.int64)  # of `each`, so far


def _tasks(helpers: int) -> queue.SimpleQueue[tuple[contextvars.Context, _Task]]:
    """What the helpers take their tasks from, once so many of them are there."""
    while len(_started) < helpers:
        _started.append(threading.Thread(target=_help, args=(_waiting,), name="minires", daemon=True))
        _started[-1].start()
    return _waiting


def _help(tasks: queue.SimpleQueue[tuple[contextvars.Context, _Task]]) -> None:
    while True:
        seen = int(_calls[0])
        if tasks.empty() and stay_awake is not None:
            stay_awake(_calls, seen)
        context, task = tasks.get()
        context.run(task.run)
        del context, task  # nor the arrays that the work refers to


def _forget_helpers() -> None:
    """In a forked child: threads are not copied, so it needs its own."""
    global _waiting
    _started.clear()
    _waiting = queue.SimpleQueue()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)


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
