"""Outcomes as text: a table for the terminal, and Markdown for a README."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.benchmarks.peers import CANDIDATES
from tests.benchmarks.race import Outcome

TORCH = ("torch", "torch-channels-last")
MINIRES = ("minires", "minires-numpy", "minires-formulas")


def best_torch(outcomes: dict[str, Outcome]) -> float | None:
    """Seconds of PyTorch in its better layout."""
    return min((outcomes[n].median for n in TORCH if n in outcomes and outcomes[n].median), default=None)


def of_minires(outcomes: dict[str, Outcome]) -> float | None:
    """Seconds of minires as it is installed, or of whichever minires took part."""
    return next((outcomes[n].median for n in MINIRES if n in outcomes and outcomes[n].median), None)


def speed(outcome: Outcome, base: float | None) -> float | None:
    """How many times as fast as the base."""
    return base / outcome.median if base and outcome.median else None


def lines(what: str, batch: int, outcomes: dict[str, Outcome]) -> Iterator[str]:
    """The table of one item. Speeds are multiples of minires' and of PyTorch's better layout's: higher is faster."""
    yield what
    ours, theirs = of_minires(outcomes), best_torch(outcomes)
    per_second = "examples/s" if batch else ""
    yield f"  {'':25}{'median':>10}{'quartiles':>22}{'minires=1':>11}{'torch=1':>9}{per_second:>12}{'peak':>10}"
    for name, outcome in outcomes.items():
        label = CANDIDATES[name].label if name in CANDIDATES else name
        if outcome.median is None:
            yield f"  {label:25}- {outcome.missing or outcome.failed}"
            continue
        unit, scale = ("us", 1e6) if outcome.median < 1e-3 else ("ms", 1e3)
        low, high = outcome.quartiles or (outcome.median, outcome.median)
        ratios = "".join(_number(speed(outcome, base), width) for base, width in ((ours, 11), (theirs, 9)))
        rate = f"{batch / outcome.median:12,.0f}" if batch else f"{'':12}"
        spread = f"{low * scale:.2f} to {high * scale:.2f}"
        yield f"  {label:25}{outcome.median * scale:8.2f}{unit}{spread:>22}{ratios}{rate}{_bytes(outcome.peak):>10}"
        if outcome.failed:
            yield f"  {'':25}then {outcome.failed}"


def _number(value: float | None, width: int) -> str:
    return f"{'-' if value is None else f'{value:.2f}':>{width}}"


def _bytes(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:,.0f} MiB"


def markdown(kept: dict[str, Any]) -> str:
    """A table of speeds relative to PyTorch's better layout (without PyTorch: to minires), an item a row."""
    items = {name: outcomes_of(item) for name, item in kept["items"].items()}
    names = [n for n in CANDIDATES if any(o.get(n) and o[n].median for o in items.values())]
    columns = [n for n in names if n not in TORCH]
    with_torch = any(best_torch(o) for o in items.values())
    head = [] if not with_torch else ["PyTorch, better layout"]
    rows = [["work", *head, *(CANDIDATES[n].label for n in columns)], ["---", *["---:"] * (len(head) + len(columns))]]
    for name, outcomes in items.items():
        base = best_torch(outcomes) or of_minires(outcomes)
        cells = [_time(best_torch(outcomes))] if with_torch else []
        rows.append([kept["items"][name]["what"], *cells, *(_cell(outcomes.get(n), base) for n in columns)])
    machine = kept["machine"]
    versions = {CANDIDATES[n].peer: (n, found) for n, found in reversed(kept["candidates"].items()) if n in names}
    named = [f"{CANDIDATES[n].label} {found.get(peer, '')}" for peer, (n, found) in reversed(versions.items())]
    base = "PyTorch's" if with_torch else "minires'"
    told = (
        f"Medians on {machine['cpu']}, {machine['threads']} threads, float32, candidates in alternation. In brackets "
        f"the speed as a multiple of {base}: above 1 is faster. {'; '.join(named)}."
    )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + f"\n\n{told}\n"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for unit, scale in (("s", 1), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e6:.2g} us"


def _cell(outcome: Outcome | None, base: float | None) -> str:
    if outcome is None or outcome.median is None:
        return "-"
    ratio = speed(outcome, base)
    return _time(outcome.median) + (f" ({times(ratio)})" if ratio else "")


def times(ratio: float) -> str:
    """A ratio to two digits."""
    return f"{ratio:.0f}" if ratio >= 9.95 else f"{ratio:.2g}"


def outcomes_of(item: dict[str, Any]) -> dict[str, Outcome]:
    return {name: Outcome.from_dict(kept) for name, kept in item["candidates"].items()}


# --- scaling


def fit(sizes: list[float], values: list[float]) -> dict[str, float]:
    """The least-squares line through the points: slope, intercept, R^2, and the largest distance from the line as a
    share of the value on it. Raises ValueError for fewer than three points."""
    if len(sizes) < 3:
        raise ValueError("a line through fewer than three points proves nothing")
    n, mx, my = len(sizes), sum(sizes) / len(sizes), sum(values) / len(values)
    slope = sum((sizes[i] - mx) * (values[i] - my) for i in range(n)) / sum((x - mx) ** 2 for x in sizes)
    intercept = my - slope * mx
    line = [intercept + slope * x for x in sizes]
    rest = sum((values[i] - line[i]) ** 2 for i in range(n))
    spread = sum((y - my) ** 2 for y in values)
    worst = max(abs(values[i] - line[i]) / abs(line[i]) if line[i] else float("inf") for i in range(n))
    return {"slope": slope, "intercept": intercept, "r2": 1 - rest / spread if spread else 1.0, "worst": worst}


def scaling_lines(axis: str, points: dict[str, Outcome], sizes: dict[str, int]) -> Iterator[str]:
    """The table of one axis: seconds and peak memory for each size, and the lines through them."""
    yield f"  {axis:>8}{'median':>12}{'peak':>12}"
    for name, outcome in points.items():
        if outcome.median is None:
            yield f"  {sizes[name]:8}  - {outcome.failed or outcome.missing}"
        else:
            yield f"  {sizes[name]:8}{outcome.median * 1e3:10.1f}ms{_bytes(outcome.peak):>12}"
    for what, line in fits(points, sizes).items():
        yield (
            f"  {what} = {line['intercept']:.4g} + {line['slope']:.4g} {axis}: R^2 {line['r2']:.5f}, "
            f"at most {line['worst']:.1%} from the line"
        )


def fits(points: dict[str, Outcome], sizes: dict[str, int]) -> dict[str, dict[str, float]]:
    """The lines of milliseconds and of MiB over the sizes, where there are three points or more."""
    found = {}
    for what, value in (("ms", lambda o: o.median and o.median * 1e3), ("MiB", lambda o: o.peak and o.peak / 2**20)):
        known = [(float(sizes[name]), value(outcome)) for name, outcome in points.items() if value(outcome)]
        if len(known) >= 3:
            found[what] = fit([x for x, _ in known], [y for _, y in known])
    return found
