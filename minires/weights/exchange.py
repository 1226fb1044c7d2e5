"""Weights between files, names and models: `load`, `save`, `convert`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minires import backend
from minires.engine import Tensor
from minires.errors import RequestError
from minires.nn import Module
from minires.weights.files import read_weights, write_weights
from minires.weights.keymaps import MAPS, MINIRES, KeyMap


def load(model: Module, path: str | Path, keys: str | None = None) -> str:
    """Reads a weight file into a model, whosever names it has; returns whose they were.

    keys    whose names the file has, as `peers()` lists them; None finds it out

    Raises RequestError when the file cannot be read, or fits the model under no key map.
    """
    arrays, _ = read_weights(Path(path))
    return fill(model, arrays, keys)


def fill(model: Module, state: Mapping[str, Any], keys: str | None = None) -> str:
    """What `load` does, with arrays or Tensors by name in place of a file."""
    arrays, name = _fitting(state, model, keys)
    model.load_state_dict(arrays)
    return name


def save(
    path: str | Path, state: Module | Mapping[str, Any], keys: str = "minires", model: str = "", **about: Any
) -> None:
    """Writes a model's weights, in the format of the suffix and under the names of `keys`.

    model    the registry's name of the model: which table of that library holds, and for the file's own header
    about    what else minires shall know when it reads them

    Raises RequestError for an unknown suffix or key map, or when that library has no such model.
    """
    arrays = state.state_dict() if isinstance(state, Module) else state
    described = {"model": model, **about} if keys == MINIRES.peer and model else {}
    write_weights(Path(path), export(arrays, keys, model), described)


def convert(state: Mapping[str, Any], model: Module, keys: str | None = None) -> dict[str, np.ndarray]:
    """A state dict of any library under the names of `model`, which stays as it is.

    keys    whose names they are; None tries all, and takes the one under which every name and shape fits

    Raises RequestError for an unknown name of a key map, when none fits, saying what is wrong with the nearest, and
    when two fit and differ.
    """
    return _fitting(state, model, keys)[0]


def export(state: Mapping[str, Any], keys: str, model: str = "") -> dict[str, np.ndarray]:
    """A state dict of minires under another library's names: the way back from `convert`.

    Raises RequestError for an unknown name of a key map, or when that library has no such model.
    """
    for key_map in _maps(keys):
        named = key_map.theirs(_host(state)) if key_map.of(model) or not model else None
        if named is not None:
            return named
    known = "; ".join(key_map.title for key_map in _maps(keys))
    what = model or f"a model with the key {next(iter(state), 'of nothing')}"
    raise RequestError(f"{keys} has no name for the weights of {what}: its key map is for {known}")


def peers() -> list[str]:
    """Whose names there are maps for."""
    return list(MAPS)


def _fitting(state: Mapping[str, Any], model: Module, keys: str | None) -> tuple[dict[str, np.ndarray], str]:
    arrays, wanted = _host(state), model.state_dict()
    maps = [m for named in MAPS.values() for m in named] if keys is None else _maps(keys)
    read = [(m.peer, *m.ours(arrays, wanted)) for m in maps]
    fits = [(named, peer) for peer, named, unknown in read if not unknown and not any(model.misfits(named))]
    if not fits:
        troubles = [(model.misfits(named), peer) for peer, named, _ in read]
        trouble, peer = min(troubles, key=lambda t: sum(map(len, t[0])))
        own = f" under {peer}'s names" if peer != MINIRES.peer else ""
        raise RequestError(
            f"these weights do not fit this {type(model).__name__}{own}: {trouble}; "
            "build the model with the options that the weights were saved from"
        )
    first, peer = fits[0]
    others = [p for named, p in fits if any(not _equal(named[k], first[k]) for k in first)]
    if others:
        raise RequestError(f"these weights fit the names of {peer} and of {others[0]}, differently; say whose they are")
    return first, peer


def _maps(keys: str) -> tuple[KeyMap, ...]:
    if keys not in MAPS:
        raise RequestError(f"unknown key map {keys!r}; there are {', '.join(MAPS)}")
    return MAPS[keys]


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a is b or np.array_equal(a, b)


def _host(state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    plain = {name: value.data if isinstance(value, Tensor) else value for name, value in state.items()}
    return {name: np.asarray(backend.to_host(value)) for name, value in plain.items()}
