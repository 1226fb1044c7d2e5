"""The move between devices: the one op whose output lives in another library than its input."""

from __future__ import annotations

from minires.backend import Array, Library
from minires.engine import Function


class Transfer(Function):
    """The same values on another device.

    Shapes    x, y: equal
    Forward   y = x, copied to `library`
    Backward  gx = gy, copied back to where x came from
    Kinks     none
    Saved     nothing
    Source    the identity
    """

    library: Library

    def forward(self, x: Array) -> Array:
        return self.library.asarray(x)

    def backward(self, gy: Array) -> Array:
        return self.lib.asarray(gy)
