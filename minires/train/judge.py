"""What `minires eval` does: finds out what a run or a weight file is, and tests it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minires import backend, data, weights
from minires.errors import RequestError
from minires.train import checkpoint, config, report, tasks
from minires.train.evaluate import evaluate
from minires.train.progress import Progress
from minires.train.tasks.images import build_model

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Subject:
    """Weights, and what they are of.

    Attributes
        path            the weight file
        data            the data set to test on
        model           the model, with its options
        ours            whether minires trained them, on data normalized by the data set's own mean and deviation
    """

    path: Path
    arrays: dict[str, Any]
    data: str
    model: str
    model_options: dict[str, Any]
    ours: bool


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
    same = names["model"] == about.get("model")
    kept = {**(about.get("model_options", {}) if same else {}), **options}
    return Subject(path, arrays, str(names["data"]), str(names["model"]), kept, names["data"] == about.get("data"))


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
    try:
        weights.fill(model, of.arrays, keys)
    except RequestError as error:
        raise RequestError(f"{of.path} is not of a {of.model} for {of.data}: {error}") from None
    with backend.device(device):
        loader = data.DataLoader(test, batch_size=batch_size)
        bar = Progress()
        bar.start("test", len(loader))
        try:
            return evaluate(model, loader, bar.update)
        finally:
            bar.stop()


def run_of_another_task(path: Path, data_name: str | None) -> Path | None:
    """The path itself if it is a run whose data are not labeled images, else None.

    Raises RequestError when such a run is to be judged by other data than its own.
    """
    if not path.is_dir():
        return None
    own = config.load(path / report.CONFIG).data
    if own in data.names():
        return None
    if data_name not in (None, own):
        raise RequestError(f"{path} learned {own} and cannot be judged by {data_name}; drop --data")
    return path


def judge_run(run: Path, which: str, device: str) -> dict[str, float]:
    """{"test_loss", ...}: the figures of a run's own task on its test data."""
    if which not in ("best", "last"):
        raise RequestError(f"--checkpoint {which!r} is unknown; there are best and last")
    options = dataclasses.replace(config.load(run / report.CONFIG), device=device)
    task = tasks.find(options.data)
    backend.manual_seed(options.seed)
    with backend.device(device):
        model, _, _, test = task.build(options)
        model.load_state_dict(checkpoint.load(run / which).model)
        bar = Progress(unit=task.unit)
        bar.start("test", len(test))
        try:
            return {f"test_{name}": value for name, value in evaluate(model, test, bar.update, task).items()}
        finally:
            bar.stop()
