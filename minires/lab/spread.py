"""How the numbers of several seeds are told: their mean, and between what they lie."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def spread(values: Iterable[float], form: str = ".1f", factor: float = 1.0) -> str:
    """ "8.7 (7.9 to 9.1)", the mean and the extremes of `factor` times the values; one value alone is "8.7"."""
    found = np.asarray([*values], dtype=float) * factor
    mean = format(found.mean(), form)
    return mean if len(found) == 1 else f"{mean} ({found.min():{form}} to {found.max():{form}})"


def percent(values: Iterable[float]) -> str:
    """Fractions of 1 as per cent: "8.7 % (7.9 to 9.1)"."""
    mean, *rest = spread(values, factor=100.0).split(" ", 1)
    return " ".join([f"{mean} %", *rest])
