"""Arithmetic, wrong."""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.check.bug import bug
from minires.engine import sum_to
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

# --- broadcasting


@bug(
    Add,
    symptom="biases learn as many times too slowly as the batch is large; the loss still falls, only later",
    killed_by="a_stretched_inputs_gradient_is_the_sum_over_its_copies",
)
class BroadcastAveraged(Add):
    """A stretched input gets the mean over its copies, gw = mean gy, instead of their sum, gw = sum gy.

    Comes from thinking of the batch's loss, which is a mean; but that division is in gy already.
    """

    def backward(self, gy: Array) -> Any:
        return tuple(None if meta is None else self.averaged(gy, meta[0]) for meta in self.inputs)

    def averaged(self, gy: Array, shape: tuple[int, ...]) -> Array:
        g = sum_to(gy, shape)
        return g * (g.size / gy.size) if gy.size else g


@bug(
    Mul,
    symptom="scales and masks shared by a batch learn from its first sample alone; with a batch of one all is well",
    killed_by="a_stretched_inputs_gradient_is_the_sum_over_its_copies",
)
class BroadcastTakesTheFirst(Mul):
    """A stretched input gets its first copy's gradient, gw = (x gy)[0], instead of the sum over all copies.

    Comes from cutting the gradient to the input's shape where it should be summed to it.
    """

    def backward(self, gy: Array) -> Any:
        gradients = super().backward(gy)
        return tuple(
            g if meta is None or not gy.size else self.cut(g, meta[0])
            for g, meta in zip(gradients, self.inputs, strict=True)
        )

    def cut(self, g: Array, shape: tuple[int, ...]) -> Array:
        g = g[(0,) * (g.ndim - len(shape))]
        return g[tuple(slice(n) for n in shape)]


@bug(
    Add,
    symptom="silent until a matrix happens to be square (then the biases learn nonsense); other shapes raise an error",
    killed_by="a_bias_gets_the_sums_over_the_batch_even_where_the_matrix_is_square",
)
class BroadcastSumsTheWrongAxis(Add):
    """For y_ij = x_ij + b_j: gb = sum over j of gy_ij, a sum over features, instead of sum over i, over the batch.

    Where both axes are equally long the shape is right, so no shape check can notice.
    """

    def backward(self, gy: Array) -> Any:
        return tuple(None if meta is None else self.summed(gy, meta[0]) for meta in self.inputs)

    def summed(self, gy: Array, shape: tuple[int, ...]) -> Array:
        square = gy.ndim == 2 and gy.shape == (*shape, *shape)
        return gy.sum(axis=1) if square else gy


# --- sums and products


@bug(
    Sub,
    symptom="whatever is subtracted runs uphill: a learned mean or baseline drifts off, and the loss with it",
    killed_by="the_gradients_of_a_difference_are_gy_and_minus_gy_bit_for_bit",
)
class SubSecondSignDropped(Sub):
    """gw = gy instead of -gy, copied from the sum. As long as only constants are subtracted (targets) it trains."""

    def backward(self, gy: Array) -> Any:
        return gy, gy


@bug(
    Neg,
    symptom="a loss that ends in a minus sign, as the negative log-likelihood does, goes up from the first step on",
    killed_by="the_gradient_of_neg_is_minus_gy_bit_for_bit",
)
class NegPassesOn(Neg):
    """gx = gy instead of -gy: the sign is taken for bookkeeping of forward. Two of them in a row hide it."""

    def backward(self, gy: Array) -> Array:
        return gy


@bug(
    Mul,
    symptom="silent for squares, x times x; elsewhere gates learn from themselves and the loss wanders",
    killed_by="a_factor_times_its_gradient_is_the_same_for_both",
)
class MulFactorsExchanged(Mul):
    """gx = x gy and gw = w gy instead of gx = w gy and gw = x gy: each factor is given its own value."""

    def forward(self, x: Array, w: Array) -> Array:
        self.x, self.w = x, w
        return x * w

    def backward(self, gy: Array) -> Any:
        return gy * self.x, gy * self.w


