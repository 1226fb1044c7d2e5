"""Laws of activations: their slopes by identities that their names promise, and what is chosen on a kink."""

from __future__ import annotations

import math

import numpy as np

from minires import functional as F
from minires.backend import Array
from minires.check.draw import Draw
from minires.check.law import law, pull, require, same, same_bits
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


def with_zeros(draw: Draw) -> tuple[Array, Array]:
    """Numbers some of which are exactly 0 or -0, and a cotangent."""
    n = draw.size(1, 6)
    x = np.concatenate([[0.0, -0.0], draw.normal(n)])
    return x, draw.normal(n + 2)


# --- rectifiers


@law(Relu)
def relu_passes_gy_where_x_is_positive_and_nothing_at_zero(draw: Draw) -> None:
    """gx = gy where x > 0, bit for bit, else 0: of the slopes in [0, 1] that fit at x = 0, PyTorch's, 0, is chosen."""
    x, gy = with_zeros(draw)
    _, (gx,) = pull(F.relu, x, gy=gy)
    same_bits(gx + 0.0, np.where(x > 0, gy, 0.0), "gx of relu")


@law(Relu)
def two_uses_of_a_relu_keep_a_mask_each(draw: Draw) -> None:
    """y = relu(x) + relu(w): gx is masked by x alone and gw by w, in whatever order the two ran."""
    n = draw.size(1, 6)
    x, w, gy = draw.away(n), draw.away(n), draw.normal(n)
    w[0] = -x[0]
    _, (gx, gw) = pull(lambda x, w: F.add(F.relu(x), F.relu(w)), x, w, gy=gy)
    same(gx, np.where(x > 0, gy, 0.0), "gx", scale=1.0)
    same(gw, np.where(w > 0, gy, 0.0), "gw", scale=1.0)


@law(LeakyRelu)
def leaky_relu_is_positively_homogeneous(draw: Draw) -> None:
    """c f(x) = f(c x) for c > 0, so x gx = y gy (Euler's theorem), at x = 0 as well."""
    x, gy = with_zeros(draw)
    slope = draw.choice([0.01, 0.3, 1.4])
    y, (gx,) = pull(lambda x: F.leaky_relu(x, slope), x, gy=gy)
    same(x * gx, y * gy, "x gx = y gy")


@law(LeakyRelu)
def leaky_relu_lets_its_slope_through_at_zero(draw: Draw) -> None:
    """gx = slope gy where x <= 0: at the kink the left slope is chosen, as in PyTorch."""
    x, gy = with_zeros(draw)
    slope = draw.choice([0.01, 0.3, 1.4])
    _, (gx,) = pull(lambda x: F.leaky_relu(x, slope), x, gy=gy)
    same(gx, np.where(x > 0, 1.0, slope) * gy, "gx of leaky_relu")


@law(Elu)
def elus_slope_left_of_zero_is_y_plus_alpha(draw: Draw) -> None:
    """gx = (y + alpha) gy where x <= 0, so alpha gy at the kink; gy where x > 0. Clevert et al. 2016, eq. 16."""
    x, gy = with_zeros(draw)
    alpha = draw.choice([0.5, 1.7, 0.2])
    y, (gx,) = pull(lambda x: F.elu(x, alpha), x, gy=gy)
    same(gx, np.where(x > 0, 1.0, y + alpha) * gy, "gx of elu")


@law(Hardtanh)
def hardtanh_passes_nothing_on_its_bounds(draw: Draw) -> None:
    """gx = gy where low < x < high, bit for bit, else 0: on the bounds 0, PyTorch's choice here, where clamp's is 1."""
    low, high = draw.choice([(-1.0, 1.0), (0.0, 6.0), (-0.5, 0.25)])
    x = np.concatenate([[low, high, (low + high) / 2], draw.normal(draw.size(1, 6))])
    gy = draw.normal(x.size)
    _, (gx,) = pull(lambda x: F.hardtanh(x, low, high), x, gy=gy)
    same_bits(gx + 0.0, np.where((low < x) & (x < high), gy, 0.0), "gx of hardtanh")


