"""Scores into a probability distribution."""

from __future__ import annotations

from typing import Any

from minires.engine import Tensor
from minires.errors import RequestError
from minires.ops.softmax import LogSoftmax, Softmax

__all__ = ["log_softmax", "softmax"]


def softmax(input: Any, dim: int) -> Tensor:
    """exp(input) / sum(exp(input)) along `dim`: positive, and summing to one.

    A slice that is -inf throughout becomes NaN, as in PyTorch. Raises IndexError when input has no axis `dim`.
    """
    return Softmax.apply(input, dim=_axis("softmax", input, dim))


def log_softmax(input: Any, dim: int) -> Tensor:
    """log(softmax(input, dim)), without softmax's underflow. Raises IndexError when input has no axis `dim`."""
    return LogSoftmax.apply(input, dim=_axis("log_softmax", input, dim))


def _axis(name: str, input: Any, dim: int) -> int:
    if input.dtype.kind not in "fc":
        raise TypeError(f"{name}: input is of dtype {input.dtype}, but must be of floats; use .astype('float32')")
    if not input.ndim:
        raise RequestError(f"{name}: input is 0-d, so there is no axis to sum to one along")
    if not -input.ndim <= dim < input.ndim:
        raise IndexError(
            f"{name}: dim {dim} is out of range for an input of {tuple(input.shape)}; "
            f"use {-input.ndim} to {input.ndim - 1}"
        )
    return dim
