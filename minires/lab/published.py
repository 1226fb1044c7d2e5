"""The published ResNet-20 and CIFAR-10's test images, where a machine has them."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np

from minires import data, models, nn, weights
from minires.errors import RequestError
from minires.lab import nets

WEIGHTS = "resnet20-cifar10.safetensors"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what it was trained with
DOWN = (3, 6)  # the blocks that reduce the resolution


def resnet20() -> tuple[nn.Module | None, str | None]:
    """(the net, None), or (None, what is missing). Its weights are in the folder that MINIRES_WEIGHTS names.

    Source    He et al. 2015, Deep Residual Learning, section 4.2; weights: github.com/akamaster/pytorch_resnet_cifar10
    """
    folder = os.environ.get("MINIRES_WEIGHTS")
    if not folder or not (Path(folder) / WEIGHTS).is_file():
        return None, f"{WEIGHTS} is not here; MINIRES_WEIGHTS names its folder"
    model = models.create("resnet20")
    weights.load(model, Path(folder) / WEIGHTS)
    return model, None


def cifar10(count: int, part: int) -> tuple[nets.Images | None, str | None]:
    """(`count` test images as the net expects them, None), or (None, what is missing).

    part    test images number count part, ..., count (part + 1) - 1, from the beginning again at their end
    """
    try:
        test = _test()
    except RequestError:
        return None, f"CIFAR-10 is not in {data.data_dir()}; MINIRES_DATA names its folder"
    chosen = test.subset(np.arange(count * part, count * (part + 1)) % len(test))
    mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (MEAN, STD))
    return nets.Images((chosen.images / np.float32(chosen.scale) - mean) / std, chosen.labels), None


@functools.cache
def _test() -> data.Dataset:
    return data.load("cifar10", download=False).test
