"""Ctrl-C: the first asks the loop to stop after the step it is in, the second stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Stopped(Exception):
    """The user asked to stop, and the loop is at a place from which the run can go on exactly."""


class Interrupts:
    """Within `with Interrupts() as interrupts:`, Ctrl-C only leaves a note, which `check()` reads.

    Outside the main thread, where signals cannot be caught, it does nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def check(self) -> None:
        """Raises Stopped when Ctrl-C was pressed."""
        if self.asked:
            raise Stopped

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
