"""What a decoder remembers of the places that it has read, so that each is read once only."""

from __future__ import annotations

from minires import backend
from minires.backend import Array
from minires.errors import RequestError


class Memory:
    """The keys and values of the places read so far, in one layer: what later places will look at.

    context    how many places it has room for
    """

    def __init__(self, context: int) -> None:
        self.context = context
        self.length = 0
        self.store: tuple[Array, Array] | None = None  # (N, H, context, D) each, of which `length` places are filled

    def extend(self, k: Array, v: Array) -> tuple[Array, Array]:
        """Adds the keys and values (N, H, T, D) of T new places; returns those of all places, (N, H, length, D).

        Raises RequestError for another number of texts than before.
        """
        n, h, t, d = k.shape
        if self.store is None:
            xp = backend.find((k,)).xp
            self.store = (xp.empty((n, h, self.context, d), k.dtype), xp.empty((n, h, self.context, d), v.dtype))
        keys, values = self.store
        if keys.shape[0] != n:
            raise RequestError(f"this memory is of {keys.shape[0]} texts, not of {n}; begin a new one")
        places = slice(self.length, self.length + t)
        keys[:, :, places], values[:, :, places] = k, v
        self.length += t
        return keys[:, :, : self.length], values[:, :, : self.length]

    def keep(self, rows: Array) -> None:
        """Goes on with these texts; one may come several times."""
        if self.store is not None:
            keys, values = self.store
            self.store = keys[rows], values[rows]
