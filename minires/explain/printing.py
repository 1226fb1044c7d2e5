"""Numbers and small arrays as short text: four significant digits, in the terminal as on the page."""

from __future__ import annotations

from typing import Any

import numpy as np

from minires.backend import Array

DIGITS = 4
SMALL, LINE = 8, 48  # entries and characters that an array may have to be printed inside a sentence


def number(x: Any) -> str:
    """x to four significant digits; minus zero is zero."""
    return f"{x + 0.0:.{DIGITS}g}"


def norm(g: Array) -> float:
    """The Euclidean length of all entries together, also where their squares would overflow."""
    largest = float(np.max(np.abs(g), initial=0.0))
    if largest == 0 or not np.isfinite(largest):
        return largest
    return largest * float(np.sqrt(np.sum(np.square(np.abs(g) / largest, dtype=np.float64))))


def is_number(a: Array) -> bool:
    """Whether a has no axes."""
    return a.ndim == 0


def shape(a: Array) -> str:
    """As Python writes it: (2, 3)."""
    return str(tuple(a.shape))


def nested(a: Array) -> str:
    """All entries in one line: [[1 2] [3 4]]."""
    if a.ndim == 0:
        item = a.item()
        return number(item) if isinstance(item, float) else str(item)
    return "[" + " ".join(nested(each) for each in a) + "]"


def short(a: Array) -> str:
    """All entries in one line where they are few, else nothing."""
    text = nested(a) if 0 < a.size <= SMALL else ""
    return text if len(text) <= LINE else ""


def told(a: Array, symbol: str = "|g|") -> str:
    """A number as itself; an array by shape, length and, where there are few, its entries."""
    if is_number(a):
        return nested(a)
    if a.dtype.kind not in "fc":
        return "  ".join(filter(None, [shape(a), short(a)]))
    return "  ".join(filter(None, [shape(a), f"{symbol} {number(norm(a))}", short(a)]))
