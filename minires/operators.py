"""Operators and methods of Tensor: `x + w`, `x @ w`, `x[i]`, `x.sum()`. Each is a function of `functional`, bound here.

Importing this module binds them; there is no formula here, and no second implementation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minires import backend
from minires import functional as F
from minires.engine import Tensor
from minires.ops.transfer import Transfer

METHODS = (
    "abs amax amin argmax argmin broadcast_to chunk clamp clip div exp expand flatten flip log log_softmax logsumexp "
    "matmul max maximum mean min minimum movedim mul neg permute pow relu reshape sigmoid softmax split sqrt squeeze "
    "std sub sum tanh transpose unbind unsqueeze var view"
).split()

BINARY = {
    "add": F.add,
    "sub": F.sub,
    "mul": F.mul,
    "truediv": F.div,
    "pow": F.pow,
    "matmul": F.matmul,
}

COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


def to(self: Tensor, target: Any = None, *, device: str | None = None, dtype: Any = None) -> Tensor:
    """This tensor on another device ("cpu", "cuda") or in another dtype; itself where nothing changes.

    The gradient takes the same way back. Raises RequestError for an unknown or absent device.
    """
    if isinstance(target, str) and target in {"cpu", "cuda", "gpu"} | backend.devices():
        device = target
    elif target is not None:
        dtype = target
    moved = self
    if device is not None:
        library = backend.library_of(device)
        if library is not backend.find((self.data,)):
            moved = Transfer.apply(moved, library=library)
    if dtype is not None and np.dtype(dtype) != moved.dtype:
        moved = F.cast(moved, np.dtype(dtype))
    return moved


def double(self: Tensor) -> Tensor:
    """This tensor in float64."""
    return to(self, dtype=np.float64)


def single(self: Tensor) -> Tensor:
    """This tensor in float32."""
    return to(self, dtype=np.float32)


def _forward(f: Callable[..., Tensor]) -> Callable[[Tensor, Any], Any]:
    return lambda self, other: f(self, other) if _operand(other) else NotImplemented


def _reflected(f: Callable[..., Tensor]) -> Callable[[Tensor, Any], Any]:
    return lambda self, other: f(other, self) if _operand(other) else NotImplemented


def _operand(other: Any) -> bool:
    return isinstance(other, (Tensor, int, float, complex, np.generic)) or hasattr(other, "dtype")


def _comparison(name: str) -> Callable[[Tensor, Any], Any]:
    def compare(self: Tensor, other: Any) -> Any:
        if not _operand(other):
            return NotImplemented
        values = other.data if isinstance(other, Tensor) else other
        lib = backend.find((self.data, values), name)
        return Tensor(lib.xp.asarray(getattr(self.data, f"__{name}__")(values)))

    compare.__doc__ = "A bool tensor, element by element. No gradient."
    return compare


def _truth(self: Tensor) -> bool:
    """The truth of a one-element tensor. Raises ValueError for more elements."""
    if self.size != 1:
        raise ValueError(f"the truth of a tensor of shape {self.shape} is ambiguous; use a one-element tensor")
    return bool(self.data.reshape(-1)[0])


def _iterate(self: Tensor) -> Any:
    """The slices along the first axis."""
    return (self[i] for i in range(len(self)))


def _bind() -> None:
    for name in METHODS:
        setattr(Tensor, name, getattr(F, name))
    for name, f in BINARY.items():
        setattr(Tensor, f"__{name}__", _forward(f))
        setattr(Tensor, f"__r{name}__", _reflected(f))
    for name in COMPARISONS:
        setattr(Tensor, f"__{name}__", _comparison(name))
    special: dict[str, Any] = {
        "__hash__": object.__hash__,
        "__neg__": F.neg,
        "__abs__": F.abs,
        "__getitem__": F.getitem,
        "__bool__": _truth,
        "__float__": lambda self: float(self.item()),
        "__int__": lambda self: int(self.item()),
        "__iter__": _iterate,
        "to": to,
        "double": double,
        "float": single,
        "T": property(lambda self: F.permute(self, tuple(reversed(range(self.ndim))))),
        "mT": property(lambda self: F.transpose(self, -2, -1)),
    }
    for name, value in special.items():
        setattr(Tensor, name, value)


_bind()
