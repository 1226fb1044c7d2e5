"""+ - * / ** @ [] and methods such as .sum(), bound onto Tensor. Importing this file binds them.

A method is the function of the same name in `minires.functional`, with the tensor as its first argument; so
`x.softmax(-1)` is `F.softmax(x, -1)`, and its help is the function's.

`x += y` makes a new tensor and calls it x, as for any Python number: nothing is changed in place.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minires import backend
from minires import functional as F
from minires.engine import Tensor
from minires.errors import GraphError, RequestError
from minires.ops.transfer import To

_METHODS = """
    abs add clamp clip div exp log maximum minimum mul neg pow sqrt sub
    relu sigmoid softmax log_softmax tanh
    amax amin argmax argmin logsumexp max mean min std sum var
    broadcast_to chunk expand flatten flip movedim permute reshape split squeeze transpose unbind unsqueeze view
    matmul mm bmm
"""
METHODS = _METHODS.split()

ARITHMETIC: dict[str, Callable[[Any, Any], Tensor]] = {
    "add": F.add,
    "sub": F.sub,
    "mul": F.mul,
    "truediv": F.div,
    "pow": F.pow,
    "matmul": F.matmul,
}
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "xor")  # of these, none carries a gradient
REFLECTED = ("and_", "or_", "xor")
DTYPES = {"float": np.float32, "double": np.float64, "long": np.int64}


# --- operators with two operands


def _is_operand(other: Any) -> bool:
    return isinstance(other, (Tensor, bool, int, float, complex)) or hasattr(other, "dtype")


def _arithmetic(name: str, f: Callable[[Any, Any], Tensor]) -> None:
    needs_axes = name == "matmul"

    def applied(self: Tensor, other: Any) -> Any:
        if not _is_operand(other) or (needs_axes and not hasattr(other, "shape")):
            return NotImplemented
        return f(self, other)

    def reflected(self: Tensor, other: Any) -> Any:
        if not _is_operand(other) or (needs_axes and not hasattr(other, "shape")):
            return NotImplemented
        return f(other, self)

    _bind(f"__{name}__", applied, f.__doc__)
    _bind(f"__r{name}__", reflected, f.__doc__)


def _comparison(name: str) -> None:
    compare = getattr(operator, name)

    def applied(self: Tensor, other: Any) -> Any:
        if not _is_operand(other):
            return NotImplemented
        values = other.data if isinstance(other, Tensor) else other
        library = backend.find((self.data, values), name.strip("_"))
        return Tensor(library.asarray(compare(self.data, values)))

    plain = name.strip("_")
    _bind(f"__{plain}__", applied, f"{compare.__doc__} Element by element, without gradient.")
    if name in REFLECTED:
        _bind(f"__r{plain}__", applied, f"{compare.__doc__} Element by element, without gradient.")


def _bind(name: str, method: Any, doc: str | None = None) -> None:
    if doc is not None:
        method.__name__, method.__qualname__, method.__doc__ = name, f"Tensor.{name}", doc
    setattr(Tensor, name, method)


# --- what Python asks of a number and of a sequence


def _only_value(self: Tensor, wanted: str) -> Any:
    if self.size != 1:
        raise RequestError(
            f"{wanted}: a tensor of shape {tuple(self.shape)} is not one number; reduce it first, or use .numpy()"
        )
    return self.data.item()


def _bool(self: Tensor) -> bool:
    """Whether the one element is other than zero. Raises RequestError for a tensor of another size."""
    return bool(_only_value(self, "bool"))


def _float(self: Tensor) -> float:
    """The one element. Raises RequestError for a tensor of another size."""
    return float(_only_value(self, "float"))


def _int(self: Tensor) -> int:
    """The one element, rounded toward zero. Raises RequestError for a tensor of another size."""
    return int(_only_value(self, "int"))


def _index(self: Tensor) -> int:
    """The one element of an integer tensor, as an index. Raises TypeError for another dtype or size."""
    if self.size != 1:
        raise TypeError(f"a tensor of shape {tuple(self.shape)} is no index: it must be one integer")
    return operator.index(self.data.item())


def _iter(self: Tensor) -> Iterator[Tensor]:
    """The pieces along axis 0. Raises TypeError for a 0-d tensor."""
    if not self.ndim:
        raise TypeError("a 0-d tensor has nothing to iterate over")
    return iter(F.unbind(self, 0))


def _array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    """What np.asarray(tensor) gives. Raises GraphError for a tensor with a gradient, which NumPy would lose."""
    if self.requires_grad:
        raise GraphError("NumPy cannot follow a tensor that carries a gradient; use .detach().numpy()")
    return np.array(self.numpy(), dtype=dtype, copy=copy)


def _invert(self: Tensor) -> Tensor:
    """~self, of booleans or integers, without gradient."""
    return Tensor(backend.find((self.data,)).asarray(~self.data))


# --- properties


def _t(self: Tensor) -> Tensor:
    """The transpose of a matrix; a vector is its own. Raises RequestError for more axes: mT swaps the last two."""
    if self.ndim > 2:
        raise RequestError(f"T: a tensor of shape {tuple(self.shape)} is no matrix; use mT or permute")
    return F.transpose(self, 0, -1) if self.ndim == 2 else self


def _mt(self: Tensor) -> Tensor:
    """Each matrix transposed: the last two axes exchanged. Raises RequestError for fewer than two axes."""
    if self.ndim < 2:
        raise RequestError(f"mT: a tensor of shape {tuple(self.shape)} holds no matrix; it needs at least two axes")
    return F.transpose(self, -2, -1)


# --- elsewhere, or in another dtype


def to(self: Tensor, *targets: Any, device: str | None = None, dtype: Any = None) -> Tensor:
    """The tensor on another device, in another dtype, or both; itself where nothing changes.

    targets    in any order: "cpu" or "cuda", a dtype or its name, or a tensor whose device and dtype to take

    The gradient comes back to where the tensor was, in its own dtype. Raises RequestError for an unknown device,
    TypeError for an unknown dtype.
    """
    for target in targets:
        if isinstance(target, Tensor):
            device, dtype = target.device, target.dtype
        elif isinstance(target, str) and _names_a_device(target):
            device = target
        else:
            dtype = target
    y = self
    if dtype is not None and np.dtype(dtype) != y.dtype:
        y = F.cast(y, np.dtype(dtype))
    if device is not None and backend.library_of(device).device != y.device:
        y = To.apply(y, device=device)
    return y


def _names_a_device(name: str) -> bool:
    try:
        np.dtype(name)
    except TypeError:
        return True
    return False


def astype(self: Tensor, dtype: Any) -> Tensor:
    """The tensor in another dtype, as `to(dtype)`: NumPy's name for it."""
    return to(self, dtype=dtype)


