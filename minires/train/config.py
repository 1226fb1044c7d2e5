"""The options of a run: their defaults for each data set, and what is wrong with a bad one."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minires import backend, models
from minires.errors import RequestError
from minires.train import tasks

# Options that only some tasks have a use for, `Task.uses`, and their values in the runs of the others.
NOT_FOR_ALL = {"augment": False, "label_smoothing": 0.0, "val_fraction": 0.1}
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
SCHEDULES = ("none", "step", "multistep", "cosine", "one-cycle")

# As accurate as a given time allows on two cores: near 90 % of CIFAR-10 in an hour, 99.4 % of MNIST in five minutes.
# One cycle with Nesterov's momentum and a decay of 5e-4, as short runs on CIFAR are won (Smith and Topin 2018; Page
# 2018, How to Train Your ResNet). A network this small and a run this short underfit: hence no label smoothing or
# cutout, and few images held out. The rate ends at almost zero, which leaves nothing for averaged weights to smooth.
_FAST: dict[str, dict[str, Any]] = {
    "mnist": {
        "model": "resnet8",
        "epochs": 4,
        "batch_size": 64,
        "lr": 0.2,
        "nesterov": True,
        "weight_decay": 5e-4,
        "schedule": "one-cycle",
        "pct_start": 0.1,
        "augment": True,
        "val_fraction": 0.05,
    },
    "cifar10": {
        "model": "resnet20",
        "epochs": 24,
        "batch_size": 128,
        "lr": 0.2,
        "nesterov": True,
        "weight_decay": 5e-4,
        "schedule": "one-cycle",
        "augment": True,
        "val_fraction": 0.05,
    },
}

RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "default": {name: tasks.find(name).usual(name) for name in tasks.names()},
    "fast": _FAST,
}


@dataclass(frozen=True)
class Config:
    """Everything a run depends on, apart from the code. Written to the run's `config.json`.

    Attributes
        data            name of the data set, and `data_options`, what its task takes
        recipe          whose values the options have that were not given: one of RECIPES
        model           name of the model, and `model_options` beside the number of classes and channels
        epochs          passes over the training data
        lr              the schedule's highest learning rate
        momentum        for sgd and rmsprop
        weight_decay    L2 penalty; decoupled from the gradient for adamw
        schedule        none; step (a tenth after each third of the run); multistep (a tenth at 1/2 and 3/4 of it);
                        cosine (to zero); one-cycle (up, then down to almost zero)
        pct_start       one-cycle's share of the run in which the rate rises
        warmup_epochs   the rate first rises linearly for so many epochs
        label_smoothing share of each target spread evenly over all classes, in training
        clip_norm       the longest gradient that a step may take; None for any
        augment         random crops (and flips, where the data set allows them) in training
        val_fraction    share of the training images that is held out to choose the best epoch; what is not images has
                        a validation set of its own
        seed            of weights, order, augmentation and dropout
        device          "cpu" or "cuda"
        out             the run directory; None for a new one under `runs/`
    """

    data: str = "digits"
    recipe: str = "default"  # which is also what a run was that is older than recipes
    model: str = "resnet8"
    model_options: dict[str, Any] = field(default_factory=dict)
    data_options: dict[str, Any] = field(default_factory=dict)
    epochs: int = 10
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    optimizer: str = "sgd"
    nesterov: bool = False
    schedule: str = "one-cycle"
    pct_start: float = 0.3
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    augment: bool = True
    val_fraction: float = 0.1
    seed: int = 0
    device: str = "cpu"
    out: str | None = None

    def __post_init__(self) -> None:
        validate(self)


def create(**given: Any) -> Config:
    """A Config from what was given (None: not given), over the data set's values in the recipe, over the defaults.

    What contradicts an option that was given gives way to it: without SGD or its momentum there is no Nesterov's, and
    Adam and its relatives get a learning rate of 0.001, since SGD's 0.1 is far outside their range.
    Raises RequestError, one line, for the first value that cannot be, and for an option that the data have no use for.
    """
    given = {k: v for k, v in given.items() if v is not None}
    name = given.get("data", "digits")
    recipe = dict(RECIPES.get(given.get("recipe", "default"), {}).get(name, {}))
    for option in NOT_FOR_ALL if name in tasks.names() else ():
        if option not in tasks.find(name).uses:
            if given.get(option):
                raise RequestError(f"--{option.replace('_', '-')}: {name} has no use for it; drop it")
            recipe.setdefault(option, NOT_FOR_ALL[option])
    usual = recipe.get("optimizer", "sgd")
    if given.get("optimizer", usual) != usual:
        recipe.pop("lr", None)
        recipe.pop("nesterov", None)
        if given["optimizer"] != "sgd":
            recipe["lr"] = 1e-3
    if given.get("momentum") == 0:
        recipe.pop("nesterov", None)
    return Config(**{**recipe, **given})


def _at_least(low: float) -> tuple[Callable[[Any], bool], str]:
    return lambda v: v >= low, f"must be at least {low:g}"


_POSITIVE: tuple[Callable[[Any], bool], str] = (lambda v: v > 0, "must be above 0")
_SHARE: tuple[Callable[[Any], bool], str] = (lambda v: 0 <= v < 1, "must be at least 0 and below 1")
_RULES: dict[str, tuple[type, tuple[Callable[[Any], bool], str]]] = {
    "epochs": (int, _at_least(1)),
    "batch_size": (int, _at_least(1)),
    "seed": (int, _at_least(0)),
    "lr": (float, _POSITIVE),
    "momentum": (float, _SHARE),
    "weight_decay": (float, _at_least(0)),
    "pct_start": (float, (lambda v: 0 < v < 1, "must lie between 0 and 1")),
    "warmup_epochs": (float, _at_least(0)),
    "label_smoothing": (float, _SHARE),
    "clip_norm": (float, _POSITIVE),
    "val_fraction": (float, (lambda v: 0 < v < 1, "must lie between 0 and 1")),
}


def validate(config: Config) -> None:
    """Raises RequestError, one line, for the first option of `config` that cannot be."""
    _one_of("--data", config.data, tasks.names())
    _one_of("--recipe", config.recipe, RECIPES)
    if config.data not in RECIPES[config.recipe]:
        made_for = " and ".join(RECIPES[config.recipe])
        raise RequestError(
            f"--recipe {config.recipe} is made for {made_for}, not for {config.data}; drop it, or choose another --data"
        )
    _one_of("--optimizer", config.optimizer, OPTIMIZERS)
    _one_of("--schedule", config.schedule, SCHEDULES)
    for name, (kind, (holds, rule)) in _RULES.items():
        value = getattr(config, name)
        if value is None and name == "clip_norm":
            continue
        number = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not holds(value):
            needed = f"{rule}" if kind is float else f"{rule} and a whole number"
            raise RequestError(f"--{name.replace('_', '-')} is {value!r}, but {needed}")
    if config.nesterov and (config.optimizer != "sgd" or config.momentum == 0):
        raise RequestError(
            "--nesterov looks ahead along SGD's momentum; use it with --optimizer sgd and --momentum 0.9"
        )
    if config.warmup_epochs >= config.epochs:
        raise RequestError(
            f"--warmup-epochs is {config.warmup_epochs:g}, but must be less than --epochs, which is {config.epochs}"
        )
    if config.schedule == "one-cycle" and config.warmup_epochs:
        raise RequestError("--warmup-epochs: one-cycle warms up on its own; use --schedule cosine, or drop the warm-up")
    _known_options("--option", config.model_options, config.model, models.info(config.model).options)
    _known_options("--data-option", config.data_options, config.data, tasks.find(config.data).options)
    backend.library_of(config.device)


def _known_options(flag: str, given: dict[str, Any], whose: str, valid: dict[str, Any]) -> None:
    for option in given:
        if option not in valid:
            raise RequestError(
                f"{flag} {option}: {whose} has no such option; it has {', '.join(sorted(valid)) or 'none'}"
            )


def _one_of(option: str, value: str, known: Any) -> None:
    if value not in known:
        raise RequestError(f"{option} {value!r} is unknown; there are {', '.join(known)}")


def save(config: Config, path: Path) -> None:
    """Writes `config` as JSON."""
    path.write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n", encoding="utf-8")


def load(path: Path) -> Config:
    """The Config in a `config.json`. Raises RequestError when it is missing, damaged or has unknown options."""
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
        return Config(**options)
    except FileNotFoundError:
        raise RequestError(f"{path.parent} is not a run directory: it has no {path.name}") from None
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from None
    except (OSError, ValueError, TypeError) as error:
        raise RequestError(f"{path} cannot be used ({error}); train a new run") from None
