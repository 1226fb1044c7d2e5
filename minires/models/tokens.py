"""What every model that reads tokens asks of them."""

from __future__ import annotations

from typing import Any

from minires import backend
from minires.engine import Tensor
from minires.errors import RequestError


def check(tokens: Any, vocab_size: int, context: int, past: int = 0, what: str = "token") -> Any:
    """The array behind `tokens`, which must be integers (N, T) below vocab_size, `past` + T of them within the context.

    Raises RequestError for tokens that are not. On a GPU values are not looked at, since that would stop the queue.
    """
    array = tokens.data if isinstance(tokens, Tensor) else tokens
    if array.ndim != 2 or array.dtype.kind not in "iu" or array.shape[1] < 1:
        raise RequestError(
            f"{what}s must be integers, (sentences, places) with one place at least, not {array.shape} of {array.dtype}"
        )
    length = past + array.shape[1]
    if length > context:
        raise RequestError(
            f"a sequence of {length} {what}s is longer than the context, {context}; "
            "cut it, or make the model with a larger context"
        )
    if array.size and backend.find((array,)).device == "cpu":
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= vocab_size:
            raise RequestError(
                f"{what} {low if low < 0 else high} is outside the vocabulary, 0 to {vocab_size - 1}; "
                "use the vocabulary that the model was trained with"
            )
    return array
