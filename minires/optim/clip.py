"""Clipping gradients between backward and the optimizer's step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from minires import backend
from minires.backend import Array
from minires.engine import Tensor
from minires.errors import DivergedError, RequestError


def clip_grad_norm_(
    parameters: Iterable[Tensor] | Tensor, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Scales all gradients together, in place, so that their joint norm is at most `max_norm`.

    norm_type             p of the p-norm; math.inf for the largest entry
    error_if_nonfinite    raise DivergedError, gradients untouched, when the norm is infinite or not a number

    Returns the norm before clipping, a 0-d tensor where the gradients are (reading it with `.item()` is what
    makes a GPU wait). Parameters without gradient do not count.
    Source: Pascanu et al. 2013, On the difficulty of training recurrent neural networks, algorithm 1.
    """
    gradients = _gradients(parameters)
    _positive("max_norm", max_norm)
    _positive("norm_type", norm_type)
    library = backend.find(gradients, "clip_grad_norm_")
    xp = library.xp
    if not gradients:
        return Tensor(xp.zeros((), "float32"))
    norms = _joined([_norm(g, norm_type, xp).reshape(1) for g in gradients], xp)
    total = xp.asarray(_norm(norms, norm_type, xp))
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise DivergedError(
            f"the gradient's norm is {total.item()}, so it cannot be clipped; lower the learning rate, "
            "or find the op that overflows"
        )
    scale = xp.minimum(max_norm / (total + 1e-6), 1.0)
    for g in gradients:
        g *= scale.astype(g.dtype)
    return Tensor(total)


def clip_grad_value_(parameters: Iterable[Tensor] | Tensor, clip_value: float) -> None:
    """Brings every gradient entry into [-clip_value, clip_value], in place."""
    _positive("clip_value", clip_value)
    for g in _gradients(parameters):
        backend.find((g,)).xp.clip(g, -clip_value, clip_value, out=g)


def _gradients(parameters: Iterable[Tensor] | Tensor) -> list[Array]:
    listed = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p.grad for p in listed if p.grad is not None]


def _norm(g: Array, p: float, xp: Any) -> Array:
    flat = g.reshape(-1)
    if p == math.inf:
        return xp.max(xp.abs(flat))
    if p == 2:
        return xp.sqrt(xp.dot(flat, flat))
    return xp.sum(xp.abs(flat) ** p) ** (1 / p)


def _joined(parts: list[Array], xp: Any) -> Array:
    """One array of all parts, eight at a time: CuPy joins more by a table that it has to upload first."""
    while len(parts) > 1:
        parts = [xp.concatenate(parts[i : i + 8]) for i in range(0, len(parts), 8)]
    return parts[0]


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise RequestError(f"{name} is {value!r}, but must be greater than 0")
