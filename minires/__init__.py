"""minires: a from-scratch deep-learning framework that makes backpropagation visible."""

import minires.kernels  # registers the faster subclasses
from minires.backend import device, manual_seed
from minires.engine import Tensor, debug, formulas_only, ledger, no_grad, tensor, watch

__version__ = "0.1.0"

__all__ = ["Tensor", "debug", "device", "formulas_only", "ledger", "manual_seed", "no_grad", "tensor", "watch"]
