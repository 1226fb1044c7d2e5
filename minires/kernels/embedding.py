"""The lookup's gradient on NumPy: places are sorted by what they looked up, and each run of equal ones is summed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minires.backend import Array
from minires.engine import kernel
from minires.kernels.memory import empty
from minires.kernels.threads import pays
from minires.ops.embedding import Embedding

WORTH = 1 << 13  # numbers below which sorting costs more than it saves


@kernel(Embedding, "numpy")
class SortedEmbedding(Embedding):
    """`Embedding`, whose gradient is summed run by run."""

    @classmethod
    def accepts(cls, *arrays: Any, **options: Any) -> bool:
        w, indices = arrays
        return w.ndim == 2 and indices.size > 0 and pays(indices.size * w.shape[1], WORTH) and w.dtype.char in "fd"

    def backward(self, gy: Array) -> Any:
        v, d = self.shape
        places = self.indices.reshape(-1) % v  # a negative number counts from the end
        order = np.argsort(places, kind="stable")
        found = places[order]
        starts = np.flatnonzero(np.concatenate(([True], found[1:] != found[:-1])))
        gw = empty(self.shape, gy.dtype)
        gw.fill(0)
        gw[found[starts]] = np.add.reduceat(gy.reshape(math.prod(self.indices.shape), d)[order], starts, axis=0)
        if self.padding_idx is not None:
            gw[self.padding_idx] = 0
        return gw, None
