"""What a run's options build: data, model, optimizer, schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from minires import backend, data, models, optim
from minires.errors import RequestError
from minires.nn import Module
from minires.switches import no_grad
from minires.train.config import Config


@dataclass
class Parts:
    """Everything that a run trains with. The loaders yield images (N, C, H, W) and labels (N,) as NumPy arrays."""

    model: Module
    optimizer: optim.Optimizer
    schedule: optim.LRScheduler
    train: data.DataLoader
    validation: data.DataLoader
    test: data.DataLoader


def build(config: Config) -> Parts:
    """Seeds the generator, then builds all parts in a fixed order: the same config gives the same parts.

    Raises RequestError when the data are not there, or when the model cannot take their images.
    """
    backend.manual_seed(config.seed)
    splits = data.load(config.data)
    train, validation = data.split_validation(splits.train, config.val_fraction, seed=config.seed)
    model = build_model(config.model, config.model_options, splits.train, config.device)
    channels_last = config.device == "cpu"  # as the kernels keep them there; a device copies contiguous arrays fastest
    batches = data.DataLoader(
        train,
        batch_size=config.batch_size,
        shuffle=True,
        drop_last=len(train) >= config.batch_size,  # a last batch of one or two would shake batch norm
        transform=data.augmentation(config.data) if config.augment else None,
        generator=backend.generator(),
        channels_last=channels_last,
    )
    optimizer = build_optimizer(config, model)
    schedule = build_schedule(config, optimizer, len(batches))
    held_out, test = (
        data.DataLoader(part, batch_size=256, channels_last=channels_last) for part in (validation, splits.test)
    )
    return Parts(model, optimizer, schedule, batches, held_out, test)


def build_model(name: str, options: dict[str, Any], dataset: Any, device: str) -> Module:
    """The model for this data set's classes, channels and image size, on a device.

    Raises RequestError when it cannot take these images.
    """
    _, channels, height, _ = dataset.images.shape
    if "image_size" in models.info(name).options:
        options = {"image_size": height, **options}
    with backend.device(device):
        try:
            model = models.create(name, len(dataset.classes), channels, **options).to(device)
            _try(model, dataset.images.shape[1:])
        except (ValueError, TypeError) as error:
            shape = " x ".join(str(n) for n in dataset.images.shape[1:])
            raise RequestError(f"{name} does not fit {dataset.name}, whose images are {shape}: {error}") from None
    return model


def _try(model: Module, shape: tuple[int, ...]) -> None:
    """One forward pass, so that a model that cannot take these images is refused before anything is written."""
    model.eval()
    with no_grad():
        model(backend.default().xp.zeros((1, *shape), np.float32))
    model.train()


def build_optimizer(config: Config, model: Module) -> optim.Optimizer:
    """The optimizer over all parameters, with weight decay on all of them, as in He et al. 2015."""
    parameters = list(model.named_parameters())
    shared: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.optimizer == "sgd":
        return optim.SGD(parameters, momentum=config.momentum, nesterov=config.nesterov, **shared)
    if config.optimizer == "rmsprop":
        return optim.RMSprop(parameters, momentum=config.momentum, **shared)
    return {"adam": optim.Adam, "adamw": optim.AdamW}[config.optimizer](parameters, **shared)


def build_schedule(config: Config, optimizer: optim.Optimizer, batches: int) -> optim.LRScheduler:
    """The learning rate's course, stepped once a batch."""
    total = config.epochs * batches
    warmup = math.ceil(config.warmup_epochs * batches)
    rest = total - warmup
    name = config.schedule
    if name == "one-cycle":
        return optim.OneCycleLR(
            optimizer, max_lr=config.lr, total_steps=total, pct_start=config.pct_start, cycle_momentum=False
        )
    if name == "cosine":
        course: optim.LRScheduler = optim.CosineAnnealingLR(optimizer, T_max=rest)
    elif name == "step":
        course = optim.StepLR(optimizer, step_size=max(1, math.ceil(rest / 3)), gamma=0.1)
    else:
        milestones = [rest // 2, 3 * rest // 4] if name == "multistep" else []
        course = optim.MultiStepLR(optimizer, milestones=milestones, gamma=0.1)
    if not warmup:
        return course
    rise = optim.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return optim.SequentialLR(optimizer, [rise, course], milestones=[warmup])
