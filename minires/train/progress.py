"""What the user sees while a run goes on: a bar on a terminal, and one line an epoch everywhere."""

from __future__ import annotations

import sys
from typing import Any

from minires.train.metrics import Tally


class Progress:
    """A bar for what is under way; none with `quiet`, or when stderr is not a terminal.

    epochs    of the run, for the line that `report` prints
    """

    def __init__(self, epochs: int = 1, quiet: bool = False) -> None:
        self.epochs = epochs
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

    def update(self, tally: Tally | None = None, seconds: float = 0.0) -> None:
        """One more batch is done; with the sums so far, and the time they took."""
        if self._bar is None:
            return
        if tally is not None:
            rate = tally.images / seconds
            shown = f"loss {tally.mean_loss:.3f}, acc {tally.accuracy:.3f}, {rate:.0f} images/s"
            self._bar.set_postfix_str(shown, refresh=False)
        self._bar.update()

    def stop(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def report(self, record: dict[str, Any], best: bool) -> None:
        """The line of a finished epoch."""
        width = len(str(self.epochs))
        print(
            f"epoch {record['epoch']:{width}}/{self.epochs}"
            f"  train loss {record['train_loss']:.4f} acc {record['train_acc']:.4f}"
            f"  val loss {record['val_loss']:.4f} acc {record['val_acc']:.4f}"
            f"  lr {record['lr']:.3g}  {record['seconds']:.1f} s  {record['images_per_second']:.0f} images/s"
            f"{'  best' if best else ''}",
            flush=True,
        )
