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
from minires.nn.depth import (
    AttentionResiduals,
    BlockAttentionResiduals,
    DenseFormerStream,
    DepthMixing,
    HighwayStream,
    HyperConnections,
    ResidualStream,
    Stream,
    depth_matrix,
)
from minires.nn.dropout import Dropout, Dropout2d, DropPath
from minires.nn.embedding import Embedding
from minires.nn.evaluating import evaluating
from minires.nn.linear import Flatten, Identity, Linear
from minires.nn.loss import BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, L1Loss, MSELoss, NLLLoss, SmoothL1Loss
from minires.nn.module import Buffer, Module, Parameter, functional_call
from minires.nn.norm import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm, RMSNorm
from minires.nn.pool import AdaptiveAvgPool2d, AvgPool2d, GlobalAvgPool2d, MaxPool2d
from minires.nn.residual import (
    DenseConcat,
    EncoderDecoderSkip,
    GatedShortcut,
    Residual,
    ShortcutA,
    ShortcutB,
    ShortcutC,
    TransferGate,
    zero_gamma_,
)
from minires.nn.residual_scale import LayerScale, LearnedScale, Scale, StochasticDepth, deepnorm, linear_decay
from minires.nn.squeeze import SqueezeExcitation
from minires.nn.upsample import Upsample

__all__ = [
    "ELU",
    "GELU",
    "AdaptiveAvgPool2d",
    "AttentionResiduals",
    "AvgPool2d",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "BlockAttentionResiduals",
    "Buffer",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "DenseConcat",
    "DenseFormerStream",
    "DepthMixing",
    "DropPath",
    "Dropout",
    "Dropout2d",
    "Embedding",
    "EncoderDecoderSkip",
    "Flatten",
    "GatedShortcut",
    "GlobalAvgPool2d",
    "GroupNorm",
    "Hardswish",
    "HighwayStream",
    "HuberLoss",
    "HyperConnections",
    "Identity",
    "L1Loss",
    "LayerNorm",
    "LayerScale",
    "LeakyReLU",
    "LearnedScale",
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
    "ResidualStream",
    "Scale",
    "Sequential",
    "ShortcutA",
    "ShortcutB",
    "ShortcutC",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Softplus",
    "SqueezeExcitation",
    "StochasticDepth",
    "Stream",
    "Tanh",
    "TransferGate",
    "Upsample",
    "checkpoint",
    "checkpoint_sequential",
    "deepnorm",
    "depth_matrix",
    "evaluating",
    "functional_call",
    "init",
    "linear_decay",
    "zero_gamma_",
]
