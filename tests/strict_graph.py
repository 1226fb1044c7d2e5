"""The strict device's streams and graphs: what `cupy.cuda` has of them, on the host, and nothing in a hurry.

A recording is taken literally. While it lasts, every operation on device arrays is noted with the memory it reads and
writes; at its end, memory from before the recording gets back what it held, since a recorded operation has not run. A
launch then runs the operations again: on the same memory, with the Python numbers of the recording, and without the
Python around them. So whatever a step forgets to write in place, or decides on the host, shows as a wrong number.

Memory that was given back since is not there any more for a graph that reads it: that raises. Copies from the host on
another stream are made as late as the events allow, and hold NaN until then.
"""

import weakref
from contextlib import contextmanager

import numpy as np


class State:
    """What is going on: the recording, the stream, the allocator, and how many operations have run."""

    def __init__(self):
        self.tape, self.streams, self.allocator, self.clock, self.read_at = None, [], None, 0, {}
        self.last = {}  # the last operation on each stream


state = State()


# --- waiting and copying: allowed, but counted ----------------------------------------------------


class Counts:
    """How often the host has waited for the device ("sync") or copied to it ("upload")."""

    def __init__(self):
        self.seen = {"sync": 0, "upload": 0}
        self.forbidden = False

    def add(self, kind, what, free=False):
        if state.tape is not None:
            raise RuntimeError(f"{what} costs one {kind}, which is not permitted while a stream is captured")
        if free:  # it costs next to nothing where nothing is captured
            return
        if self.forbidden:
            raise AssertionError(f"{what} costs one {kind}, inside no_sync()")
        self.seen[kind] += 1


counts = Counts()


@contextmanager
def no_sync():
    """Inside, anything that a captured CUDA graph could not contain is an AssertionError."""
    counts.forbidden = True
    try:
        yield
    finally:
        counts.forbidden = False


# --- recordings --------------------------------------------------------------------------------------


def root(array):
    return array if array.base is None else array.base


class Tape:
    """The operations of one recording."""

    def __init__(self):
        self.nodes, self.made, self.outside, self.before = [], {}, {}, {}

    def meets(self, arrays):
        """Notes which of the arrays' memory is older than the recording."""
        for whole in map(root, arrays):
            if id(whole) not in self.made:
                self.outside.setdefault(id(whole), weakref.ref(whole))

    def writes(self, array):
        whole = root(array)
        if id(whole) not in self.made:
            self.before.setdefault(id(whole), (whole._host, whole._host.copy()))

    def changes(self, compute):
        self.nodes.append(compute)

    def makes(self, compute, fresh, pick):
        """`fresh` arrays are the results of `compute` at the positions `pick`; with None they are only memory."""
        self.made.update((id(array), array) for array in fresh)
        if compute is None or not fresh:
            return

        def node():
            results = compute()
            for array, i in zip(fresh, pick, strict=True):
                np.copyto(array._host, results if i is None else results[i])

        self.nodes.append(node)

    def undo(self):
        for memory, held in self.before.values():
            memory[...] = held
        self.before.clear()


class Graph:
    """What `Stream.end_capture` returns."""

    def __init__(self, tape):
        self._tape = tape

    def launch(self, stream=None):
        assert state.tape is None, "a graph is launched while another one is recorded"
        if any(alive() is None for alive in self._tape.outside.values()):
            raise AssertionError("the graph works on memory that has been given back since it was recorded")
        for node in self._tape.nodes:
            node()
        note([])


class Event:
    """A point in a stream."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.copies, self.clock, self.knows = [], 0, {}

    def record(self, stream=None):
        stream = Stream.null if stream is None else stream
        self.copies, self.clock, self.knows = list(stream.copies), state.clock, {**stream.knows, stream: state.clock}

    def synchronize(self):
        for copy in self.copies:
            copy()


class Stream:
    """An order of work. What is not a copy from the host runs at once, and must not depend on its luck."""

    def __init__(self, null=False, non_blocking=False, ptds=False):
        self.copies, self.non_blocking = [], non_blocking
        self.waited, self.knows = 0, {}  # up to which operation it has waited for any stream, and for each

    def __enter__(self):
        state.streams.append(self)
        return self

    def __exit__(self, *_):
        state.streams.pop()

    def record(self, event=None):
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event):
        event.synchronize()
        self.waited = max(self.waited, event.clock)
        for stream, clock in event.knows.items():
            self.knows[stream] = max(self.knows.get(stream, 0), clock)

    def send(self, array, host):
        """A copy from the host that runs when somebody waits for it, or never."""
        assert not host.flags.owndata, "only pinned memory is copied while the host goes on"
        assert state.read_at.get(id(array), 0) <= self.waited, (
            "a copy may overtake the work that still reads its target"
        )
        array._host.fill(np.nan if array.dtype.kind == "f" else array.dtype.type(77))
        done = []

        def copy():
            if not done:
                done.append(array._host.__setitem__(..., host))

        state.read_at.setdefault(id(array), 0)
        self.copies.append(copy)

    def begin_capture(self, mode=None):
        assert get_current_stream() is self, "another stream is recorded than the one in use"
        assert self.non_blocking, "a stream that waits for the default one cannot be recorded"
        assert state.allocator is not None, "what is freed while recording would be handed to others"
        assert state.tape is None
        state.tape = Tape()

    def end_capture(self):
        tape, state.tape = state.tape, None
        tape.undo()
        return Graph(tape)


Stream.null = Stream(null=True)


def get_current_stream(device_id=-1):
    return state.streams[-1] if state.streams else Stream.null


class MemoryPool:
    """Memory of one's own."""

    def __init__(self, allocator=None):
        pass

    def malloc(self, size):
        raise NotImplementedError


@contextmanager
def using_allocator(allocator=None):
    before, state.allocator = state.allocator, allocator
    try:
        yield
    finally:
        state.allocator = before


def alloc_pinned_memory(size):
    return bytearray(size)


# --- what strict_device hands its operations to -------------------------------------------------------


def note(arrays):
    """One more operation, which works on these arrays."""
    stream = get_current_stream()
    for other, clock in state.last.items():
        assert other is stream or clock <= stream.knows.get(other, 0), "work on one stream may overtake another's"
    state.clock += 1
    state.last[stream] = state.clock
    for a in arrays:
        if id(root(a)) in state.read_at:
            state.read_at[id(root(a))] = state.clock
    if state.tape is not None:
        state.tape.meets(arrays)


def change(compute, arrays, written):
    """compute(), which writes in place to those that are `written`; noted where there is a recording."""
    note(arrays)
    if state.tape is not None:
        for array in written:
            state.tape.writes(array)
        state.tape.changes(compute)
    compute()


def perform(compute, wrap, arrays, out=None, memory_only=False):
    """compute(), wrapped as device arrays, and noted where there is a recording.

    arrays        the device arrays it works on
    out           the one that it writes, in place
    memory_only   it only makes room, which is no operation of a graph
    """
    if out is not None:
        change(compute, arrays, [out])
        return out
    note(arrays)
    tape = state.tape
    if tape is None:
        return wrap(compute())
    result = wrap(compute())
    listed = list(enumerate(result)) if isinstance(result, (tuple, list)) else [(None, result)]
    known = {id(a) for a in arrays}
    fresh = [(i, y) for i, y in listed if hasattr(y, "_host") and y.base is None and id(y) not in known]
    tape.makes(None if memory_only else compute, [y for _, y in fresh], [i for i, _ in fresh])
    return result
