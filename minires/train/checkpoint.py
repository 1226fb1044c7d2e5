"""Checkpoints: a folder of safetensors and JSON that is always whole, however a run ends.

    model.safetensors       parameters and buffers, under the names of the model's `state_dict()`
    optimizer.safetensors   the optimizer's arrays, "<key>:<parameter>"
    state.json              everything else: position, schedule, generator, sums, history

A new checkpoint is written beside the old one and takes its place by renaming. A folder cannot be renamed onto another
one, so there are two renames, and a kill between them leaves `last.old`: `find` knows that, and `save` tidies up.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minires import backend
from minires.errors import RequestError

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
    _write(new / STATE, json.dumps(rest).encode())
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


# --- weight files


def write_weights(path: Path, arrays: dict[str, Any], about: dict[str, Any] | None = None) -> None:
    """Writes named arrays (of any library) as safetensors; `about` is stored in the file's own header."""
    from safetensors.numpy import save as pack

    # order="C", not ascontiguousarray, which would turn a scalar into one dimension
    host = {name: np.asarray(backend.to_host(a), order="C") for name, a in arrays.items()}
    _write(path, pack(host, metadata={"minires": json.dumps(about or {})}))


def read_weights(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(named arrays, what minires wrote about them) of a .safetensors or .npz file; the latter says nothing.

    Raises RequestError when the file is missing, damaged or of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as unpack

    if not path.exists():
        raise RequestError(f"{path} does not exist; give a run directory or a weight file")
    if path.suffix not in (".safetensors", ".npz"):
        raise RequestError(f"{path} is not a weight file that minires reads: .safetensors or .npz")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}, {}
        packed = path.read_bytes()
        arrays = unpack(packed)  # checks the header that is looked into next
        header = json.loads(packed[8 : 8 + int.from_bytes(packed[:8], "little")])
        return arrays, json.loads(header.get("__metadata__", {}).get("minires", "{}"))
    except (OSError, ValueError, SafetensorError, EOFError, zipfile.BadZipFile) as error:
        raise RequestError(f"{path} cannot be read ({error}); it may be cut short, so fetch or make it again") from None


# --- small parts


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(folder.name + suffix)


def _write(path: Path, content: bytes) -> None:
    """Writes and waits for the disk, so that the rename that follows never names an empty file."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


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
