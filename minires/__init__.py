"""minires: a from-scratch deep-learning framework that makes backpropagation visible."""

from minires import kernels as _kernels
from minires import operators as _operators
from minires.backend import device, manual_seed
from minires.engine import Tensor, tensor
from minires.ledger import ledger
from minires.switches import debug, enable_grad, formulas_only, is_grad_enabled, no_grad, watch

__version__ = "0.1.0"

del _kernels, _operators  # imported for what they register

__all__ = [
    "Tensor",
    "debug",
    "device",
    "enable_grad",
    "formulas_only",
    "is_grad_enabled",
    "ledger",
    "manual_seed",
    "no_grad",
    "tensor",
    "watch",
]
