"""Which models there are: `create(name)`, `names()`, `info(name)`, `describe(name)`.

A model file registers what builds its model: a class, or a function with the options of a class for one published
size. A family with a depth in its name (`resnet20`) registers one for all depths; a full name that somebody registered
wins over a family's pattern.
"""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from minires.errors import RequestError
from minires.nn import Module, init

Build = TypeVar("Build", bound=Callable[..., Module])
SHAPE = ("num_classes", "in_channels")


@dataclass(frozen=True)
class Depths:
    """Which depths a family has: first, first + step, ... `shown` are those that `names()` lists."""

    first: int
    step: int
    rule: str
    shown: Sequence[int]

    def __contains__(self, depth: object) -> bool:
        return isinstance(depth, int) and depth >= self.first and (depth - self.first) % self.step == 0

    def nearest(self, depth: int) -> list[int]:
        """The depths on either side of one that does not exist."""
        below = self.first + max(0, depth - self.first) // self.step * self.step
        return [below, below + self.step]


@dataclass(frozen=True)
class Info:
    """What is known of a model without building it.

    Attributes
        name       what `create` takes
        family     the file in `minires/models/` that it is written in
        depth      layers with weights on the longest path, as papers count them
        skip       how a block combines x and F(x)
        source     the paper
        options    what `create` takes beside num_classes and in_channels, with defaults
        shape      of those two, the ones that it takes, with defaults: a language model takes neither
    """

    name: str
    family: str
    depth: int
    skip: str
    source: str
    options: dict[str, Any]
    shape: dict[str, int]


@dataclass(frozen=True)
class Description:
    """One row of `minires models`: `Info` for people, and the exact number of parameters."""

    name: str
    family: str
    parameters: int
    depth: int
    skip: str
    source: str


@dataclass(frozen=True)
class _Entry:
    build: Callable[..., Module]
    depth: int | Depths
    skip: str
    source: str

    def options(self) -> dict[str, Any]:
        return {k: v for k, v in self._defaults().items() if k not in ("depth", *SHAPE)}

    def shape(self) -> dict[str, int]:
        return {k: v for k, v in self._defaults().items() if k in SHAPE}

    def _defaults(self) -> dict[str, Any]:
        return {k: p.default for k, p in inspect.signature(self.build).parameters.items()}


_entries: dict[str, _Entry] = {}


def register(name: str, *, depth: int | Depths, skip: str, source: str) -> Callable[[Build], Build]:
    """Decorates `build(num_classes, in_channels, ...)`, or with `Depths` `build(depth, num_classes, in_channels, ...)`,
    a function or a class.

    The defaults of num_classes and in_channels are those of the data that the paper trained on; a model that has no
    classes or channels takes none. Every further argument of `build` is an option and needs a default.
    """

    def add(build: Build) -> Build:
        _entries[name] = _Entry(build, depth, skip, source)
        return build

    return add


def names() -> list[str]:
    """Every model by name; of a family without end, the depths that people use."""
    listed: list[str] = []
    for name, entry in _entries.items():
        listed += [f"{name}{n}" for n in entry.depth.shown] if isinstance(entry.depth, Depths) else [name]
    return listed


def info(name: str) -> Info:
    """Family, depth, skip, source and options of a model. Raises RequestError for an unknown name."""
    entry, depth = _find(name)
    family = entry.build.__module__.rpartition(".")[2]
    return Info(name, family, depth, entry.skip, entry.source, entry.options(), entry.shape())


def create(name: str, num_classes: int | None = None, in_channels: int | None = None, **options: Any) -> Module:
    """Builds a model with fresh weights.

    num_classes, in_channels    None: those of the data that the paper trained on, as `info(name).shape` has them
    options                     as `info(name).options` lists them

    Raises RequestError for an unknown name (with the closest ones), an unknown option (with the valid ones), a value
    of another kind than the option's default or not finite, or a count below 1.
    """
    entry, depth = _find(name)
    valid = entry.options()
    for option, value in options.items():
        if option not in valid:
            there_are = ", ".join(f"{k}={v!r}" for k, v in valid.items()) or "none"
            raise RequestError(f"model {name!r} has no option {option!r}; its options and defaults are: {there_are}")
        if not _alike(value, valid[option]):
            raise RequestError(f"model {name!r}: {option} is {value!r}, but must be like {valid[option]!r}")
    given = {"num_classes": num_classes, "in_channels": in_channels}
    counts = {what: count for what, count in given.items() if count is not None}
    for what, count in counts.items():
        if what not in entry.shape():
            raise RequestError(f"model {name!r} takes no {what}; drop it")
        if not isinstance(count, int) or count < 1:
            raise RequestError(f"model {name!r}: {what} is {count!r}, but must be an integer of at least 1")
    if isinstance(entry.depth, Depths):
        options["depth"] = depth
    return entry.build(**counts, **options)


def describe(name: str, num_classes: int | None = None, in_channels: int | None = None, **options: Any) -> Description:
    """A model's row in the table. Counts the parameters of a real one, built without drawing its weights."""
    with init.skip_init():
        model = create(name, num_classes, in_channels, **options)
    about = info(name)
    parameters = sum(p.size for p in model.parameters())
    return Description(name, about.family, parameters, about.depth, about.skip, about.source)


def _alike(value: Any, default: Any) -> bool:
    """Whether an option may have this value: of its default's kind, a finite number where that is a fraction."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, tuple):
        return isinstance(value, (list, tuple)) and all(_alike(element, default[0]) for element in value)
    if isinstance(default, float):
        return isinstance(value, (int, float)) and math.isfinite(value)
    return default is None or isinstance(value, type(default))


def _find(name: str) -> tuple[_Entry, int]:
    """(entry, depth) of a name."""
    entry = _entries.get(name)
    if entry is not None and isinstance(entry.depth, int):
        return entry, entry.depth
    parts = re.fullmatch(r"(.*?)([1-9]\d*)", name)
    family, depth = (parts[1], int(parts[2])) if parts else (name, 0)
    entry = _entries.get(family)
    if entry is None or not isinstance(entry.depth, Depths):
        close = difflib.get_close_matches(name, names(), n=3, cutoff=0.5) or names()
        raise RequestError(f"unknown model {name!r}: did you mean {' or '.join(close)}? `minires models` lists all")
    if depth not in entry.depth:
        near = " or ".join(f"{family}{n}" for n in entry.depth.nearest(depth))
        raise RequestError(f"unknown model {name!r}: a {family} of this kind has {entry.depth.rule} layers; try {near}")
    return entry, depth
