"""Initial weights, under the names of torch.nn.init.

Each function overwrites a tensor in place and returns it. Draws come from `minires.backend.generator()` on the
host, in float64, and are then moved and rounded: one seed gives the same weights in every dtype and on every device.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minires.backend import generator
from minires.engine import Tensor
from minires.errors import RequestError
from minires.switches import no_grad


class _Skipping(threading.local):
    on = False


_skipping = _Skipping()


@contextmanager
def skip_init() -> Iterator[None]:
    """Makes every initializer do nothing: for a model that is only counted, or filled with loaded weights next."""
    before = _skipping.on
    _skipping.on = True
    try:
        yield
    finally:
        _skipping.on = before


def _fill(tensor: Tensor, values: Callable[[], Any]) -> Tensor:
    if not _skipping.on:
        with no_grad():
            tensor.copy_(values())
    return tensor


# --- one value, one distribution


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Every element `val`."""
    return _fill(tensor, lambda: np.full(tensor.shape, val))


def zeros_(tensor: Tensor) -> Tensor:
    """Every element 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Every element 1."""
    return constant_(tensor, 1.0)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """U(a, b)."""
    return _fill(tensor, lambda: generator().uniform(a, b, tensor.shape))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """N(mean, std^2)."""
    return _fill(tensor, lambda: generator().normal(mean, std, tensor.shape))


def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Tensor:
    """N(mean, std^2) held inside [a, b]: what falls outside is drawn again.

    `a` and `b` are values, not multiples of std, as in torch. Raises RequestError where [a, b] lies more than two
    standard deviations to one side of the mean, because redrawing would take too long.
    """
    if not (a < b and mean + 2 * std >= a and mean - 2 * std <= b):
        raise RequestError(
            f"trunc_normal_: [{a}, {b}] is empty or more than 2 std from the mean (mean {mean}, std {std}); "
            "choose bounds that hold part of the bell"
        )

    def values() -> np.ndarray:
        drawn = generator().normal(mean, std, tensor.shape)
        outside = (drawn < a) | (drawn > b)
        while outside.any():
            drawn[outside] = generator().normal(mean, std, int(outside.sum()))
            outside = (drawn < a) | (drawn > b)
        return drawn

    return _fill(tensor, values)


# --- scaled so that the signal keeps its size from layer to layer


def fans(tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, *kernel): how many inputs make one output, and the other way round."""
    if tensor.ndim < 2:
        raise RequestError(f"a tensor of shape {tensor.shape} has no fan in and fan out: it needs at least 2 axes")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that makes up for what `nonlinearity` takes from the signal (torch's table).

    `param` is the negative slope of leaky_relu, 0.01 where it is not given.
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2.0 / (1 + slope * slope))
    gains = {"relu": math.sqrt(2.0), "tanh": 5.0 / 3, "selu": 0.75, "linear": 1.0, "sigmoid": 1.0}
    gains |= {f"conv{suffix}": 1.0 for suffix in ("1d", "2d", "3d", "_transpose1d", "_transpose2d", "_transpose3d")}
    if nonlinearity not in gains:
        raise RequestError(f"unknown nonlinearity {nonlinearity!r}: there are leaky_relu, {', '.join(gains)}")
    return gains[nonlinearity]


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """U(-r, r) with r = gain sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, eq. 16)."""
    radius = gain * math.sqrt(6.0 / sum(fans(tensor)))
    return uniform_(tensor, -radius, radius)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """N(0, s^2) with s = gain sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(fans(tensor))))


def kaiming_uniform_(tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """U(-r, r) with r = gain sqrt(3 / fan) (He et al. 2015, Delving Deep into Rectifiers, eq. 10)."""
    radius = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -radius, radius)


def kaiming_normal_(tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """N(0, s^2) with s = gain / sqrt(fan) (He et al. 2015, Delving Deep into Rectifiers, eq. 10)."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity))


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise RequestError(f"unknown mode {mode!r}: there are fan_in and fan_out")
    fan = fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def reset_like_torch(weight: Tensor, bias: Tensor | None) -> None:
    """torch's start for linear and convolution layers: U(-r, r) with r = 1 / sqrt(fan_in), for weight and bias.

    (torch writes kaiming_uniform_ with a = sqrt(5), which is the same thing.)
    """
    radius = 1.0 / math.sqrt(fans(weight)[0])
    uniform_(weight, -radius, radius)
    if bias is not None:
        uniform_(bias, -radius, radius)
