"""Running an experiment, and what it leaves behind: NAME.json, NAME.png and NAME.html."""

from __future__ import annotations

import io
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minires import __version__
from minires.errors import RequestError
from minires.lab import page
from minires.lab.experiment import SCALES, Experiment, Verdict, find
from minires.train import figures


@dataclass(frozen=True)
class Outcome:
    """What an experiment gave.

    Attributes
        experiment    which one
        scale         "smoke" or "full"
        results       the numbers of seed 0, 1, ...
        verdicts      on the published claims, over all seeds
        seconds       it took
    """

    experiment: Experiment
    scale: str
    results: list[dict[str, Any]]
    verdicts: list[Verdict]
    seconds: float

    def record(self) -> dict[str, Any]:
        """What NAME.json holds."""
        return {
            "experiment": self.experiment.name,
            "title": self.experiment.title,
            "question": self.experiment.question,
            "scale": self.scale,
            "seeds": len(self.results),
            "minires": __version__,
            "seconds": round(self.seconds, 2),
            "results": self.results,
            "verdicts": [
                {"claim": v.claim, "source": v.source, "observed": v.observed, "holds": v.holds} for v in self.verdicts
            ],
        }

    def picture(self) -> bytes | None:
        """The figure as a PNG, or None without matplotlib."""
        if not figures.available():
            return None
        figure = figures.blank(9.5, 4.5)
        self.experiment.draw(self.results, figure)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=150)
        return file.getvalue()

    def save(self, directory: str | Path) -> list[Path]:
        """Writes NAME.json, NAME.png where matplotlib is installed, and NAME.html; returns their paths.

        `directory` is made where it is missing. Raises RequestError when it cannot be written.
        """
        folder, name = Path(directory), self.experiment.name
        picture = self.picture()
        files = {f"{name}.json": json.dumps(self.record(), indent=1, allow_nan=False).encode() + b"\n"}
        if picture is not None:
            files[f"{name}.png"] = picture
        files[f"{name}.html"] = page.page(self.experiment, self.record(), self.results, self.verdicts, picture).encode()
        return [write(folder / file, content) for file, content in files.items()]


def run(name: str, scale: str = "smoke", seeds: int | None = None, progress: bool = False) -> Outcome:
    """Measures an experiment for seeds 0 to `seeds` - 1 (None: as many as it needs at this scale), and judges it.

    progress    whether to show a bar on stderr, where that is a terminal

    Raises RequestError for an unknown name or scale, and for fewer seeds than one.
    """
    experiment = find(name)
    if scale not in SCALES:
        raise RequestError(f"--scale {scale!r} is unknown; there are {' and '.join(SCALES)}")
    seeds = experiment.seeds[scale] if seeds is None else seeds
    if seeds < 1:
        raise RequestError(f"--seeds is {seeds}, but must be at least 1")
    started = time.perf_counter()
    results = []
    with Bar(name, seeds * experiment.ticks(scale), progress) as bar, _one_blas_thread():
        for seed in range(seeds):
            bar.prefix = f"seed {seed}: " if seeds > 1 else ""
            results.append(experiment.measure(scale, seed, bar.tick))
    return Outcome(experiment, scale, results, experiment.judge(results), time.perf_counter() - started)


def _one_blas_thread() -> Any:
    """Matrices this small only lose by BLAS's threads, and many times over where other programs run, too."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")


class Bar:
    """Which part of an experiment is under way, on a terminal alone. A tick ends the part that was under way."""

    def __init__(self, name: str, parts: int, shown: bool) -> None:
        self.prefix = ""
        self._bar: Any = None
        if not shown:
            return
        from tqdm import tqdm

        shape = "{desc} |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"
        self._bar = tqdm(desc=name, total=parts, leave=False, dynamic_ncols=True, bar_format=shape, disable=None)

    def tick(self, what: str) -> None:
        """One more part is done; `what` it was."""
        if self._bar is not None:
            self._bar.set_postfix_str(self.prefix + what, refresh=False)
            self._bar.update()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def write(path: Path, content: bytes) -> Path:
    """Writes a file whole, under a temporary name first. Raises RequestError where that is not allowed."""
    temporary = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise RequestError(f"{path} cannot be written ({error.strerror}); choose another --out") from None
    return path
