"""Is this gradient right? Backward's answer against differentiation that knows nothing of backward.

The cotangent is always random. A check seeded with ones (`y.sum().backward()`) cannot see a wrong
batch norm, layer norm or softmax, because there the true gradient of the sum is zero.

    complex step   f(x + i h v).imag / h with h = 1e-30: no subtraction, so exact to rounding wherever f's
                   formulas hold for complex numbers (Squire and Trapp 1998, eq. 6)
    central        (f(x + h v) - f(x - h v)) / 2h with h = 1e-6: for ops that cannot be complex
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minires.engine import Tensor
from minires.switches import no_grad

EVERY_ELEMENT = 256  # up to this many elements each one is perturbed alone; beyond, random directions
DIRECTIONS = 24
TOLERANCE = {"complex": 1e-10, "central": 1e-6}  # of the largest gradient; central loses half the digits


class GradcheckError(AssertionError):
    """A gradient is wrong, or the check could not have seen it."""


@dataclass(frozen=True)
class Report:
    """The largest error over all inputs, relative to the largest true derivative of that input."""

    max_rel_error: float
    method: str


def gradcheck(
    f: Callable[..., Any],
    *inputs: Any,
    method: str = "complex",
    tolerance: float | None = None,
    seed: int = 0,
    may_vanish: bool = False,
) -> Report:
    """Checks backward through `f` at `inputs` against independent differentiation.

    f           takes Tensors, returns a Tensor or a tuple of them; must be deterministic
    inputs      float64 arrays are differentiated; anything else is passed on as it is
    method      "complex" or "central"
    may_vanish  allow a true gradient of exactly zero, which no check can tell from a missing one

    Also required: inputs and cotangent unchanged, gradients of the input's shape and dtype, no memory shared.
    Raises GradcheckError naming the input, the worst element, what was expected and what came.
    """
    rng = np.random.default_rng(seed)
    checked = [i for i, x in enumerate(inputs) if isinstance(x, np.ndarray) and x.dtype == np.float64]
    before = [x.copy() if isinstance(x, np.ndarray) else x for x in inputs]
    leaves = [Tensor(x, requires_grad=i in checked) if i in checked else x for i, x in enumerate(inputs)]
    outputs = _outputs(f(*leaves))
    gys = [rng.standard_normal(y.shape) for y in outputs]
    kept = [gy.copy() for gy in gys]
    _backward(outputs, gys)
    for x, old in zip(inputs, before, strict=True):
        if isinstance(x, np.ndarray) and not np.array_equal(x, old, equal_nan=x.dtype.kind in "fc"):
            raise GradcheckError("an input was changed by forward or backward")
    if not all(np.array_equal(a, b) for a, b in zip(gys, kept, strict=True)):
        raise GradcheckError("the cotangent was changed by backward")
    _share_nothing([leaves[i].grad for i in checked])

    worst = 0.0
    for i in checked:
        delivered: Any = leaves[i].grad
        got = np.zeros_like(inputs[i]) if delivered is None else delivered
        if got.shape != inputs[i].shape or got.dtype != inputs[i].dtype:
            raise GradcheckError(
                f"input {i}: gradient is {got.shape} {got.dtype}, input is {inputs[i].shape} {inputs[i].dtype}"
            )
        directions = _directions(inputs[i].shape, rng)
        expected = np.array([_slope(f, inputs, i, v, gys, method) for v in directions])
        answered = np.array([np.sum(got * v) for v in directions])
        scale = np.max(np.abs(expected), initial=0.0)
        if scale == 0 and expected.size and not may_vanish:
            raise GradcheckError(f"input {i}: the true gradient is zero here, so this check cannot see a wrong one")
        errors = np.abs(answered - expected) / max(scale, 1e-30 if not may_vanish else 1.0)
        if not np.all(errors <= (tolerance or TOLERANCE[method])):
            j = int(np.argmax(np.where(np.isnan(errors), np.inf, errors)))
            each = len(directions) == inputs[i].size
            place = [int(k) for k in np.unravel_index(j, inputs[i].shape)] if each else f"direction {j}"
            raise GradcheckError(
                f"input {i} at {place}: expected {expected[j]:.12g}, backward gave {answered[j]:.12g} "
                f"(relative error {errors[j]:.2g}, {method})"
            )
        worst = max(worst, float(np.max(errors, initial=0.0)))
    return Report(worst, method)


def _outputs(y: Any) -> Sequence[Tensor]:
    return y if isinstance(y, tuple) else (y,)


def _backward(outputs: Sequence[Tensor], gys: Sequence[np.ndarray]) -> None:
    for k, (y, gy) in enumerate(zip(outputs, gys, strict=True)):
        if y.requires_grad:
            y.backward(gy, retain_graph=k + 1 < len(outputs))


def _directions(shape: tuple[int, ...], rng: np.random.Generator) -> list[np.ndarray]:
    size = int(np.prod(shape))
    if size <= EVERY_ELEMENT:
        return [unit.reshape(shape) for unit in np.eye(size)]
    return [rng.standard_normal(shape) / np.sqrt(size) for _ in range(DIRECTIONS)]


def _slope(
    f: Callable[..., Any], inputs: Sequence[Any], i: int, v: np.ndarray, gys: Sequence[np.ndarray], method: str
) -> float:
    """d/dh of sum(gy * f(x + h v)) at h = 0."""

    def along(step: complex) -> list[np.ndarray]:
        moved = list(inputs)
        moved[i] = inputs[i] + step * v
        with no_grad():
            arrays = [Tensor(x) if isinstance(x, np.ndarray) and x.dtype.kind in "fc" else x for x in moved]
            return [y.data for y in _outputs(f(*arrays))]

    if method == "complex":
        h = 1e-30
        return float(sum(np.sum(gy * np.imag(y)) for gy, y in zip(gys, along(1j * h), strict=True)) / h)
    h = 1e-6
    return float(sum(np.sum(gy * (a - b)) for gy, a, b in zip(gys, along(h), along(-h), strict=True)) / (2 * h))


def _share_nothing(gradients: Sequence[np.ndarray | None]) -> None:
    present = [g for g in gradients if g is not None]
    for i, a in enumerate(present):
        if any(np.may_share_memory(a, b) for b in present[i + 1 :]):
            raise GradcheckError("two gradients share memory, so writing to one would change the other")
