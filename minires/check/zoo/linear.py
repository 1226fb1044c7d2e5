"""Matrix products with a wrong gradient: transposes that square matrices hide, and sums that became means."""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.check.bug import bug
from minires.ops.linear import Linear, Matmul, rows, swap

# --- the product


@bug(
    Matmul,
    symptom="silent where all widths are equal, as in a transformer: the loss falls at first, then hangs; other widths "
    "would have raised an error",
    killed_by="the_gradient_of_a_trace_is_the_other_factor_transposed",
)
class TransposeForgotten(Matmul):
    """gx = gy w instead of gy wᵀ, and gw = x gy instead of xᵀ gy, wherever the shapes let it pass.

    With square matrices nothing complains; with others the right formula is the only one whose shapes fit.
    """

    def backward(self, gy: Array) -> Any:
        gx, gw = Matmul.backward(self, gy)
        if self.x.ndim > 1 and self.w.ndim > 1:
            gx = gy @ self.w if self.needs[0] and self.w.shape[-1] == self.w.shape[-2] else gx
            gw = self.x @ gy if self.needs[1] and self.x.shape[-1] == self.x.shape[-2] else gw
        return gx, gw


@bug(
    Matmul,
    symptom="silent: a weight shared by the batch learns from its first sample alone; the loss is as noisy as with "
    "batch size 1",
    killed_by="a_matrix_that_a_batch_shares_gets_the_sum_of_what_each_use_sends",
)
class FirstSampleOnly(Matmul):
    """gw = x_0ᵀ gy_0 instead of sum_n x_nᵀ gy_n, where a batch shares w: the broadcast axis is cut, not summed.

    Comes from bringing a gradient of too many axes to w's shape by taking index 0 until the shapes agree.
    """

    def backward(self, gy: Array) -> Any:
        gx, gw = Matmul.backward(self, gy)
        if gw is not None and self.w.ndim == 2 and self.x.ndim > 2 and self.x.size:
            gw = swap(rows_of_first(self.x)) @ rows_of_first(gy)
        return gx, gw


@bug(
    Matmul,
    symptom="silent: weights that a batch shares learn N times too slowly, and the right learning rate grows with "
    "the batch",
    killed_by="a_matrix_that_a_batch_shares_gets_the_sum_of_what_each_use_sends",
)
class SharedWeightAveraged(Matmul):
    """gw = mean_n x_nᵀ gy_n instead of sum_n x_nᵀ gy_n, where a batch shares w.

    The mean belongs to the loss, which has brought its 1/N along in gy already.
    """

    def backward(self, gy: Array) -> Any:
        gx, gw = Matmul.backward(self, gy)
        if gw is not None and self.w.ndim == 2 and self.x.ndim > 2:
            gw = gw / max(1, self.x.size // (self.x.shape[-1] * self.x.shape[-2] or 1))
        return gx, gw


@bug(
    Matmul,
    symptom="silent: attention scores with one query, or a last layer with one output, learn nonsense; all others "
    "are fine",
    killed_by="the_gradient_of_a_row_times_a_column_is_the_other_one",
)
class ItselfInsteadOfTheOther(Matmul):
    """gx = gy x and gw = gy w instead of gx = gy w and gw = gy x, for two vectors.

    The special case written apart, and with the factors confused: both are (K,), so that the shapes fit.
    """

    def backward(self, gy: Array) -> Any:
        if self.x.ndim == self.w.ndim == 1:
            return gy * self.x, gy * self.w
        return Matmul.backward(self, gy)


# --- the layer


@bug(
    Linear,
    symptom="silent for a layer as wide as it is tall: the loss falls while the other layers make up for this one",
    killed_by="one_rows_weight_gradient_is_an_outer_product_and_a_batchs_is_their_sum",
)
class WeightGradientTransposed(Linear):
    """gw = xᵀ gy instead of gyᵀ x, for a square weight. It is the gradient of y = x w, where the layer is y = x wᵀ."""

    def backward(self, gy: Array) -> Any:
        gx, gw, gb = Linear.backward(self, gy)
        return gx, gw.T if gw is not None and gw.shape[0] == gw.shape[1] else gw, gb


@bug(
    Linear,
    symptom="silent: biases hardly move, the more so the larger the batch; a net without norms learns somewhat slower",
    killed_by="a_bias_gets_the_sum_of_gy_over_all_rows",
)
class BiasAveraged(Linear):
    """gb = mean_r gy_r instead of sum_r gy_r.

    b is added to every row, so every row's gradient arrives at b. The loss's 1/N is in gy already.
    """

    def backward(self, gy: Array) -> Any:
        gx, gw, gb = Linear.backward(self, gy)
        return gx, gw, None if gb is None else gb / max(1, len(rows(gy)))


@bug(
    Linear,
    symptom="silent: right in every test with (N, D) inputs; in a transformer biases learn T times too slowly",
    killed_by="leading_axes_are_only_rows",
)
class BiasAveragedOverTheSequence(Linear):
    """gb = sum_n mean_t gy[n, t] instead of sum_{n, t} gy[n, t]: batches are summed, the axis between is averaged.

    Comes from a formula for (N, O) made fit for (N, T, O) by some reduction that brings the right shape.
    """

    def backward(self, gy: Array) -> Any:
        gx, gw, gb = Linear.backward(self, gy)
        if gb is not None and gy.ndim > 2 and gy.size:
            gb = rows(gy.mean(axis=-2)).sum(axis=0)
        return gx, gw, gb


@bug(
    Linear,
    symptom="silent: weights learn N times too slowly, and the right learning rate grows with the batch",
    killed_by="a_layers_three_gradients_answer_to_one_form",
)
class WeightGradientDividedByTheBatch(Linear):
    """gw = gyᵀ x / R instead of gyᵀ x: the 1/R of the mean loss a second time, as lecture notes write it into dW."""

    def backward(self, gy: Array) -> Any:
        gx, gw, gb = Linear.backward(self, gy)
        return gx, None if gw is None else gw / max(1, len(rows(gy))), gb


@bug(
    Linear,
    symptom="silent: the loss falls, as noisily as with batch size 1, and a larger batch doesn't help",
    killed_by="one_rows_weight_gradient_is_an_outer_product_and_a_batchs_is_their_sum",
)
class LastRowOnly(Linear):
    """gw = gy_R x_Rᵀ of the last row instead of sum_r gy_r x_rᵀ: in a loop over the rows, `=` where `+=` was meant."""

    def backward(self, gy: Array) -> Any:
        gx, gw, gb = Linear.backward(self, gy)
        return gx, None if gw is None else rows(gy)[-1:].T @ rows(self.x)[-1:], gb


def rows_of_first(x: Array) -> Array:
    """The first matrix of a batch."""
    return x.reshape(-1, *x.shape[-2:])[0]
