"""The training loop, and the life of a run around it: start, stop anywhere, go on exactly, finish.

What can be stopped and resumed bit for bit is what is written down, so the loop's whole position is one small object:
which epoch, the seed that fixes the epoch's order and augmentation, how many batches are done, and the sums so far.
Weights, optimizer, schedule and generator are saved beside it.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minires import backend, optim
from minires.backend import Array
from minires.errors import CaptureError, DivergedError, RequestError
from minires.train import checkpoint, config, figures, report, setup
from minires.train.config import Config
from minires.train.evaluate import evaluate
from minires.train.interrupt import Interrupts, Stopped
from minires.train.metrics import Tally, gradient_norms
from minires.train.progress import Progress
from minires.train.task import Loader

LOOK_EVERY = 20  # batches after which the host looks at the sums on a device


@dataclass
class Position:
    """Where a run is.

    Attributes
        epoch      epochs finished
        seed       what fixes the order and the augmentation of the epoch under way; None between epochs
        batch      batches done in it
        tally      the sums over them
        seconds    time spent on them
        spent      time spent on the epochs finished
    """

    epoch: int = 0
    seed: int | None = None
    batch: int = 0
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0
    spent: float = 0.0


class Trainer:
    """One run: its options, its parts, its position and what it has measured."""

    def __init__(self, options: Config, run: Path, quiet: bool = False) -> None:
        self.config = options
        self.run = run
        self.parts = setup.build(options)
        self.library = backend.library_of(options.device)
        self.task = self.parts.task
        # the epoch's losses and counts, where they are made
        self.sums = self.library.xp.zeros(1 + len(self.task.counts), np.float64)
        self.unseen = 0  # images or tokens in them at which the host has not looked
        self.step = backend.capture(self.plain_step, self.held, library=self.library)
        self.position = Position()
        self.lr = options.lr  # of the latest step
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}  # the record of the best epoch so far
        self.flow: dict[str, dict[str, float]] = {}  # gradient norms by layer, first and last epoch
        self.made: list[tuple[str, str]] = []  # what the task leaves in the run's directory at the end
        self.quiet = quiet
        self.progress = Progress(options.epochs, quiet, self.task.unit)
        self.interrupts = Interrupts()

    def fit(self) -> dict[str, Any]:
        """Trains from the position to the end, and returns the run's summary.

        Raises interrupt.Stopped after Ctrl-C, with the position saved in `last/`, and DivergedError when a loss is
        no longer finite, with `last/` as it was after the last good epoch.
        """
        quiet_overflow = np.errstate(over="ignore", invalid="ignore", divide="ignore")  # the loop looks itself
        with self.interrupts, backend.device(self.config.device), quiet_overflow:
            try:
                while self.position.epoch < self.config.epochs:
                    self.train_epoch()
                    self.finish_epoch()
                return self.finish()
            except Stopped:
                if self.position.seed is not None:  # between epochs `last/` is up to date
                    self.look()
                    self.save("last")
                raise
            finally:
                self.progress.stop()

    # --- the heart of it

    def train_epoch(self) -> None:
        """One pass over the training data, from the position on."""
        at, parts = self.position, self.parts
        if at.seed is None:
            at.seed = parts.train.draw_seed()
        self.progress.start(f"epoch {at.epoch + 1}/{self.config.epochs}", len(parts.train), at.batch)
        parts.model.train()
        at.tally.counts = at.tally.counts or [0.0] * len(self.task.counts)
        self.sums[...] = self.library.asarray(np.array([at.tally.loss, *at.tally.counts], np.float64))
        begun, already = time.perf_counter(), at.seconds
        for batch in parts.train.epoch(at.seed, start=at.batch):
            size = self.task.size(*batch)
            # the size goes along as an array, since a captured step would repeat a number for ever
            sent = (*batch, np.array(float(size)))
            self.take_step(*(self.library.upload(a, place) for place, a in enumerate(sent)))
            self.lr = parts.optimizer.lr
            parts.schedule.step()
            self.unseen += size
            at.batch += 1
            if self.library is backend.NUMPY or at.batch % LOOK_EVERY == 0 or at.batch == len(parts.train):
                self.look()
            at.seconds = already + time.perf_counter() - begun
            self.progress.update(self.figures(), at.tally.size / at.seconds)
            self.interrupts.check()

    def take_step(self, *batch: Array) -> None:
        """One step, captured where it can be; not so where its gradients are looked at, or where it draws numbers."""
        at = self.position
        if at.batch + 1 == len(self.parts.train) and at.epoch in (0, self.config.epochs - 1):
            self.plain_step(*batch, watch=self.watch_gradient)
            return
        try:
            self.step(*batch)
        except CaptureError as error:
            if not self.quiet:
                print(f"{error}; so each step goes to the device piece by piece", file=sys.stderr)
            self.step = self.plain_step
            self.step(*batch)

    def plain_step(self, *batch: Array, watch: Callable[[], None] = lambda: None) -> None:
        """One step on a batch and, last, its size (). It never waits for the device."""
        *given, size = batch
        parts = self.parts
        loss, counts = self.task.loss(parts.model, *given, smoothing=self.config.label_smoothing)
        parts.optimizer.zero_grad()
        loss.backward()
        watch()
        if self.config.clip_norm is not None:
            optim.clip_grad_norm_(parts.model.parameters(), self.config.clip_norm)
        parts.optimizer.step()
        self.sums[:1] += loss.data.astype(np.float64) * size
        for i, count in enumerate(counts, 1):
            self.sums[i : i + 1] += count

    def look(self) -> None:
        """Brings the epoch's sums to the host, and notices there that training has diverged."""
        at, loss = self.position, self.position.tally.loss
        at.tally.loss, *at.tally.counts = self.library.to_host(self.sums).tolist()
        at.tally.size += self.unseen
        mean, self.unseen = (at.tally.loss - loss) / max(self.unseen, 1), 0
        self.finite(mean, f"batch {at.batch} of {len(self.parts.train)}")

    def figures(self) -> dict[str, float]:
        """Loss and figures of the epoch so far."""
        tally = self.position.tally
        counts = dict(zip(self.task.counts, tally.counts, strict=True))
        return {"loss": tally.mean_loss, **self.task.metrics(counts, tally.size)}

    def finish_epoch(self) -> None:
        """Validates, notes the epoch's record and saves: `best/` first, so that `last/` never promises it in vain."""
        at = self.position
        begun = time.perf_counter()
        held_out = self.evaluate("validation", self.parts.validation)
        self.finite(held_out["loss"], "validation")
        record = {
            "epoch": at.epoch + 1,
            **{f"train_{name}": value for name, value in self.figures().items()},
            **{f"val_{name}": value for name, value in held_out.items()},
            "lr": self.lr,
            "seconds": round(at.seconds + time.perf_counter() - begun, 3),
            f"{self.task.unit}_per_second": round(at.tally.size / at.seconds, 1),
        }
        self.history.append(record)
        is_best = not self.best or self.at_least_as_good(record)
        self.position = Position(epoch=at.epoch + 1, spent=at.spent + record["seconds"])
        if is_best:
            self.best = record
            self.save("best")
        self.save("last")
        report.write_metrics(self.run, self.history)
        self.progress.report(record, is_best)

    def at_least_as_good(self, record: dict[str, Any]) -> bool:
        """Few images to validate on give many ties; the later epoch wins them, since the rate has fallen further."""
        new, old = record[f"val_{self.task.best}"], self.best[f"val_{self.task.best}"]
        return new >= old if self.task.higher_is_better else new <= old

    def finish(self) -> dict[str, Any]:
        """The one look at the test set, with the weights that validated best; then figures and summary."""
        begun = time.perf_counter()
        self.parts.model.load_state_dict(checkpoint.load(self.run / "best").model)
        test = self.evaluate("test", self.parts.test)
        title = f"{self.config.model} on {self.config.data}"
        if figures.available():
            figures.curves(self.run / "curves.png", self.history, self.best["epoch"], title, self.task)
            figures.gradient_flow(self.run / "gradient_flow.png", self.flow, title)
        self.made = self.task.finish(self.parts.model, self.config, self.run)
        summary = {
            **{f"test_{name}": value for name, value in test.items()},
            "parameters": sum(p.size for p in self.parts.model.parameters()),
            "seconds": round(self.position.spent + time.perf_counter() - begun, 3),
            "best_epoch": self.best["epoch"],
            f"best_val_{self.task.best}": self.best[f"val_{self.task.best}"],
        }
        report.write_summary(self.run, summary)
        return summary

    # --- looking and keeping

    def evaluate(self, name: str, loader: Loader) -> dict[str, float]:
        """Loss and figures with the weights as they are."""

        def after_batch() -> None:
            self.progress.update()
            self.interrupts.check()

        self.progress.start(name, len(loader))
        result = evaluate(self.parts.model, loader, after_batch, self.task)
        self.progress.stop()
        return result

    def finite(self, loss: float, where: str) -> float:
        """The loss itself. Raises DivergedError when it is NaN or infinite."""
        if math.isfinite(loss):
            return loss
        clip = "" if self.config.clip_norm is not None else " or --clip-norm 1"
        raise DivergedError(
            f"training diverged: the loss is {loss} at epoch {self.position.epoch + 1}, {where}; "
            f"try a lower --lr than {self.config.lr:g}{clip} (the last good checkpoint is {self.run / 'last'})"
        )

    def watch_gradient(self) -> None:
        """Notes the gradient's norm by layer."""
        self.flow[f"epoch {self.position.epoch + 1}"] = gradient_norms(self.parts.model)

    def held(self) -> dict[str, Array]:
        """Every array that one step changes for the next, by name."""
        state = self.parts.optimizer.state.items()
        return {
            "the sums of the epoch": self.sums,
            **{name: tensor.data for name, tensor in self.parts.model.state_dict().items()},
            **{f"{key} of {name}": a for name, entries in state for key, a in entries.items()},
        }

    def save(self, name: str) -> None:
        """Writes a checkpoint: `last`, to go on from, or `best`."""
        arrays = {key: tensor.data for key, tensor in self.parts.model.state_dict().items()}
        state = {
            "position": dataclasses.asdict(self.position),
            "lr": self.lr,
            "schedule": self.parts.schedule.state_dict(),
            "generator": backend.generator_state(),
            "history": self.history,
            "best": self.best,
            "gradient_flow": self.flow,
        }
        about = {k: getattr(self.config, k) for k in ("data", "data_options", "model", "model_options")}
        held = checkpoint.Checkpoint(arrays, self.parts.optimizer.state_dict(), state, about)
        checkpoint.save(self.run / name, held)

    def restore(self) -> None:
        """Puts everything back as `save("last")` found it. Raises RequestError for a checkpoint of another model."""
        held = checkpoint.load(self.run / "last")
        try:
            self.parts.model.load_state_dict(held.model)
            self.parts.optimizer.load_state_dict(held.optimizer)
            state = held.state
            self.parts.schedule.load_state_dict(state["schedule"])
            tally = Tally(**state["position"].pop("tally"))
            self.position = Position(**state["position"], tally=tally)
            self.lr, self.history, self.best = state["lr"], state["history"], state["best"]
            self.flow = state["gradient_flow"]
            backend.set_generator_state(state["generator"])
        except (ValueError, KeyError, TypeError) as error:
            raise RequestError(
                f"{self.run / 'last'} is not a checkpoint of this run, "
                f"which trains a {self.config.model} on {self.config.data}: {error}"
            ) from None
        report.write_metrics(self.run, self.history)


def start(options: Config, quiet: bool = False) -> Trainer:
    """A new run, ready to `fit`, in a directory of its own. Raises RequestError for a directory that cannot be it."""
    run = report.choose(options.out, f"{options.data}-{options.model}")
    trainer = Trainer(dataclasses.replace(options, out=str(run)), run, quiet)
    report.make(run)
    config.save(trainer.config, run / report.CONFIG)
    trainer.task.prepare(trainer.config, run)
    trainer.save("last")
    return trainer


def resume(run: Path, quiet: bool = False) -> Trainer:
    """The run in directory `run`, ready to `fit` from where it stopped. Raises RequestError when that cannot be."""
    if not run.is_dir():
        raise RequestError(f"--resume {run}: there is no such directory; give the directory of an earlier run")
    trainer = Trainer(config.load(run / report.CONFIG), run, quiet)
    trainer.restore()
    return trainer
