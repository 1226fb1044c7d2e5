"""The lab's pages: each experiment's question, what was measured while the site was built, and the verdicts."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

AFFORDABLE = 12.0  # seconds a seed may take in a short build


def write(directory: Path, smoke: bool) -> list[tuple[str, str, str]]:
    """Writes a page an experiment into `directory`; returns (name, title, question) of each.

    A short build measures one seed, and leaves out what takes long.
    """
    from minires import lab

    directory.mkdir(parents=True)
    found = []
    for name, experiment in lab.experiments().items():
        seconds = experiment.seconds["smoke"] / experiment.seeds["smoke"]
        outcome = None
        if not smoke or seconds <= AFFORDABLE:
            with contextlib.redirect_stdout(io.StringIO()):
                outcome = lab.run(name, seeds=1 if smoke else None)
            outcome.save(directory)
        (directory / f"{name}.md").write_text("\n".join(_page(experiment, outcome)), encoding="utf-8")
        found.append((name, experiment.title, experiment.question))
    return found


def _page(experiment: Any, outcome: Any) -> list[str]:
    name = experiment.name
    lines = [f"# {experiment.title}", "", f"*{experiment.question}*", "", experiment.about, ""]
    if outcome is None:
        lines += ["This site is a short build, which left this experiment out. To run it:", ""]
    else:
        lines += [*_measured(experiment, outcome), "To repeat it:", ""]
    commands = [f"minires lab {name}", f"minires lab {name} --scale full   # more seeds, deeper nets, minutes"]
    return [*lines, "```sh", *commands, "```", ""]


def _measured(experiment: Any, outcome: Any) -> list[str]:
    """Figure, verdicts and numbers."""
    name, count = experiment.name, len(outcome.results)
    seeds = "one seed" if count == 1 else f"{count} seeds"
    verdicts = [
        [v.claim, v.source, v.observed, "holds" if v.holds else "does not hold at this scale"] for v in outcome.verdicts
    ]
    lines = [f"```{{figure}} {name}.png", f":alt: {_line(experiment.alt(outcome.results))}", ""]
    lines += [f"Smoke scale, {seeds}.", "```", "", "## What is claimed, and what was seen", ""]
    lines += [*_table(["claim", "source", "observed", "verdict"], verdicts), "## The numbers", ""]
    for table in experiment.tables(outcome.results):
        lines += [f"### {table.title}", "", *_table(table.header, table.cells())]
    everything = f'<a href="../downloads/lab/{name}.json" download>{name}.json</a>'
    return [*lines, f"Measured with {seeds} in {outcome.seconds:.0f} seconds. All numbers are in {everything}."]


def _table(header: Any, rows: Any) -> list[str]:
    def line(cells: Any) -> str:
        return "| " + " | ".join(_cell(cell) for cell in cells) + " |"

    return [line(header), "|" + "---|" * len(header), *(line(row) for row in rows), ""]


def _cell(text: str) -> str:
    """A table's cell with nothing in it that Markdown would take for markup."""
    return re.sub(r"([\\|*_<$`])", r"\\\1", _line(text))


def _line(text: str) -> str:
    return " ".join(str(text).split())
