"""Layers, under the names, arguments, defaults, starts and state keys of torch.nn."""

from minires.nn import init
from minires.nn.activation import (
    ELU,
    GELU,
    Hardswish,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from minires.nn.attention import MultiheadAttention
from minires.nn.checkpoint import checkpoint, checkpoint_sequential
from minires.nn.containers import ModuleDict, ModuleList, Sequential
from minires.nn.conv import Conv1d, Conv2d, ConvTranspose2d
from minires.nn.dropout import Dropout, Dropout2d, DropPath
from minires.nn.embedding import Embedding
from minires.nn.linear import Flatten, Identity, Linear
from minires.nn.loss import BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, L1Loss, MSELoss, NLLLoss, SmoothL1Loss
from minires.nn.module import Buffer, Module, Parameter, functional_call
from minires.nn.norm import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm, RMSNorm
from minires.nn.pool import AdaptiveAvgPool2d, AvgPool2d, GlobalAvgPool2d, MaxPool2d
from minires.nn.residual import Residual, ShortcutA, ShortcutB, ShortcutC
from minires.nn.upsample import Upsample

__all__ = [
    "ELU",
    "GELU",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Buffer",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "DropPath",
    "Dropout",
    "Dropout2d",
    "Embedding",
    "Flatten",
    "GlobalAvgPool2d",
    "GroupNorm",
    "Hardswish",
    "HuberLoss",
    "Identity",
    "L1Loss",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "MultiheadAttention",
    "NLLLoss",
    "Parameter",
    "RMSNorm",
    "ReLU",
    "ReLU6",
    "Residual",
    "Sequential",
    "ShortcutA",
    "ShortcutB",
    "ShortcutC",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "Tanh",
    "Upsample",
    "checkpoint",
    "checkpoint_sequential",
    "functional_call",
    "init",
]
