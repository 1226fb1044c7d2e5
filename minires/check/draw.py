"""Random shapes, options and values for a check: from a seed, or from hypothesis, which also shrinks what fails.

A case is described once, in terms of a `Draw`. `minires check` draws from a seed and needs NumPy only; the test
suite draws through hypothesis, so that a failure is told on the smallest shapes that show it. Only shapes and
options are hypothesis' business: the values come from a generator, at random, never ones and never zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from minires.backend import Array

T = TypeVar("T")
MARGIN = 0.05  # how far a value stays from a kink: farther than any finite difference here reaches


class Draw:
    """Where a check's shapes, options and values come from. A subclass says how one integer is drawn."""

    rng: np.random.Generator

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        raise NotImplementedError

    def choice(self, options: Sequence[T]) -> T:
        """One of them; hypothesis shrinks towards the first."""
        return options[self.integer(0, len(options) - 1)]

    def flag(self) -> bool:
        """True or False."""
        return bool(self.integer(0, 1))

    def size(self, low: int = 1, high: int = 4) -> int:
        """The length of an axis."""
        return self.integer(low, high)

    def batch(self, high: int = 3) -> int:
        """The length of a batch axis: now and then it is 0."""
        return self.choice([1, *range(2, high + 1), 2, 0, 2, high, 2])

    def shape(self, low: int = 0, high: int = 3, longest: int = 4) -> tuple[int, ...]:
        """From `low` to `high` axes, each up to `longest`; one time in ten an axis of none."""
        sizes = [self.size(1, longest) for _ in range(self.integer(low, high))]
        if sizes and self.integer(0, 9) == 9:
            sizes[self.integer(0, len(sizes) - 1)] = 0
        return tuple(sizes)

    def broadcastable(self, shape: Sequence[int]) -> tuple[int, ...]:
        """A shape that broadcasts to `shape`: some axes 1, some of the first ones left out."""
        kept = [1 if self.integer(0, 3) == 3 else n for n in shape]
        return tuple(kept[self.integer(0, len(kept)) if self.flag() else 0 :])

    def axes(self, ndim: int) -> tuple[int, ...]:
        """Some axes of an array of that many, in rising order, at least one where there is one."""
        picked = tuple(a for a in range(ndim) if self.flag())
        return picked or tuple(range(ndim))

    def normal(self, *shape: int) -> Array:
        """Normal values."""
        return self.rng.standard_normal(shape)

    def positive(self, *shape: int, low: float = 0.4, high: float = 2.0) -> Array:
        """Values between `low` and `high`."""
        return self.rng.uniform(low, high, shape)

    def away(self, *shape: int, kinks: Sequence[float] = (0.0,), scale: float = 1.0) -> Array:
        """Normal values that stay MARGIN away from every kink."""
        x = np.asarray(self.rng.standard_normal(shape) * scale)
        for kink in kinks:
            near = np.abs(x - kink) < MARGIN
            x = np.where(near, kink + np.where(x < kink, -2.0, 2.0) * MARGIN, x)
        return x

    def apart(self, *shape: int) -> Array:
        """Distinct values, 4 MARGIN apart, in random order: a maximum has no ties, not even nearly."""
        n = math.prod(shape)
        return np.asarray((self.rng.permutation(n) - n / 2 + self.rng.uniform(0.1, 0.4)) * (4 * MARGIN)).reshape(shape)

    def integers(self, high: int, *shape: int) -> Array:
        """Labels or indices below `high`."""
        return self.rng.integers(0, high, shape)

    def mask(self, *shape: int, p: float = 0.6) -> Array:
        """True with probability p."""
        return np.asarray(self.rng.random(shape) < p)


class Seeded(Draw):
    """Drawn from a seed; the same seed gives the same case."""

    def __init__(self, seed: int | Sequence[int]) -> None:
        self.rng = np.random.default_rng(seed)
        self._choices = np.random.default_rng(self.rng.integers(2**63))

    def integer(self, low: int, high: int) -> int:
        return int(self._choices.integers(low, high + 1))


class Shrinking(Draw):
    """Drawn through hypothesis' `data`."""

    def __init__(self, data: Any) -> None:
        from hypothesis import strategies as st

        self._data, self._integers = data, st.integers
        self.rng = np.random.default_rng(self.integer(0, 2**16))

    def integer(self, low: int, high: int) -> int:
        return int(self._data.draw(self._integers(low, high)))


def for_each(body: Callable[[Draw], None], examples: int, seed: int, shrink: bool = False) -> None:
    """Runs `body` on `examples` draws. With `shrink`, hypothesis draws them and reports the smallest failure."""
    if not shrink:
        for k in range(examples):
            body(Seeded((seed, k)))
        return
    import hypothesis
    from hypothesis import strategies as st

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(st.data())
    def run(data: Any) -> None:
        body(Shrinking(data))

    run()
