"""Activations, wrong."""

from __future__ import annotations

from typing import Any, ClassVar

from minires.backend import Array
from minires.check.bug import bug
from minires.ops.activation import (
    Elu,
    Gelu,
    GeluTanh,
    Hardswish,
    Hardtanh,
    LeakyRelu,
    Relu,
    Sigmoid,
    Silu,
    Softplus,
    Tanh,
)

# --- rectifiers


@bug(
    Relu,
    symptom="saliency maps look cleaner, and training stalls: a unit can be raised but never lowered",
    killed_by="backward_is_linear_in_the_cotangent",
)
class ReluMasksTheGradient(Relu):
    """gx = gy where gy > 0 instead of where x > 0: the rectifier is applied to what comes back.

    On purpose this is the deconvnet (Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks); it
    is no gradient of anything, for it is not even linear in gy.
    """

    def backward(self, gy: Array) -> Array:
        return gy * (gy > 0)


@bug(
    Relu,
    symptom="silent on random numbers; inputs that are exactly 0, as padding and black pixels are, get a gradient",
    killed_by="relu_passes_gy_where_x_is_positive_and_nothing_at_zero",
)
class ReluPassesAtZero(Relu):
    """gx = gy where x >= 0 instead of x > 0: at the kink slope 1, where the convention (PyTorch's) is 0."""

    def forward(self, x: Array) -> Array:
        y = super().forward(x)
        self.positive = x.real >= 0
        return y


@bug(
    Relu,
    symptom="silent in a plain chain of layers; a layer object used twice, as in a siamese net, learns wrongly",
    killed_by="two_uses_of_a_relu_keep_a_mask_each",
)
class ReluKeepsOneMask(Relu):
    """gx = gy where the last input of that shape was positive: the mask lives in the layer, not in the call.

    Comes from layers that store self.mask in forward and read it in backward: the second call overwrites the first's.
    """

    latest: ClassVar[dict[tuple[int, ...], Array]] = {}

    def forward(self, x: Array) -> Array:
        self.latest[x.shape] = x.real > 0
        return super().forward(x)

    def backward(self, gy: Array) -> Array:
        return gy * self.latest[gy.shape]


@bug(
    LeakyRelu,
    symptom="units die as with a plain relu, which the slope was to prevent",
    killed_by="leaky_relu_is_positively_homogeneous",
)
class LeakyReluSlopeDropped(LeakyRelu):
    """gx = 0 where x <= 0 instead of slope gy: forward leaks, backward is the plain rectifier's.

    The default slope, 0.01, is as small as the tolerance of many a check.
    """

    def backward(self, gy: Array) -> Array:
        return gy * self.positive


@bug(
    Elu,
    symptom="silent at the default alpha = 1; with another one the negative side learns at the wrong rate",
    killed_by="elus_slope_left_of_zero_is_y_plus_alpha",
)
class EluAlphaDropped(Elu):
    """gx = (y + 1) gy left of 0 instead of (y + alpha) gy: the formula for alpha = 1."""

    def backward(self, gy: Array) -> Array:
        return gy * self.xp.where(self.positive, 1, self.y + 1)


@bug(
    Hardtanh,
    symptom="silent on random numbers; with relu6, inputs that are exactly 0 or 6 (quantized ones) get a gradient",
    killed_by="hardtanh_passes_nothing_on_its_bounds",
)
class HardtanhPassesOnItsBounds(Hardtanh):
    """gx = gy where low <= x <= high instead of low < x < high: clamp's convention, copied."""

    def forward(self, x: Array) -> Array:
        y = super().forward(x)
        self.inside = (x.real >= self.low) & (x.real <= self.high)
        return y


# --- smooth ones


@bug(
    Tanh,
    symptom="slopes up to 2 left of zero: gradients explode through time in a recurrent net",
    killed_by="tanh_has_an_even_slope_that_is_1_at_zero",
)
class TanhNotSquared(Tanh):
    """gx = (1 - y) gy instead of (1 - y^2) gy. At 0 both are gy, so small inputs hide it."""

    def backward(self, gy: Array) -> Array:
        return gy * (1 - self.y)


