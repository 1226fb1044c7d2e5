"""Optimizers, schedules and clipping, under the names and with the arithmetic of `torch.optim`."""

from minires.optim.adam import Adam, AdamW
from minires.optim.clip import clip_grad_norm_, clip_grad_value_
from minires.optim.optimizer import Optimizer, decay_groups
from minires.optim.rmsprop import RMSprop
from minires.optim.schedules import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    NoamLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)
from minires.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "CosineAnnealingLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "NoamLR",
    "OneCycleLR",
    "Optimizer",
    "RMSprop",
    "SequentialLR",
    "StepLR",
    "clip_grad_norm_",
    "clip_grad_value_",
    "decay_groups",
]
