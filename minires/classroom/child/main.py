"""The process of an answer: reads questions, runs the student's functions, writes what they returned.

It knows no right answer and judges nothing. Its arguments are the limits, the answer's file name and the folders of
the library; the answer's text comes with the first question. Standard input and output are the grader's; the answer
gets empty ones.
"""

from __future__ import annotations

import builtins
import json
import os
import sys
import threading
from threading import Timer
from types import ModuleType
from typing import Any

from . import guard, steps, wire

globals()["__builtins__"] = dict(vars(builtins))  # as in `guard`


def main() -> None:
    """Answers questions until there are no more."""
    settings: dict[str, Any] = json.loads(sys.argv[1])
    questions, replies = os.fdopen(os.dup(0), "rb"), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    _forget(settings["child"])
    asked = [""]  # the number of the question, which the reply repeats

    def reply(message: dict[str, Any]) -> None:
        try:
            rest = wire.pack({"nonce": asked[0], **message})
        except (wire.WireError, MemoryError) as error:
            trouble = steps.Trouble("OUT_OF_MEMORY", f"the answer returns too much ({error})", type(error).__name__)
            rest = wire.pack({"nonce": asked[0], "trouble": _plain(trouble)})
        while rest:
            rest = rest[write(replies, rest) :]

    def stop(cause: str, message: str) -> None:
        reply({"stopped": _plain(steps.Trouble(cause, message))})
        end(0)

    end, write = os._exit, os.write  # the answer may replace the names, not these
    guard.limit(settings["memory_mb"], settings["seconds"])
    sys.meta_path.insert(0, guard.OnlyStandard())
    watch = guard.Watch(settings["file"], settings["library"], settings["child"], stop)
    me = threading.get_ident()

    def hangs(seconds: float) -> None:
        stop("TIMEOUT", f"{watch.where(me)}no result within {seconds:.2g} s; is there a loop that does not end?")

    module: ModuleType | steps.Trouble | None = None
    reply({"ready": True})
    while True:
        try:
            question = wire.unpack(questions.read)
        except EOFError:
            end(0)
        asked[0] = question["nonce"]
        alarm = Timer(question["seconds"], hangs, [question["seconds"]])
        alarm.daemon = True
        alarm.start()
        message: dict[str, Any] = {}
        if "source" in question:
            module = steps.load(question["source"], settings["file"])
            message = {"trouble": _plain(module if isinstance(module, steps.Trouble) else None)}
        elif isinstance(module, ModuleType):
            message = _told(steps.run(module, question["steps"], question["inputs"], question["keep"]))
        alarm.cancel()
        reply(message)


def _told(found: steps.Outcome) -> dict[str, Any]:
    return {
        "values": found.values,
        "inputs_after": found.inputs_after,
        "shares": found.shares,
        "seconds": found.seconds,
        "trouble": _plain(found.trouble),
    }


def _plain(trouble: steps.Trouble | None) -> dict[str, str] | None:
    if trouble is None:
        return None
    return {"cause": trouble.cause, "message": trouble.message, "exception": trouble.exception}


def _forget(folder: str) -> None:
    """Leaves no way by name from the answer to these files."""
    for name in [n for n in sys.modules if n.partition(".")[0] == __package__]:
        del sys.modules[name]
    sys.modules["__main__"] = ModuleType("__main__")
    sys.path[:] = [p for p in sys.path if os.path.realpath(p or ".") != os.path.realpath(os.path.dirname(folder))]
