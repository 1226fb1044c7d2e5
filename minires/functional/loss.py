"""Losses under torch's names.

`reduction` is "mean", "sum" or "none" throughout. torch's retired arguments `size_average` and `reduce` do not
exist here; what comes after them in torch's order is keyword-only, so that no position changes its meaning.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minires import backend
from minires.engine import Tensor
from minires.errors import RequestError
from minires.ops.loss import L1, BinaryCrossEntropyWithLogits, CrossEntropy, Dice, Huber, Mse, Nll, SoftCrossEntropy

__all__ = [
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "dice_loss",
    "huber_loss",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "smooth_l1_loss",
]


# --- classes


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(input)[target]: the loss of a classifier, from its logits.

    input              (N, C, *) logits, or (C,) for one sample
    target             (N, *) integers 0..C-1, or class probabilities shaped like input
    weight             (C,), a factor for each class, or None. With integer targets the mean is then a weighted one
    ignore_index       a target that does not count (integer targets only)
    label_smoothing    the share of each target that is spread evenly over all C classes

    Raises TypeError for a target of the wrong kind, RequestError for shapes, and IndexError for a class that input
    does not have (on the CPU; on a GPU, looking would stop the queue, and CuPy wraps such an index around).
    """
    name = "cross_entropy"
    _check_reduction(name, reduction)
    _check_classes(name, input, weight)
    if not 0 <= label_smoothing <= 1:
        raise RequestError(f"{name}: label_smoothing is {label_smoothing}, but must lie between 0 and 1")
    if target.dtype.kind in "fc":
        if tuple(target.shape) != tuple(input.shape):
            raise RequestError(
                f"{name}: target {tuple(target.shape)} is of dtype {target.dtype}, so it holds probabilities and must "
                f"be shaped like input, {tuple(input.shape)}; class numbers must be integers"
            )
        return SoftCrossEntropy.apply(input, target, weight, label_smoothing=label_smoothing, reduction=reduction)
    _check_labels(name, input, target, ignore_index)
    return CrossEntropy.apply(
        input, target, weight, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction
    )


