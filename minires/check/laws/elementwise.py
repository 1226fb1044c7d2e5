"""Laws of arithmetic: the gradients of sums, products and choices, and what broadcasting does to them."""

from __future__ import annotations

import math

import numpy as np

from minires import functional as F
from minires.check.draw import Draw
from minires.check.law import law, pull, require, same, same_bits
from minires.ops.elementwise import (
    Abs,
    Add,
    Cast,
    Clip,
    Div,
    Exp,
    Log,
    Maximum,
    Minimum,
    Mul,
    Neg,
    Pow,
    Sqrt,
    Sub,
    Where,
)

# --- sums


@law(Add)
def both_gradients_of_a_sum_are_gy_bit_for_bit(draw: Draw) -> None:
    """y = x + w: gx = gy and gw = gy, untouched."""
    shape = draw.shape()
    gy = draw.normal(*shape)
    _, (gx, gw) = pull(F.add, draw.normal(*shape), draw.normal(*shape), gy=gy)
    same_bits(gx, gy, "gx of a sum")
    same_bits(gw, gy, "gw of a sum")


@law(Sub)
def the_gradients_of_a_difference_are_gy_and_minus_gy_bit_for_bit(draw: Draw) -> None:
    """y = x - w: gx = gy and gw = -gy."""
    shape = draw.shape()
    gy = draw.normal(*shape)
    _, (gx, gw) = pull(F.sub, draw.normal(*shape), draw.normal(*shape), gy=gy)
    same_bits(gx, gy, "gx of a difference")
    same_bits(gw, -gy, "gw of a difference")


@law(Neg)
def the_gradient_of_neg_is_minus_gy_bit_for_bit(draw: Draw) -> None:
    """y = -x, so gx = -gy, and nothing is rounded on the way."""
    shape = draw.shape()
    gy = draw.normal(*shape)
    _, (gx,) = pull(F.neg, draw.normal(*shape), gy=gy)
    same_bits(gx, -gy, "gx of neg")


@law(Add, Sub, Mul, Div, Pow, Maximum, Minimum, Where)
def a_stretched_inputs_gradient_is_the_sum_over_its_copies(draw: Draw) -> None:
    """Broadcasting copies, y = f(x, B w), so its adjoint adds: gw = B^T gv, where gv is the gradient of the copies."""
    shape = draw.shape(1, 3, 3)
    narrow = draw.broadcastable(shape)
    x, w, gy = draw.positive(*shape), draw.positive(*narrow), draw.normal(*shape)
    c = draw.mask(*shape)
    stretched = np.broadcast_to(w, shape).copy()
    new = len(shape) - len(narrow)
    for f in (F.add, F.sub, F.mul, F.div, F.pow, F.maximum, F.minimum, lambda x, w: F.where(c, x, w)):
        for turned in (lambda a, b, f=f: f(a, b), lambda a, b, f=f: f(b, a)):
            _, (gx, gw) = pull(turned, x, w, gy=gy)
            _, (gx_of_copies, gv) = pull(turned, x, stretched, gy=gy)
            expected = np.zeros(narrow)
            for i in np.ndindex(*shape):
                expected[*(k if n > 1 else 0 for k, n in zip(i[new:], narrow, strict=True))] += gv[i]
            same(gw, expected, "the sum over the copies", scale=np.max(np.abs(gv), initial=0.0))
            same(gx, gx_of_copies, "the gradient of the input that is not stretched")


@law(Add)
def a_bias_gets_the_sums_over_the_batch_even_where_the_matrix_is_square(draw: Draw) -> None:
    """y_ij = x_ij + b_j: gb_j = sum over i of gy_ij. In a square matrix the sum over j would have the same shape."""
    n = draw.size(2, 4)
    gy = draw.normal(n, n)
    _, (_, gb) = pull(F.add, draw.normal(n, n), draw.normal(n), gy=gy)
    same(gb, [math.fsum(gy[i, j] for i in range(n)) for j in range(n)], "gb", scale=1.0)


# --- products, quotients, powers


@law(Mul)
def a_factor_times_its_gradient_is_the_same_for_both(draw: Draw) -> None:
    """x gx = w gw = y gy: a product is homogeneous of degree 1 in each factor (Euler's theorem)."""
    shape = draw.shape()
    x, w, gy = draw.normal(*shape), draw.normal(*shape), draw.normal(*shape)
    y, (gx, gw) = pull(F.mul, x, w, gy=gy)
    same(x * gx, y * gy, "x gx = y gy")
    same(w * gw, y * gy, "w gw = y gy")


