"""Convolution through cuDNN, where the package nvidia-cudnn-frontend and the library are installed (not by default).

    pip install nvidia-cudnn-frontend==1.23.0 nvidia-cudnn-cu13      (or -cu12)

Each map of a convolution is one graph of one node, built for its shapes when first met, and kept. Images and weights
are channels last, as cuDNN likes them. Where cuDNN cannot be had, or has no plan for a call (float32 without TF32, of
some shapes), `convolve` returns None, and `conv` lays out patches instead.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any, NamedTuple

from minires.backend import Array
from minires.kernels.cuda.layout import channels_last, logical
from minires.kernels.cuda.precision import tf32
from minires.ops.conv import Padding, Pair, Shape

NODES = {  # the two factors of each map as the frontend calls them; the third array is the result
    "conv_fprop": ("image", "weight"),
    "conv_dgrad": ("loss", "filter"),
    "conv_wgrad": ("image", "loss"),
}


class Frontend(NamedTuple):
    """The package, and a handle to the library on one device."""

    cudnn: Any
    handle: int


class Call(NamedTuple):
    """All that a graph depends on: it is built once for each."""

    node: str
    shapes: tuple[Shape, Shape, Shape]  # of the factors and the result, (N, C, H, W) or (O, C / groups, KH, KW)
    padding: Padding
    stride: Pair
    dilation: Pair
    tf32: bool


def convolve(
    xp: Any, node: str, a: Array, b: Array, shape: Shape, padding: Padding, stride: Pair, dilation: Pair
) -> Array | None:
    """One of the NODES for float32 a and b: an array of `shape`, channels last, or None."""
    found = frontend(xp.cuda.runtime.getDevice()) if a.dtype.char == "f" else None
    if found is None:
        return None
    planned = plan(found, Call(node, (a.shape, b.shape, shape), padding, stride, dilation, tf32()))
    if planned is None:
        return None
    graph, size = planned
    a, b = channels_last(xp, a), channels_last(xp, b)
    n, c, h, w = shape
    y = xp.empty((n, h, w, c), a.dtype)
    workspace = xp.empty(max(size, 1), xp.uint8)  # CuPy's pool hands out the same memory each time
    found.cudnn.set_stream(handle=found.handle, stream=xp.cuda.get_current_stream().ptr)
    pointers = {1: a.data.ptr, 2: b.data.ptr, 3: y.data.ptr}
    graph.execute(pointers, workspace.data.ptr, handle=found.handle)
    return logical(y)


@functools.cache
def frontend(device: int) -> Frontend | None:
    """cuDNN on a device, which is the current one, or None where it cannot be had."""
    try:
        cudnn = importlib.import_module("cudnn")
        return Frontend(cudnn, cudnn.create_handle())
    except (ImportError, OSError, RuntimeError):  # no package; no library; no device, or one of another version
        return None


@functools.cache
def plan(found: Frontend, call: Call) -> tuple[Any, int] | None:
    """The graph for one call, and the bytes of workspace it needs; None where cuDNN cannot do it."""
    cudnn, handle = found
    real, names = cudnn.data_type.FLOAT, NODES[call.node]
    try:
        graph = cudnn.pygraph(
            name=call.node, io_data_type=real, intermediate_data_type=real, compute_data_type=real, handle=handle
        )
        first, second = (
            graph.tensor(dim=list(shape), stride=packed(shape), data_type=real, name=name, uid=uid)
            for uid, name, shape in zip((1, 2), names, call.shapes[:2], strict=True)
        )
        before, after = zip(*call.padding, strict=True)
        steps = {"stride": list(call.stride), "dilation": list(call.dilation)}
        node = getattr(graph, call.node)
        y = node(**{names[0]: first, names[1]: second}, pre_padding=list(before), post_padding=list(after), **steps)
        y.set_output(True).set_uid(3).set_dim(list(call.shapes[2])).set_stride(packed(call.shapes[2]))
        y.set_data_type(real)
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        if not call.tf32:
            graph.deselect_numeric_notes([cudnn.numerical_note.TENSOR_CORE])
        graph.check_support()
        graph.build_plans()
        return graph, int(graph.get_workspace_size())
    except (RuntimeError, cudnn.cudnnGraphNotSupportedError):
        return None


def packed(shape: Shape) -> list[int]:
    """The strides, in numbers, of an array of this shape that lies channels last without gaps."""
    _, c, h, w = shape
    return [h * w * c, 1, w * c, c]
