"""Image classification: digits, MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from minires import backend, data, models
from minires import functional as F
from minires.backend import Array
from minires.engine import Tensor
from minires.errors import RequestError
from minires.nn import Module
from minires.train.task import Loader, Task, answer


class Images(Task):
    """Images (N, C, H, W) and their labels (N,), with the cross-entropy of the model's scores (N, classes)."""

    names = tuple(data.names())
    uses = ("augment", "val_fraction", "label_smoothing")
    best_label = "share of images classified correctly"
    loss_label = "cross-entropy, per image"

    def usual(self, name: str) -> dict[str, Any]:
        return USUAL[name]

    def build(self, config: Any) -> tuple[Module, Loader, Loader, Loader]:
        splits = data.load(config.data)
        train, validation = data.split_validation(splits.train, config.val_fraction, seed=config.seed)
        model = build_model(config.model, config.model_options, splits.train, config.device)
        channels_last = config.device == "cpu"  # as the kernels keep them; a device copies contiguous arrays fastest
        batches = data.DataLoader(
            train,
            batch_size=config.batch_size,
            shuffle=True,
            drop_last=len(train) >= config.batch_size,  # a last batch of one or two would shake batch norm
            transform=data.augmentation(config.data) if config.augment else None,
            generator=backend.generator(),
            channels_last=channels_last,
        )
        held_out, test = (
            data.DataLoader(part, batch_size=256, channels_last=channels_last) for part in (validation, splits.test)
        )
        return model, batches, held_out, test

    def loss(self, model: Module, *batch: Array, smoothing: float = 0.0) -> tuple[Tensor, list[Array]]:
        images, labels = batch
        scores = model(images)  # (N, classes)
        loss = F.cross_entropy(scores, labels, label_smoothing=smoothing)
        return loss, [(scores.data.argmax(1) == labels).sum()]

    def next_commands(self, config: Any, run: Path) -> list[str]:
        commands = super().next_commands(config, run)
        twin = config.model.replace("resnet", "plain")
        if config.model.startswith("resnet") and models.info(twin).family == models.info(config.model).family:
            commands.append(f"minires train --data {config.data} --model {twin}    the same without the skips")
        return commands


def build_model(name: str, options: dict[str, Any], dataset: data.Dataset, device: str) -> Module:
    """The model for this data set's classes, channels and image size, on a device.

    Raises RequestError when it cannot take these images.
    """
    _, channels, height, _ = dataset.images.shape
    about = models.info(name)
    if set(about.shape) != {"num_classes", "in_channels"}:
        raise RequestError(f"{name} does not classify images, so it cannot learn {dataset.name}; see minires models")
    if "image_size" in about.options:
        options = {"image_size": height, **options}
    with backend.device(device):
        try:
            model = models.create(name, len(dataset.classes), channels, **options).to(device)
            answer(model, np.zeros((1, *dataset.images.shape[1:]), np.float32))
        except (ValueError, TypeError) as error:
            shape = " x ".join(str(n) for n in dataset.images.shape[1:])
            raise RequestError(f"{name} does not fit {dataset.name}, whose images are {shape}: {error}") from None
    return model


# Digits: 1,400 images, so a tenth of them would be too few to tell a good epoch from a lucky one.
# CIFAR: batch, rate, momentum, decay, crop and flip of He et al. 2015, section 4.2; but few epochs, hence one-cycle.
USUAL: dict[str, dict[str, Any]] = {
    "digits": {"epochs": 15, "batch_size": 32, "lr": 0.2, "weight_decay": 5e-4, "augment": False, "val_fraction": 0.2},
    "mnist": {"epochs": 3, "batch_size": 64, "augment": False},
    "fashion-mnist": {"epochs": 5, "augment": False},
    "cifar10": {"model": "resnet20", "epochs": 10},
    "cifar100": {"model": "resnet20", "epochs": 10},
}

TASK = Images()
