"""Kernels for CuPy: CUDA sources beside Python files of one name, cuBLAS, and cuDNN where it is installed.

Importing this package registers them and needs nothing but NumPy: a source is compiled when an array first meets it.
"""

from minires.kernels.cuda.attention import CudaAttention
from minires.kernels.cuda.batch_norm import CudaBatchNorm, CudaBatchNormEval
from minires.kernels.cuda.conv import CudaConv2d, CudaConvTranspose2d
from minires.kernels.cuda.linear import CudaLinear, CudaMatmul
from minires.kernels.cuda.loss import CudaCrossEntropy
from minires.kernels.cuda.optimizers import CudaWalk
from minires.kernels.cuda.pointwise import (
    CudaDropout,
    CudaGelu,
    CudaGeluTanh,
    CudaPadChannels,
    CudaRelu,
    CudaResidualAdd,
)
from minires.kernels.cuda.pool import CudaAvgPool2d, CudaMaxPool2d
from minires.kernels.cuda.precision import allow_tf32, tf32
from minires.kernels.cuda.row_norm import CudaLayerNorm, CudaRmsNorm
from minires.kernels.cuda.softmax import CudaLogSoftmax, CudaSoftmax

__all__ = [
    "CudaAttention",
    "CudaAvgPool2d",
    "CudaBatchNorm",
    "CudaBatchNormEval",
    "CudaConv2d",
    "CudaConvTranspose2d",
    "CudaCrossEntropy",
    "CudaDropout",
    "CudaGelu",
    "CudaGeluTanh",
    "CudaLayerNorm",
    "CudaLinear",
    "CudaLogSoftmax",
    "CudaMatmul",
    "CudaMaxPool2d",
    "CudaPadChannels",
    "CudaRelu",
    "CudaResidualAdd",
    "CudaRmsNorm",
    "CudaSoftmax",
    "CudaWalk",
    "allow_tf32",
    "tf32",
]
