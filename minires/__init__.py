"""minires: a from-scratch deep-learning framework that makes backpropagation visible."""

import minires.kernels as _kernels  # noqa: F401
from minires.backend import device, manual_seed
from minires.engine import Tensor, tensor
from minires.ledger import ledger
from minires.switches import debug, enable_grad, formulas_only, is_grad_enabled, no_grad, watch

__version__ = "0.1.0"

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
