"""Faster subclasses of ops for one array library. Never needed for a right answer.

Importing this package registers them; `MINIRES_KERNELS=off` or `minires.formulas_only()` ignores them.
"""

from minires.kernels.conv import BlockedConv2d, BlockedConvTranspose2d
from minires.kernels.norm import BlockedBatchNorm, BlockedBatchNormEval
from minires.kernels.pool import BlockedAvgPool2d, BlockedGlobalAvgPool2d, BlockedMaxPool2d
from minires.kernels.rectifier import BlockedRelu
from minires.kernels.residual import BlockedResidualAdd, ChannelsLastPadChannels

__all__ = [
    "BlockedAvgPool2d",
    "BlockedBatchNorm",
    "BlockedBatchNormEval",
    "BlockedConv2d",
    "BlockedConvTranspose2d",
    "BlockedGlobalAvgPool2d",
    "BlockedMaxPool2d",
    "BlockedRelu",
    "BlockedResidualAdd",
    "ChannelsLastPadChannels",
]
