"""Adam and AdamW: steps scaled by running moments of the gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minires.backend import Array
from minires.errors import RequestError
from minires.optim.optimizer import Optimizer, counter, number


class Adam(Optimizer):
    """Divides a running mean of the gradient by the root of a running mean of its square.

    With g = gradient + weight_decay * p and t counting this parameter's steps from 1,

        m <- beta1 * m + (1 - beta1) * g
        v <- beta2 * v + (1 - beta2) * g^2
        p <- p - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    State     step (t), exp_avg (m), exp_avg_sq (v)
    Source    Kingma and Ba 2015, Adam, algorithm 1
    """

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
        if options["weight_decay"]:
            g = g + options["weight_decay"] * p
        _follow(p, g, state, options, xp)


class AdamW(Adam):
    """Adam with the weight decay beside the step instead of inside the gradient, where it would be rescaled.

        p <- p - lr * weight_decay * p, then Adam's step on the plain gradient

    State     as Adam
    Source    Loshchilov and Hutter 2019, Decoupled Weight Decay Regularization, algorithm 2
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def update(self, p: Array, g: Array, state: dict[str, Any], options: dict[str, Any], xp: Any) -> None:
        if options["weight_decay"]:
            p *= number(1 - options["lr"] * options["weight_decay"], p)
        _follow(p, g, state, options, xp)


def _follow(p: Array, g: Array, state: dict[str, Any], options: dict[str, Any], xp: Any) -> None:
    """Moves both means and steps along their quotient."""
    beta1, beta2 = options["betas"]
    if not state:
        state.update(step=counter(p), exp_avg=xp.zeros_like(p), exp_avg_sq=xp.zeros_like(p))
    state["step"] += 1
    t, m, v = state["step"], state["exp_avg"], state["exp_avg_sq"]
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * g * g
    denominator = xp.asarray(xp.sqrt(v))
    denominator *= number((1 - beta2**t) ** -0.5, p)
    denominator += options["eps"]
    xp.divide(m, denominator, out=denominator)
    denominator *= number(options["lr"] / (1 - beta1**t), p)
    p -= denominator
