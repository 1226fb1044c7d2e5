"""`minires lab`: the list of experiments, or one of them run: a bar, a small table, the verdicts, the files made."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from minires.errors import RequestError
from minires.lab import outcome, page
from minires.lab.experiment import SCALES, Experiment, Table, experiments, find
from minires.train import figures, report

WIDTH, NARROW = 100, 60


def run(name: str | None, *, scale: str, seeds: int | None, out: Path | None, quiet: bool) -> None:
    """Lists the experiments (no name), or runs one or `all`, and keeps what they give in `out`.

    Raises RequestError for an unknown name or scale, for options without a name, and, before anything is measured, for
    a folder that holds something or cannot be written.
    """
    if name is None:
        if out is not None or seeds is not None or scale != SCALES[0]:
            raise RequestError("--scale, --seeds and --out need an experiment: minires lab NAME, or minires lab all")
        print(listing(list(experiments().values())))
        return
    chosen = list(experiments().values()) if name == "all" else [find(name)]
    if scale not in SCALES:
        raise RequestError(f"--scale {scale!r} is unknown; there are {' and '.join(SCALES)}")
    made: list[Path] = []
    records: list[dict[str, Any]] = []
    with _taken(_folder(out, name)) as folder:
        for experiment in chosen:
            found = outcome.run(experiment.name, scale, seeds, progress=not quiet)
            made += found.save(folder)
            records.append(found.record())
            print(summary(found), flush=True)
        if name == "all":
            made.append(outcome.write(folder / "index.html", page.index(records).encode()))
    print(_files(made))


def listing(chosen: list[Experiment]) -> str:
    """Every experiment: its name, its question, how long it takes, and what to type."""
    width = max(len(experiment.name) for experiment in chosen)
    lines = []
    for e in chosen:
        first, *rest = textwrap.wrap(e.question, _columns() - width - 10)
        lines += [f"{e.name:{width}}  {e.seconds['smoke']:4.0f} s  {first}", *(" " * (width + 10) + r for r in rest)]
    lines.append("")
    ends = [
        (chosen[0].name, "runs one, and makes a page of its numbers, its figure and its verdicts"),
        ("all", "runs all of them; the seconds are those of two cores at --scale smoke"),
    ]
    for name, does in ends:
        lines += textwrap.wrap(f"minires lab {name:12} {does}", _columns(), subsequent_indent=" " * 25)
    return "\n".join(lines)


def summary(found: outcome.Outcome) -> str:
    """What the terminal shows of an outcome: a table, and each verdict."""
    experiment, count = found.experiment, len(found.results)
    seeds = "1 seed" if count == 1 else f"{count} seeds"
    lines = [f"{experiment.title} ({found.scale}, {seeds}, {found.seconds:.0f} s)", ""]
    lines += [*_table(experiment.tables(found.results)[0]), ""]
    for verdict in found.verdicts:
        lines += _wrapped(f"{verdict.word}: ", verdict.claim)
        lines += _wrapped("    claimed in ", verdict.source)
        lines += [*_wrapped("    seen here: ", verdict.observed), ""]
    return "\n".join(lines)


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(label + text, _columns(), subsequent_indent=" " * min(len(label), 15))


def _table(table: Table) -> list[str]:
    rows = [list(table.header), *table.cells()]
    widths = [max(len(row[k]) for row in rows) for k in range(len(table.header))]
    lines = [
        "  ".join(
            c.ljust(w) if left else c.rjust(w) for c, w, left in zip(row, widths, table.words(), strict=True)
        ).rstrip()
        for row in rows
    ]
    return [table.title, "", *(f"  {line}" for line in lines)]


def _folder(out: Path | None, name: str) -> Path:
    if out is not None and out.is_dir() and any(out.iterdir()):
        raise RequestError(f"--out {out} exists and is not empty; give the name of a new directory")
    return report.choose(None if out is None else str(out), f"lab-{name}")


@contextmanager
def _taken(folder: Path) -> Iterator[Path]:
    """Makes the folder before hours are spent on what goes into it, so that no other run takes it meanwhile.

    If nothing was put there, it is gone afterwards, and with it the folders above that were made for it.
    """
    fresh = [path for path in (folder, *folder.parents) if not path.exists()]
    report.make(folder)
    try:
        yield folder
    finally:
        with suppress(OSError):  # one that holds something stays
            for path in fresh:
                path.rmdir()


def _columns() -> int:
    """The terminal's, from 60 to 100."""
    if not sys.stdout.isatty():
        return WIDTH
    return max(NARROW, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))


def _files(made: list[Path]) -> str:
    lines = ["made " + str(path) for path in made]
    if not figures.available():
        lines.append("no figure, since matplotlib is not installed: pip install 'minires[plot]'")
    return "\n".join(lines)
