"""Integers in: a looked-up row of a table, or a one-hot row."""

from __future__ import annotations

from typing import Any

from minires import backend
from minires.engine import Tensor
from minires.errors import RequestError
from minires.ops.embedding import Embedding, OneHot

__all__ = ["embedding", "one_hot"]


def embedding(input: Any, weight: Any, padding_idx: int | None = None) -> Tensor:
    """The rows of `weight` that `input` numbers.

    input          integers of any shape
    weight         (V, D)
    padding_idx    the row that gets no gradient; may count from the end

    Returns (*input.shape, D). Raises TypeError for an input that is not of integers, and IndexError for one
    out of range (on the CPU; on a GPU, looking would stop the queue, and CuPy wraps such an index around).
    """
    indices = _integers("embedding", input)
    if weight.ndim != 2:
        raise RequestError(f"embedding: weight is {tuple(weight.shape)}, but must be (rows, features)")
    rows = weight.shape[0]
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise RequestError(f"embedding: padding_idx {padding_idx} is no row of a weight with {rows} rows")
        padding_idx %= rows
    if indices.size and backend.find((indices,)).device == "cpu":
        low, high = int(indices.min()), int(indices.max())
        if low < 0 or high >= rows:
            raise IndexError(
                f"embedding: input holds index {low if low < 0 else high}, but weight has rows 0 to {rows - 1}"
            )
    return Embedding.apply(weight, input, padding_idx=padding_idx)


def one_hot(input: Any, num_classes: int = -1) -> Tensor:
    """Class numbers as rows of zeros and a one: (*input.shape, num_classes), int64, without gradient.

    num_classes    -1 takes the largest class number and one

    Raises TypeError for an input that is not of integers, RequestError for a class number out of range.
    """
    indices = _integers("one_hot", input)
    low, high = (int(indices.min()), int(indices.max())) if indices.size else (0, -1)
    classes = high + 1 if num_classes == -1 else num_classes
    if classes < 1 or low < 0 or high >= classes:
        raise RequestError(
            f"one_hot: class numbers from {low} to {high} do not fit num_classes={num_classes}; "
            "it must be at least 1, and the numbers from 0 to num_classes - 1"
        )
    return OneHot.apply(input, classes=classes)


def _integers(name: str, input: Any) -> Any:
    """The array behind `input`, which must hold integers."""
    array = input.data if isinstance(input, Tensor) else input
    if not hasattr(array, "dtype") or array.dtype.kind not in "iu":
        what = f"dtype {array.dtype}" if hasattr(array, "dtype") else type(array).__name__
        raise TypeError(f"{name}: input is of {what}, but must be a tensor or array of integers; use .astype('int64')")
    return array
