"""What `minires export` does: writes the weights of a run or a file in another format, or under other names."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minires import models, weights
from minires.errors import RequestError
from minires.nn import Module
from minires.train import config, judge, tasks

ONNX = ".onnx"


@dataclass(frozen=True)
class Request:
    """What to export, and how.

    Attributes
        source          a run directory, or a weight file of any library
        to              the file to write; its suffix says the format
        model           what the weights are of (default: what the source says)
        options         that model's options, num_classes and in_channels among them
        keys            whose names to write
        source_keys     whose names the source has (default: found out)
        checkpoint      of a run: best or last
        image_size      for ONNX, the images' height and width (default: the run's; else the model's usual one)
    """

    source: Path
    to: Path
    model: str | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    keys: str = "minires"
    source_keys: str | None = None
    checkpoint: str = "best"
    image_size: int | None = None


def export(request: Request) -> str:
    """Writes the file and returns one line that says what it is.

    Raises RequestError when the source cannot be read, when it does not fit the model, when the library of `keys` has
    no such model, when nothing says which model an ONNX file is of, or when the file cannot be written.
    """
    suffixes = [*weights.formats(), ONNX]
    if request.to.suffix not in suffixes:
        raise RequestError(f"--to {request.to} does not say in which format; end it in one of {', '.join(suffixes)}")
    if request.to.suffix == ONNX and request.keys != "minires":
        raise RequestError(f"--keys {request.keys} is for weight files; an ONNX file has the names of minires")
    if request.image_size is not None and request.image_size < 1:
        raise RequestError(f"--image-size is {request.image_size}, but must be at least 1")
    path, arrays, about = judge.read(request.source, request.checkpoint)
    about = {k: about[k] for k in ("data", "data_options", "model", "model_options") if k in about}
    if request.model is not None and request.model != about.get("model"):
        about = {"model": request.model}  # the rest was said of another one
    about = {**about, "model_options": {**about.get("model_options", {}), **request.options}}
    try:
        if request.to.suffix == ONNX:
            return _write_onnx(request, path, arrays, about)
        return _write_weights(request, path, arrays, about)
    except OSError as error:
        raise RequestError(f"--to {request.to} cannot be written: {error.strerror or error}") from None


def _write_weights(request: Request, path: Path, arrays: dict[str, Any], about: dict[str, Any]) -> str:
    name = about.get("model")
    names = "their own names" if name is None and request.keys == "minires" else f"the names of {request.keys}"
    if name is not None and (request.source_keys or request.model):
        arrays = _fit(_model(about)[0], arrays, request, path, name)
    request.to.parent.mkdir(parents=True, exist_ok=True)
    weights.save(request.to, arrays, request.keys, **(about if name else {}))
    size = sum(a.size for a in arrays.values())
    return f"made {request.to}: {len(arrays)} tensors, {size:,} numbers, under {names}"


def _write_onnx(request: Request, path: Path, arrays: dict[str, Any], about: dict[str, Any]) -> str:
    name = about.get("model")
    if name is None:
        raise RequestError(f"{path} does not say which model it is of; add --model NAME")
    model, shape = _model(about)
    if request.image_size is not None:
        shape = shape[0], request.image_size, request.image_size
    model.load_state_dict(_fit(model, arrays, request, path, name))
    request.to.parent.mkdir(parents=True, exist_ok=True)
    weights.export_onnx(model, request.to, shape, about)
    size = " x ".join(map(str, shape))
    return f"made {request.to}: {name} for images of {size}, any number at once, in evaluation mode"


def _fit(model: Module, arrays: dict[str, Any], request: Request, path: Path, name: str) -> dict[str, np.ndarray]:
    try:
        return weights.convert(arrays, model, request.source_keys)
    except RequestError as error:
        raise RequestError(f"{path} is not of a {name} as it was asked for: {error}") from None


def _model(about: dict[str, Any]) -> tuple[Module, tuple[int, int, int]]:
    """A model of that kind, and the shape of an image that it is made for: of its data's, else of the usual ones."""
    if "data" in about:
        model, _, _, test = tasks.find(about["data"]).build(config.create(**about))
        inputs, *_ = next(iter(test))
        if inputs.ndim != 4:
            raise RequestError(
                f"ONNX export is for models of images, and a {about['model']} of {about['data']} takes none; "
                "end --to in another suffix, such as .safetensors"
            )
        return model, inputs.shape[1:]
    known, options = models.info(about["model"]), about["model_options"]
    counts = {**known.options, **known.shape, **options}
    size = counts.get("image_size", 224 if known.shape.get("num_classes") == 1000 else 32)
    return models.create(about["model"], **options), (counts.get("in_channels", 3), size, size)
