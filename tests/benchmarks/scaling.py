"""How minires' training step grows with the batch, the width and the depth of a CIFAR ResNet: time and peak memory.

Every size is a worker of its own, so that the sizes take turns as candidates do, and each peak is of one size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.benchmarks import race, report
from tests.benchmarks.process import Failed, Worker

BATCH = 64  # where it is not the batch that grows
AXES: dict[str, tuple[int, ...]] = {
    "batch": (1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
    "width": (8, 16, 32, 64),
    "depth": (8, 14, 20, 32, 44, 56, 110),
}


def sized(axis: str, size: int) -> dict[str, int]:
    """What `items.resnet_item` is asked for."""
    return {"depth": 20, "width": 16, "batch": BATCH, axis: size}


def run(
    axis: str, start: Callable[[str], Worker], settings: race.Settings, memory: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """Measures one axis and says its table; what the JSON keeps of it."""
    sizes = {f"{axis} {size}": size for size in AXES[axis]}
    requests = {name: {"name": name, "sized": sized(axis, size)} for name, size in sizes.items()}
    peaks = {name: race.Outcome() for name in sizes}
    workers: dict[str, Worker] = {}
    say(f"ResNet training step by {axis}: " + ", ".join(f"{k} {v}" for k, v in sized(axis, 0).items() if k != axis))
    try:
        for name in sizes:
            if memory:
                worker = start("minires")
                try:
                    race.measure_memory(worker, requests[name], peaks[name])
                except Failed as why:
                    say(f"  {name}: {why}")
                finally:
                    worker.close()
            workers[name] = start("minires")
        points = race.race(workers, requests, settings, reference="", tell=say)
    finally:
        for worker in workers.values():
            worker.close()
    for name, outcome in points.items():
        outcome.peak, outcome.process = peaks[name].peak, peaks[name].process
    for line in report.scaling_lines(axis, points, sizes):
        say(line)
    return {
        "sizes": sizes,
        "fits": report.fits(points, sizes),
        "points": {name: outcome.as_dict() for name, outcome in points.items()},
    }
