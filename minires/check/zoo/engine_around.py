"""The museum's other room: engines that walk in the right order, and are wrong in what they do around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minires import engine as right
from minires.backend import Array, find
from minires.check.bug import bug
from minires.engine import Edge, Function, Tensor, _fit, _run_backward, _seed, _wrap
from minires.switches import enable_grad, state

_record = Function._record
_apply = vars(Function)["apply"].__func__

# --- what broadcasting repeated


@bug(
    None,
    symptom="biases and norm gains learn from the first example of each batch alone; the loss still falls",
    killed_by="what_broadcasting_repeated_is_summed_back",
)
class FirstSliceKept:
    """g[0] along every axis that was repeated, instead of the sum over it: the shape fits, as the error message asked.

    The adjoint of copying one value n times is the sum of the n gradients.
    """

    @staticmethod
    def sum_to(gy: Array, shape: tuple[int, ...]) -> Array:
        g = gy[(0,) * (gy.ndim - len(shape))]
        return g[tuple(slice(0, 1) if n == 1 else slice(None) for n in shape)]


@bug(
    None,
    symptom="biases learn ever more slowly the larger the batch is; with batch size 1, as in the tests, all is right",
    killed_by="what_broadcasting_repeated_is_summed_back",
)
class MeanForSum:
    """The mean over what was repeated, instead of the sum: "the gradient of a batch is its mean".

    That is the loss' business (its 1/N is in gy already); here it divides once more.
    """

    @staticmethod
    def sum_to(gy: Array, shape: tuple[int, ...]) -> Array:
        new = gy.ndim - len(shape)
        stretched = [i for i, n in enumerate(shape, start=new) if n == 1 and gy.shape[i] != 1]
        return gy.mean(axis=(*range(new), *stretched)).reshape(shape)


@bug(
    None,
    symptom="silent, and only where two axes happen to be of one length, as when the batch is as large as the layer",
    killed_by="which_axis_was_repeated_is_told_by_position_not_by_length",
)
class AxesGuessedByLength:
    """Sums over the axes whose length the smaller shape lacks, instead of those that broadcasting put in front.

    From (n, n) back to (n,) it keeps the first axis and sums over the last; broadcasting aligns shapes at the right.
    """

    @staticmethod
    def sum_to(gy: Array, shape: tuple[int, ...]) -> Array:
        wanted, summed = list(shape), []
        for axis, n in enumerate(gy.shape):
            if n in wanted:
                wanted.remove(n)
            else:
                summed.append(axis)
        return gy.sum(axis=tuple(summed)).reshape(shape)


@bug(
    None,
    symptom="memory and time double after the first step: one float64 constant in the loss and every gradient below, "
    "every moment and then every weight is float64",
    killed_by="a_gradient_has_its_leafs_dtype",
)
class GradientsWidened:
    """Takes a gradient in whatever dtype the formula gave. Right: in the dtype of what it is the gradient of.

    float32 times float64 is float64, backward as well as forward.
    """

    @staticmethod
    def _fit(op: Function, i: int, gx: Any) -> Any:
        meta = op.inputs[i]
        if meta is None or gx is None:
            return None
        g = op.lib.asarray(gx)
        return g if g.shape == meta[0] else right.sum_to(g, meta[0])


# --- what goes in


@bug(
    None,
    symptom="a check that seeds itself finds every softmax and every norm right, whatever their formulas: with ones "
    "the true gradient is zero",
    killed_by="a_non_scalar_backward_needs_a_cotangent",
)
class OnesForASeed:
    """backward() of any shape starts from ones, that is, from the gradient of y.sum(), without having been asked to.

    Right is to refuse: there is no derivative of many numbers that is not told how they count. minitorch, needle's
    first homework and TinyTorch check with ones; DeZero's batch norm gradient times 17 passes its own check.
    """

    @staticmethod
    def _seed(root: Tensor, grad: Any) -> Array:
        return _seed(root, find((root.data,)).xp.ones(root.shape, root.dtype) if grad is None else grad)


@bug(
    None,
    symptom="clipping a gradient in place also clips the array that was passed to backward, for all who hold it",
    killed_by="the_cotangent_stays_the_callers",
)
class CotangentBorrowed:
    """Starts from the caller's array itself instead of a copy of it, so that a leaf may keep it as its .grad."""

    @staticmethod
    def _seed(root: Tensor, grad: Any) -> Array:
        copied = _seed(root, grad)
        plain = grad.data if isinstance(grad, Tensor) else grad
        return plain if type(plain) is type(copied) and plain.dtype == copied.dtype else copied


@bug(
    None,
    symptom="silent: where one half of a split goes unused, the other half's gradient lands in its place",
    killed_by="an_op_with_two_outputs_gets_each_cotangent_in_its_place",
)
class OutputsInOrderOfArrival:
    """Hands an op with several outputs the gradients that there are, in order, instead of zeros for those that miss.

    Right wherever all outputs are used, and where only the last ones are not.
    """

    @staticmethod
    def _run_backward(op: Function, gys: list[Any]) -> Sequence[Any]:
        arrived = [g for g in gys if g is not None]
        return _run_backward(op, arrived + [None] * (len(gys) - len(arrived)))


# --- who owns the arrays


@bug(
    None,
    symptom="clipping by norm clips some weights twice: after y = a + b both leaves' .grad are one array",
    killed_by="no_two_leaves_share_a_gradient_array",
)
class LeafKeepsWhatItIsHanded:
    """leaf.grad = gx without a copy, although the op may have handed the same array to another leaf."""

    @staticmethod
    def _accumulate(leaf: Tensor, gradient: Array, owned: bool) -> None:
        leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient


