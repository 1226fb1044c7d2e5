"""How a test talks to a student's answer: `Answer`, with two ways to run it.

    Remote    in a process of its own, with limits (`minires.classroom.sandbox`): what the grader uses
    Local     in this process, on a module: for fast tests of the tests

Both do the same things. A test asks in one of three ways.

    reply = answer.call("softmax", x, axis=1)                       a function: reply.outputs, a tuple
    reply = answer.op("ResidualAdd", (x, f), gy, eps=1e-5)          an op: reply["y"], reply["gradients"], a tuple
    reply = answer.script(steps, inputs={"x": x}, keep=("y", "g"))  anything else: reply["y"], reply["g"]

`op` makes the op with the options, then calls forward(*inputs) and backward(gy); without gy, forward alone.

A script is a list of steps from `minires.classroom.child.steps`. Each keeps its result under a name:

    call("y", "Block")                 y = Block()             a name of the student's file
    call("z", "y.forward", Ref("x"))   z = y.forward(x)        a method of what was kept before
    operate("s", "+", Ref("a"), 2)     s = a + 2               + - * / ** @ and neg
    get("g", "a.grad")                 g = a.grad              `get("first", "g", 0)` gives g[0]
    put("a.grad", 0)                   a.grad = 0
    pack("gs", "g")                    gs = g as a tuple

Arguments are arrays, numbers (int, float, complex, Fraction), strings, None, True, False, tuples and lists of these,
and Ref. So are replies. What the student's classes make cannot leave their process: it comes as `Opaque("Value")`.

Where the answer fails, these methods raise Failed, with the cause, so that a test need not look. With tolerate=True
they return the reply, and reply.error is that Failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from minires.classroom.child import steps as language
from minires.classroom.child.steps import Ref, Step, call, pack


class Failed(Exception):
    """An answer broke a law.

    message          one or a few short lines: what came, what was expected, "your dx lacks + g (fit: -1.00 g ...)"
    cause            the name of the mistake; UNKNOWN where it is not certain
    counterexample   the smallest input found that shows it, {"x": ..., "yours": ..., "expected": ...}, or None
    place            where the derivation says so: a tutorial and its equation
    exception        where the answer raised: the exception's class, such as "RecursionError", or ""
    """

    def __init__(
        self,
        message: str,
        cause: str = "UNKNOWN",
        counterexample: Mapping[str, Any] | None = None,
        place: str = "",
        exception: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.cause = cause
        self.counterexample = counterexample
        self.place = place
        self.exception = exception


@dataclass(frozen=True)
class Reply:
    """What came of a question.

    values         what was kept, by name: reply["y"] is reply.values["y"]
    inputs_after   the inputs by name, as they stand after the calls: has the answer written to them?
    shares         pairs of names, ("x", "gradients[0]"), inputs or kept, whose arrays overlap in memory
    seconds        how long the answer computed
    error          None, or with tolerate=True what went wrong; `values` then holds what was kept up to there
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    inputs_after: Mapping[str, Any] = field(default_factory=dict)
    shares: frozenset[tuple[str, str]] = frozenset()
    seconds: float = 0.0
    error: Failed | None = None

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def outputs(self) -> tuple[Any, ...]:
        """Of `call`: what the function returned, as a tuple also where it is one thing."""
        y = self.values["y"]
        return tuple(y) if isinstance(y, (tuple, list)) else (y,)


class Answer:
    """A student's file that can be asked. Subclasses say how a script is run."""

    def call(self, name: str, *inputs: Any, tolerate: bool = False, **options: Any) -> Reply:
        """name(*inputs, **options). The inputs are called "0", "1", ... in inputs_after and shares, the output "y"."""
        given = {str(i): x for i, x in enumerate(inputs)}
        return self.script([call("y", name, *map(Ref, given), **options)], given, ("y",), tolerate)

    def op(self, name: str, inputs: Sequence[Any], gy: Any = None, *, tolerate: bool = False, **options: Any) -> Reply:
        """Forward and backward of an op. The names are "0", "1", ..., "gy"; "y" and "gradients", always a tuple."""
        given = {str(i): x for i, x in enumerate(inputs)}
        steps = [call("op", name, **options), call("y", "op.forward", *map(Ref, given))]
        if gy is None:
            return self.script(steps, given, ("y",), tolerate)
        steps += [call("gradients", "op.backward", Ref("gy")), pack("gradients", "gradients")]
        return self.script(steps, {**given, "gy": gy}, ("y", "gradients"), tolerate)

    def script(
        self,
        steps: Sequence[Step],
        inputs: Mapping[str, Any] | None = None,
        keep: Sequence[str] = (),
        tolerate: bool = False,
    ) -> Reply:
        """Runs the steps one after the other and returns what is kept. Raises Failed unless `tolerate`."""
        reply = self._run(steps, dict(inputs or {}), tuple(keep))
        if reply.error is not None and not tolerate:
            raise reply.error
        return reply

    def _run(self, steps: Sequence[Step], inputs: dict[str, Any], keep: tuple[str, ...]) -> Reply:
        raise NotImplementedError


class Local(Answer):
    """An answer in this process: for tests of assignments, without limits and without protection."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    @classmethod
    def of(cls, source: str, file: str = "answer.py") -> Local:
        """The answer in this source text. Raises Failed where it cannot be loaded."""
        found = language.load(source, file)
        if isinstance(found, language.Trouble):
            raise failed(found)
        return cls(found)

    def _run(self, steps: Sequence[Step], inputs: dict[str, Any], keep: tuple[str, ...]) -> Reply:
        found = language.run(self.module, steps, language.copied(inputs), keep)
        error = None if found.trouble is None else failed(found.trouble)
        return Reply(found.values, found.inputs_after, frozenset(found.shares), found.seconds, error)


def failed(trouble: language.Trouble) -> Failed:
    """What went wrong in the student's code, as Failed."""
    return Failed(trouble.message, trouble.cause, exception=trouble.exception)
