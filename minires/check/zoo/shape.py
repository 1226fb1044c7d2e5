"""Numbers that move to the wrong place on the way back."""

from __future__ import annotations

import math
from typing import Any

from minires.backend import Array
from minires.check.bug import bug
from minires.engine import sum_to
from minires.ops.shape import (
    AdvancedIndex,
    BasicIndex,
    Concat,
    Expand,
    Flip,
    Pad,
    PadAxis,
    Permute,
    Reshape,
    Split,
    Stack,
    Unbind,
)

UNDONE = "reordering_backward_undoes_reordering_forward"
JOINED = "cat_and_split_are_each_others_inverse_and_gradient"
STACKED = "stack_and_unbind_are_each_others_inverse_and_gradient"
FOLDED = "a_border_that_continues_x_folds_back_onto_x"


@bug(
    Reshape,
    symptom="a convolutional network's classifier learns and the layers below it do not: their gradient is shuffled",
    killed_by=UNDONE,
)
class ReshapeBackInFortranOrder(Reshape):
    """gx is gy counted off first axis fastest, while forward counted last axis fastest.

    Shape, sum and norm are right, and only a flatten of one feature map or one pixel is.
    """

    def backward(self, gy: Array) -> Any:
        return gy.reshape(self.before, order="F")


@bug(
    Permute,
    symptom="nothing where two axes are exchanged; with cycles of three equal axes, the gradient is transposed",
    killed_by=UNDONE,
)
class PermuteBackByTheSameAxes(Permute):
    """gx = gy with `axes` instead of the inverse permutation.

    An exchange of two axes, as in attention's (N, T, H, D) to (N, H, T, D), is its own inverse. A cycle, as in
    (H, W, C) to (C, H, W), is not: with unequal axes its shape is refused, with equal ones nobody notices.
    """

    def backward(self, gy: Array) -> Any:
        return gy.transpose(self.axes)


@bug(
    Expand,
    symptom="biases and scales learn the more slowly the larger the batch and the image: their gradient is a mean",
    killed_by="sum_and_expand_are_each_others_gradient",
)
class ExpandAveraged(Expand):
    """gx = mean of gy over the repeated axes instead of the sum: each copy counts in full."""

    def forward(self, x: Array) -> Any:
        self.before = x.shape
        return super().forward(x)

    def backward(self, gy: Array) -> Any:
        copies = math.prod(gy.shape) / max(math.prod(self.before), 1)
        return sum_to(gy, self.before) / max(copies, 1)


@bug(
    Concat,
    symptom="in a dense or U-shaped network, old features and new ones get each other's gradient; equal widths hide it",
    killed_by=JOINED,
)
class ConcatCutFromTheEnd(Concat):
    """gx_k is cut from the end of gy backward, as if each x_k had been put in front of the ones before.

    Forward is cat(x_0, x_1), backward belongs to cat(x_1, x_0). Each piece has its right shape.
    """

    def backward(self, gy: Array) -> Any:
        along = (slice(None),) * self.axis
        total, ends = sum(self.sizes), [sum(self.sizes[: k + 1]) for k in range(len(self.sizes))]
        return tuple(
            gy[(*along, slice(total - end, total - end + size))] for end, size in zip(ends, self.sizes, strict=True)
        )


@bug(
    Split,
    symptom="query, key and value of a fused projection learn each other's weights; attention never sharpens",
    killed_by=JOINED,
)
class SplitJoinedInReverse(Split):
    """gx = the pieces' gradients end to end, the last one first.

    A walk over the tape goes backward, and the pieces' gradients are collected in that order and never turned round.
    """

    def backward(self, *gys: Array) -> Any:
        return self.xp.concatenate(gys[::-1], self.axis)


@bug(
    Stack,
    symptom="silent where as many arrays are stacked as they are long: each learns from a slice of all the others",
    killed_by=STACKED,
)
class StackTakenApartInFront(Stack):
    """gx_j = gy read in rows of x's size, gy.reshape(k, ...)[j], instead of gy[..., j, ...] along the new axis.

    Right for axis 0, the default.
    """

    def backward(self, gy: Array) -> Any:
        k = gy.shape[self.axis]
        shape = [n for a, n in enumerate(gy.shape) if a != self.axis]
        return tuple(gy.reshape(k, *shape)[j] for j in range(k))