@law(Mul, Pow)
def a_square_is_a_number_times_itself(draw: Draw) -> None:
    """x x and x^2 both have the gradient 2 x gy: used twice, an input gets both shares."""
    shape = draw.shape()
    x, gy = draw.normal(*shape), draw.normal(*shape)
    for f in (lambda x: F.mul(x, x), lambda x: F.pow(x, 2), lambda x: F.pow(x, 2.0)):
        _, (gx,) = pull(f, x, gy=gy)
        same(gx, 2 * x * gy, "gx = 2 x gy")


@law(Div)
def scaling_numerator_and_denominator_alike_changes_nothing(draw: Draw) -> None:
    """x gx + w gw = 0: a quotient is homogeneous of degree 0 (Euler's theorem)."""
    shape = draw.shape()
    x, w, gy = draw.normal(*shape), draw.positive(*shape), draw.normal(*shape)
    _, (gx, gw) = pull(F.div, x, w, gy=gy)
    same(x * gx, -(w * gw), "x gx = -w gw")


@law(Div, Mul)
def dividing_undoes_multiplying(draw: Draw) -> None:
    """(x w) / w = x: gx = gy and gw = 0, the two paths through w canceling."""
    shape = draw.shape()
    x, w, gy = draw.normal(*shape), draw.positive(*shape), draw.normal(*shape)
    _, (gx, gw) = pull(lambda x, w: F.div(F.mul(x, w), w), x, w, gy=gy)
    same(gx, gy, "gx = gy")
    same(gw, np.zeros(shape), "gw = 0", scale=np.max(np.abs(x * gy / w), initial=0.0))


@law(Pow)
def a_base_times_its_gradient_is_the_exponent_times_y_gy(draw: Draw) -> None:
    """x gx = w y gy: x^w is homogeneous of degree w in x (Euler's theorem)."""
    shape = draw.shape()
    x, w, gy = draw.positive(*shape), draw.normal(*shape), draw.normal(*shape)
    y, (gx, _) = pull(F.pow, x, w, gy=gy)
    same(x * gx, w * y * gy, "x gx = w y gy")


@law(Pow)
def an_exponents_gradient_is_y_log_x_gy(draw: Draw) -> None:
    """x^w = exp(w log x): gw = y log(x) gy, and the exponent of base e alone gets y gy."""
    shape = draw.shape()
    x, w, gy = draw.positive(*shape), draw.normal(*shape), draw.normal(*shape)
    y, (_, gw) = pull(F.pow, x, w, gy=gy)
    same(gw, y * np.log(x) * gy, "gw = y log(x) gy")
    y, (gw,) = pull(lambda w: F.pow(math.e, w), w, gy=gy)
    same(gw, y * gy, "gw = y gy for base e")


@law(Pow)
def a_power_of_zero_has_finite_gradients(draw: Draw) -> None:
    """At x = 0: gx is gy for w = 1, and 0 for w = 0 and for w > 1; gw is 0. As in PyTorch.

    So 0 times the infinite x^(w - 1) or log x never comes up.
    """
    gy = draw.normal(4)
    exponents = np.array([0.0, 1.0, 2.0, draw.positive().item() + 1])
    _, (gx, gw) = pull(F.pow, np.zeros(4), exponents, gy=gy)
    same(gx, [0, gy[1], 0, 0], "gx at base 0")
    same(gw, np.zeros(4), "gw at base 0")
    for k, w in enumerate(exponents.tolist()):
        _, (gx_of_number,) = pull(lambda x, w=w: F.pow(x, w), np.zeros(4), gy=gy)
        same(gx_of_number, gy * (k == 1), f"gx at base 0, exponent {w}")


@law(Pow)
def a_zeroth_power_is_constant_at_any_base(draw: Draw) -> None:
    """x^0 = 1, so gx = 0: at 0, at infinity and below zero too, as in PyTorch; never 0 times infinity."""
    x, gy = np.array([0.0, math.inf, -math.inf, *draw.normal(2)]), draw.normal(5)
    for exponent in (np.zeros(5), np.zeros(()), 0, 0.0):
        _, (gx,) = pull(lambda x, w=exponent: F.pow(x, w), x, gy=gy)
        same_bits(gx + 0.0, np.zeros(5), "gx of x^0")


@law(Pow)
def a_negative_power_of_zero_has_infinite_gradients(draw: Draw) -> None:
    """At x = 0, w < 0 the gradients are what x^w grows to: w x^(w-1) gy = -inf gy and y log(x) gy = -inf gy."""
    w, gy = np.array([-1.0, -0.5, -draw.positive().item()]), draw.normal(3)
    with np.errstate(divide="ignore"):
        _, (gx, gw) = pull(F.pow, np.zeros(3), w, gy=gy)
    same_bits(gx, -np.inf * gy, "gx")
    same_bits(gw, -np.inf * gy, "gw")


