"""minires: a from-scratch deep-learning framework that makes backpropagation visible.

    import minires as mr
    from minires import functional as F, nn

What stands here is what a first program needs; `mr.nn`, `mr.optim`, `mr.models`, `mr.data`, `mr.train`, `mr.check`,
`mr.explain`, `mr.lab` and `mr.classroom` are loaded when they are first used.
"""

import importlib
from types import ModuleType

from minires import kernels, operators  # each registers or binds what it holds
from minires.backend import device, manual_seed
from minires.engine import Tensor, tensor
from minires.ledger import ledger
from minires.lesion import lesion
from minires.profile import profile
from minires.switches import debug, enable_grad, formulas_only, is_grad_enabled, is_recomputing, no_grad, watch
from minires.transforms import grad, hvp, jacobian, jvp, value_and_grad, vjp

__version__ = "0.5.0"

__all__ = [
    "Tensor",
    "debug",
    "device",
    "enable_grad",
    "formulas_only",
    "grad",
    "hvp",
    "is_grad_enabled",
    "is_recomputing",
    "jacobian",
    "jvp",
    "kernels",
    "ledger",
    "lesion",
    "manual_seed",
    "no_grad",
    "operators",
    "profile",
    "tensor",
    "value_and_grad",
    "vjp",
    "watch",
]


def __getattr__(name: str) -> ModuleType:
    if name in ("check", "classroom", "data", "explain", "lab", "models", "nn", "optim", "train"):
        return importlib.import_module(f"minires.{name}")
    raise AttributeError(f"module 'minires' has no attribute {name!r}")