# --- smooth ones


@law(Tanh, Sigmoid)
def tanh_is_a_stretched_sigmoid(draw: Draw) -> None:
    """tanh(x) = 2 sigmoid(2 x) - 1, so both give the same gradient."""
    shape = draw.shape()
    x, gy = draw.normal(*shape), draw.normal(*shape)
    _, (gx,) = pull(F.tanh, x, gy=gy)
    _, (expected,) = pull(lambda x: F.sub(F.mul(F.sigmoid(F.mul(x, 2.0)), 2.0), 1.0), x, gy=gy)
    same(gx, expected, "the gradient of tanh", scale=np.max(np.abs(gy), initial=0.0))


@law(Tanh)
def tanh_has_an_even_slope_that_is_1_at_zero(draw: Draw) -> None:
    """tanh(-x) = -tanh(x), so tanh'(-x) = tanh'(x); and tanh'(0) = 1, so that near 0 it is the identity."""
    x, gy = with_zeros(draw)
    _, (left,) = pull(F.tanh, -x, gy=gy)
    _, (right,) = pull(F.tanh, x, gy=gy)
    same(left, right, "the slope at -x")
    same_bits(right[:2], gy[:2], "the slope at 0")


@law(Sigmoid)
def sigmoids_slope_is_s_times_one_minus_s(draw: Draw) -> None:
    """s(x) + s(-x) = 1, so gx = s(x) s(-x) gy, the same at -x, and nowhere more than the gy / 4 at 0."""
    x, gy = with_zeros(draw)
    s, (gx,) = pull(F.sigmoid, x, gy=gy)
    s_of_minus_x, (left,) = pull(F.sigmoid, -x, gy=gy)
    same(s + s_of_minus_x, np.ones(x.shape), "s(x) + s(-x)")
    same(gx, s * s_of_minus_x * gy, "gx = s(x) s(-x) gy")
    same(left, gx, "the slope at -x")
    require(np.all(np.abs(gx) <= np.abs(gy) / 4 + 1e-15), "a slope above 1/4")


@law(Silu, Sigmoid)
def silus_slope_is_that_of_x_times_sigmoid(draw: Draw) -> None:
    """The product rule: s + x s', both terms. Elfwing et al. 2018, eq. 8."""
    shape = draw.shape()
    x, gy = draw.normal(*shape), draw.normal(*shape)
    _, (gx,) = pull(F.silu, x, gy=gy)
    _, (expected,) = pull(lambda x: F.mul(x, F.sigmoid(x)), x, gy=gy)
    same(gx, expected, "the gradient of silu", scale=np.max(np.abs(gy), initial=0.0))


@law(Softplus, Sigmoid)
def softpluss_slope_is_the_sigmoid_of_beta_x(draw: Draw) -> None:
    """(log(1 + e^(beta x)) / beta)' = sigmoid(beta x): beta scales the argument, and cancels in front."""
    shape = draw.shape()
    beta = draw.choice([0.5, 2.0, 3.0])
    x, gy = draw.normal(*shape), draw.normal(*shape)
    _, (gx,) = pull(lambda x: F.softplus(x, beta), x, gy=gy)
    same(gx, F.sigmoid(beta * x).data * gy, "gx = sigmoid(beta x) gy")


@law(Gelu)
def gelus_slope_is_the_normal_distribution_plus_x_times_its_density(draw: Draw) -> None:
    """gx = (P(x) + x p(x)) gy, with P = (1 + erf(x / sqrt 2)) / 2 and p = exp(-x^2 / 2) / sqrt(2 pi).

    P by the C library, number by number. Hendrycks and Gimpel 2016, section 2, differentiated.
    """
    x, gy = with_zeros(draw)
    _, (gx,) = pull(F.gelu, x, gy=gy)
    slopes = [
        (1 + math.erf(a / math.sqrt(2))) / 2 + a * math.exp(-a * a / 2) / math.sqrt(2 * math.pi) for a in x.tolist()
    ]
    same(gx, np.array(slopes) * gy, "gx of gelu")


