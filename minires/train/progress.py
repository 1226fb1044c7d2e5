"""What the user sees while a run goes on: a bar on a terminal, and one line an epoch everywhere."""

from __future__ import annotations

import sys
from typing import Any

from minires.train.metrics import Tally


class Progress:
    """A bar for the epoch that is under way (none with quiet, or when stderr is not a terminal)."""

    def __init__(self, epochs: int, batches: int, quiet: bool = False) -> None:
        self.epochs = epochs
        self.batches = batches
        self.quiet = quiet or not sys.stderr.isatty()
        self._bar: Any = None

    def start(self, epoch: int, done: int) -> None:
        """Epoch number `epoch` (from 1) begins, or goes on after `done` batches."""
        if self.quiet:
            return
        from tqdm import tqdm

        self._bar = tqdm(
            desc=f"epoch {epoch}/{self.epochs}",
            total=self.batches,
            initial=done,
            unit="batch",
            leave=False,
            dynamic_ncols=True,
            bar_format="{desc} {bar} {n_fmt}/{total_fmt} {postfix} [{elapsed}<{remaining}]",
        )

    def update(self, tally: Tally, rate: float) -> None:
        """One more batch is done; `rate` in images per second."""
        if self._bar is not None:
            shown = f"loss {tally.mean_loss:.3f}  acc {tally.accuracy:.3f}  {rate:.0f} images/s"
            self._bar.set_postfix_str(shown, refresh=False)
            self._bar.update()

    def stop(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def report(self, record: dict[str, Any], best: bool) -> None:
        """The line of a finished epoch."""
        self.stop()
        width = len(str(self.epochs))
        print(
            f"epoch {record['epoch']:{width}}/{self.epochs}"
            f"  train loss {record['train_loss']:.4f} acc {record['train_acc']:.4f}"
            f"  val loss {record['val_loss']:.4f} acc {record['val_acc']:.4f}"
            f"  lr {record['lr']:.3g}  {record['seconds']:.1f} s  {record['images_per_second']:.0f} images/s"
            f"{'  best' if best else ''}",
            flush=True,
        )
