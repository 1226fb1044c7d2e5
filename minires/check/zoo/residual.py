"""The skip connection and the shortcut that pads, wrong."""

from __future__ import annotations

from typing import Any

from minires.backend import Array
from minires.check.bug import bug
from minires.ops.residual import PadChannels, ResidualAdd

# --- the skip


@bug(
    ResidualAdd,
    symptom="a residual network trains like a plain one: gradients fade (or explode) with depth as if nothing skipped",
    killed_by="both_gradients_of_residual_add_are_gy_bit_for_bit",
)
class SkipDropped(ResidualAdd):
    """The +1 is missing: gx = 0 instead of gy, so that only the branch hands gradient back.

    Comes from writing the block's gradient as J_F^T gy, or from detaching the skip "to save memory".
    """

    def backward(self, gy: Array) -> Any:
        return self.xp.zeros_like(gy), gy


@bug(
    ResidualAdd,
    symptom="the gradient's norm doubles with every block towards the input: NaN at depth 50, and a smaller learning "
    "rate only postpones it",
    killed_by="where_every_branch_is_zero_a_stack_passes_gradients_bit_for_bit",
)
class SkipCountedTwice(ResidualAdd):
    """gx = 2 gy instead of gy: the skip's gradient is added here and then again where the paths meet.

    Comes from thinking that this op must sum the two paths itself, gx = gy + gf, where the engine sums them at x.
    """

    def backward(self, gy: Array) -> Any:
        return gy + gy, gy


@bug(
    ResidualAdd,
    symptom="a deep net's first layers hardly move: their gradients halve with every block although the net has skips",
    killed_by="a_branch_of_norm_e_changes_the_gradients_norm_by_at_most_e",
)
class PathsAveraged(ResidualAdd):
    """gx = gf = gy / 2 instead of gy: the gradient is shared out between the two paths, as for y = (x + f) / 2.

    Comes from "the gradient splits at the junction". It doesn't: each summand gets all of it.
    """

    def backward(self, gy: Array) -> Any:
        return gy / 2, gy / 2


@bug(
    ResidualAdd,
    symptom="the loss stops falling early: every block stays as it was initialized, and only stem and classifier learn",
    killed_by="whatever_the_branch_a_blocks_gradient_is_gy_plus_its_pull",
)
class BranchForgotten(ResidualAdd):
    """gf = 0 instead of gy: all of the gradient takes the skip.

    The highway slogan read the wrong way round: that the gradient *can* pass the branch doesn't spare it the branch.
    """

    def backward(self, gy: Array) -> Any:
        return gy, self.xp.zeros_like(gy)


@bug(
    ResidualAdd,
    symptom="training drifts: all weights below get a constant push, and the loss grows even from a minimum",
    killed_by="backward_is_linear_in_the_cotangent",
)
class OnePlusTheGradient(ResidualAdd):
    """gx = 1 + gy, literally. The slogan "dL/dx = 1 + dL/dF" as code.

    The 1 in 1 + F' is the derivative of x by x, that is I: it multiplies gy, it isn't added to it. gx = (I + J_F)^T gy.
    """

    def backward(self, gy: Array) -> Any:
        return 1 + gy, gy


@bug(
    ResidualAdd,
    symptom="every block learns to make the loss worse: it rises from the first step on",
    killed_by="a_blocks_gradient_is_gy_plus_the_branchs_transposed_jacobian_times_gy",
)
class BranchSubtracted(ResidualAdd):
    """gf = -gy instead of gy: the gradient of y = x - f.

    Comes from the residual's definition, F(x) = H(x) - x, where x and F(x) do stand on opposite sides.
    """

    def backward(self, gy: Array) -> Any:
        return gy, -gy


@bug(
    ResidualAdd,
    symptom="a pre-activation net trains like a post-activation one: nothing reaches a block's input where its output "
    "is negative",
    killed_by="both_gradients_of_residual_add_are_gy_bit_for_bit",
)
class ReluAfterTheSum(ResidualAdd):
    """gx = gf = gy [y > 0] instead of gy: the gradient of relu(x + f), for a block whose ReLU stands in the branch.

    Comes from fusing sum and ReLU for the original block (He et al. 2015) and using it for the other (He et al. 2016).
    """

    def forward(self, x: Array, f: Array) -> Array:
        y = ResidualAdd.forward(self, x, f)
        self.positive = y.real > 0
        return y

    def backward(self, gy: Array) -> Any:
        return gy * self.positive, gy * self.positive


@bug(
    ResidualAdd,
    symptom="right in every small test; wrong, and in another way each time, where two blocks share their output's "
    "gradient",
    killed_by="inputs_and_cotangent_are_unmodified",
)
class BufferClearedForReuse(ResidualAdd):
    """Returns copies of gy and then zeroes gy, "to reuse the buffer"; right is to write to nothing one was handed.

    An op upstream may have handed the same array to several ops: the next of them finds zeros.
    """

    def backward(self, gy: Array) -> Any:
        gx, gf = gy.copy(), gy.copy()
        gy[...] = 0
        return gx, gf


