"""Layers that drop something at random in training and do nothing in evaluation."""

from __future__ import annotations

from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.nn.module import Module, refuse_inplace


class _Dropping(Module):
    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        refuse_inplace(type(self).__name__, inplace)
        if not 0 <= p <= 1:
            raise RequestError(f"{type(self).__name__}: p is {p}, but a probability lies between 0 and 1")
        self.p = p

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout(_Dropping):
    """Each element is 0 with probability p, and otherwise divided by 1 - p.

    Source    Srivastava et al. 2014, Dropout
    """

    def forward(self, x: Any) -> Tensor:
        return F.dropout(x, self.p, self.training)


class Dropout2d(_Dropping):
    """Each channel of each sample is 0 with probability p, and otherwise divided by 1 - p. x: (N, C, H, W).

    Source    Tompson et al. 2015, Efficient Object Localization Using Convolutional Networks
    """

    def forward(self, x: Any) -> Tensor:
        return F.dropout2d(x, self.p, self.training)


class DropPath(_Dropping):
    """Each sample's whole branch is 0 with probability p, and otherwise divided by 1 - p.

    It stands at the end of a residual branch, so that the sample then passes by the skip alone. The published
    stochastic depth draws once a batch and multiplies at test time instead: `StochasticDepth`.

    Source    Larsson et al. 2017, FractalNet (the name); Huang et al. 2016, Deep Networks with Stochastic Depth
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__(p)

    def forward(self, x: Any) -> Tensor:
        return F.drop_path(x, self.p, self.training)
