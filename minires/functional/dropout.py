"""Random masks for training. With training=False each of these is the identity."""

from __future__ import annotations

from typing import Any

from minires.engine import Tensor
from minires.errors import RequestError
from minires.ops.dropout import Dropout

__all__ = ["drop_path", "dropout", "dropout2d"]


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Each element of x is 0 with probability p, and otherwise divided by 1 - p.

    Masks come from the generator that `minires.manual_seed` restarts. Raises RequestError for p outside 0 ... 1.
    """
    return _drop("dropout", x, p, training, x.shape)


def dropout2d(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Each feature map of x, (N, C, H, W), is 0 as a whole with probability p, and otherwise divided by 1 - p."""
    if x.ndim != 4:
        raise RequestError(f"dropout2d: x is {tuple(x.shape)}, but must be (N, C, H, W)")
    return _drop("dropout2d", x, p, training, (*x.shape[:2], 1, 1))


def drop_path(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Stochastic depth: each sample of x, (N, ...), is 0 as a whole with probability p, and otherwise divided by 1 - p.

    At the end of a residual branch, a dropped sample passes the block by the skip alone.
    """
    if not x.ndim:
        raise RequestError("drop_path: x is 0-d, but its first axis must count the samples")
    return _drop("drop_path", x, p, training, (x.shape[0], *[1] * (x.ndim - 1)))


def _drop(name: str, x: Any, p: float, training: bool, mask_shape: tuple[int, ...]) -> Tensor:
    if not 0 <= p <= 1:
        raise RequestError(f"{name}: p is {p}, but a probability lies between 0 and 1")
    if x.dtype.kind not in "fc":
        raise TypeError(f"{name}: x is of dtype {x.dtype}, but dropping rescales, which needs floats")
    if not training or p == 0:
        return x if isinstance(x, Tensor) else Tensor(x)
    return Dropout.apply(x, p=p, mask_shape=tuple(mask_shape))
