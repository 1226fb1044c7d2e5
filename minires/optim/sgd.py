"""Gradient descent, with momentum and weight decay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minires.backend import Array
from minires.errors import RequestError
from minires.optim.optimizer import Optimizer, number


class SGD(Optimizer):
    """Steps against the gradient, or against a running sum of it.

    With g = gradient + weight_decay * p, a first step sets b = g, later ones

        b <- momentum * b + (1 - dampening) * g
        p <- p - lr * b                         plain
        p <- p - lr * (g + momentum * b)        nesterov

    State     momentum_buffer (b)
    Source    Sutskever et al. 2013, On the importance of initialization and momentum, with lr outside of b as in torch
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "dampening": dampening}
        super().__init__(params, {**options, "weight_decay": weight_decay, "nesterov": nesterov})

    def check(self, options: dict[str, Any]) -> None:
        super().check(options)
        self._within("dampening", options["dampening"], float("inf"))
        if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
            raise RequestError(
                f"SGD: nesterov looks ahead along the momentum, so it needs momentum > 0 and dampening 0, "
                f"not {options['momentum']} and {options['dampening']}; set momentum=0.9"
            )

    def update(self, p: Array, g: Array, state: dict[str, Any], options: dict[str, Any], xp: Any) -> None:
        if options["weight_decay"]:
            g = g + options["weight_decay"] * p
        momentum = options["momentum"]
        if momentum:
            b = state.get("momentum_buffer")
            if b is None:
                b = state["momentum_buffer"] = xp.array(g, copy=True)
            else:
                b *= momentum
                b += (1 - options["dampening"]) * g if options["dampening"] else g
            g = g + momentum * b if options["nesterov"] else b
        p -= number(options["lr"], p) * g
