"""What the user sees while a run goes on: a bar on a terminal, and one line an epoch everywhere."""

from __future__ import annotations

import sys
from typing import Any


class Progress:
    """A bar for what is under way; none with `quiet`, or when stderr is not a terminal.

    epochs    of the run, for the line that `report` prints
    unit      what the speed is counted in
    """

    def __init__(self, epochs: int = 1, quiet: bool = False, unit: str = "images") -> None:
        self.epochs, self.unit = epochs, unit
        self.quiet = quiet or not sys.stderr.isatty()
        self._bar: Any = None

    def start(self, name: str, batches: int, done: int = 0) -> None:
        """A pass over `batches` batches begins, or goes on after `done` of them. The bar before it goes away."""
        self.stop()
        if self.quiet:
            return
        from tqdm import tqdm

        shape = "{desc} |{bar}| {n_fmt}/{total_fmt} batches [{elapsed}<{remaining}]{postfix}"
        self._bar = tqdm(desc=name, total=batches, initial=done, leave=False, dynamic_ncols=True, bar_format=shape)

    def update(self, figures: dict[str, float] | None = None, speed: float = 0.0) -> None:
        """One more batch is done; with the figures so far, and how much of `unit` a second takes."""
        if self._bar is None:
            return
        if figures is not None:
            shown = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
            self._bar.set_postfix_str(f"{shown}, {speed:.0f} {self.unit}/s", refresh=False)
        self._bar.update()

    def stop(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def report(self, record: dict[str, Any], best: bool) -> None:
        """The line of a finished epoch."""
        width = len(str(self.epochs))
        train, val = (
            " ".join(
                f"{name.removeprefix(part)} {value:.4f}" for name, value in record.items() if name.startswith(part)
            )
            for part in ("train_", "val_")
        )
        print(
            f"epoch {record['epoch']:{width}}/{self.epochs}  train {train}  val {val}"
            f"  lr {record['lr']:.3g}  {record['seconds']:.1f} s  {record[self.unit + '_per_second']:.0f} {self.unit}/s"
            f"{'  best' if best else ''}",
            flush=True,
        )