@bug(
    Div,
    symptom="normalizing by a learned or measured scale is off by that scale: silent while it is near 1",
    killed_by="scaling_numerator_and_denominator_alike_changes_nothing",
)
class DivSquareDropped(Div):
    """gw = -x gy / w instead of -x gy / w^2: the quotient rule without its square."""

    def backward(self, gy: Array) -> Any:
        gx, gw = super().backward(gy)
        return gx, None if gw is None else gw * self.w


@bug(
    Div,
    symptom="denominators grow where they should shrink: a temperature runs to its bound, a normalization diverges",
    killed_by="dividing_undoes_multiplying",
)
class DivSignDropped(Div):
    """gw = y gy / w instead of -y gy / w: the quotient rule without its minus."""

    def backward(self, gy: Array) -> Any:
        gx, gw = super().backward(gy)
        return gx, None if gw is None else -gw


# --- powers, exponential, logarithm, root


@bug(
    Pow,
    symptom="squared errors pull by 2 x^2: negative errors in the wrong direction, small ones hardly at all",
    killed_by="a_base_times_its_gradient_is_the_exponent_times_y_gy",
)
class PowExponentKept(Pow):
    """gx = w x^w gy instead of w x^(w - 1) gy: the exponent comes down but stays up as well.

    A test that draws only w = 0 passes it, for then both are 0: needle's homework 1 draws its exponent with
    np.random.randint(1), which is always 0.
    """

    def backward(self, gy: Array) -> Any:
        gx, gw = super().backward(gy)
        return None if gx is None else gx * self.x, gw


@bug(
    Pow,
    symptom="a learned exponent or decay never moves from where it was initialized; nothing else looks wrong",
    killed_by="an_exponents_gradient_is_y_log_x_gy",
)
class PowExponentIsAConstant(Pow):
    """gw = 0 instead of y log(x) gy: the exponent is taken for a number even where it is an input."""

    def backward(self, gy: Array) -> Any:
        gx, gw = super().backward(gy)
        return gx, None if gw is None else self.xp.zeros_like(gw)


@bug(
    Pow,
    symptom="exponents of bases below 1, as in a learned decay, learn in the wrong direction; base e is right",
    killed_by="an_exponents_gradient_is_y_log_x_gy",
)
class PowLogarithmDropped(Pow):
    """gw = y gy instead of y log(x) gy: the exponential's rule, which is right for base e alone."""

    def backward(self, gy: Array) -> Any:
        gx, gw = super().backward(gy)
        return gx, None if gw is None else gy * self.y


@bug(
    Pow,
    symptom="NaN in the weights after some steps, at the first activation that is exactly 0",
    killed_by="a_power_of_zero_has_finite_gradients",
)
class PowOfZeroIsNan(Pow):
    """gw = y log(x) gy at x = 0 too, where it is 0 times minus infinity, instead of the limit, 0."""

    def backward(self, gy: Array) -> Any:
        gx, gw = super().backward(gy)
        x = self.xp.asarray(self.x, dtype=self.y.dtype)
        return gx, None if gw is None else gy * (self.y * self.xp.log(x))


@bug(
    Exp,
    symptom="the loss falls a little, then stalls: slopes of very negative numbers have the wrong sign",
    killed_by="the_exponential_is_its_own_slope",
)
class ExpByThePowerRule(Exp):
    """gx = x exp(x - 1) gy instead of exp(x) gy: the rule for x^n, applied to the exponent."""

    def forward(self, x: Array) -> Array:
        self.x = x
        return super().forward(x)

    def backward(self, gy: Array) -> Array:
        return gy * self.x * self.xp.exp(self.x - 1)


@bug(
    Log,
    symptom="silent: wrong in the seventh digit, except for probabilities near 0, whose gradients are capped",
    killed_by="the_logarithm_undoes_the_exponential",
)
class LogGuardedBackwardOnly(Log):
    """gx = gy / (x + 1e-7) instead of gy / x: a guard against 0 that forward, log(x), does not have.

    A tolerance of 1e-2 or 1e-3, which float32 checks need, lets it pass.
    """

    def backward(self, gy: Array) -> Array:
        return gy / (self.x + 1e-7)