def nll_loss(
    input: Any, target: Any, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-input[target], for input (N, C, *) of log-probabilities. Arguments and errors as for `cross_entropy`."""
    _check_reduction("nll_loss", reduction)
    _check_classes("nll_loss", input, weight)
    _check_labels("nll_loss", input, target, ignore_index)
    return Nll.apply(input, target, weight, ignore_index=ignore_index, reduction=reduction)


# --- numbers


def mse_loss(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """(input - target)^2. Raises RequestError unless the shapes are equal: broadcasting here hides a bug."""
    target = _check_pair("mse_loss", input, target, reduction)
    return Mse.apply(input, target, reduction=reduction)


def l1_loss(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """|input - target|. Raises RequestError unless the shapes are equal."""
    target = _check_pair("l1_loss", input, target, reduction)
    return L1.apply(input, target, reduction=reduction)


def smooth_l1_loss(input: Any, target: Any, *, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, with d = input - target; beta = 0 is `l1_loss`.

    Raises RequestError unless the shapes are equal, and for a negative beta.
    """
    target = _check_pair("smooth_l1_loss", input, target, reduction)
    if beta < 0:
        raise RequestError(f"smooth_l1_loss: beta is {beta}, but must be at least 0")
    if beta == 0:
        return L1.apply(input, target, reduction=reduction)
    return Huber.apply(input, target, delta=float(beta), gain=1 / beta, reduction=reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """d^2 / 2 where |d| < delta, else delta (|d| - delta / 2), with d = input - target.

    Raises RequestError unless the shapes are equal and delta is positive.
    """
    target = _check_pair("huber_loss", input, target, reduction)
    if delta <= 0:
        raise RequestError(f"huber_loss: delta is {delta}, but must be above 0")
    return Huber.apply(input, target, delta=float(delta), gain=1.0, reduction=reduction)


# --- masks


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """-log sigmoid(input) where target is 1, -log(1 - sigmoid(input)) where it is 0, and a mixture between.

    input, target    (*), target in [0, 1]
    weight           broadcasts to (*): a factor for each loss
    pos_weight       broadcasts to (*): a factor for the positive part, target's own

    Raises RequestError unless the shapes of input and target are equal and the weights broadcast to them.
    """
    name = "binary_cross_entropy_with_logits"
    target = _check_pair(name, input, target, reduction)
    for what, array in (("weight", weight), ("pos_weight", pos_weight)):
        _check_constant(name, what, array)
        if array is not None and not _broadcasts_to(array.shape, input.shape):
            raise RequestError(
                f"{name}: {what} is {tuple(array.shape)}, which does not broadcast to {tuple(input.shape)}"
            )
    return BinaryCrossEntropyWithLogits.apply(input, target, weight, pos_weight, reduction=reduction)


def dice_loss(input: Any, target: Any, *, eps: float = 1.0, reduction: str = "mean") -> Tensor:
    """1 - (2 sum(p t) + eps) / (sum(p) + sum(t) + eps), the sums over each sample's and channel's positions.

    input     (N, C, *) probabilities p: apply sigmoid or softmax first
    target    (N, C, *) masks t
    eps       above 0; makes the loss of an empty mask that was predicted empty 0

    "none" gives (N, C). Not in torch. Raises RequestError unless the shapes are equal, with an axis of positions.
    """
    target = _check_pair("dice_loss", input, target, reduction)
    if input.ndim < 3:
        raise RequestError(
            f"dice_loss: input is {tuple(input.shape)}, but must be (N, C, ...) with an axis of positions"
        )
    return Dice.apply(input, target, eps=float(eps), reduction=reduction)


# --- what is asked of the arguments


def _check_reduction(name: str, reduction: str) -> None:
    if reduction not in ("none", "mean", "sum"):
        raise RequestError(f"{name}: reduction is {reduction!r}, but must be 'none', 'mean' or 'sum'")


def _check_constant(name: str, what: str, weight: Any) -> None:
    if isinstance(weight, Tensor) and weight.requires_grad:
        raise RequestError(f"{name}: {what} requires a gradient, but is taken as a constant; pass {what}.detach()")


def _check_pair(name: str, input: Any, target: Any, reduction: str) -> Any:
    """The target, in input's dtype if it was of integers, since int64 would draw float32 up to float64."""
    _check_reduction(name, reduction)
    if tuple(input.shape) != tuple(target.shape):
        raise RequestError(
            f"{name}: input is {tuple(input.shape)} and target {tuple(target.shape)}, but they must be equal; "
            "broadcasting would compare every element with every other"
        )
    if input.dtype.kind not in "fc":
        raise TypeError(f"{name}: input is of dtype {input.dtype}, but must be of floats; use .astype('float32')")
    values = target.data if isinstance(target, Tensor) else target
    return values.astype(input.dtype) if values.dtype.kind in "biu" else target


def _check_classes(name: str, input: Any, weight: Any) -> None:
    if input.dtype.kind not in "fc":
        raise TypeError(f"{name}: input is of dtype {input.dtype}, but scores must be floats; use .astype('float32')")
    shape = input.shape
    if not shape:
        raise RequestError(f"{name}: input is 0-d, but must be (C,) or (N, C, ...)")
    if weight is not None:
        _check_constant(name, "weight", weight)
        classes = shape[min(len(shape) - 1, 1)]
        if weight.shape != (classes,):
            raise RequestError(f"{name}: weight is {weight.shape}, but input has {classes} classes, so ({classes},)")


def _check_labels(name: str, input: Any, target: Any, ignore_index: int) -> None:
    labels = target.data if isinstance(target, Tensor) else target
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{name}: target is of dtype {labels.dtype}, but class numbers must be integers")
    shape = input.shape
    axis = min(len(shape) - 1, 1)
    expected = shape[:axis] + shape[axis + 1 :]
    if labels.shape != expected:
        raise RequestError(
            f"{name}: target is {labels.shape}, but for an input of {shape}, whose axis {axis} is the classes, "
            f"it must be {expected}"
        )
    if backend.find((labels,)).device != "cpu":
        return
    outside = labels.view(f"u{labels.itemsize}") >= shape[axis]  # as unsigned numbers, negative ones are large
    if outside.any():
        wrong = labels[outside & (labels != ignore_index)]
        if wrong.size:
            raise IndexError(f"{name}: target holds class {wrong[0]}, but input has classes 0 to {shape[axis] - 1}")


def _broadcasts_to(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, target) == tuple(target)
    except ValueError:
        return False
