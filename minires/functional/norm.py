"""Normalization over the batch, the features, or groups of channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minires.backend import Array
from minires.engine import Tensor
from minires.errors import RequestError
from minires.ops.norm import BatchNorm, BatchNormEval, GroupNorm, LayerNorm, RmsNorm
from minires.switches import is_recomputing

__all__ = ["batch_norm", "group_norm", "layer_norm", "rms_norm"]


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel less its mean, over its standard deviation; then times `weight`, plus `bias`.

    input           (N, C, *): the channels are axis 1
    running_mean    (C,) and running_var (C,), Tensors or arrays. With training=False they are the mean and the
                    variance; with training=True the batch's own are used, and the running ones, unless
                    None, are updated in place: r <- (1 - momentum) r + momentum s, with the unbiased variance
    weight, bias    (C,), or None for 1 and 0
    eps             added to the (biased) variance under the root

    An empty batch has no statistics, so the running ones stay. Raises ValueError in training when a channel has a
    single value, since its variance is then zero.
    """
    _check_channels("batch_norm", input)
    channels, count = input.shape[1], math.prod(input.shape) // max(input.shape[1], 1)
    stated = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    _check_shapes("batch_norm", input, stated, (channels,))
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: running_mean and running_var must be given unless training=True")
        return BatchNormEval.apply(input, weight, bias, running_mean, running_var, eps=eps)
    _check_more_than_one("batch_norm", input, count)

    def observe(mean: Array, var: Array) -> None:
        _move(running_mean, mean.real, momentum)
        _move(running_var, var.real * (count / (count - 1)), momentum)

    return BatchNorm.apply(input, weight, bias, eps=eps, observe=observe if count and not is_recomputing() else None)


def layer_norm(
    input: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Tensor:
    """Each row less its mean, over its standard deviation; then times `weight`, plus `bias`.

    input               (*, D...)
    normalized_shape    D...: the trailing axes that form a row
    weight, bias        D..., or None for 1 and 0

    Raises RequestError when input does not end in normalized_shape.
    """
    shape = _check_rows("layer_norm", input, normalized_shape)
    _check_shapes("layer_norm", input, {"weight": weight, "bias": bias}, shape)
    return LayerNorm.apply(input, weight, bias, normalized_shape=shape, eps=eps)


def rms_norm(input: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None) -> Tensor:
    """Each row over the root of its mean square, times `weight`.

    input               (*, D...)
    normalized_shape    D...: the trailing axes that form a row
    weight              D..., or None for 1
    eps                 added to the mean square; None is the spacing of input's dtype at 1 (1.2e-7 for float32)

    Raises RequestError when input does not end in normalized_shape.
    """
    shape = _check_rows("rms_norm", input, normalized_shape)
    _check_shapes("rms_norm", input, {"weight": weight}, shape)
    eps = float(np.finfo(input.dtype).eps) if eps is None else eps
    return RmsNorm.apply(input, weight, normalized_shape=shape, eps=eps)


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """The channels of each sample in groups: each group less its mean, over its standard deviation.

    input           (N, C, *), with C a multiple of num_groups
    weight, bias    (C,), or None for 1 and 0: a channel has its own, also within a group

    One group is a layer norm over (C, *); C groups are an instance norm. Raises RequestError when num_groups does
    not divide C, and ValueError when there is but a single value to take statistics of.
    """
    _check_channels("group_norm", input)
    channels = input.shape[1]
    if num_groups < 1 or channels % num_groups:
        raise RequestError(f"group_norm: {channels} channels do not split into {num_groups} groups of equal size")
    _check_shapes("group_norm", input, {"weight": weight, "bias": bias}, (channels,))
    _check_more_than_one("group_norm", input, math.prod(input.shape) // num_groups)
    return GroupNorm.apply(input, weight, bias, num_groups=int(num_groups), eps=eps)


def _move(running: Any, new: Array, momentum: float) -> None:
    """running <- (1 - momentum) running + momentum new, in the same memory, and counted as a change."""
    if running is None:
        return
    values = running.data if isinstance(running, Tensor) else running
    values *= 1 - momentum
    values += momentum * new
    if isinstance(running, Tensor):
        running.touch()


def _check_floats(name: str, input: Any) -> None:
    if input.dtype.kind not in "fc":
        raise TypeError(f"{name}: input is of dtype {input.dtype}, but a mean needs floats; use .astype('float32')")


def _check_channels(name: str, input: Any) -> None:
    _check_floats(name, input)
    if input.ndim < 2:
        raise RequestError(f"{name}: input is {tuple(input.shape)}, but must be (N, C) or (N, C, ...)")


def _check_more_than_one(name: str, input: Any, count: int) -> None:
    if count == 1:
        raise RequestError(
            f"{name}: expected more than 1 value per channel when training, got input size {tuple(input.shape)}; "
            "use a larger batch, or eval mode"
        )


def _check_rows(name: str, input: Any, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    _check_floats(name, input)
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or tuple(input.shape[-len(shape) :]) != shape:
        raise RequestError(
            f"{name}: normalized_shape is {shape}, but input is {tuple(input.shape)}, which does not end in it"
        )
    return shape


def _check_shapes(name: str, input: Any, given: dict[str, Any], shape: tuple[int, ...]) -> None:
    for what, array in given.items():
        if array is not None and tuple(array.shape) != shape:
            raise RequestError(
                f"{name}: {what} is {tuple(array.shape)}, but for an input of {tuple(input.shape)} it must be {shape}"
            )
