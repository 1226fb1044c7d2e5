"""What models ask of their options and of what they are given. What does not fit is refused at the door.

Each raises RequestError in one line: what is wrong, why, and what to do.
"""

from __future__ import annotations

from typing import Any

from minires import backend
from minires.engine import Tensor
from minires.errors import RequestError


def at_least_one(model: str, **counts: int) -> None:
    """Every count by its name must be 1 or more: a width of 0 leaves nothing to learn."""
    for name, count in counts.items():
        if count < 1:
            raise RequestError(f"{model}: {name} is {count}, but must be at least 1")


def one_of(model: str, option: str, value: str, known: tuple[str, ...]) -> None:
    """An option that is a word must be one of those that there are."""
    if value not in known:
        *most, last = map(repr, known)
        raise RequestError(f"{model}: {option} is {value!r}, but there are only {', '.join(most)} and {last}")


def images(model: str, x: Any, shape: tuple[int, ...], options: str = "in_channels and image_size") -> None:
    """x must be (N, *shape): the network's layers were made for that size. `options` are those that set it."""
    if tuple(x.shape[1:]) != shape:
        raise RequestError(
            f"this {model} was built for images of shape {shape}, but x is {tuple(x.shape)}; create it with the right "
            f"{options}"
        )


def side(model: str, x: Any, least: int) -> None:
    """x must be (N, C, H, W) with H and W of at least `least` pixels."""
    if x.ndim != 4:
        raise RequestError(f"{model}: x is {tuple(x.shape)}, but must be images (N, C, H, W)")
    if min(x.shape[2:]) < least:
        raise RequestError(
            f"{model}: images of {x.shape[2]} x {x.shape[3]} are too small for its depth; the smallest are "
            f"{least} x {least}, so enlarge them, or choose a model for small images such as resnet20"
        )


def tokens(given: Any, vocab_size: int, context: int, past: int = 0, what: str = "token") -> Any:
    """The array behind `given`, which must be integers (N, T) below vocab_size, `past` + T of them within the context.

    On a GPU the values are not looked at, since that would stop the queue.
    """
    array = given.data if isinstance(given, Tensor) else given
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