@bug(
    Sqrt,
    symptom="norms and standard deviations pull twice as hard as they should: as if their learning rate were doubled",
    killed_by="a_root_squared_hands_gy_back",
)
class SqrtHalfDropped(Sqrt):
    """gx = gy / sqrt(x) instead of gy / (2 sqrt(x)): the exponent 1/2 is lowered and forgotten."""

    def backward(self, gy: Array) -> Array:
        return gy / self.y


# --- by cases


@bug(
    Abs,
    symptom="with an L1 penalty weights that reach exactly 0 are pushed off again, so that none stays there",
    killed_by="abs_sends_nothing_through_zero",
)
class AbsFavorsOneSide(Abs):
    """gx = gy at x = 0 instead of 0: the slope is taken from a comparison, 1 where x >= 0 and else -1."""

    def forward(self, x: Array) -> Array:
        self.sign = self.xp.sign(x.real) + (x.real == 0)
        return x * self.sign


@bug(
    Clip,
    symptom="clipped ratios and log-variances go on being pushed beyond their bounds; the clipping does nothing",
    killed_by="a_clamp_passes_gy_between_its_bounds_and_on_them",
)
class ClipPassesOutside(Clip):
    """gx = gy everywhere instead of gy only where low <= x <= high: forward clips, backward does not know.

    On purpose this is the straight-through estimator (Bengio et al. 2013); unasked for it is a wrong gradient.
    """

    def backward(self, gy: Array) -> Array:
        return gy


@bug(
    Maximum,
    symptom="silent on random numbers; where ties are common (zeros after a relu) their gradients are doubled",
    killed_by="a_tie_is_split_in_half",
)
class MaximumPaysATieTwice(Maximum):
    """gx = gw = gy where x = w, by x >= w and w >= x, instead of gy / 2 each: together they exceed gy.

    HIPS autograd's issue #212 is about such ties, which random floats never produce.
    """

    def backward(self, gy: Array) -> Any:
        return self.xp.where(self.w_wins, 0, gy), self.xp.where(self.x_wins, 0, gy)


@bug(
    Minimum,
    symptom="the operand that was not taken is trained, so that a lower bound never moves what it bounds",
    killed_by="the_larger_and_the_smaller_add_up_to_both",
)
class MinimumSendsToTheLarger(Minimum):
    """gx = gy where x > w instead of x < w: backward was copied from the maximum, forward was changed."""

    def backward(self, gy: Array) -> Any:
        gx, gw = super().backward(gy)
        return gw, gx


@bug(
    Where,
    symptom="padding and masked-out positions learn, the rest does not; the loss hardly moves",
    killed_by="where_sends_each_gradient_to_the_chosen_side_alone",
)
class WhereSidesExchanged(Where):
    """gx = gy where c is false instead of where it is true, and gw the other way round."""

    def backward(self, gy: Array) -> Any:
        _, gx, gw = super().backward(gy)
        return None, gw, gx


@bug(
    Where,
    symptom="NaN in the weights although where kept it out of the loss: the branch not taken divides by 0 backward",
    killed_by="where_sends_each_gradient_to_the_chosen_side_alone",
)
class WhereMasksByMultiplying(Where):
    """gx = c gy and gw = (1 - c) gy instead of a choice: where c is 0 and gy infinite, 0 times inf is NaN."""

    def backward(self, gy: Array) -> Any:
        return None, gy * self.c, gy * ~self.c


@bug(
    Cast,
    symptom="everything before the change of precision stays as initialized; only the layers after it learn",
    killed_by="a_cast_hands_gy_back_in_the_inputs_own_dtype",
)
class CastCutsTheGraph(Cast):
    """gx = 0 instead of gy, as after a detour through .numpy() or a constructor that makes a fresh leaf."""

    def backward(self, gy: Array) -> Array:
        return self.xp.zeros_like(gy)
