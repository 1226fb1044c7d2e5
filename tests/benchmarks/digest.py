"""An array in a few numbers that two processes can compare: its length, and its shadows on random directions.

For a random direction r, r . (a - b) is about as large as |a - b|. So where the shadows of two arrays agree, the
arrays do, and no array has to travel.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

DIRECTIONS = 4


def digest(array: Any) -> list[float]:
    """[|a|, r1 . a, r2 . a, ...], with the same directions for all arrays of one size."""
    flat = np.asarray(array, dtype=np.float64).reshape(-1)
    directions = np.random.default_rng(flat.size)
    shadows = [float(directions.standard_normal(flat.size) @ flat) for _ in range(DIRECTIONS)]
    return [math.sqrt(flat @ flat), *shadows]


def distance(a: list[float], b: list[float]) -> float:
    """About |a - b| / |b|; infinite where one of them is not finite."""
    if not all(map(math.isfinite, a + b)):
        return math.inf
    largest = max(abs(a[i] - b[i]) for i in range(len(b)))
    return largest / b[0] if b[0] else largest
