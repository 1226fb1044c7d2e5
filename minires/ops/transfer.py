"""From one array library to another: the host's memory and the device's."""

from __future__ import annotations

from minires.backend import Array, library_of
from minires.engine import Function


class To(Function):
    """The same values on another device.

    Shapes    x, y: equal
    Forward   y = x, as an array of `device`'s library
    Backward  gx = gy, as an array of x's library
    Kinks     none
    Saved     nothing
    Source    the identity
    """

    device: str

    def forward(self, x: Array) -> Array:
        return library_of(self.device).asarray(x)

    def backward(self, gy: Array) -> Array:
        return self.lib.asarray(gy)
