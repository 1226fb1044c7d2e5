"""A worker as its parent sees it: a process that is asked and answers, or a reason why it cannot."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

from tests.benchmarks.peers import CANDIDATES

HERE = Path(__file__).resolve().parent
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


class Failed(Exception):
    """A worker cannot do what it was asked: one line that says why. `missing` where nobody is to blame."""

    def __init__(self, why: str, missing: bool = False) -> None:
        super().__init__(why)
        self.missing = missing


class Worker:
    """One candidate in a process of its own, with `threads` threads and kept on as many cores."""

    def __init__(self, name: str, python: str, threads: int, limit: float) -> None:
        self.name = name
        self.limit = limit
        environment = {**os.environ, **dict.fromkeys(THREADS, str(threads)), **CANDIDATES[name].settings}
        environment.update(PYTHONDONTWRITEBYTECODE="1", PYTHONWARNINGS="ignore")
        if CANDIDATES[name].peer == "minires":  # this checkout, not one that is installed
            environment["PYTHONPATH"] = str(HERE.parent.parent)
        try:
            self._process = subprocess.Popen(
                [python, "-m", "benchmarks.worker", name, str(threads)],
                cwd=HERE.parent,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # Ctrl-C is for the parent, which then ends its workers
            )
        except OSError as error:
            raise Failed(f"{python} cannot be started: {error.strerror}", missing=True) from None
        self._lines: queue.Queue[str] = queue.Queue()
        self._said: deque[str] = deque(maxlen=1)  # its last line on stderr
        self._listeners = [threading.Thread(target=f, daemon=True) for f in (self._read, self._overhear)]
        for listener in self._listeners:
            listener.start()
        try:
            self.versions = self._answer()["versions"]
        except BaseException:
            self.close()
            raise

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """What the worker answers. Raises Failed for an error, a crash, or no answer within the limit."""
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise Failed(self._last_words()) from None
        return self._answer()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for listener in self._listeners:
            listener.join()
        with contextlib.suppress(OSError):  # what it was still to be told
            self._process.stdin.close()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line)
        self._process.stdout.close()
        self._lines.put("")

    def _overhear(self) -> None:
        self._said.extend(line for line in self._process.stderr if line.strip())
        self._process.stderr.close()

    def _answer(self) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=self.limit)
        except queue.Empty:
            self._process.kill()
            raise Failed(f"no answer within {self.limit:g} s") from None
        if not line:
            raise Failed(self._last_words())
        answer = json.loads(line)
        if "missing" in answer or "error" in answer:
            raise Failed(answer.get("missing") or answer["error"], missing="missing" in answer)
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._listeners[1].join()
        return f"its process ended with code {code}" + "".join(f": {line.strip()[:300]}" for line in self._said)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def interpreters(given: list[str]) -> dict[str, str]:
    """{peer: interpreter} of ["chainer=/path/python", ...], this interpreter for the others.

    Raises ValueError, one line, for an unknown peer or a path that is not there.
    """
    found = dict.fromkeys((c.peer for c in CANDIDATES.values()), sys.executable)
    for pair in given:
        peer, _, path = pair.partition("=")
        if peer not in found or not path:
            raise ValueError(f"--python {pair!r} is not PEER=PATH, with PEER one of {', '.join(found)}")
        if not Path(path).exists():
            raise ValueError(f"--python {pair}: there is no such interpreter")
        found[peer] = path
    return found
