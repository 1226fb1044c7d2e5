"""The comparison itself: workers that do the same work take turns; medians, quartiles and ratios of their times.

One turn is one repetition by one worker while the others wait. The machine's moods - its clock, its neighbors - then
fall on all candidates alike, and each round begins with another of them, so that none always follows the same one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from tests.benchmarks.digest import distance
from tests.benchmarks.process import Failed

# How far what a candidate computes may lie from the reference's, as a share of its length. Among millions of inputs of
# a ReLU a few are so near to 0 that rounding decides their sign. The output does not see it, a gradient does.
SAME = {"gradient of": 1e-2, "change of": 3e-2}  # the change in a weight, that is, by three steps of training
SAME_OUTPUT = 1e-3
LEAST = 3  # rounds that even the slowest take part in


class Asked(Protocol):
    """What a race needs of a worker."""

    def ask(self, do: str, **request: Any) -> dict[str, Any]: ...


@dataclass
class Outcome:
    """What is known of one candidate on one item.

    Attributes
        seconds    of one call, one for each round it took part in
        peak       bytes held at most while it worked, beyond what was held before; `process` with all it held
        missing    why it has no times, where it does not offer the work
        failed     why it has no times, or none beyond those it has, where something went wrong
        distance   the largest of its outputs from the reference's
    """

    seconds: list[float] = field(default_factory=list)
    peak: int | None = None
    process: int | None = None
    missing: str = ""
    failed: str = ""
    distance: float | None = None

    @property
    def median(self) -> float | None:
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def quartiles(self) -> tuple[float, float] | None:
        if len(self.seconds) < 2:
            return None
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "median": self.median, "quartiles": self.quartiles}

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Outcome:
        return cls(**{name: kept[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Settings:
    """How long to race: rounds, seconds that a slow candidate may take on one item, a pause before each turn."""

    rounds: int = 15
    seconds: float = 15.0
    pause: float = 0.03


def race(
    workers: dict[str, Asked],
    requests: dict[str, dict[str, Any]],
    settings: Settings,
    reference: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Outcome]:
    """Has every worker prepare its request, drops those that compute something else, and times the others in turn.

    reference    whose outputs count as right (default: the first that has any); "" where each does other work
    tell         is given one line for every worker that drops out
    """
    outcomes = {name: Outcome() for name in workers}

    def drop(name: str, why: Failed) -> None:
        setattr(outcomes[name], "missing" if why.missing else "failed", str(why))
        if not why.missing:
            tell(f"{name}: {why}")

    ready = _prepared(workers, requests, outcomes, drop, reference)
    for turn in range(settings.rounds):
        for name in order([n for n in ready if _takes_part(outcomes[n], settings)], turn):
            time.sleep(settings.pause)  # until the threads of the one before have stopped spinning
            try:
                outcomes[name].seconds.append(workers[name].ask("repeat")["seconds"])
            except Failed as why:
                ready.remove(name)
                drop(name, why)
    for name in ready:
        try:
            workers[name].ask("release")
        except Failed as why:
            drop(name, why)
    return outcomes


def order(names: Sequence[str], turn: int) -> list[str]:
    """Whose turn it is in one round: everybody's once, beginning with another each round."""
    start = turn % len(names) if names else 0
    return [*names[start:], *names[:start]]


def _takes_part(outcome: Outcome, settings: Settings) -> bool:
    return len(outcome.seconds) < LEAST or sum(outcome.seconds) < settings.seconds


def _prepared(
    workers: dict[str, Asked],
    requests: dict[str, dict[str, Any]],
    outcomes: dict[str, Outcome],
    drop: Callable[[str, Failed], None],
    reference: str | None,
) -> list[str]:
    """Names of the workers that are ready and compute what the reference computes."""
    seen: dict[str, dict[str, list[float]]] = {}
    for name, worker in workers.items():
        try:
            seen[name] = worker.ask("prepare", item=requests[name])["digests"]
        except Failed as why:
            drop(name, why)
    if reference == "":
        return list(seen)
    right = seen.get(reference) if reference in seen else next(iter(seen.values()), None)
    ready = []
    for name, digests in seen.items():
        try:
            outcomes[name].distance = same(digests, right)
            ready.append(name)
        except Failed as why:
            drop(name, why)
    return ready


def same(digests: dict[str, list[float]], right: dict[str, list[float]]) -> float:
    """The largest distance of what was computed from what should have been. Raises Failed where it is too large."""
    if digests.keys() != right.keys():
        odd = sorted(digests.keys() ^ right.keys())
        raise Failed(f"computes something else: {', '.join(odd[:4])} on one side only")
    largest = 0.0
    for name, expected in right.items():
        away = distance(digests[name], expected)
        if not away <= SAME.get(" ".join(name.split()[:2]), SAME_OUTPUT):
            raise Failed(f"computes something else: {name} is off by {away:.2g} of its length")
        largest = max(largest, away)
    return largest


def measure_memory(worker: Asked, request: dict[str, Any], outcome: Outcome) -> None:
    """Adds the peak memory of the work, done in a fresh worker."""
    answer = worker.ask("memory", item=request)
    outcome.peak, outcome.process = answer["peak"], answer["process"]
