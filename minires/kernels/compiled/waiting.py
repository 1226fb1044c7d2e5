"""To stay awake for a moment: a thread watches a number without holding the interpreter's lock."""

from __future__ import annotations

import functools
import time
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from minires.backend import Array

AWAKE = 5e-4  # seconds; between two ops of a training step Python takes less
RELEASE = 1e-5  # seconds that a caller may take from saying that there is work to letting go of the lock


def stay_awake(number: Array, seen: int) -> None:
    """Returns soon after number[0] has become another than `seen`, or else after about AWAKE seconds."""
    looks = _looks_a_second()
    _watch(number, seen, int(AWAKE * looks), int(RELEASE * looks))


@functools.cache
def _looks_a_second() -> float:
    number, looks = np.zeros(1, np.int64), 2000
    _watch(number, 1, 1, 0)
    start = time.perf_counter()
    _watch(number, 0, looks, 0)
    return looks / (time.perf_counter() - start)


@intrinsic
def _look(typing: Any, number: Any) -> Any:
    """number[0] as other threads have left it, after a pause that leaves the core to its other thread."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if llvm.get_process_triple().startswith(("x86", "i686")):
            pause = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, pause, "llvm.x86.sse2.pause"), [])
        return builder.load_atomic(context.make_array(number)(context, builder, args[0]).data, "acquire", 8)

    return types.int64(number), codegen


@njit(nogil=True, cache=True)
def _watch(number: Array, seen: int, looks: int, more: int) -> None:
    for _ in range(looks):
        if _look(number) != seen:
            for _ in range(more):
                _look(number)
            return


def warm_up() -> None:
    """Compiles everything here, or takes it from the cache."""
    _looks_a_second()