@bug(
    Sigmoid,
    symptom="right at no input but one; gradients grow without bound for large inputs, where they should vanish",
    killed_by="sigmoids_slope_is_s_times_one_minus_s",
)
class SigmoidSlopeOfTheInput(Sigmoid):
    """gx = x (1 - x) gy instead of y (1 - y) gy: the formula for the output, fed the input.

    Comes from a helper `sigmoid_derivative(y)` whose argument is named x.
    """

    def forward(self, x: Array) -> Array:
        self.x = x
        return super().forward(x)

    def backward(self, gy: Array) -> Array:
        return gy * (self.x * (1 - self.x))


@bug(
    Silu,
    symptom="trains a little worse and never visibly breaks: the slope is off by 0.22 at most, and right at 0",
    killed_by="silus_slope_is_that_of_x_times_sigmoid",
)
class SiluGateIsAConstant(Silu):
    """gx = s gy instead of (s + x s') gy: the product rule's second term is missing.

    It keeps silu'(x) + silu'(-x) = 1, so that symmetry cannot see it.
    """

    def backward(self, gy: Array) -> Array:
        return gy * self.s


@bug(
    Softplus,
    symptom="silent at the default beta = 1; a sharper softplus has slopes too steep by that factor",
    killed_by="softpluss_slope_is_the_sigmoid_of_beta_x",
)
class SoftplusBetaInFront(Softplus):
    """gx = beta sigmoid(beta x) gy instead of sigmoid(beta x) gy: the 1 / beta in front is forgotten."""

    def backward(self, gy: Array) -> Array:
        return super().backward(gy) * self.beta


@bug(
    Softplus,
    symptom="predicted variances move far where softplus is flat, and not at all where it is linear",
    killed_by="softpluss_slope_is_the_sigmoid_of_beta_x",
)
class SoftplusSlopeTurnedRound(Softplus):
    """gx = sigmoid(-beta x) gy instead of sigmoid(beta x) gy: e^-z / (1 + e^-z) taken for 1 / (1 + e^-z).

    At 0 both are gy / 2, so small inputs hide it, and so does the symmetry softplus'(x) + softplus'(-x) = 1.
    """

    def backward(self, gy: Array) -> Array:
        return gy * (1 - self.slope)


@bug(
    Hardswish,
    symptom="trains a little worse and never visibly breaks: only inputs between -3 and 3 are wrong, by x / 6",
    killed_by="hardswish_is_flat_then_a_parabola_then_the_identity",
)
class HardswishGateIsAConstant(Hardswish):
    """gx = g gy instead of (g + x / 6) gy between the kinks: the gate's own slope is missing."""

    def forward(self, x: Array) -> Array:
        y = super().forward(x)
        self.slope = self.xp.minimum(self.xp.maximum(x.real + 3, 0), 6) / 6
        return y


@bug(
    Gelu,
    symptom="silent: off by 0.001 at most, so that a check in float32 or with a tolerance of 1e-2 passes it",
    killed_by="gelus_slope_is_the_normal_distribution_plus_x_times_its_density",
)
class GeluSlopeOfTheTanhFormula(Gelu):
    """gx is the slope of x (1 + tanh(c (x + a x^3))) / 2 instead of x P(x): forward and backward are two functions.

    TinyTorch had such a pair, other formulas that disagreed by up to 22 % (#1399).
    """

    def backward(self, gy: Array) -> Array:
        c, a, x = GeluTanh.C, GeluTanh.A, self.x
        t = self.xp.tanh(c * (x + a * (x * x * x)))
        return gy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * (c * (1 + 3 * a * (x * x))))


@bug(
    Gelu,
    symptom="trains a little worse and never visibly breaks, as when silu's gate is held constant",
    killed_by="gelus_slope_is_the_normal_distribution_plus_x_times_its_density",
)
class GeluDensityDropped(Gelu):
    """gx = P(x) gy instead of (P(x) + x p(x)) gy: the product rule's second term is missing."""

    def backward(self, gy: Array) -> Array:
        return gy * self.cdf


@bug(
    GeluTanh,
    symptom="slopes 0.046 too small at most, near x = 1.6, and right near 0: a transformer trains, only not as well",
    killed_by="gelu_with_tanh_keeps_within_a_thousandth_of_gelu",
)
class GeluTanhInnerSlopeIsC(GeluTanh):
    """The inner slope is c instead of c (1 + 3 a x^2): the cubic term is not differentiated."""

    def backward(self, gy: Array) -> Any:
        return gy * (0.5 * (1 + self.t) + 0.5 * self.x * (1 - self.t * self.t) * self.C)