@bug(
    None,
    symptom="the gradient norms noted for two micro-batches are equal, and their difference is always zero",
    killed_by="a_gradient_that_somebody_holds_does_not_change",
)
class AddedToWhatIsHeld:
    """leaf.grad += gx writes into an array that somebody may hold since the last backward. Right: leaf.grad + gx."""

    @staticmethod
    def _accumulate(leaf: Tensor, gradient: Array, owned: bool) -> None:
        if leaf.grad is None:
            leaf.grad = gradient.copy()
        else:
            leaf.grad += gradient


@bug(
    None,
    symptom="training needs up to twice the memory: each activation's gradient is kept beside the activation",
    killed_by="interior_tensors_keep_no_gradient",
)
class EveryGradientKept:
    """Every tensor on the tape keeps its .grad, "so that it can be looked at". Right: leaves do, others on request."""

    class Function:
        def _record(self: Any, inputs: Sequence[Any], outputs: Sequence[Tensor]) -> None:
            _record(self, inputs, outputs)
            self.retained.extend(outputs)


# --- what the tape remembers, and for how long


@bug(
    None,
    symptom="memory grows with every step as long as a loss is kept, and a second backward on one graph silently "
    "doubles every gradient",
    killed_by="backward_frees_what_the_ops_saved",
)
class NothingFreed:
    """Backward leaves saved arrays and edges where they are. Right: it frees them as it passes, unless asked not to."""

    class Function:
        def _free(self: Any) -> None:
            pass


@bug(
    None,
    symptom="silent: with two losses on one trunk the second trains its own head and nothing below it",
    killed_by="a_second_backward_is_refused",
)
class FreedPartsSkipped:
    """An op that was freed hands back nothing, instead of an error that says so.

    "None means no gradient", and so a walk that meets a graph used up by another just ends there.
    """

    @staticmethod
    def _alive(op: Function) -> Function:
        return op

    @staticmethod
    def _run_backward(op: Function, gys: list[Any]) -> Sequence[Any]:
        return () if op.freed else _run_backward(op, gys)


@bug(
    None,
    symptom="silent: an optimizer step or a buffer update between forward and backward, and the gradient is another "
    "point's",
    killed_by="a_saved_array_changed_in_place_is_refused",
)
class SavedArraysTrusted:
    """Nobody looks whether a saved array still holds what forward saw: after w.copy_(v), gx = gy v instead of gy w.

    micrograd: data changed between forward and backward gives a silently wrong gradient.
    """

    class Function:
        def _check_saved(self: Any) -> None:
            pass


@bug(
    None,
    symptom="silent: the guard works in its own test, and fails for an op that saved x transposed, cut or reshaped",
    killed_by="a_saved_view_of_a_changed_array_is_refused",
)
class OnlyWholeArraysGuarded:
    """Guards what forward saved if it *is* an input or output; right is to guard what shares memory with one.

    A transposed or reshaped array is another object on the same memory.
    """

    class Function:
        def _saved_memory(self: Any) -> set[int]:
            return {id(a) for a in vars(self).values()}


@bug(
    None,
    symptom="silent: x.detach() is changed in place, x with it, and backward uses the new numbers without a word",
    killed_by="a_change_through_a_detached_twin_is_refused",
)
class DetachedTwinCountsAlone:
    """detach() gives the same memory a count of changes of its own. Right: one memory, one count."""

    class Tensor:
        def detach(self: Any) -> Tensor:
            return _wrap(self.data)


# --- what is cut from the tape


@bug(
    None,
    symptom="evaluation needs as much memory as training, and a moving average of weights drags every graph along",
    killed_by="nothing_made_under_no_grad_carries_a_gradient",
)
class NoGradUnheard:
    """no_grad() sets its switch, and no op looks at it: y is on the tape, with all that it was made of."""

    class Function:
        @classmethod
        def apply(cls: Any, *inputs: Any, **options: Any) -> Any:
            with enable_grad():
                return _apply(cls, *inputs, **options)


@bug(
    None,
    symptom="a frozen teacher or target net moves along with the student; the loss collapses to a trivial optimum",
    killed_by="a_detached_branch_gets_no_gradient",
)
class DetachOnlyCopies:
    """detach() copies the values and stays on the tape: d detach(x) / dx = 1 instead of 0.

    A copy protects x's numbers from writes; a cut protects what made x from gradients.
    """

    class Tensor:
        def detach(self: Any) -> Tensor:
            copy = _wrap(self.data.copy())
            copy.op, copy.index, copy.requires_grad = self.op, self.index, self.requires_grad
            return copy


# --- who watches


@bug(
    None,
    symptom="the ledger's shares of a bias have the batch's shape and don't add up to its gradient; a lesion crashes",
    killed_by="a_watcher_sees_each_edge_once_and_what_it_carries",
)
class WatchersToldTooEarly:
    """Shows watchers what backward returned, not what passes: before broadcasting is undone and the dtype is fitted."""

    @staticmethod
    def _run_backward(op: Function, gys: list[Any]) -> Sequence[Any]:
        filled = [op.xp.zeros(*meta) if g is None else g for g, meta in zip(gys, op.outputs, strict=True)]
        gxs = op.backward(*filled)
        gxs = list(gxs) if isinstance(gxs, tuple) else [gxs]
        for watch in state.watchers:
            for i, (edge, gx) in enumerate(zip(op.edges, gxs, strict=True)):
                if edge is not None and gx is not None:
                    replaced = watch(Edge(op, i, *edge), gx)
                    gxs[i] = gx if replaced is None else replaced
        return [_fit(op, i, gx) for i, gx in enumerate(gxs)]
