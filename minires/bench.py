"""`minires bench`: how fast a model trains and answers here, where the time goes by op, and what would speed it up.

    from minires import bench
    found = bench.measure("resnet20", batch_size=64)
    print(bench.report(found))

It needs no other framework; `python -m tests.benchmarks` in a checkout compares with others.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from minires import functional as F
from minires import models, optim
from minires.errors import RequestError
from minires.kernels.threads import cores
from minires.nn import Module
from minires.profile import profile
from minires.switches import kernels_at_any_size, no_grad, state

LEAST, MOST = 3, 50  # repetitions, where time allows
PROFILED = 3  # steps in the table by op, fewer where one takes long
CLASSES, CHANNELS, SIZE = 10, 3, 32


@dataclass(frozen=True)
class Timing:
    """Seconds of one repetition: the median of all, and the quartiles that half of them lie between."""

    median: float
    low: float
    high: float
    repetitions: int

    @classmethod
    def of(cls, seconds: list[float]) -> Timing:
        """The summary of what was measured, one number or more."""
        if len(seconds) == 1:
            return cls(seconds[0], seconds[0], seconds[0], 1)
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median, low, high, len(seconds))


@dataclass(frozen=True)
class Measurement:
    """What `measure` found.

    Attributes
        model, parameters, batch_size, image_shape    what was measured
        training       seconds of a step: forward, cross-entropy, backward, SGD with momentum
        inference      seconds of a forward pass at rest, with nothing recorded
        peak_bytes     what a training step held at most beyond what was held before the first; None where the system
                       does not tell
        profile        `minires.profile.profile` of some training steps
        kernels        what computes: see `active_kernels`
        threads        {"cores": that the kernels use, "blas": that one matrix product uses, None if unknown}
        hints          what to type for more speed
    """

    model: str
    parameters: int
    batch_size: int
    image_shape: tuple[int, int, int]
    training: Timing
    inference: Timing
    peak_bytes: int | None
    profile: profile
    kernels: str
    threads: dict[str, int | None]
    hints: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and text, for JSON."""
        rates = {
            "training": self.batch_size / self.training.median,
            "inference": self.batch_size / self.inference.median,
        }
        kept = {name: getattr(self, name) for name in self.__dataclass_fields__}
        kept.update(training=asdict(self.training), inference=asdict(self.inference), profile=self.profile.as_dict())
        return {**kept, "images_per_second": rates, "versions": versions()}


def measure(
    model: str = "resnet20",
    batch_size: int = 128,
    options: dict[str, Any] | None = None,
    seconds: float = 6.0,
    tell: Callable[[str], None] = lambda line: None,
) -> Measurement:
    """Measures a model of the registry on random images of 3 x 32 x 32 (or of its option `image_size`).

    seconds    that the timed training steps may take, beyond the first three; inference gets half of it
    tell       is given a line before each part

    Raises RequestError for a model or an option that does not exist, a batch below 1 or one that the memory cannot
    hold, and seconds that are not above 0.
    """
    if batch_size < 1:
        raise RequestError(f"--batch-size is {batch_size}, but must be at least 1")
    if not 0 < seconds < float("inf"):
        raise RequestError(f"--seconds is {seconds:g}, but must be above 0 and finite")
    try:
        return _measure(model, batch_size, options or {}, seconds, tell)
    except MemoryError:
        raise RequestError(f"a batch of {batch_size} does not fit into the memory; lower --batch-size") from None


def _measure(
    name: str, batch_size: int, options: dict[str, Any], seconds: float, tell: Callable[[str], None]
) -> Measurement:
    no_classifier = RequestError(f"bench times classifiers of images, and {name} is none; see minires models")
    if set(models.info(name).shape) != {"num_classes", "in_channels"}:
        raise no_classifier
    model = models.create(name, CLASSES, CHANNELS, **options)
    size = options.get("image_size", models.info(name).options.get("image_size", SIZE))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch_size, CHANNELS, size, size), dtype=np.float32)
    labels = rng.integers(0, CLASSES, batch_size)
    with no_grad():
        if model.eval()(x[:1]).shape != (1, CLASSES):
            raise no_classifier
    step, infer = _step(model, x, labels), _inference(model, x)
    tell(f"{name}: the first training steps, which compile what there is to compile and find their memory")
    with kernels_at_any_size():
        _step(model, x[:2], labels[:2])()  # a compiler's memory is none of a step's
    peak = _peak_of(step)
    tell("timing training steps")
    training = Timing.of(_repeat(step, seconds))
    tell("timing inference")
    infer()
    inference = Timing.of(_repeat(infer, seconds / 2))
    tell("profiling training steps by op")
    model.train()
    with profile(show=False) as profiled:
        for _ in range(PROFILED if training.median * PROFILED < seconds else 1):
            step()
    parameters = sum(p.size for p in model.parameters())
    shape = (CHANNELS, size, size)
    about = active_kernels(), {"cores": cores(), "blas": _blas_threads()}, hints()
    return Measurement(name, parameters, batch_size, shape, training, inference, peak, profiled, *about)


