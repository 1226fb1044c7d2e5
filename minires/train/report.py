"""The run directory: what it holds, and what is refused as one.

config.json      the options
metrics.jsonl    one object an epoch; accuracies are fractions of 1
summary.json     written last: a run that has one is finished
last/ best/      checkpoints: where to go on, and the weights with the best validation accuracy
curves.png gradient_flow.png
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

from minires.errors import RequestError

CONFIG, METRICS, SUMMARY = "config.json", "metrics.jsonl", "summary.json"


def choose(out: str | None, name: str) -> Path:
    """The directory for a new run: `out`, or the first free `runs/<name>-<number>`. Makes nothing yet.

    Raises RequestError when `out` is a file, holds something already, or lies where nothing can be written.
    """
    if out is None:
        return next(path for n in itertools.count(1) if not (path := Path("runs") / f"{name}-{n}").exists())
    path = Path(out)
    try:
        if path.is_dir() and any(path.iterdir()):
            raise RequestError(
                f"--out {out} exists and is not empty; choose another name, "
                f"or go on with that run: minires train --resume {out}"
            )
        if path.exists() and not path.is_dir():
            raise RequestError(f"--out {out} is a file; give the name of a new directory")
        present = next(p for p in (path, *path.absolute().parents) if p.exists())
    except OSError as error:
        raise _unwritable(out, error) from None
    if not present.is_dir() or not os.access(present, os.W_OK):
        raise RequestError(f"--out {out} cannot be written: {present} does not allow it; choose another place")
    return path


def make(path: Path) -> None:
    """Creates the run directory. Raises RequestError when it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(str(path), error) from None


def write_metrics(run: Path, history: list[dict[str, Any]]) -> None:
    """Writes `metrics.jsonl` whole, one line an epoch, under a temporary name first."""
    _replace(run / METRICS, "".join(json.dumps(record) + "\n" for record in history))


def write_summary(run: Path, summary: dict[str, Any]) -> None:
    """Writes `summary.json`, which marks the run as finished."""
    _replace(run / SUMMARY, json.dumps(summary, indent=2) + "\n")


def read_summary(run: Path) -> dict[str, Any] | None:
    """The summary of a finished run, None for one that is not finished."""
    try:
        return json.loads((run / SUMMARY).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RequestError(f"{run / SUMMARY} is damaged ({error}); delete it and resume the run again") from None


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _unwritable(out: str, error: OSError) -> RequestError:
    return RequestError(f"--out {out} cannot be written ({error.strerror}); choose another place")