def cpu(self: Tensor) -> Tensor:
    """The tensor in the host's memory, as `to("cpu")`."""
    return to(self, device="cpu")


def cuda(self: Tensor) -> Tensor:
    """The tensor on the GPU, as `to("cuda")`."""
    return to(self, device="cuda")


def _caster(name: str, dtype: Any) -> None:
    def cast(self: Tensor) -> Tensor:
        return to(self, dtype=dtype)

    _bind(name, cast, f"The tensor as {np.dtype(dtype)}; itself if it is that already.")


def _bind_all() -> None:
    for name in METHODS:
        _bind(name, getattr(F, name))
    for name, f in ARITHMETIC.items():
        _arithmetic(name, f)
    for name in COMPARISONS:
        _comparison(name)
    for name, dtype in DTYPES.items():
        _caster(name, dtype)
    for method in (to, astype, cpu, cuda):
        _bind(method.__name__, method)
    special: tuple[Any, ...] = (_bool, _float, _int, _index, _iter, _array, _invert)
    for method in special:
        _bind(f"__{method.__name__[1:]}__", method)
    _bind("__neg__", F.neg)
    _bind("__abs__", F.abs)
    _bind("__getitem__", F.getitem)
    _bind("__hash__", object.__hash__)  # == compares elements, but a dictionary wants to know one tensor from another
    _bind("T", property(_t))
    _bind("mT", property(_mt))


_bind_all()
