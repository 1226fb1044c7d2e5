"""Which tasks there are, one a file: `find(name)` gives the task of a data set, `names()` lists the data sets."""

from __future__ import annotations

import functools
import importlib

from minires.errors import RequestError
from minires.train.task import Task

FILES = ("images", "segmentation", "language", "tones", "gridworld", "translation", "masked")


@functools.cache
def _tasks() -> dict[str, Task]:
    made = [importlib.import_module(f"{__name__}.{file}").TASK for file in FILES]
    return {name: task for task in made for name in task.names}


def names() -> list[str]:
    """Every data set that `minires train` can be told to learn."""
    return list(_tasks())


def find(name: str) -> Task:
    """The task of a data set. Raises RequestError for an unknown one."""
    if name not in _tasks():
        raise RequestError(f"--data {name!r} is unknown; there are {', '.join(_tasks())}")
    return _tasks()[name]
