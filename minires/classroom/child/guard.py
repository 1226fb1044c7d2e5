"""What an answer may not do in its process: limits of the system, and an audit hook that cannot be taken off again.

An answer computes. It need not write files, start processes, use the network, look into its callers' frames or read
the library, and at the first try it is told so and its process ends. Nobody's secret is kept by this: the solution
is one `pip install` away, and whoever knows CPython well enough finds a way around the hook, which is more work than
the assignment. Nor is it a wall against malice: a teacher who expects any grades in a container. What keeps answer and
grader apart is that all judging is done in another process, see `minires.classroom.sandbox`.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from typing import Any

globals()["__builtins__"] = dict(vars(builtins))  # the answer may replace Python's, and does not reach these

PROCESSES = ("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen")
FILES = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chdir",
)
ENGINE_ROOM = (
    *("gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys.settrace", "sys.setprofile"),
    *("sys._current_frames", "sys._current_exceptions", "sys.addaudithook", "sys.monitoring.register_callback"),
    *("resource.setrlimit", "resource.prlimit"),
    *("ctypes.dlsym", "ctypes.dlsym/handle", "ctypes.call_function", "ctypes.string_at", "ctypes.wstring_at"),
    *("ctypes.cdata", "ctypes.PyObj_FromPtr", "os.kill", "os.killpg", "os.chown", "os.startfile", "pty.spawn"),
)
INTERPRETERS = ("_interpreters", "_xxsubinterpreters", "_testcapi", "_testinternalcapi")  # no hook follows there
FRAMES = ("tb_frame", "gi_frame", "cr_frame", "ag_frame")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def limit(memory_mb: int, seconds: float) -> None:
    """Limits of memory and processor time, and no file may grow, where the system has such limits (POSIX)."""
    try:
        import resource
    except ImportError:  # Windows: the grader's clock alone stops an answer
        return
    cpu = int(seconds) + 1
    wanted = [
        (resource.RLIMIT_CPU, cpu, cpu + 1),  # SIGXCPU comes first, and tells what it was
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_AS, memory_mb * 2**20, memory_mb * 2**20),
    ]
    for what, soft, hard in wanted:
        try:
            resource.setrlimit(what, (soft, hard))
        except (ValueError, OSError):  # a limit that this system has no such thing as, or a lower one stands
            continue


class OnlyStandard(MetaPathFinder):
    """Imports nothing but the standard library and NumPy."""

    known = frozenset(sys.stdlib_module_names) | {"numpy"}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        """None, so that the next finder looks, or ModuleNotFoundError."""
        top = fullname.partition(".")[0]
        if top == "minires" or top in INTERPRETERS:
            sys.audit("import", fullname)  # importlib.import_module does not tell by itself
        if top not in self.known and not top.startswith("_sysconfigdata"):
            raise ModuleNotFoundError(
                f"no {top} here: an answer has Python's standard library and NumPy, nothing else", name=top
            )


class Watch:
    """From now on ends the process, through stop(cause, message), when the answer does what it may not.

    file       the answer's, as its tracebacks call it
    library    folders that hold the reference
    own        the folder of these files: they look as if they were not there, for tracebacks ask for them
    """

    def __init__(self, file: str, library: Sequence[str], own: str, stop: Callable[[str, str], None]) -> None:
        self._file, self._stop = file, stop
        self._library = {each for folder in library for each in _files(folder)}
        self._own = set(_files(own))
        self._nothing = _file(os.stat(os.devnull))
        self._proc = os.stat("/proc").st_dev if os.path.isdir("/proc") else None
        self._stat = os.stat
        self._busy: set[int] = set()  # threads that are in the hook: what it does itself is not judged
        self._frame, self._frames, self._thread = sys._getframe, sys._current_frames, threading.get_ident
        sys.addaudithook(self._hook)

    def where(self, thread: int) -> str:
        """ "file:line: " of the answer's innermost line in that thread, or ""."""
        self._busy.add(self._thread())
        return self._line(self._frames().get(thread))

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        me = self._thread()
        if me in self._busy:
            return
        self._busy.add(me)
        try:
            found = self._judged(event, args)
            if found is not None:
                cause, does = found
                self._stop(cause, f"{self._line(self._frame())}the answer {does}, which an answer may not")
        finally:
            self._busy.discard(me)

    def _line(self, frame: Any) -> str:
        while frame is not None and frame.f_code.co_filename != self._file:
            frame = frame.f_back
        return "" if frame is None else f"{self._file}:{frame.f_lineno}: "

    def _judged(self, event: str, args: tuple[Any, ...]) -> tuple[str, str] | None:
        """The cause and what the answer does, or None where it may."""
        if event == "import" and str(args[0]).partition(".")[0] == "minires":
            return "READS_REFERENCE", f"imports {args[0]}"
        if event == "import" and args[0] in INTERPRETERS:
            return "FORBIDDEN_ACTION", f"looks behind the language ({args[0]})"
        if event == "open":
            return self._opened(*args)
        if event in PROCESSES:
            return "FORBIDDEN_ACTION", f"starts a process ({event})"
        if event in FILES or event.startswith(("shutil.", "tempfile.")):
            return "FORBIDDEN_ACTION", f"changes files ({event})"
        if event.startswith("socket."):
            return "FORBIDDEN_ACTION", f"uses the network ({event})"
        if event in ENGINE_ROOM or (event == "ctypes.dlopen" and args[0] is not None):
            return "FORBIDDEN_ACTION", f"looks behind the language ({event})"
        if event == "object.__setattr__" and args[1] == "__code__":
            return "FORBIDDEN_ACTION", "replaces the code of a function"
        looks = event == "sys._getframe" or (event == "object.__getattr__" and args[1] in FRAMES)
        if looks and _name(self._frame(2).f_code.co_filename) in (self._file, "inspect.py"):
            return "FORBIDDEN_ACTION", "looks into its callers' frames"
        return None

    def _opened(self, path: Any, mode: Any, flags: Any) -> tuple[str, str] | None:
        """Files are known by what they are: no link and no other spelling of a path makes another file of one."""
        if isinstance(path, int):
            return None
        if not isinstance(path, (str, bytes)):  # it could tell another path when it is asked again
            return "FORBIDDEN_ACTION", f"opens a {type(path).__name__} instead of a path"
        text = path if isinstance(path, str) else path.decode(errors="replace")
        try:
            status: os.stat_result | None = self._stat(path)
        except (OSError, ValueError):
            status = None
        file = None if status is None else _file(status)
        if file in self._own:
            raise FileNotFoundError(text)
        if file in self._library:
            return "READS_REFERENCE", f"reads {_name(text)} of the library"
        if file == self._nothing:
            return None
        if isinstance(mode, str):
            writes = "w" in mode or "a" in mode or "x" in mode or "+" in mode
        else:
            writes = bool((flags or 0) & WRITING)
        if writes:
            return "FORBIDDEN_ACTION", f"opens the file {_name(text)} for writing"
        process = status is not None and status.st_dev == self._proc
        return ("FORBIDDEN_ACTION", f"opens {text}") if process else None


def _file(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _files(folder: str) -> Iterator[tuple[int, int]]:
    for directory, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # a link to nowhere
                yield _file(os.stat(os.path.join(directory, name)))


def _name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]