@law(Pow)
def a_complex_base_of_real_part_zero_has_the_gradients_of_base_zero(draw: Draw) -> None:
    """A complex step from x = 0 leaves the real part as it is, so that x^2 has its second derivative, 2, there too."""
    w, gy, up = np.array([0.0, 1.0, 2.0, 3.0]), draw.normal(4), draw.choice([1e-30j, -1e-30j])
    _, real = pull(F.pow, np.zeros(4), w, gy=gy)
    _, stepped = pull(F.pow, np.zeros(4) + up, w, gy=gy)
    for g, expected in zip(stepped, real, strict=True):
        same(g.real, expected, "the real part of the gradient", scale=1.0)
    same(stepped[0].imag / up.imag, [0, 0, 2 * gy[2], 0], "the second derivative at base 0")


@law(Mul, Div, Pow)
def mixed_second_derivatives_agree(draw: Draw) -> None:
    """d gx / d w = d gw / d x (Schwarz's theorem), by a complex step through backward: also where the exponent is 0."""
    n = draw.size(1, 5)
    x, w, gy = draw.positive(n), draw.positive(n) * draw.choice([-1.0, 1.0]), draw.normal(n)
    h = 1e-30
    for f in (F.mul, F.div, F.pow):
        if f is F.pow:
            w[:1] = 0.0
        _, (gx, _) = pull(f, x + 0j, w + 1j * h, gy=gy)  # a real leaf would get the real part of its gradient only
        _, (_, gw) = pull(f, x + 1j * h, w + 0j, gy=gy)
        require(np.all(gx.imag != 0), "there is no mixed derivative to compare")
        same(gx.imag / h, gw.imag / h, "d gx / d w")


# --- exponential, logarithm, root


@law(Exp, Log)
def the_logarithm_undoes_the_exponential(draw: Draw) -> None:
    """log(exp(x)) = x and exp(log(x)) = x: gx = gy, the two slopes being inverses of one another."""
    shape = draw.shape()
    gy = draw.normal(*shape)
    _, (gx,) = pull(lambda x: F.log(F.exp(x)), draw.normal(*shape), gy=gy)
    same(gx, gy, "gx of log(exp(x))")
    _, (gx,) = pull(lambda x: F.exp(F.log(x)), draw.positive(*shape), gy=gy)
    same(gx, gy, "gx of exp(log(x))")


@law(Exp)
def the_exponential_is_its_own_slope(draw: Draw) -> None:
    """y = exp(x): gx = y gy."""
    shape = draw.shape()
    gy = draw.normal(*shape)
    y, (gx,) = pull(F.exp, draw.normal(*shape), gy=gy)
    same(gx, y * gy, "gx = y gy")


@law(Log)
def the_logarithm_of_a_product_is_the_sum_of_logarithms(draw: Draw) -> None:
    """log(x w) = log x + log w, so x gx = w gw = gy: only relative changes count."""
    shape = draw.shape()
    x, w, gy = draw.positive(*shape), draw.positive(*shape), draw.normal(*shape)
    _, (gx, gw) = pull(lambda x, w: F.log(F.mul(x, w)), x, w, gy=gy)
    same(x * gx, gy, "x gx = gy")
    same(w * gw, gy, "w gw = gy")


@law(Sqrt)
def a_root_squared_hands_gy_back(draw: Draw) -> None:
    """sqrt(x) sqrt(x) = x: gx = gy, half of it from either factor."""
    shape = draw.shape()
    gy = draw.normal(*shape)

    def squared(x: object) -> object:
        root = F.sqrt(x)
        return F.mul(root, root)

    _, (gx,) = pull(squared, draw.positive(*shape), gy=gy)
    same(gx, gy, "gx of sqrt(x)^2")


# --- by cases


@law(Abs)
def abs_sends_nothing_through_zero(draw: Draw) -> None:
    """y = |x|: gx = sign(x) gy, with 0 at x = 0, as in PyTorch: the one slope that favors neither side."""
    shape = draw.shape(1)
    x, gy = draw.normal(*shape), draw.normal(*shape)
    x[draw.mask(*shape, p=0.4)] = 0.0
    x[..., :1] = 0.0
    _, (gx,) = pull(F.abs, x, gy=gy)
    same(gx, np.where(x > 0, gy, np.where(x < 0, -gy, 0.0)), "gx = sign(x) gy")


@law(Abs, Maximum, Neg)
def abs_is_the_larger_of_x_and_minus_x_even_at_zero(draw: Draw) -> None:
    """|x| = max(x, -x). At the tie both get gy / 2, and gy / 2 - gy / 2 is the 0 that abs sends back."""
    shape = draw.shape(1)
    x, gy = draw.normal(*shape), draw.normal(*shape)
    x[..., :1] = 0.0
    _, (gx,) = pull(F.abs, x, gy=gy)
    _, (expected,) = pull(lambda x: F.maximum(x, F.neg(x)), x, gy=gy)
    same(gx, expected, "abs and max(x, -x)")


