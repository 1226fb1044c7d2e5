"""What an oracle measured beside what backward answered, and whether the comparison could have failed.

A comparison proves something only if a wrong gradient would not have passed it. So each one is also made with the
gradient scaled by 1.1, negated and permuted, and must reject all three. Batch norm seeded with ones is the
classic that doesn't: there the true gradient is zero, and so is 1.1 times it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minires.backend import Array

# Of the largest derivative of the input. Complex step and PyTorch are limited by rounding alone; differences of
# eighth order by rounding over the step, 2e-16 / 5e-3, times the size of what is differenced.
TOLERANCE = {
    "complex-step": 1e-10,
    "adjoint": 1e-10,
    "central": 1e-9,
    "index-loops": 1e-9,
    "composed": 1e-10,
    "torch": 1e-10,
}


class CheckError(AssertionError):
    """A gradient is wrong, a law is broken, or the check could not have seen it."""


@dataclass(frozen=True)
class Evidence:
    """One input's gradient, and what an oracle says about it.

    Attributes
        name         the input's name
        gradient     what backward gave, shaped like the input
        expected     the true gradient, of the same shape; or, with `directions`, its product with each of them
        directions   (k, size): where the oracle measured slopes along directions, not elements
        scale        errors are relative to the largest expected entry, or to this where that is smaller: a sum that
                     nearly cancels is not to be known to more digits than its terms
    """

    name: str
    gradient: Array
    expected: Array
    directions: Array | None = None
    scale: float = 0.0

    def answered(self, gradient: Array | None = None) -> Array:
        """What the gradient (or another one in its place) says about the quantities in `expected`."""
        g = self.gradient if gradient is None else gradient
        return g if self.directions is None else self.directions @ g.reshape(-1)

    def errors(self, gradient: Array | None = None) -> Array:
        """The error of each quantity, relative to the largest expected one."""
        scale = max(float(np.max(np.abs(self.expected), initial=0.0)), self.scale)
        difference = np.abs(self.answered(gradient) - self.expected)
        return np.where(np.isnan(difference), np.inf, difference) / (scale if scale > 0 else 1.0)

    def error(self, gradient: Array | None = None) -> float:
        """The largest of them; 0 where there is nothing to compare."""
        return float(np.max(self.errors(gradient), initial=0.0))

    def blind_to(self, tolerance: float) -> str | None:
        """Which wrong gradient would pass for the right one: "scaled by 1.1", "negated", "permuted", or None."""
        g = self.gradient
        wrong = {"scaled by 1.1": 1.1 * g, "negated": -g}
        turned = np.roll(g.reshape(-1), 1).reshape(g.shape)
        if g.size > 1 and np.max(np.abs(turned - g)) > 1e-3 * np.max(np.abs(g)):
            wrong["permuted"] = turned
        return next((how for how, other in wrong.items() if self.error(other) <= tolerance), None)

    def told(self) -> str:
        """The worst element: where, what was expected and what backward gave."""
        errors = self.errors()
        at = np.unravel_index(int(np.argmax(errors)), errors.shape)
        place = [int(k) for k in at] if self.directions is None else f"direction {int(at[0])}"
        expected, answered = self.expected[at], self.answered()[at]
        return f"{self.name} at {place}: expected {expected:.12g}, backward gave {answered:.12g}"
