"""Where the time goes: every op's forward and backward, measured one by one.

    with mr.profile() as p:
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

prints a table at the end of the block. Beside the time stand the bytes that went in and out and the floating-point
operations of the formula (`minires.flops`), so that GFLOP/s and GB/s tell what bounds an op: arithmetic or memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from minires.engine import Function
from minires.errors import RequestError
from minires.flops import count
from minires.switches import state

KEPT = "flops of backward"  # where an op's backward finds its count, which needs the shapes that forward has seen


@dataclass(slots=True)
class Row:
    """What one op took, forward or backward, in all its calls.

    op         its name
    phase      "forward" or "backward"
    kernel     the class that computed it, or "" for the op's own formula
    calls      how often
    seconds    in total, without ops that it called itself
    bytes      of its inputs and outputs (backward: of the gradients in and out); not what it saved, and none where
               it only hands on what it was given, or a view of it
    flops      floating-point operations, or None where no count is known
    """

    op: str
    phase: str
    kernel: str
    calls: int = 0
    seconds: float = 0.0
    bytes: int = 0
    flops: int | None = 0

    @property
    def gflops(self) -> float | None:
        """10^9 floating-point operations a second."""
        return None if self.flops is None or not self.seconds else self.flops / self.seconds / 1e9

    @property
    def gbytes(self) -> float | None:
        """10^9 bytes a second."""
        return self.bytes / self.seconds / 1e9 if self.seconds else None


class profile:
    """`with profile() as p:` measures every op that runs in the block, in this thread, and prints a table at its end.

    show    whether to print it; `p.table()` gives it as text, `p.as_dict()` as plain numbers for JSON

    Attributes
        rows       one `Row` for each op, phase and kernel, the most expensive first
        seconds    from the beginning of the block to its end (or until now)
        rest       those spent outside of ops: Python, the engine, the optimizer, the data
        own        those spent by the profiler itself, which are not in `rest`

    On a GPU it waits for the device before and after each op, so that a time belongs to its op; the queue then stands
    empty, and the whole takes longer than it does without. Profiles may be nested; each sees all that runs in it.
    """

    def __init__(self, show: bool = True) -> None:
        self.show = show
        self._rows: dict[tuple[type[Function], str], Row] = {}
        self.own = 0.0
        self._inner = 0.0  # seconds of the ops that ran inside the one that is running
        self._start: float | None = None
        self._end: float | None = None

    def __enter__(self) -> Self:
        if self._start is not None and self._end is None:
            raise RequestError("this profile is already running; nest another one: with profile() as inner: ...")
        self._rows, self.own = {}, 0.0
        self._outer = state.timer
        state.timer = self._measure
        self._end, self._start = None, time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._end = time.perf_counter()
        state.timer = self._outer
        if self.show and kind is None:
            print(self.table())

    @property
    def rows(self) -> list[Row]:
        return sorted(self._rows.values(), key=lambda row: -row.seconds)

    @property
    def seconds(self) -> float:
        if self._start is None:
            return 0.0
        return (time.perf_counter() if self._end is None else self._end) - self._start

    @property
    def rest(self) -> float:
        return max(0.0, self.seconds - self.own - sum(row.seconds for row in self._rows.values()))

    @property
    def total(self) -> Row:
        """All ops in one row. Its flops count what is known."""
        rows = self.rows
        return Row(
            "all ops",
            "",
            "",
            sum(row.calls for row in rows),
            sum(row.seconds for row in rows),
            sum(row.bytes for row in rows),
            sum(row.flops or 0 for row in rows),
        )

    def as_dict(self) -> dict[str, Any]:
        """{"seconds", "rest", "own", "total": {...}, "rows": [{...}, ...]} of plain numbers and text."""
        rows = [asdict(row) for row in self.rows]
        return {"seconds": self.seconds, "rest": self.rest, "own": self.own, "total": asdict(self.total), "rows": rows}

    def _measure(self, op: Function, phase: str, call: Callable[..., Any], arrays: tuple[Any, ...]) -> Any:
        entered = time.perf_counter()
        around, self._inner = self._inner, 0.0
        op.lib.synchronize()
        start = time.perf_counter()
        results = call(*arrays) if self._outer is None else self._outer(op, phase, call, arrays)
        op.lib.synchronize()
        stop = time.perf_counter()
        outputs = results if isinstance(results, tuple) else (results,)
        row = self._row(op, phase)
        row.calls += 1
        row.seconds += stop - start - self._inner
        row.bytes += _moved(arrays, outputs)
        flops = self._flops(op, phase, arrays, outputs)
        row.flops = None if row.flops is None or flops is None else row.flops + flops
        left = time.perf_counter()
        self._inner = around + left - entered
        self.own += left - stop + start - entered
        return results

    def _row(self, op: Function, phase: str) -> Row:
        key = type(op), phase
        if key not in self._rows:
            kernel = type(op).__name__ if op.stands_for is not None else ""
            self._rows[key] = Row(op.name, phase, kernel)
        return self._rows[key]

    def _flops(self, op: Function, phase: str, arrays: Sequence[Any], outputs: Sequence[Any]) -> int | None:
        if phase == "backward":
            return vars(op).get(KEPT)
        forward, backward = count(op, arrays, outputs)
        if True in op.needs:
            vars(op)[KEPT] = backward
        return forward

    # --- as text

    def table(self) -> str:
        """The rows, all ops together, and what was spent outside of them, as lines of aligned columns."""
        total = self.total
        lines = [HEAD, *(_cells(row, self.seconds) for row in self.rows), None, _cells(total, self.seconds)]
        lines.append(_spent("the rest: Python, tape, optimizer, data", self.rest, self.seconds))
        lines.append(_spent("the profiler", self.own, self.seconds))
        lines.append(_spent("from begin to end", self.seconds, self.seconds))
        return _aligned(lines)

    def __str__(self) -> str:
        return self.table()


def _moved(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    given = {id(a) for x in inputs for a in (x, getattr(x, "base", None)) if a is not None}
    made = [y for y in outputs if hasattr(y, "nbytes") and id(y) not in given and id(y.base) not in given]
    return sum(y.nbytes for y in made) + sum(getattr(x, "nbytes", 0) for x in inputs if made)


HEAD = ("op", "phase", "calls", "time", "share", "bytes", "FLOP", "GFLOP/s", "GB/s", "kernel")
LEFT = (0, 1, 9)  # the columns of words
TIMES = (3, 4)


def _cells(row: Row, seconds: float) -> tuple[str, ...]:
    kernel = row.kernel or ("formula" if row.phase else "")
    return (
        row.op,
        row.phase,
        f"{row.calls:,}",
        *_time(row.seconds, seconds),
        _scaled(row.bytes, "B"),
        "-" if row.flops is None else _scaled(row.flops, ""),
        "-" if not row.gflops else f"{row.gflops:.2f}",
        "-" if not row.gbytes else f"{row.gbytes:.2f}",
        kernel,
    )


def _spent(what: str, seconds: float, of: float) -> tuple[str, ...]:
    return (what, "", "", *_time(seconds, of), "", "", "", "", "")


def _time(seconds: float, of: float) -> tuple[str, str]:
    return f"{seconds * 1e3:,.3f} ms", f"{100 * seconds / of if of else 0:.1f} %"


def _scaled(n: float, unit: str) -> str:
    """1234567 as 1.23 M and the unit."""
    for prefix in ("", "k", "M", "G", "T"):
        if abs(n) < 1000 or prefix == "T":
            break
        n /= 1000
    return f"{n:.3g} {prefix}{unit}".rstrip()


def _aligned(lines: Sequence[tuple[str, ...] | None]) -> str:
    """Columns as wide as their longest cell (of lines with an op; others may reach over); None is a rule."""
    full = [line for line in lines if line is not None and line[2]]
    widths = [max(len(line[i]) for line in full) for i in range(len(HEAD))]
    for i in TIMES:
        widths[i] = max(len(line[i]) for line in lines if line is not None)
    longest = max(len(line[0]) for line in lines if line is not None)
    widths[0] = max(widths[0], longest - sum(widths[1:3]) - 4)
    reach = sum(widths[:3]) + 4  # the first three columns, which a line without calls has for its words
    text = []
    for line in lines:
        if line is None:
            text.append("-" * (sum(widths) + 2 * (len(widths) - 1)))
            continue
        cells = [c.ljust(w) if i in LEFT else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        if not line[2]:
            cells[:3] = [line[0].ljust(reach)]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)