@bug(
    ResidualAdd,
    symptom="every block multiplies the gradient of both paths by two, and the caller's own cotangent changes with it",
    killed_by="inputs_and_cotangent_are_unmodified",
)
class SummedInPlace(ResidualAdd):
    """gx = gf = gy and then gx += gf: all three are one array, so gx = gf = gy = 2 gy instead of gy.

    The in-place twin of `out += residual`. Handing one array back twice is right; writing to it is not.
    """

    def backward(self, gy: Array) -> Any:
        gx = gf = gy
        gx += gf
        return gx, gf


@bug(
    ResidualAdd,
    symptom="silent: a skip of one row (or channel, or pixel) is added to all of them, and the net trains, only worse",
    killed_by="a_skip_that_would_broadcast_is_refused",
)
class SkipBroadcast(ResidualAdd):
    """Lets the engine sum a gradient back to a smaller skip, as for any `+`; right is to refuse unequal shapes.

    A forgotten projection then goes unnoticed wherever the skip happens to broadcast.
    """

    broadcasts = True


# --- the shortcut that pads


@bug(
    PadChannels,
    symptom="silent: a widening block's skip hands each channel another channel's gradient; accuracy is a bit lower",
    killed_by="adjoint",
)
class FirstChannelsGradient(PadChannels):
    """gx takes gy[:, :C] instead of gy[:, before : before + C].

    Right where all zeros are put behind x; here half of them stand before it.
    """

    def backward(self, gy: Array) -> Array:
        gx = self.xp.zeros(self.shape, gy.dtype)
        gx[:, :, :: self.stride, :: self.stride] = gy[:, : self.shape[1]]
        return gx


@bug(
    PadChannels,
    symptom="silent: right for the usual doubling of an even number of channels, off by one channel for an odd number",
    killed_by="the_gradient_past_padding_is_the_cropped_gy_on_the_pixels_that_were_kept",
)
class OddChannelBefore(PadChannels):
    """gx takes gy[:, after : after + C] instead of gy[:, before : before + C]: forward rounds down, backward up.

    The two differ where an odd number of channels is added.
    """

    def backward(self, gy: Array) -> Array:
        gx = self.xp.zeros(self.shape, gy.dtype)
        gx[:, :, :: self.stride, :: self.stride] = gy[:, self.after : self.after + self.shape[1]]
        return gx


@bug(
    PadChannels,
    symptom="silent: the skip's gradient is shifted by a pixel at both down-samplings; invisible in the loss curve",
    killed_by="complex-step",
)
class StrideFromTheOtherEnd(PadChannels):
    """gx[i stride + stride - 1] = gy[i] instead of gx[i stride] = gy[i]: the last pixel of each window, not the first.

    Forward takes x[::stride], backward takes its windows from the other end (clipped at the border).
    """

    def backward(self, gy: Array) -> Array:
        gx = self.xp.zeros(self.shape, gy.dtype)
        ends = [
            [min(i * self.stride + self.stride - 1, n - 1) for i in range(-(-n // self.stride))] for n in gx.shape[2:]
        ]
        rows, columns = (self.xp.asarray(e, dtype=int) for e in ends)
        gx[:, :, rows[:, None], columns] = gy[:, self.before : self.before + self.shape[1]]
        return gx


@bug(
    PadChannels,
    symptom="silent: the skip's gradient is blurred at both down-samplings, and pixels that had no part get some",
    killed_by="the_gradient_past_padding_is_the_cropped_gy_on_the_pixels_that_were_kept",
)
class AveragePoolsGradient(PadChannels):
    """gx[i] = gy[i // stride] / stride^2 instead of gy[i / stride] where stride divides i, and 0 elsewhere.

    The gradient of a shortcut that averages each window before it pads, under a forward that takes every stride-th
    pixel.
    """

    def backward(self, gy: Array) -> Array:
        kept = gy[:, self.before : self.before + self.shape[1]] / self.stride**2
        spread = kept.repeat(self.stride, axis=2).repeat(self.stride, axis=3)  # (N, C, OH stride, OW stride)
        return spread[:, :, : self.shape[2], : self.shape[3]]


@bug(
    PadChannels,
    symptom="silent: gradients below each widening block are somewhat too large and point slightly elsewhere",
    killed_by="the_added_channels_gradient_goes_nowhere",
)
class AddedChannelsFoldedBack(PadChannels):
    """gx = the sum over all channels k = c mod C of gy[:, k] instead of gy[:, before + c] alone.

    The gradient of a shortcut that repeats x's channels until there are enough. Zeros have no gradient to hand back.
    """

    def backward(self, gy: Array) -> Array:
        gx = PadChannels.backward(self, gy)
        for k in (*range(self.before), *range(self.before + self.shape[1], gy.shape[1])):
            gx[:, (k - self.before) % self.shape[1], :: self.stride, :: self.stride] += gy[:, k]
        return gx


@bug(
    PadChannels,
    symptom="silent: after a down-sampling the skip's gradient reaches the upper left quarter of the image only",
    killed_by="a_widening_blocks_gradient_is_the_cropped_gy_plus_the_branchs_pull",
)
class StrideForgotten(PadChannels):
    """gx[:, :, :OH, :OW] = gy instead of gx[:, :, ::stride, ::stride] = gy: a crop's gradient, not a stride's.

    Shapes fit, and with stride 1 the two are the same.
    """

    def backward(self, gy: Array) -> Array:
        gx = self.xp.zeros(self.shape, gy.dtype)
        gx[:, :, : gy.shape[2], : gy.shape[3]] = gy[:, self.before : self.before + self.shape[1]]
        return gx
