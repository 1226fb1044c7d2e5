"""Activations on NumPy that save their slope: backward is then one product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minires.backend import Array
from minires.kernels.layout import alike, flat, in_slices, pointwise
from minires.kernels.memory import empty_like
from minires.kernels.threads import pays

WORTH = 1 << 13  # numbers below which blocks cost more than they save
STRIP = 1 << 15  # numbers in a strip: six such arrays fit in a core's cache together
STRIPS = 4  # that a thread takes at a time


class SavedSlope:
    """An activation that saves its slope. Saved: dy/dx."""

    slope: Array

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        return pays(arrays[0].size, WORTH) and arrays[0].size > 0 and arrays[0].dtype.char in "fd"

    def with_slope(self, work: Callable[..., Any], x: Array, wanted: bool) -> Array:
        """y, filled by work(x, y, slope) strip by strip; the slope is None where it is not wanted."""
        (x,) = alike(x)
        y, slope = empty_like(x), empty_like(x) if wanted else None
        outputs = (y,) if slope is None else (y, slope)
        rows = flat(x, *outputs)
        if rows is None:  # an axis of length 1 with an odd stride
            same = empty_like(x)
            np.copyto(same, x)
            rows = flat(same, *outputs) or ()
        in_strips(work, *rows, *((None,) if slope is None else ()))
        if slope is not None:
            self.slope = slope
        return y

    def backward(self, gy: Array) -> Array:
        return pointwise(lambda gy, slope, gx: np.multiply(gy, slope, out=gx), gy, self.slope)


def in_strips(work: Callable[..., Any], *rows: Array | None) -> None:
    """work(*strips) for the strips of equally long rows, on all cores."""

    def several(block: slice) -> None:
        for start in range(block.start, block.stop, STRIP):
            strip = slice(start, min(start + STRIP, block.stop))
            work(*(None if r is None else r[strip] for r in rows))

    assert rows[0] is not None
    in_slices(rows[0].size, STRIP * STRIPS, several)