@law(Clip)
def a_clamp_passes_gy_between_its_bounds_and_on_them(draw: Draw) -> None:
    """gx = gy where low <= x <= high, bit for bit, else 0. The bounds are inside, as in torch.clamp."""
    n = draw.size(1, 8)
    low, high = draw.choice([(-0.5, 0.5), (-1.0, 0.25), (0.0, 1.0)])
    x = np.concatenate([[low, high, low - 0.5, high + 0.5], draw.normal(n)])
    gy = draw.normal(n + 4)
    _, (gx,) = pull(lambda x: F.clamp(x, low, high), x, gy=gy)
    same_bits(gx + 0.0, np.where((low <= x) & (x <= high), gy, 0.0), "gx of clamp")


@law(Maximum, Minimum)
def a_tie_is_split_in_half(draw: Draw) -> None:
    """Where x = w, gx = gw = gy / 2, as in PyTorch; elsewhere the one taken gets gy. So gx + gw = gy everywhere."""
    shape = draw.shape(1)
    x, w, gy = draw.normal(*shape), draw.normal(*shape), draw.normal(*shape)
    tied = draw.mask(*shape)
    tied[..., :1] = True
    w[tied] = x[tied]
    for f, x_taken in ((F.maximum, x > w), (F.minimum, x < w)):
        _, (gx, gw) = pull(f, x, w, gy=gy)
        share = np.where(tied, 0.5, x_taken)
        same(gx, share * gy, "gx")
        same(gw, (1 - share) * gy, "gw")


@law(Maximum, Minimum)
def the_larger_and_the_smaller_add_up_to_both(draw: Draw) -> None:
    """max(x, w) + min(x, w) = x + w: both get gy, whichever is larger."""
    shape = draw.shape()
    x, w, gy = draw.normal(*shape), draw.normal(*shape), draw.normal(*shape)
    _, (gx, gw) = pull(lambda x, w: F.add(F.maximum(x, w), F.minimum(x, w)), x, w, gy=gy)
    same(gx, gy, "gx")
    same(gw, gy, "gw")


@law(Where)
def where_sends_each_gradient_to_the_chosen_side_alone(draw: Draw) -> None:
    """gx = gy where c holds, else 0; gw the other way round; bit for bit, and nothing comes of infinite gradients."""
    shape = draw.shape()
    c, gy = draw.mask(*shape), draw.normal(*shape)
    _, (gx, gw) = pull(lambda x, w: F.where(c, x, w), draw.normal(*shape), draw.normal(*shape), gy=gy)
    same_bits(gx + 0.0, np.where(c, gy, 0.0), "gx")
    same_bits(gw + 0.0, np.where(c, 0.0, gy), "gw")
    _, (gx,) = pull(lambda x: F.where(~c, x, 0.0), draw.normal(*shape), gy=np.where(c, math.inf, gy))
    require(np.all(np.isfinite(gx)), "an infinite gradient of the other side reached x")


@law(Abs, Clip, Maximum, Minimum)
def a_complex_number_goes_the_way_of_its_real_part(draw: Draw) -> None:
    """A complex step x + i h through backward leaves the gradient's real part as it is, on the kinks as well.

    That is what makes the imaginary part over h an exact second derivative.
    """
    at = np.array([-0.5, 0.0, 0.5, *draw.normal(3)])
    other = np.array([-0.5, 0.0, 0.5, *draw.positive(3)])
    gy, up = draw.normal(6), draw.choice([1e-30j, -1e-30j])
    for f in (F.maximum, F.minimum, lambda x, w: F.add(F.abs(x), F.clamp(w, -0.5, 0.5))):
        _, real = pull(f, at, other, gy=gy)
        for x, w in ((at + up, other), (at, other + up), (at + up, other + up)):
            _, gradients = pull(f, x, w, gy=gy)
            for g, expected in zip(gradients, real, strict=True):
                same(g.real, expected, "the real part of the gradient")


# --- dtypes


@law(Cast)
def a_cast_hands_gy_back_in_the_inputs_own_dtype(draw: Draw) -> None:
    """float64 to float32: gx is gy, widened. float32 to float64: gx is gy, rounded once, to nearest."""
    shape = draw.shape()
    x, gy = draw.normal(*shape), draw.normal(*shape)
    _, (gx,) = pull(lambda x: F.cast(x, np.float32), x, gy=gy.astype(np.float32))
    same_bits(gx, gy.astype(np.float32).astype(np.float64), "gx of a narrowing cast")
    _, (gx,) = pull(lambda x: F.cast(x, np.float64), np.asarray(x, np.float32), gy=gy)
    same_bits(gx, gy.astype(np.float32), "gx of a widening cast")
