"""What is on and off while ops run: recording, kernels, debugging, and who watches the gradients pass.

Each switch holds for the length of a `with` block, in the thread that opened it.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

from minires.backend import Array

Watcher = Callable[[Any, Array], Array | None]  # (engine.Edge, gradient) -> what replaces it, or None
Timer = Callable[[Any, str, Callable[..., Any], tuple[Any, ...]], Any]  # (op, phase, call, arrays) -> call(*arrays)
Recorder = Callable[[Any, Sequence[Any]], None]  # (op, its inputs), once the op is on the tape


class _State(threading.local):
    recording = True
    kernels = os.environ.get("MINIRES_KERNELS", "on").lower() not in ("off", "0")
    compiled = os.environ.get("MINIRES_FAST", "on").lower() not in ("off", "0")
    any_size = False  # kernels also take arrays too small to pay
    debugging = False
    watchers: tuple[Watcher, ...] = ()
    timer: Timer | None = None  # runs every forward and backward in the engine's place, to measure it
    recorder: Recorder | None = None
    recomputing = False  # a checkpointed function is running a second time


state = _State()


class _Switch:
    """Sets one field of the engine's state for the length of a `with` block or a decorated call."""

    field: ClassVar[str]
    value: ClassVar[Any]

    def __enter__(self) -> Self:
        self._before = getattr(state, self.field)
        setattr(state, self.field, self.value)
        return self

    def __exit__(self, *_: object) -> None:
        setattr(state, self.field, self._before)

    def __call__(self, f: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(f)
        def switched(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return f(*args, **kwargs)

        return switched


class no_grad(_Switch):
    """`with no_grad():` or `@no_grad()`: ops leave nothing on the tape."""

    field, value = "recording", False


class enable_grad(_Switch):
    """The opposite of `no_grad`, for use inside it."""

    field, value = "recording", True


class formulas_only(_Switch):
    """Ignores kernels: every op runs its own plain formula (as MINIRES_KERNELS=off does)."""

    field, value = "kernels", False


class use_kernels(_Switch):
    """The opposite of `formulas_only`, for use inside it or under MINIRES_KERNELS=off."""

    field, value = "kernels", True


class kernels_at_any_size(_Switch):
    """Lets kernels take arrays too small to pay, so that checks on tiny cases see them."""

    field, value = "any_size", True


class without_compiled(_Switch):
    """Ignores the compiled kernels only: the NumPy kernels take their place (as MINIRES_FAST=off does)."""

    field, value = "compiled", False


class debug(_Switch):
    """Also finds raw writes to `.data` between forward and backward, by a checksum of every saved array."""

    field, value = "debugging", True


class recomputing(_Switch):
    """While a checkpointed function runs a second time: what only observes must not observe the same batch twice."""

    field, value = "recomputing", True


def is_recomputing() -> bool:
    """Whether `nn.checkpoint` is repeating a forward pass: a running statistic then stays as it is."""
    return state.recomputing


def is_grad_enabled() -> bool:
    """Whether ops are recorded at the moment."""
    return state.recording


@contextmanager
def record_with(recorder: Recorder) -> Iterator[None]:
    """Tells `recorder(op, inputs)`, and nobody else, of each op that is put on the tape."""
    before = state.recorder
    state.recorder = recorder
    try:
        yield
    finally:
        state.recorder = before


@contextmanager
def watch(watcher: Watcher) -> Iterator[None]:
    """Shows `watcher(edge, gradient)` each edge's gradient as backward passes it.

    What the watcher returns, if not None, takes the gradient's place. The ledger, lesions, profiles and
    the stepper are all watchers. The gradient belongs to the engine: copy it before you keep it.
    """
    state.watchers = (*state.watchers, watcher)
    try:
        yield
    finally:
        state.watchers = tuple(w for w in state.watchers if w is not watcher)
