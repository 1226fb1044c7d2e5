"""Matrix products under torch's names."""

from __future__ import annotations

from typing import Any

from minires.engine import Tensor
from minires.errors import RequestError
from minires.ops.linear import Linear, Matmul

__all__ = ["bmm", "linear", "matmul", "mm"]


def linear(input: Any, weight: Any, bias: Any = None) -> Tensor:
    """input weightᵀ + bias over the last axis.

    input    (*, D): any leading axes
    weight   (O, D)
    bias     (O,) or None

    Returns (*, O). Raises RequestError when the shapes do not fit.
    """
    x, w = input.shape, weight.shape
    if len(w) != 2:
        raise RequestError(f"linear: weight is {w}, but must be (out_features, in_features)")
    if not x or x[-1] != w[1]:
        raise RequestError(
            f"linear: input is {x} and weight is {w}: input's last axis must equal weight's axis 1, {w[1]}"
        )
    if bias is not None and bias.shape != w[:1]:
        raise RequestError(f"linear: bias is {bias.shape}, but weight {w} needs {w[:1]}")
    return Linear.apply(input, weight, bias)


def matmul(input: Any, other: Any) -> Tensor:
    """The matrix product over the last two axes; leading axes broadcast.

    A 1-D `input` is one row and a 1-D `other` one column, and the axis this adds is left out of the result: two 1-D
    operands give their dot product, 0-d. Raises RequestError when the shapes do not fit.
    """
    a, b = tuple(input.shape), tuple(other.shape)
    if not a or not b:
        raise RequestError(f"matmul: input is {a} and other is {b}, but a 0-d operand is no matrix; use input * other")
    inner = b[-2] if len(b) > 1 else b[0]
    if a[-1] != inner:
        raise RequestError(
            f"matmul: input is {a} and other is {b}: input's last axis, {a[-1]}, must equal "
            f"other's {'last but one' if len(b) > 1 else 'only one'}, {inner}"
        )
    if any(m != n and 1 not in (m, n) for m, n in zip(a[-3::-1], b[-3::-1], strict=False)):
        raise RequestError(f"matmul: input is {a} and other is {b}: their leading axes do not broadcast")
    return Matmul.apply(input, other)


def mm(input: Any, mat2: Any) -> Tensor:
    """`matmul` of two matrices, (T, K) and (K, D)."""
    return _products("mm", input, mat2, 2)


def bmm(input: Any, mat2: Any) -> Tensor:
    """`matmul` of two equally long batches of matrices, (N, T, K) and (N, K, D); nothing broadcasts."""
    return _products("bmm", input, mat2, 3)


def _products(name: str, a: Any, b: Any, axes: int) -> Tensor:
    if a.ndim != axes or b.ndim != axes or a.shape[:-2] != b.shape[:-2]:
        what = "two matrices" if axes == 2 else "two equally long batches of matrices"
        raise RequestError(
            f"{name}: input is {tuple(a.shape)} and mat2 is {tuple(b.shape)}, but {name} takes {what}; "
            "matmul broadcasts"
        )
    return matmul(a, b)
