"""Faster subclasses of ops for one array library. Never needed for a right answer.

Importing this package registers them; `MINIRES_KERNELS=off` or `minires.formulas_only()` ignores them.
"""

# The first kernel registered is asked first, so the compiled ones come before those they may stand in for.
from minires.kernels.compiled.provider import (  # isort: skip
    CompiledAdd,
    CompiledBatchNorm,
    CompiledBatchNormEval,
    CompiledConv2d,
    CompiledConvTranspose2d,
    CompiledMeeting,
    CompiledRelu,
    CompiledResidualAdd,
)
from minires.kernels.compiled.sequence import CompiledGelu, CompiledLayerNorm  # isort: skip
from minires.kernels import cuda
from minires.kernels.attention import BlockedAttention
from minires.kernels.conv import BlockedConv2d, BlockedConvTranspose2d
from minires.kernels.embedding import SortedEmbedding
from minires.kernels.gelu import BlockedGelu, BlockedGeluTanh
from minires.kernels.linear import BlockedLinear
from minires.kernels.norm import BlockedBatchNorm, BlockedBatchNormEval
from minires.kernels.pool import BlockedAvgPool2d, BlockedGlobalAvgPool2d, BlockedMaxPool2d
from minires.kernels.rectifier import BlockedRelu
from minires.kernels.residual import BlockedAdd, BlockedMeeting, BlockedResidualAdd, ChannelsLastPadChannels
from minires.kernels.rows import BlockedLayerNorm, BlockedLogSoftmax, BlockedRmsNorm, BlockedSoftmax
from minires.kernels.small import ClassCrossEntropy, RowsLinear

__all__ = [
    "BlockedAdd",
    "BlockedAttention",
    "BlockedAvgPool2d",
    "BlockedBatchNorm",
    "BlockedBatchNormEval",
    "BlockedConv2d",
    "BlockedConvTranspose2d",
    "BlockedGelu",
    "BlockedGeluTanh",
    "BlockedGlobalAvgPool2d",
    "BlockedLayerNorm",
    "BlockedLinear",
    "BlockedLogSoftmax",
    "BlockedMaxPool2d",
    "BlockedMeeting",
    "BlockedRelu",
    "BlockedResidualAdd",
    "BlockedRmsNorm",
    "BlockedSoftmax",
    "ChannelsLastPadChannels",
    "ClassCrossEntropy",
    "CompiledAdd",
    "CompiledBatchNorm",
    "CompiledBatchNormEval",
    "CompiledConv2d",
    "CompiledConvTranspose2d",
    "CompiledGelu",
    "CompiledLayerNorm",
    "CompiledMeeting",
    "CompiledRelu",
    "CompiledResidualAdd",
    "RowsLinear",
    "SortedEmbedding",
    "cuda",
]
