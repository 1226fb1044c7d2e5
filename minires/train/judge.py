"""What `minires eval` does: finds out what a run or a weight file is, and tests it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minires import backend, data, weights
from minires.errors import RequestError
from minires.nn import Module
from minires.train import checkpoint, config, report, tasks
from minires.train.evaluate import evaluate
from minires.train.progress import Progress
from minires.train.task import Loader
from minires.train.tasks.images import build_model

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Subject:
    """Weights, and what they are of.

    Attributes
        path            the weight file
        data            the data set to test on, with its options
        model           the model, with its options
        ours            whether minires trained them, on data normalized by the data set's own mean and deviation
    """

    path: Path
    arrays: dict[str, Any]
    data: str
    data_options: dict[str, Any]
    model: str
    model_options: dict[str, Any]
    ours: bool

    @property
    def labeled_images(self) -> bool:
        """Whether the data are images with a class each, which may have been normalized in several ways."""
        return self.data in data.names()


@dataclass(frozen=True)
class Normalization:
    """(x - mean) / std for each channel of images in [0, 1]."""

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        mean, std = (" ".join(f"{v:.4g}" for v in values) for values in (self.mean, self.std))
        return f"{self.name}, mean {mean}, std {std}"


def subject(
    path: Path, data_name: str | None, model: str | None, options: dict[str, Any], which: str = "best"
) -> Subject:
    """What is at `path`, a run directory or a weight file; names that were given win over what it says of itself.

    Raises RequestError when it is neither, or when neither it nor the user says which model and data it is of.
    """
    path, arrays, about = read(path, which)
    names = {"data": data_name or about.get("data"), "model": model or about.get("model")}
    for name, value in names.items():
        if value is None:
            raise RequestError(f"{path} does not say what it is of; add --{name} NAME")
    tasks.find(str(names["data"]))
    kept = {k: about.get(f"{k}_options", {}) if value == about.get(k) else {} for k, value in names.items()}
    of = {"data": str(names["data"]), "data_options": kept["data"], "model": str(names["model"])}
    return Subject(
        path, arrays, **of, model_options={**kept["model"], **options}, ours=names["data"] == about.get("data")
    )


def read(path: Path, which: str = "best") -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """(weight file, arrays, what is known of them) of a run directory or a weight file.

    which    of a run's checkpoints, "best" or "last"

    Raises RequestError when it is neither, damaged, or has no such checkpoint.
    """
    if not path.is_dir():
        return path, *checkpoint.read_weights(path)
    if which not in ("best", "last"):
        raise RequestError(f"--checkpoint {which!r} is unknown; there are best and last")
    about = dataclasses.asdict(config.load(path / report.CONFIG))
    place = checkpoint.find(path / which)
    if place is None:
        raise RequestError(f"{path / which} holds no checkpoint yet; finish the run: minires train --resume {path}")
    arrays, _ = checkpoint.read_weights(place / checkpoint.MODEL)
    return place / checkpoint.MODEL, arrays, about


def normalization(
    of: Subject, test: data.Dataset, name: str | None, mean: list[float] | None, std: list[float] | None
) -> Normalization:
    """The normalization that was asked for, or the one these weights are taken to expect.

    Raises RequestError for an unknown name or numbers that do not fit the images' channels.
    """
    channels = len(test.mean)
    if (mean is None) != (std is None):
        raise RequestError("--mean and --std go together; give both, one number a channel")
    if mean is not None and std is not None:
        if name is not None:
            raise RequestError("--normalization and --mean/--std contradict each other; give one of the two")
        if len(mean) != channels or len(std) != channels or min(std) <= 0:
            raise RequestError(f"--mean and --std need {channels} numbers each for {of.data}, the deviations above 0")
        return Normalization("as given", tuple(mean), tuple(std))
    chosen = name or ("dataset" if of.ours or channels != 3 else "imagenet")
    if chosen == "dataset":
        return Normalization("dataset", tuple(test.mean), tuple(test.std))
    if chosen != "imagenet":
        raise RequestError(f"--normalization {chosen!r} is unknown; there are imagenet and dataset")
    if channels != 3:
        raise RequestError(f"--normalization imagenet is for 3 channels, but {of.data} has {channels}; use dataset")
    return Normalization("imagenet", *IMAGENET)


def judge(
    of: Subject, test: data.Dataset, how: Normalization, batch_size: int, device: str, keys: str | None = None
) -> dict[str, float]:
    """{"loss", "acc"} on the test set. Raises RequestError when the weights are of another model.

    keys    whose names the weights have, see `minires.weights`; None finds it out
    """
    if batch_size < 1:
        raise RequestError(f"--batch-size is {batch_size}, but must be at least 1")
    backend.library_of(device)
    test = dataclasses.replace(test, mean=how.mean, std=how.std)
    model = build_model(of.model, of.model_options, test, device)
    return _tested(of, model, data.DataLoader(test, batch_size=batch_size), device, keys)


def judge_task(of: Subject, device: str, keys: str | None = None) -> dict[str, float]:
    """{"loss", ...}, the figures of the data's own task on its test data, of whichever kind they are.

    Raises RequestError when the weights are of another model, or the model does not fit the data.
    """
    about = {"data": of.data, "data_options": of.data_options, "model": of.model, "model_options": of.model_options}
    options = config.create(**about, device=device)
    with backend.device(device):
        model, _, _, test = tasks.find(of.data).build(options)
    return _tested(of, model, test, device, keys)


def _tested(of: Subject, model: Module, loader: Loader, device: str, keys: str | None) -> dict[str, float]:
    try:
        weights.fill(model, of.arrays, keys)
    except RequestError as error:
        raise RequestError(f"{of.path} is not of a {of.model} for {of.data}: {error}") from None
    task = tasks.find(of.data)
    bar = Progress(unit=task.unit)
    bar.start("test", len(loader))
    try:
        with backend.device(device):
            return evaluate(model, loader, bar.update, task)
    finally:
        bar.stop()
