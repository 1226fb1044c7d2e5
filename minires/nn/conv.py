"""Convolutions. What their weights start from is torch's: U(-r, r) with r = 1 / sqrt(fan_in)."""

from __future__ import annotations

from typing import Any

from minires import functional as F
from minires.engine import Tensor
from minires.errors import RequestError
from minires.nn import init
from minires.nn.module import Module, Parameter, empty


def as_tuple(value: int | tuple[int, ...], axes: int, what: str) -> tuple[int, ...]:
    """An int repeated for each spatial axis; a tuple of the right length as it is."""
    if isinstance(value, (tuple, list)):
        if len(value) != axes:
            raise RequestError(f"{what} {tuple(value)} has {len(value)} numbers; give {axes}, or one for all axes")
        return tuple(value)
    return (value,) * axes


class _Convolution(Module):
    """What the three layers share: the two parameters, their start and their `repr`."""

    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        options: dict[str, Any],
        transposed: bool,
        bias: bool,
    ) -> None:
        groups = options["groups"]
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise RequestError(
                f"{type(self).__name__}: {groups} groups must divide in_channels, {in_channels}, "
                f"and out_channels, {out_channels}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.options = options
        first, second = (in_channels, out_channels) if transposed else (out_channels, in_channels)
        self.weight = Parameter(empty(first, second // groups, *kernel_size))
        self.bias = Parameter(empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.reset_like_torch(self.weight, self.bias)

    def extra_repr(self) -> str:
        usual = {"padding": 0, "output_padding": 0, "dilation": 1, "groups": 1}
        said = [f"{k}={v}" for k, v in self.options.items() if k not in usual or not _all(v, usual[k])]
        said += [] if self.bias is not None else ["bias=False"]
        return ", ".join([f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}", *said])


def _all(value: Any, usual: int) -> bool:
    return value == usual or (isinstance(value, tuple) and all(v == usual for v in value))


class Conv1d(_Convolution):
    """Cross-correlation along one axis.

    Shapes    x: (N, C, L); y: (N, O, OL) with OL = (L + 2 padding - dilation (K - 1) - 1) // stride + 1
    Keys      weight (O, C / groups, K), bias (O)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        options = {
            "stride": as_tuple(stride, 1, "stride"),
            "padding": padding if isinstance(padding, str) else as_tuple(padding, 1, "padding"),
            "dilation": as_tuple(dilation, 1, "dilation"),
            "groups": groups,
        }
        kernel = as_tuple(kernel_size, 1, "kernel_size")
        super().__init__(in_channels, out_channels, kernel, options, False, bias)

    def forward(self, x: Any) -> Tensor:
        return F.conv1d(x, self.weight, self.bias, **self.options)


class Conv2d(_Convolution):
    """Cross-correlation over images.

    Shapes    x: (N, C, H, W); y: (N, O, OH, OW) with OH = (H + 2 padding - dilation (KH - 1) - 1) // stride + 1
    Keys      weight (O, C / groups, KH, KW), bias (O)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        options = {
            "stride": as_tuple(stride, 2, "stride"),
            "padding": padding if isinstance(padding, str) else as_tuple(padding, 2, "padding"),
            "dilation": as_tuple(dilation, 2, "dilation"),
            "groups": groups,
        }
        kernel = as_tuple(kernel_size, 2, "kernel_size")
        super().__init__(in_channels, out_channels, kernel, options, False, bias)

    def forward(self, x: Any) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, **self.options)


class ConvTranspose2d(_Convolution):
    """The adjoint of Conv2d: each pixel of x paints a kernel into y.

    Shapes    x: (N, C, H, W); y: (N, O, OH, OW) with
              OH = (H - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1
    Keys      weight (C, O / groups, KH, KW), bias (O)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, ...] = 1,
    ) -> None:
        options = {
            "stride": as_tuple(stride, 2, "stride"),
            "padding": as_tuple(padding, 2, "padding"),
            "output_padding": as_tuple(output_padding, 2, "output_padding"),
            "groups": groups,
            "dilation": as_tuple(dilation, 2, "dilation"),
        }
        kernel = as_tuple(kernel_size, 2, "kernel_size")
        super().__init__(in_channels, out_channels, kernel, options, True, bias)

    def forward(self, x: Any) -> Tensor:
        return F.conv_transpose2d(x, self.weight, self.bias, **self.options)
