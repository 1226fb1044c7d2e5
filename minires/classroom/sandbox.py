"""An answer in a process of its own: `Remote`.

The process gets the student's file and questions, and gives back what the student's functions returned. It holds no
right answers and no tests, and what it says is judged here. So nothing that the student's code does there, from
printing a result to replacing NumPy's functions, can make a wrong answer right: to be believed, it has to return the
right numbers. What an answer could still lie about, with a way around `child.guard`, is whether it wrote to its
inputs.

A process that hangs, crashes or takes too much memory is ended, with all that it started, and the next test gets a
new one, as long as there is time left.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

import minires
from minires.classroom.answer import Answer, Failed, Reply, failed
from minires.classroom.child import steps as language
from minires.classroom.child import wire
from minires.classroom.child.steps import Step
from minires.errors import RequestError

_BOOT = "import sys; sys.path[:0] = sys.argv[2:3]; sys.path += sys.argv[3:]; from child.main import main; main()"
_START = 60.0  # seconds for Python and NumPy to start, on a busy machine; not the answer's time
_GRACE = 1.0  # for the process itself to tell in which line it hangs
_ENDING = 5.0  # seconds for a process to end by itself


class Remote(Answer):
    """The answer in `source`, in another process. Use it in a `with` block, and call `begin` before each test.

    seconds     for everything the answer does
    memory_mb   of address space, Python and NumPy included (where the system can limit it)
    """

    def __init__(self, source: str, file: str, *, seconds: float = 60.0, memory_mb: int = 1024) -> None:
        self.source, self.file = source, file
        self.seconds, self.memory_mb = seconds, memory_mb
        self._left = seconds
        self._until = 0.0  # seconds left to the test
        self._allowed = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._broken: Failed | None = None  # why the answer cannot be loaded, in this test
        self._hopeless: Failed | None = None  # ... in any
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Remote:
        self._folder = tempfile.TemporaryDirectory(prefix="minires-answer-", ignore_cleanup_errors=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._end()
        if self._folder is not None:
            self._folder.cleanup()

    def begin(self, seconds: float) -> Failed | None:
        """Loads the file anew for a test of so many seconds; why that does not work, or None."""
        self._allowed = self._until = min(seconds, self._left)
        if self._hopeless is None:
            self._broken = self._load()
            if self._broken is not None and self._left > 0:
                self._hopeless = self._broken
        return self._hopeless or self._broken

    def _load(self) -> Failed | None:
        reply = self._ask({"source": self.source})
        return reply if isinstance(reply, Failed) else _trouble(reply)

    def _run(self, steps: Sequence[Step], inputs: dict[str, Any], keep: tuple[str, ...]) -> Reply:
        if self._broken is not None:
            return Reply(error=self._broken)
        reply = self._ask({"steps": list(steps), "inputs": inputs, "keep": list(keep)})
        if isinstance(reply, Failed):
            self._broken = reply  # the process is gone, and what the test had made there with it
            return Reply(error=reply)
        return _reply(reply)

    # --- one question, one reply

    def _ask(self, question: dict[str, Any]) -> dict[str, Any] | Failed:
        """The reply; or why there is none, and then the process is gone."""
        if self._until <= 0:
            return self._timeout()
        process = self._started()
        nonce = secrets.token_hex(8)
        began = time.perf_counter()
        message = wire.pack({**question, "nonce": nonce, "seconds": self._until})
        reply = _exchange(process, message, self._until + _GRACE)
        spent = time.perf_counter() - began
        self._until = max(self._until - spent, 0.0)
        self._left -= spent
        if reply is None:
            self._end()
            return self._timeout()
        if isinstance(reply, Exception) or reply.get("nonce") != nonce:
            return self._gone(process, reply)
        if "stopped" in reply:
            self._end()
            return _trouble({"trouble": reply["stopped"]}) or _forged()
        return reply

    def _timeout(self) -> Failed:
        if self._allowed <= 0:
            return Failed(f"not run: the answer has used up its {self.seconds:g} s; see --seconds", "TIMEOUT")
        self._until = 0.0
        return Failed(f"no result within {self._allowed:.3g} s", "TIMEOUT")

    def _gone(self, process: subprocess.Popen[bytes], reply: Any) -> Failed:
        if not isinstance(reply, EOFError):
            self._end()
            return _forged()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING)
        code = process.returncode
        self._end()
        how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        if how == "SIGXCPU":
            return Failed(f"the answer has used up its {self.seconds:g} s of processor time; see --seconds", "TIMEOUT")
        if how == "SIGKILL":
            return Failed("the system stopped the answer, most likely for want of memory", "OUT_OF_MEMORY")
        return Failed(f"the answer ended its own process ({how}) instead of returning", "CRASHED")

    # --- the process

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        assert self._folder is not None, "Remote is used in a with block"
        library = Path(minires.__file__).parent
        child = Path(wire.__file__).parent
        copies = {library, *(found for p in sys.path if (found := Path(p).resolve() / "minires").is_dir())}
        settings = {
            "file": self.file,
            "memory_mb": self.memory_mb,
            "seconds": max(self._left, 1.0),
            "child": str(child),
            "library": sorted(map(str, copies)),
        }
        arguments = [json.dumps(settings), str(child.parent), str(Path(np.__file__).parents[1])]
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", "-c", _BOOT, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
            env=_environment(),
            start_new_session=os.name == "posix",
        )
        self._process = process
        ready = _exchange(process, b"", _START)
        if not isinstance(ready, dict) or "ready" not in ready:
            self._end()
            raise RequestError(f"{sys.executable} -I does not start, or not with NumPy; see minires doctor")
        return process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # what could not be written any more
                    stream.close()


def _environment() -> dict[str, str]:
    """One thread, since an answer is small, and what Windows needs to start Python; nothing of the teacher's."""
    kept = {name: os.environ[name] for name in ("SYSTEMROOT", "PATH", "LD_LIBRARY_PATH") if name in os.environ}
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    return kept | dict.fromkeys(threads, "1")


def _exchange(process: subprocess.Popen[bytes], question: bytes, seconds: float) -> Any:
    """Sends and reads a message: the message, the exception that came instead, or None after so many seconds."""
    found: list[Any] = []

    def talk() -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(question)
            process.stdin.flush()
            found.append(wire.unpack(process.stdout.read))
        except (OSError, ValueError) as error:  # the process ended while it was written to, or was ended by us
            found.append(EOFError(str(error)))
        except (EOFError, wire.WireError) as error:
            found.append(error)

    thread = threading.Thread(target=talk, daemon=True)  # a pipe that nobody empties would block for ever
    thread.start()
    thread.join(seconds)
    return found[0] if found else None


def _trouble(reply: dict[str, Any]) -> Failed | None:
    held = reply.get("trouble")
    if held is None:
        return None
    try:
        return failed(language.Trouble(str(held["cause"]), str(held["message"]), str(held["exception"])))
    except (KeyError, TypeError):
        return _forged()


def _reply(reply: dict[str, Any]) -> Reply:
    """The message as a test sees it. The process is the student's, so nothing in it is taken for granted."""
    error = _trouble(reply)
    if error is not None and "values" not in reply:  # more than can be sent
        return Reply(error=error)
    try:
        values, after = dict(reply["values"]), dict(reply["inputs_after"])
        shares = frozenset((str(a), str(b)) for a, b in reply["shares"])
        return Reply(values, after, shares, float(reply["seconds"]), error)
    except (KeyError, TypeError, ValueError):
        return Reply(error=_forged())


def _forged() -> Failed:
    return Failed("the answer writes where only the grader's messages belong", "FORBIDDEN_ACTION")
