"""A whole training step as one launch, and batches that are sent while the device works: CUDA's streams and graphs.

A training step of a small network is some hundred short pieces of work for the device, and Python takes longer to ask
for each than the device to do it. A graph asks for all of them at once: what the step asks for is recorded while it
runs once, and repeated from then on. `minires.backend.capture` tells what a step must keep to.

Nothing here imports CuPy: the library's module is handed in by `minires.backend`.
"""

from __future__ import annotations

import gc
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from minires.errors import CaptureError, RequestError

Array = Any  # of the device's library


class Captured:
    """What `backend.capture` returns on a device; its contract is told there."""

    def __init__(self, step: Callable[..., Any], held: Callable[[], Mapping[str, Array]], warmup: int, xp: Any) -> None:
        self.step, self.held, self.warmup, self.cuda = step, held, warmup, xp.cuda
        self.stream = self.cuda.Stream(non_blocking=True)
        self.before, self.after = (self.cuda.Event(disable_timing=True) for _ in range(2))
        self.calls: dict[Any, int] = {}
        self.recorded: dict[Any, Recorded] = {}

    def __call__(self, *inputs: Array) -> Any:
        kind = tuple([(x.shape, x.dtype.str) for x in inputs])
        recorded = self.recorded.get(kind)
        if recorded is None or not recorded.holds():
            calls = self.calls[kind] = self.calls.get(kind, 0) + 1
            if calls <= self.warmup or (recorded is None and len(self.recorded) == 2):
                return self.step(*inputs)
            with self.in_order():
                self.recorded[kind] = recorded = self.record(inputs)
        with self.in_order():
            return recorded.replay(inputs)

    @contextmanager
    def in_order(self) -> Iterator[None]:
        """On the stream of the graphs: after all that was asked for so far, and before all that will be."""
        outside = self.cuda.get_current_stream()
        self.before.record(outside)
        self.stream.wait_event(self.before)
        try:
            with self.stream:
                yield
        finally:
            self.after.record(self.stream)
            outside.wait_event(self.after)

    def record(self, inputs: Sequence[Array]) -> Recorded:
        recorded = Recorded(self.cuda, [x.copy() for x in inputs])
        held = self.held()
        _now.recorded = recorded
        try:
            recorded.record(self.step, self.stream)
        except Exception as error:
            raise CaptureError(f"this step cannot be captured: {str(error).splitlines()[0]}") from error
        finally:
            _now.recorded = None
        moved = [name for name, array in self.held().items() if held.get(name) is not array]
        if moved:
            raise RequestError(
                f"this step cannot be captured: it puts another array in the place of {moved[0]!r}, "
                "which a replay would not see; write into the array instead, as in a[...] = b"
            )
        return recorded


class Recorded:
    """One graph, and the memory that it works in."""

    def __init__(self, cuda: Any, inputs: list[Array]) -> None:
        self.graph: Any = None  # the first attribute, as it must be dropped before the memory
        self.cuda, self.inputs = cuda, inputs
        self.pool = cuda.MemoryPool()
        self.outputs: Any = None
        self.numbers: list[list[Any]] = []  # [array, number(), what it holds]
        self.constants: list[tuple[Callable[[], Any], Any]] = []

    def record(self, step: Callable[..., Any], stream: Any) -> None:
        """Notes what `step` asks of the device, which does nothing yet."""
        gc.collect()
        collecting = gc.isenabled()
        gc.disable()  # what is freed by chance in the middle would break the recording off
        try:
            with self.cuda.using_allocator(self.pool.malloc):
                stream.begin_capture()
                try:
                    self.outputs = step(*self.inputs)
                except BaseException:
                    with suppress(Exception):  # the recording is broken, and ending it says so once more
                        stream.end_capture()
                    raise
                self.graph = stream.end_capture()
        finally:
            if collecting:
                gc.enable()

    def holds(self) -> bool:
        """Whether all that was taken for constant still is."""
        return all(value() == then for value, then in self.constants)

    def replay(self, inputs: Sequence[Array]) -> Any:
        for mine, given in zip(self.inputs, inputs, strict=True):
            mine[...] = given
        for entry in self.numbers:
            array, number, holds = entry
            if (now := number()) != holds:
                array.fill(now)
                entry[2] = now
        self.graph.launch()
        return self.outputs


class _Now(threading.local):
    recorded: Recorded | None = None  # what is being recorded


_now = _Now()


def live(xp: Any, number: Callable[[], float]) -> Any:
    """`number()`, or in a captured step a 0-d float64 array which is set to `number()` before every replay."""
    if _now.recorded is None:
        return number()
    array = xp.empty((), np.float64)
    _now.recorded.numbers.append([array, number, None])
    return array


def constant(value: Callable[[], Any]) -> None:
    """Says that a captured step holds only as long as `value()` stays what it is now; else it is recorded anew."""
    if _now.recorded is not None:
        _now.recorded.constants.append((value, value()))


def capturing() -> bool:
    """Whether a step is being recorded."""
    return _now.recorded is not None


class Upload:
    """Two places on the host and on the device for batches of one shape: one is filled while the other is used."""

    def __init__(self, xp: Any, shape: tuple[int, ...], dtype: str) -> None:
        self.cuda = xp.cuda
        self.stream = self.cuda.Stream(non_blocking=True)
        self.places = []
        for _ in range(2):
            pinned = self.cuda.alloc_pinned_memory(max(1, math.prod(shape) * np.dtype(dtype).itemsize))
            host = np.frombuffer(pinned, dtype, math.prod(shape)).reshape(shape)
            sent, used = (self.cuda.Event(disable_timing=True) for _ in range(2))
            self.places.append((host, xp.empty(shape, dtype), sent, used))

    def send(self, array: np.ndarray) -> Array:
        now = self.cuda.get_current_stream()
        self.places.reverse()
        (host, device, sent, used), (*_, last_used) = self.places
        last_used.record(now)  # whatever uses the batch before this one has been asked for by now
        sent.synchronize()  # the copy from this place two batches ago; it has long been made
        host[...] = array
        self.stream.wait_event(used)
        device.set(host, self.stream)
        sent.record(self.stream)
        now.wait_event(sent)
        return device
