"""The libraries that minires is compared with: each helper gives the module, or skips the test and says why.

Weights are always random ones: nothing is downloaded. What a peer warns about while it is imported is not ours to
answer for, so it is silenced there and only there.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import sys
import warnings
from typing import Any

import pytest

_declared: list[Any] = []  # torch forgets an operator when the library that declared it is collected


def torch() -> Any:
    """PyTorch."""
    return _imported("torch", "the peer of every layer")


def torchvision() -> Any:
    """torchvision: ResNet, DenseNet, VGG, AlexNet, EfficientNet, ViT. A build without its C++ operators will do."""
    torch()
    return _imported("torchvision", "the peer of the ImageNet models")


def timm() -> Any:
    """timm: SE-ResNet and other image models."""
    torchvision()  # which timm imports, and which may need its operators declared
    return _imported("timm", "the peer of SE-ResNet")


def transformers() -> Any:
    """Hugging Face's transformers: GPT-2, BERT, Conformer layers. It never asks the network."""
    torch()
    _quietly("torchvision")  # absent is as good: transformers imports it where it finds it
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    found = _imported("transformers", "the peer of GPT-2 and BERT")
    found.logging.set_verbosity_error()
    return found


def onnx() -> Any:
    """The format itself, for what minires exports."""
    return _imported("onnx", "what ONNX files are written with")


def onnxruntime() -> Any:
    """An engine that runs exported models."""
    return _imported("onnxruntime", "what runs exported models")


def _imported(name: str, what: str) -> Any:
    found = _quietly(name)
    if found is None:
        pytest.skip(f"{name} is not installed; it is {what}")
    return found


@functools.cache
def _quietly(name: str) -> Any:
    """The module, or None where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            return None
        except RuntimeError as error:  # a torchvision without C++ operators fails at the first one it describes
            if name != "torchvision" or "does not exist" not in str(error):
                raise
            return _torchvision_without_operators(error)


def _torchvision_without_operators(error: RuntimeError) -> Any:
    """torchvision with its C++ operators declared by name only; its models, which are plain torch, need no more."""
    library = importlib.import_module("torch").library.Library("torchvision", "DEF")
    _declared.append(library)
    for _ in range(20):
        missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
        if missing is None:
            raise error
        library.define(f"{missing[1]}(Tensor x) -> Tensor")
        for loaded in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
            del sys.modules[loaded]
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as next_one:
            error = next_one
    raise error
