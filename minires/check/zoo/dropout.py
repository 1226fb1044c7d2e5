"""Dropout, wrong: another mask, another scale, other units."""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.check.bug import bug
from minires.ops.dropout import Dropout

ONE_MASK = "dropout_uses_one_mask_forward_and_backward"


@bug(
    Dropout,
    symptom="the loss is noisy and falls slowly: units that were silent learn, and units that spoke often do not",
    killed_by=ONE_MASK,
)
class DropoutDrawsAnotherMaskBackward(Dropout):
    """gx = m' gy with a fresh m' instead of the m that forward used. In expectation even this gradient looks right."""

    def backward(self, gy: Array) -> Any:
        return Dropout.forward(self, gy)


@bug(
    Dropout,
    symptom="layers below a dropout learn at 1 - p of their rate, and after several dropouts hardly at all",
    killed_by=ONE_MASK,
)
class DropoutNotScaledBackward(Dropout):
    """gx = 1[m > 0] gy instead of m gy: the mask is remembered, its 1 / (1 - p) is not."""

    def backward(self, gy: Array) -> Any:
        return gy * (self.mask > 0)


@bug(
    Dropout,
    symptom="every unit gets gradient, also the silent ones: dropout regularizes less than it should",
    killed_by=ONE_MASK,
)
class DropoutOnlyForward(Dropout):
    """gx = gy instead of m gy: "dropout has no parameters", so its backward hands on what it is given."""

    def backward(self, gy: Array) -> Any:
        return gy * 1


@bug(
    Dropout,
    symptom="none at p = 0.5; at p = 0.1 training blows activations up tenfold, and evaluation sees them collapse",
    killed_by="dropout_is_unbiased_forward_and_backward",
)
class DropoutScaledByP(Dropout):
    """m = 1[u >= p] / p instead of 1[u >= p] / (1 - p): p taken for the probability to stay.

    Backward is the right gradient of the wrong forward, so that no gradient check can notice.
    """

    def forward(self, x: Array) -> Any:
        y = super().forward(x)
        wrong = (1 - self.p) / self.p
        self.mask = self.mask * wrong
        return y * wrong


@bug(
    Dropout,
    symptom="silent: stochastic depth drops pixels instead of residual branches, and every block runs for every sample",
    killed_by="dropout_decides_for_elements_maps_or_whole_samples",
)
class DropPathByElement(Dropout):
    """The mask is drawn in x's shape instead of (N, 1, 1, 1): drop_path turns into dropout.

    Mean, variance and gradient of each element are as they should be; only what falls together does not.
    """

    def forward(self, x: Array) -> Any:
        self.mask_shape = x.shape
        return super().forward(x)