@bug(
    Unbind,
    symptom="a recurrent network unrolled over axis 1 sees time and batch mixed up in its input's gradient",
    killed_by=STACKED,
)
class UnbindStackedInFront(Unbind):
    """gx = stack(gys, 0), reshaped to x, instead of stack(gys, axis): right for axis 0 and shuffled for any other."""

    def backward(self, *gys: Array) -> Any:
        shape = list(gys[0].shape)
        shape.insert(self.axis, len(gys))
        return self.xp.stack(gys, 0).reshape(shape)


@bug(
    Flip,
    symptom="a two-way recurrent network's backward half learns from the wrong end of the sequence",
    killed_by=UNDONE,
)
class FlipNotFlippedBack(Flip):
    """gx = gy instead of gy flipped: "a flip computes nothing, so its gradient is the identity"."""

    def backward(self, gy: Array) -> Any:
        return gy


@bug(
    Pad,
    symptom="each padded layer hands its gradient down shifted by the padding: early layers blur, deep ones train",
    killed_by="the_gradient_of_a_border_is_the_crop_and_of_a_crop_the_border",
)
class PadCroppedAtTheCorner(Pad):
    """gx = gy[:n] instead of gy[before : before + n]: the border is cut off at the far side only."""

    def backward(self, gy: Array) -> Any:
        gx = self.xp.zeros(self.shape, gy.dtype)
        inner, kept = self._windows()
        gx[kept] = gy[tuple(slice(0, s.stop - s.start) for s in inner)]
        return gx


@bug(
    PadAxis,
    symptom="images train, but artifacts stay at their edges: pixels at the border get too little gradient",
    killed_by=FOLDED,
)
class BorderGradientDropped(PadAxis):
    """gx = the inside of gy, as for a border of zeros; what the mirrored or repeated border says is lost."""

    def backward(self, gy: Array) -> Any:
        n = self.shape[self.axis]
        p = self.xp.arange(-self.before, n + self.after)
        inside = ((p >= 0) & (p < n)).reshape(-1, *[1] * (len(self.shape) - 1 - self.axis))
        return super().backward(gy * inside)


@bug(
    PadAxis,
    symptom="as without the border's gradient, and worse: some pixels listen to their mirror image alone",
    killed_by=FOLDED,
)
class BorderGradientOverwrites(PadAxis):
    """gx[s] = gy instead of gx[s] += gy: of the inside and its mirror images only the last one written is kept."""

    def backward(self, gy: Array) -> Any:
        gx = self.xp.zeros(self.shape, gy.dtype)
        gx[(slice(None),) * self.axis + (self.source,)] = gy
        return gx


@bug(
    BasicIndex,
    symptom="silent for all slices but those that step backward, whose gradient comes out in the wrong order",
    killed_by="what_a_slice_reads_gets_gy_and_what_it_skips_gets_nothing",
)
class SliceBackwardForgetsItsDirection(BasicIndex):
    """gx[a : b : |step|] = gy for x[b : a : -|step|]: the right places, filled from the wrong end.

    Comes from bringing a slice into rising order first, so that it can be written as a window.
    """

    def backward(self, gy: Array) -> Any:
        turned = [i for i in self.index if not isinstance(i, int)]  # what has an axis of gy
        before = turned.index(Ellipsis) if Ellipsis in turned else len(turned)
        against = [a if a < before else a - len(turned) for a, i in enumerate(turned) if _falls(i)]
        return super().backward(self.xp.flip(gy, against))


def _falls(i: Any) -> bool:
    return isinstance(i, slice) and (i.step or 1) < 0


@bug(
    AdvancedIndex,
    symptom="frequent elements learn no faster than rare ones; the loss falls more slowly and stays higher",
    killed_by="an_element_read_k_times_gets_the_sum_of_k_gradients",
)
class GatherOverwrites(AdvancedIndex):
    """`gx[index] += gy`, which NumPy computes as gx[index] = gx[index] + gy: of k gradients for one element, one stays.

    The sum over the places that read an element takes `np.add.at`. Where no index occurs twice, both are equal.
    """

    def backward(self, gy: Array) -> Any:
        gx = self.xp.zeros(self.shape, gy.dtype)
        gx[self.index] += gy
        return gx
