"""What a run's options build: data, model, optimizer, schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from minires import backend, optim
from minires.nn import Module
from minires.train import tasks
from minires.train.config import Config
from minires.train.task import Loader, Task


@dataclass
class Parts:
    """Everything that a run trains with. The loaders yield tuples of NumPy arrays, inputs first."""

    task: Task
    model: Module
    optimizer: optim.Optimizer
    schedule: optim.LRScheduler
    train: Loader
    validation: Loader
    test: Loader


def build(config: Config) -> Parts:
    """Seeds the generator, then builds all parts in a fixed order: the same config gives the same parts.

    Raises RequestError when the data are not there, or when the model cannot take them.
    """
    backend.manual_seed(config.seed)
    task = tasks.find(config.data)
    with backend.device(config.device):
        model, train, validation, test = task.build(config)
    optimizer = build_optimizer(config, model, task.decay_all)
    schedule = build_schedule(config, optimizer, len(train))
    return Parts(task, model, optimizer, schedule, train, validation, test)


def build_optimizer(config: Config, model: Module, decay_all: bool = True) -> optim.Optimizer:
    """The optimizer over all parameters, with weight decay on all of them, as in He et al. 2015.

    decay_all    False: on matrices and kernels only, not on biases and gains, as transformers are trained
    """
    parameters: Any = list(model.named_parameters())
    if not decay_all:
        matrices = [(name, p) for name, p in parameters if p.ndim > 1]
        vectors = [(name, p) for name, p in parameters if p.ndim <= 1]
        parameters = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
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
