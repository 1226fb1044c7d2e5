"""RMSprop: steps scaled by the root of a running mean of the squared gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minires.backend import Array
from minires.optim.optimizer import Optimizer, number


class RMSprop(Optimizer):
    """Divides the gradient by its own running size.

    With g = gradient + weight_decay * p,

        v <- alpha * v + (1 - alpha) * g^2
        a <- alpha * a + (1 - alpha) * g        centered; else a = 0
        u  = g / (sqrt(v - a^2) + eps)
        b <- momentum * b + u                   with momentum; else b = u
        p <- p - lr * b

    State     square_avg (v), grad_avg (a), momentum_buffer (b)
    Source    Tieleman and Hinton 2012, lecture 6.5; centered: Graves 2013, arXiv:1308.0850, eq. 38-45
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        options = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**options, "momentum": momentum, "centered": centered})

    def update(self, p: Array, g: Array, state: dict[str, Any], options: dict[str, Any], xp: Any) -> None:
        if options["weight_decay"]:
            g = g + options["weight_decay"] * p
        v = _kept(state, "square_avg", p, xp)
        _blend(v, g * g, options["alpha"])
        if options["centered"]:
            a = _kept(state, "grad_avg", p, xp)
            _blend(a, g, options["alpha"])
            u = xp.asarray(xp.sqrt(v - a * a))
        else:
            u = xp.asarray(xp.sqrt(v))
        u += options["eps"]
        xp.divide(g, u, out=u)
        if options["momentum"]:
            b = _kept(state, "momentum_buffer", p, xp)
            b *= options["momentum"]
            b += u
            u = b
        p -= number(options["lr"], p) * u


def _kept(state: dict[str, Any], key: str, p: Array, xp: Any) -> Array:
    if key not in state:
        state[key] = xp.zeros_like(p)
    return state[key]


def _blend(mean: Array, new: Array, alpha: float) -> None:
    mean *= alpha
    mean += (1 - alpha) * new