def _step(model: Module, x: Any, labels: Any) -> Callable[[], None]:
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()

    model.train()
    return step


def _inference(model: Module, x: Any) -> Callable[[], None]:
    def infer() -> None:
        model.eval()
        with no_grad():
            model(x)

    return infer


def _repeat(work: Callable[[], None], seconds: float) -> list[float]:
    """Seconds of each repetition: at least LEAST of them unless they take twice `seconds`, at most MOST."""
    taken: list[float] = []
    while len(taken) < MOST and (sum(taken) < seconds if len(taken) >= LEAST else sum(taken) < 2 * seconds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return taken


# --- memory -----------------------------------------------------------------------------------------------------


def _peak_of(step: Callable[[], None]) -> int | None:
    """Runs two steps; the most that was resident in the second, less what was before the first. None without /proc."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    before = _held(status, "VmRSS")
    step()
    try:
        clear.write_text("5")  # sets the high-water mark back to what is resident now
    except OSError:
        before = None
    step()
    return None if before is None else max(0, (_held(status, "VmHWM") or 0) - before)


def _held(status: Path, field: str) -> int | None:
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), None)


# --- what is set ------------------------------------------------------------------------------------------------


def version() -> str:
    """That of minires."""
    import minires

    return minires.__version__


def versions() -> dict[str, str]:
    """Of what the speed depends on."""
    python = ".".join(map(str, sys.version_info[:3]))
    found = {"minires": version(), "python": python, "numpy": np.__version__}
    return found if _numba() is None else {**found, "numba": str(_numba())}


def active_kernels() -> str:
    """ "formulas", "NumPy kernels" or "compiled kernels (numba ...)": the fastest that may compute at the moment."""
    if not state.kernels:
        return "formulas"
    return f"compiled kernels (numba {_numba()})" if state.compiled and _numba() else "NumPy kernels"


def hints() -> list[str]:
    """What is set or missing that makes things slower than they could be, each with its cure."""
    found = []
    if not state.kernels:
        found.append("the kernels are off, so plain formulas compute: unset MINIRES_KERNELS")
    elif _numba() is None:
        found.append("numba is not installed, so there are no compiled kernels: pip install 'minires[fast]'")
    elif not state.compiled:
        found.append("the compiled kernels are off: unset MINIRES_FAST")
    blas = _blas_threads()
    if blas is not None and blas < cores():
        found.append(
            f"BLAS uses {blas} of {cores()} cores: unset OMP_NUM_THREADS and OPENBLAS_NUM_THREADS, "
            f"or set them to {cores()}"
        )
    if cores() < (os.cpu_count() or 1):
        found.append(
            f"this process may use {cores()} of {os.cpu_count()} cores: see taskset or your container's limits"
        )
    return found


def _numba() -> str | None:
    if importlib.util.find_spec("numba") is None:
        return None
    try:
        return metadata.version("numba")
    except metadata.PackageNotFoundError:
        return None


def _blas_threads() -> int | None:
    from threadpoolctl import threadpool_info

    counts = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return max(counts, default=None)


# --- as text ----------------------------------------------------------------------------------------------------


def report(found: Measurement) -> str:
    """The measurement for people."""
    return "\n".join(_lines(found))


def _lines(found: Measurement) -> Iterator[str]:
    shape = " x ".join(map(str, found.image_shape))
    blas = found.threads["blas"]
    yield f"{found.model} ({found.parameters:,} parameters), batch {found.batch_size} of {shape}, float32"
    yield f"{found.kernels}, {_count(found.threads['cores'] or 1, 'core')}" + (
        "" if blas is None else f", {_count(blas, 'BLAS thread')}"
    )
    yield ""
    for what, timing in (("training", found.training), ("inference", found.inference)):
        yield (
            f"{what:10}{found.batch_size / timing.median:10,.1f} images/s   {timing.median * 1e3:,.2f} ms a batch "
            f"(half of {timing.repetitions} between {timing.low * 1e3:,.2f} and {timing.high * 1e3:,.2f})"
        )
    if found.peak_bytes is not None:
        peak = f"{found.peak_bytes / 2**20:10,.1f} MiB"
        yield f"{'memory':10}{peak} at most in a training step, beyond what was held before"
    yield ""
    yield "training by op:"
    yield found.profile.table()
    if found.hints:
        yield ""
        yield from (f"hint: {hint}" for hint in found.hints)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
