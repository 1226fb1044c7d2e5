"""Normalization over the batch (BatchNorm), the features (LayerNorm, RMSNorm) or groups of channels (GroupNorm)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.nn import init
from minires.nn.module import Buffer, Module, Parameter, empty
from minires.switches import is_recomputing


class _BatchNorm(Module):
    """y = weight (x - mean) / sqrt(var + eps) + bias, per channel.

    In training mean and var are the batch's (var biased), and the running statistics move towards them (var
    unbiased) by `momentum`, or with momentum=None become their plain average over all batches so far. In
    evaluation the running statistics stand in; with track_running_stats=False it is always the batch's.

    Keys      weight, bias, running_mean, running_var (C), num_batches_tracked (), int64
    Source    Ioffe and Szegedy 2015, Batch Normalization, algorithms 1 and 2
    """

    may_be_missing = frozenset({"num_batches_tracked"})
    axes: ClassVar[tuple[int, ...]]
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Buffer | None
    running_var: Buffer | None
    num_batches_tracked: Buffer | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.weight = Parameter(empty(num_features)) if affine else None
        self.bias = Parameter(empty(num_features)) if affine else None
        self.running_mean = Buffer(empty(num_features)) if track_running_stats else None
        self.running_var = Buffer(empty(num_features)) if track_running_stats else None
        self.num_batches_tracked = Buffer(empty().astype(np.int64)) if track_running_stats else None
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Back to mean 0, variance 1, no batch seen."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self) -> None:
        self.reset_running_stats()
        if self.weight is not None and self.bias is not None:
            init.ones_(self.weight)
            init.zeros_(self.bias)

    def forward(self, x: Any) -> Tensor:
        if x.ndim not in self.axes:
            raise RequestError(
                f"{type(self).__name__} takes an input of {' or '.join(map(str, self.axes))} axes, not shape {x.shape}"
            )
        momentum = self.momentum or 0.0
        if self.training and self.num_batches_tracked is not None and not is_recomputing():
            self.num_batches_tracked.data[...] += 1
            self.num_batches_tracked.touch()
            if self.momentum is None:
                momentum = 1.0 / self.num_batches_tracked.item()
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=self.training or self.running_mean is None,
            momentum=momentum,
            eps=self.eps,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalization of x: (N, C), or (N, C, L) over N and L."""

    __doc__ = f"{__doc__}\n\n{_BatchNorm.__doc__}"
    axes = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalization of x: (N, C, H, W) over N, H and W."""

    __doc__ = f"{__doc__}\n\n{_BatchNorm.__doc__}"
    axes = (4,)


class LayerNorm(Module):
    """y = weight (x - mean) / sqrt(var + eps) + bias, over the last axes of each sample.

    Shapes    x, y: (..., *normalized_shape)
    Keys      weight, bias (*normalized_shape)
    Source    Ba et al. 2016, Layer Normalization
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        self.normalized_shape = _shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = Parameter(empty(*self.normalized_shape)) if elementwise_affine else None
        self.bias = Parameter(empty(*self.normalized_shape)) if elementwise_affine and bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, x: Any) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        bias = self.bias is not None
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, bias={bias}"


class RMSNorm(Module):
    """y = weight x / sqrt(mean(x^2) + eps), over the last axes of each sample.

    eps=None is the smallest step of x's dtype above 1, as in torch.

    Shapes    x, y: (..., *normalized_shape)
    Keys      weight (*normalized_shape)
    Source    Zhang and Sennrich 2019, Root Mean Square Layer Normalization
    """

    weight: Parameter | None

    def __init__(
        self, normalized_shape: int | tuple[int, ...], eps: float | None = None, elementwise_affine: bool = True
    ) -> None:
        self.normalized_shape = _shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = Parameter(empty(*self.normalized_shape)) if elementwise_affine else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, x: Any) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """y = weight (x - mean) / sqrt(var + eps) + bias, over each sample's groups of channels.

    Shapes    x, y: (N, C, ...)
    Keys      weight, bias (C)
    Source    Wu and He 2018, Group Normalization
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        if num_groups < 1 or num_channels % num_groups:
            raise RequestError(f"GroupNorm: {num_groups} groups must divide num_channels, {num_channels}")
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self.weight = Parameter(empty(num_channels)) if affine else None
        self.bias = Parameter(empty(num_channels)) if affine else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.weight is not None and self.bias is not None:
            init.ones_(self.weight)
            init.zeros_(self.bias)

    def forward(self, x: Any) -> Tensor:
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


def _shape(normalized_shape: int | tuple[int, ...]) -> tuple[int, ...]:
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