@law(GeluTanh)
def gelu_with_tanh_keeps_within_a_thousandth_of_gelu(draw: Draw) -> None:
    """Its slope differs from that of x P(x) by 0.00087 at most (near x = 2.02 and -2.02), so it can stand in for it."""
    x = draw.normal(draw.size(4, 16)) * 3
    gy = draw.normal(x.size)
    _, (gx,) = pull(lambda x: F.gelu(x, approximate="tanh"), x, gy=gy)
    _, (expected,) = pull(F.gelu, x, gy=gy)
    require(np.all(np.abs(gx - expected) <= 1e-3 * np.abs(gy)), "the slopes of the two gelus differ by more")


@law(Silu, Hardswish, Gelu, GeluTanh, Softplus)
def the_slopes_at_x_and_minus_x_add_up_to_one(draw: Draw) -> None:
    """f(x) - f(-x) = x for every gate g with g(x) + g(-x) = 1 in f = x g, and for softplus: f'(x) + f'(-x) = 1.

    Also at hardswish's kinks, where the slopes chosen are 0 and 1.
    """
    x, gy = with_zeros(draw)
    x = np.concatenate([x, [3.0, 1.5]])
    gy = np.concatenate([gy, draw.normal(2)])
    for f in (F.silu, F.hardswish, F.gelu, lambda x: F.gelu(x, approximate="tanh"), F.softplus):
        _, (right,) = pull(f, x, gy=gy)
        _, (left,) = pull(f, -x, gy=gy)
        same(right + left, gy, "the slopes at x and -x")


@law(Hardswish)
def hardswish_is_flat_then_a_parabola_then_the_identity(draw: Draw) -> None:
    """gx = 0 for x <= -3, (2 x + 3) gy / 6 for -3 < x < 3, gy for x >= 3: both terms of the product rule between."""
    x = np.concatenate([[-3.0, 3.0, -4.0, 4.0, 0.0], draw.normal(draw.size(1, 6)) * 2])
    gy = draw.normal(x.size)
    _, (gx,) = pull(F.hardswish, x, gy=gy)
    same(gx, np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, (2 * x + 3) / 6)) * gy, "gx of hardswish")


@law(Relu, LeakyRelu, Elu, Softplus, Hardtanh, Hardswish)
def a_complex_activation_goes_the_way_of_its_real_part(draw: Draw) -> None:
    """A complex step x + i h through backward leaves the gradient's real part as it is, on the kinks as well.

    That is what makes the imaginary part over h an exact second derivative.
    """
    x = np.concatenate([[-3.0, -1.0, 0.0, 1.0, 3.0], draw.normal(draw.size(1, 4))])
    gy, up = draw.normal(x.size), draw.choice([1e-30j, -1e-30j])
    for f in (
        F.relu,
        lambda x: F.leaky_relu(x, 0.3),
        lambda x: F.elu(x, 0.7),
        lambda x: F.softplus(x, 1.0, 1.0),
        F.hardtanh,
        F.hardswish,
    ):
        _, (gx,) = pull(f, x + up, gy=gy)
        _, (expected,) = pull(f, x, gy=gy)
        same(gx.real, expected, "the real part of the gradient")


@law(Relu, LeakyRelu, Elu, Tanh, Sigmoid, Silu, Softplus, Hardtanh, Hardswish, Gelu, GeluTanh)
def an_activation_treats_each_number_alone(draw: Draw) -> None:
    """The Jacobian is diagonal: exchanging the elements of x and gy exchanges those of gx, and changes nothing else."""
    n = draw.size(2, 9)
    x, gy, order = draw.normal(n), draw.normal(n), draw.rng.permutation(n)
    functions = (F.relu, F.leaky_relu, F.elu, F.tanh, F.sigmoid, F.silu, F.softplus, F.hardtanh, F.hardswish, F.gelu)
    for f in (*functions, lambda x: F.gelu(x, approximate="tanh")):
        _, (gx,) = pull(f, x, gy=gy)
        _, (exchanged,) = pull(f, x[order], gy=gy[order])
        same(exchanged, gx[order], "gx of the exchanged elements")
