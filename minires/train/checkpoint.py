"""Checkpoints: a folder of safetensors and JSON that is always whole, however a run ends.

    model.safetensors       parameters and buffers, under the names of the model's `state_dict()`
    optimizer.safetensors   the optimizer's arrays, "<key>:<parameter>"
    state.json              everything else: position, schedule, generator, sums, history

A new checkpoint is written beside the old one and takes its place by renaming. A folder cannot be renamed onto another
one, so there are two renames, and a kill between them leaves `last.old`: `find` knows that, and `save` tidies up.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minires.errors import RequestError
from minires.weights import files
from minires.weights.files import read_weights, write_weights

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


@dataclass
class Checkpoint:
    """What a checkpoint folder holds.

    Attributes
        model        {name: array}
        optimizer    an optimizer's `state_dict()`: {"groups": [...], "state": {parameter: {key: array or number}}}
        state        anything that JSON can hold
        about        what the weights are, {"model": "resnet8", ...}; goes into the weight file itself
    """

    model: dict[str, np.ndarray]
    optimizer: dict[str, Any]
    state: dict[str, Any]
    about: dict[str, Any] = field(default_factory=dict)


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes `checkpoint` to `folder`, replacing what is there in one step."""
    new, old = _beside(folder, ".new"), _beside(folder, ".old")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    arrays, numbers = _split(checkpoint.optimizer["state"])
    rest = {**checkpoint.state, "optimizer": {"groups": checkpoint.optimizer["groups"], "numbers": numbers}}
    write_weights(new / MODEL, checkpoint.model, checkpoint.about)
    write_weights(new / OPTIMIZER, arrays)
    files.write_bytes(new / STATE, json.dumps(rest).encode())
    if folder.exists():  # else the old one, if any, is what a kill left: it stays until the new one is in place
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def find(folder: Path) -> Path | None:
    """Where the checkpoint of this name is: `folder`, or the one before it if a kill came between the two renames."""
    for place in (folder, _beside(folder, ".old")):
        if (place / STATE).is_file():
            return place
    return None


def load(folder: Path) -> Checkpoint:
    """Reads a checkpoint. Raises RequestError when it is missing or damaged."""
    place = find(folder)
    if place is None:
        raise RequestError(f"{folder} holds no checkpoint; the run was stopped before its first one, so start it again")
    try:
        state = json.loads((place / STATE).read_text(encoding="utf-8"))
        kept = state.pop("optimizer")
        groups, numbers = kept["groups"], kept["numbers"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{place / STATE} is damaged ({error!r}); train again, or use another checkpoint") from None
    model, about = read_weights(place / MODEL)
    arrays, _ = read_weights(place / OPTIMIZER)
    return Checkpoint(model, {"groups": groups, "state": _join(arrays, numbers)}, state, about)


# --- small parts


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(folder.name + suffix)


def _split(state: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The arrays of an optimizer's state under flat names, and its plain numbers."""
    arrays: dict[str, Any] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for parameter, held in state.items():
        for key, value in held.items():
            if hasattr(value, "shape"):
                arrays[f"{key}:{parameter}"] = value
            else:
                numbers.setdefault(parameter, {})[key] = value
    return arrays, numbers


def _join(arrays: dict[str, Any], numbers: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    state: dict[str, dict[str, Any]] = {parameter: dict(held) for parameter, held in numbers.items()}
    for name, value in arrays.items():
        key, _, parameter = name.partition(":")
        state.setdefault(parameter, {})[key] = value
    return state
