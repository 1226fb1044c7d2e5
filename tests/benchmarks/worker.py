"""A worker: one framework in one process. Reads requests, a line of JSON each, and answers each with a line.

It is started by `process.Worker` as `python -m benchmarks.worker PEER THREADS`, from the folder above, by the
interpreter that has the framework. Between requests it waits in a read, and so leaves the cores to the others.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import platform
import sys
import time
from typing import Any

BRIEF = 0.05  # seconds; work this short is done once untimed before it is timed, to find its caches warm


class Server:
    """Does what is asked, on one item at a time."""

    def __init__(self, peer: Any) -> None:
        self.peer = peer
        self.job: Any = None
        self.calls = 1
        self.last = 0.0

    def prepare(self, item: dict[str, Any]) -> dict[str, Any]:
        """Builds the work and does it once; tells digests of what came out, and how long a call took."""
        self._build(item)
        seen = self.job.observe()
        for _ in range(self.job.warmups):
            self.last = self._time(1)
        return {"digests": seen, "seconds": self.last}

    def repeat(self) -> dict[str, Any]:
        """Seconds of one call, as the mean of the item's number of calls."""
        if self.last * self.calls < BRIEF:
            self._time(self.calls)
        self.last = self._time(self.calls)
        return {"seconds": self.last}

    def memory(self, item: dict[str, Any]) -> dict[str, Any]:
        """What the work holds at most beyond what was there before it was first done. For a fresh worker only."""
        from benchmarks import memory

        self._build(item)
        gc.collect()
        before = memory.held()
        for _ in range(1 + self.job.warmups):
            self.job.call()
        peak = memory.peak_of(lambda: [self.job.call() for _ in range(2)])
        return {"peak": peak - before, "process": peak}

    def release(self) -> dict[str, Any]:
        self.job = None
        gc.collect()
        return {}

    def _build(self, item: dict[str, Any]) -> None:
        from benchmarks import items

        self.release()
        sized = item.get("sized")
        found = items.resnet_item(**sized) if sized else items.ITEMS[item["name"]]
        self.calls = found.calls
        self.job = self.peer.prepare(found, found.arrays())

    def _time(self, calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            self.job.call()
        return (time.perf_counter() - start) / calls


def answer(server: Server, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request; what went wrong is an answer, too."""
    from benchmarks.peers.base import Missing

    try:
        return getattr(server, request.pop("do"))(**request)
    except Missing as missing:
        return {"missing": str(missing)}
    except Exception as error:  # a framework may raise anything, and the comparison goes on without it
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}


def hold_to(threads: int) -> None:
    """Keeps this process on that many cores, which also those libraries obey that have no option for it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def main() -> None:
    name, threads = sys.argv[1], int(sys.argv[2])
    hold_to(threads)
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a framework prints must not be taken for an answer
    from benchmarks import peers

    def say(reply: dict[str, Any]) -> None:
        replies.write(json.dumps(reply) + "\n")
        replies.flush()

    try:
        peer = peers.make(name, threads)
    except ImportError as error:
        say({"missing": f"not installed in {sys.executable} ({error})"})
        return
    except Exception as error:
        say({"missing": " ".join(f"{type(error).__name__}: {error}".split())[:300]})
        return
    server = Server(peer)
    say({"versions": {"python": platform.python_version(), **peer.versions()}})
    with contextlib.suppress(KeyboardInterrupt):
        for line in sys.stdin:
            say(answer(server, json.loads(line)))


if __name__ == "__main__":
    main()
