"""Adam and AdamW: steps scaled by running moments of the gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from minires.backend import Array
from minires.errors import RequestError
from minires.optim.optimizer import Optimizer


class Adam(Optimizer):
    """Divides a running mean of the gradient by the root of a running mean of its square.

    With g = gradient + weight_decay * p and t counting this parameter's steps from 1,

        m <- beta1 * m + (1 - beta1) * g
        v <- beta2 * v + (1 - beta2) * g^2
        p <- p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    State     step (t), exp_avg (m), exp_avg_sq (v)
    Source    Kingma and Ba 2015, Adam, algorithm 1
    """

    decoupled = False  # weight decay inside the gradient

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def check(self, options: dict[str, Any]) -> None:
        super().check(options)
        betas = options["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise RequestError(
                f"{type(self).__name__}: betas is {betas!r}, but must be two numbers, such as (0.9, 0.999)"
            )
        for i, beta in enumerate(betas):
            self._within(f"betas[{i}]", beta, 1)

    def update(self, p: Array, g: Array, state: dict[str, Any], options: dict[str, Any], xp: Any) -> None:
        lr, (beta1, beta2), decay = options["lr"], options["betas"], options["weight_decay"]
        if not state:
            state.update(step=0, exp_avg=xp.zeros_like(p), exp_avg_sq=xp.zeros_like(p))
        state["step"] += 1
        t, m, v = state["step"], state["exp_avg"], state["exp_avg_sq"]
        if decay and self.decoupled:
            p *= 1 - lr * decay
        elif decay:
            g = g + decay * p
        m *= beta1
        m += (1 - beta1) * g
        v *= beta2
        v += (1 - beta2) * g * g
        denominator = xp.asarray(xp.sqrt(v))
        denominator *= 1 / math.sqrt(1 - beta2**t)
        denominator += options["eps"]
        xp.divide(m, denominator, out=denominator)
        denominator *= lr / (1 - beta1**t)
        p -= denominator


class AdamW(Adam):
    """Adam with the weight decay beside the step instead of inside the gradient, where it would be rescaled.

        p <- p - lr * weight_decay * p, then Adam's step on the plain gradient

    State     as Adam
    Source    Loshchilov and Hutter 2019, Decoupled Weight Decay Regularization, algorithm 2
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
