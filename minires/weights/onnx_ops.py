"""How each op is written in ONNX. `g` is the graph, `s` the op as it ran, then come the names of its inputs.

What ONNX has under another name is in `RENAMED`; the rest is composed here, from nodes that runtimes have for
float32 and float64 alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minires import backend
from minires.errors import RequestError
from minires.weights.onnx import Graph, Step, translates

END = np.iinfo(np.int64).max
RENAMED = {
    "Add": "Add", "ResidualAdd": "Add", "Sub": "Sub", "Mul": "Mul", "Div": "Div", "Neg": "Neg", "Pow": "Pow",
    "Exp": "Exp", "Log": "Log", "Sqrt": "Sqrt", "Abs": "Abs", "Maximum": "Max", "Minimum": "Min", "Where": "Where",
    "Relu": "Relu", "Sigmoid": "Sigmoid", "Tanh": "Tanh", "Matmul": "MatMul", "GlobalAvgPool2d": "GlobalAveragePool",
    "To": "Identity",
}  # fmt: skip
REDUCED = {
    "Sum": "ReduceSum", "Mean": "ReduceMean", "Amax": "ReduceMax", "Amin": "ReduceMin",
    "Logsumexp": "ReduceLogSumExp",
}  # fmt: skip


@translates(*RENAMED)
def renamed(g: Graph, s: Step, *inputs: str) -> str:
    return g.node(RENAMED[s.name], *inputs)


@translates(*REDUCED)
def reduced(g: Graph, s: Step, x: str) -> str:
    return g.node(REDUCED[s.name], x, g.ints(*s.option("axes")), keepdims=int(s.option("keepdim")))


@translates("Var")
def var(g: Graph, s: Step, x: str) -> str:
    """mean((x - m)^2) n / (n - correction)."""
    axes = s.option("axes")
    n = s.count(axes)
    d = g.node("Sub", x, g.node("ReduceMean", x, g.ints(*axes), keepdims=1))
    mean = g.node("ReduceMean", g.node("Mul", d, d), g.ints(*axes), keepdims=int(s.option("keepdim")))
    return g.node("Mul", mean, g.constant(n / (n - s.option("correction")), s.dtype))


# --- layers


@translates("Linear")
def linear(g: Graph, s: Step, x: str, w: str, b: str | None) -> str:
    if len(s.shape()) == 2:
        return g.node("Gemm", x, w, b, transB=1)
    y = g.node("MatMul", x, g.node("Transpose", w, perm=[1, 0]))
    return y if b is None else g.node("Add", y, b)


@translates("Conv2d")
def conv2d(g: Graph, s: Step, x: str, w: str, b: str | None) -> str:
    return g.node("Conv", x, w, b, **_convolution(s))


@translates("ConvTranspose2d")
def conv_transpose2d(g: Graph, s: Step, x: str, w: str, b: str | None) -> str:
    return g.node("ConvTranspose", x, w, b, output_padding=s.option("output_padding"), **_convolution(s))


def _convolution(s: Step) -> dict[str, Any]:
    (top, bottom), (left, right) = s.option("padding")
    return {
        "kernel_shape": s.shape(1)[2:],
        "strides": s.option("stride"),
        "pads": [top, left, bottom, right],
        "dilations": s.option("dilation"),
        "group": s.option("groups"),
    }


@translates("BatchNormEval")
def batch_norm(g: Graph, s: Step, x: str, w: str | None, b: str | None, mean: str, var: str) -> str:
    w, b = _gain_and_bias(g, s, w, b, s.shape(3))
    return g.node("BatchNormalization", x, w, b, mean, var, epsilon=s.option("eps"))


@translates("LayerNorm")
def layer_norm(g: Graph, s: Step, x: str, w: str | None, b: str | None) -> str:
    shape = s.option("normalized_shape")
    w, b = _gain_and_bias(g, s, w, b, shape)
    return g.node("LayerNormalization", x, w, b, axis=-len(shape), epsilon=s.option("eps"))


@translates("RmsNorm")
def rms_norm(g: Graph, s: Step, x: str, w: str | None) -> str:
    axes = g.ints(*range(-len(s.option("normalized_shape")), 0))
    mean = g.node("ReduceMean", g.node("Mul", x, x), axes, keepdims=1)
    root = g.node("Sqrt", g.node("Add", mean, g.constant(s.option("eps"), s.dtype)))
    y = g.node("Div", x, root)
    return y if w is None else g.node("Mul", y, w)


@translates("GroupNorm")
def group_norm(g: Graph, s: Step, x: str, w: str | None, b: str | None) -> str:
    """Each group is an instance's one channel; then gain and bias a channel."""
    groups, rank = s.option("num_groups"), len(s.shape())
    ones, zeros = _gain_and_bias(g, s, None, None, (groups,))
    rows = g.node("Reshape", x, g.ints(0, groups, -1))  # (N, G, L)
    y = g.node("InstanceNormalization", rows, ones, zeros, epsilon=s.option("eps"))
    y = g.node("Reshape", y, g.node("Shape", x))
    column = g.ints(-1, *[1] * (rank - 2))  # (C, 1, ...)
    y = y if w is None else g.node("Mul", y, g.node("Reshape", w, column))
    return y if b is None else g.node("Add", y, g.node("Reshape", b, column))


def _gain_and_bias(g: Graph, s: Step, w: str | None, b: str | None, shape: Sequence[int]) -> tuple[str, str]:
    return w or g.constant(np.ones(shape), s.dtype), b or g.constant(np.zeros(shape), s.dtype)


@translates("ScaledDotProductAttention")
def attention(g: Graph, s: Step, q: str, k: str, v: str, mask: str | None) -> str:
    if s.option("dropout_p"):
        raise RequestError("ONNX export: attention drops out in evaluation mode, which no fixed graph can do")
    axes = list(range(len(s.shape(1))))
    swapped = g.node("Transpose", k, perm=[*axes[:-2], axes[-1], axes[-2]])  # (*, E, S)
    scores = g.node("MatMul", g.node("Mul", q, g.constant(s.option("scale"), s.dtype)), swapped)  # (*, T, S)
    never = g.constant(-math.inf, s.dtype)
    if s.option("is_causal"):
        scores = g.node("Where", g.constant(np.tri(s.shape(0)[-2], s.shape(1)[-2], dtype=bool)), scores, never)
    if mask is not None and s.first.dtypes[3].kind == "b":
        scores = g.node("Where", mask, scores, never)
    elif mask is not None:
        scores = g.node("Add", scores, mask)
    return g.node("MatMul", g.node("Softmax", scores, axis=-1), v)


# --- activations


@translates("LeakyRelu")
def leaky_relu(g: Graph, s: Step, x: str) -> str:
    return g.node("LeakyRelu", x, alpha=s.option("slope"))


@translates("Elu")
def elu(g: Graph, s: Step, x: str) -> str:
    return g.node("Elu", x, alpha=s.option("alpha"))


@translates("Silu")
def silu(g: Graph, s: Step, x: str) -> str:
    return g.node("Mul", x, g.node("Sigmoid", x))


@translates("Softplus")
def softplus(g: Graph, s: Step, x: str) -> str:
    """Without the threshold, beyond which minires writes x for log(1 + e^x): a difference of e^-20."""
    beta = g.constant(s.option("beta"), s.dtype)
    return g.node("Div", g.node("Softplus", g.node("Mul", x, beta)), beta)


@translates("Hardtanh", "Clip")
def clip(g: Graph, s: Step, x: str) -> str:
    bounds = s.option("low"), s.option("high")
    return g.node("Clip", x, *[None if math.isinf(bound) else g.constant(bound, s.dtype) for bound in bounds])


@translates("Hardswish")
def hardswish(g: Graph, s: Step, x: str) -> str:
    zero, three, six = (g.constant(n, s.dtype) for n in (0, 3, 6))
    return g.node("Mul", x, g.node("Div", g.node("Clip", g.node("Add", x, three), zero, six), six))


@translates("Gelu")
def gelu(g: Graph, s: Step, x: str) -> str:
    half, one, root = (g.constant(n, s.dtype) for n in (0.5, 1, math.sqrt(0.5)))
    cdf = g.node("Mul", half, g.node("Add", one, g.node("Erf", g.node("Mul", x, root))))
    return g.node("Mul", x, cdf)


@translates("GeluTanh")
def gelu_tanh(g: Graph, s: Step, x: str) -> str:
    half, one, c, a = (g.constant(n, s.dtype) for n in (0.5, 1, s.option("C"), s.option("A")))
    cubic = g.node("Mul", a, g.node("Mul", x, g.node("Mul", x, x)))
    t = g.node("Tanh", g.node("Mul", c, g.node("Add", x, cubic)))
    return g.node("Mul", x, g.node("Mul", half, g.node("Add", one, t)))


@translates("Softmax")
def softmax(g: Graph, s: Step, x: str) -> str:
    return g.node("Softmax", x, axis=s.option("dim"))


@translates("LogSoftmax")
def log_softmax(g: Graph, s: Step, x: str) -> str:
    return g.node("LogSoftmax", x, axis=s.option("dim"))


@translates("Cast")
def cast(g: Graph, s: Step, x: str) -> str:
    return g.node("Cast", x, to=g.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(s.dtype)))


# --- images


@translates("MaxPool2d")
def max_pool(g: Graph, s: Step, x: str) -> str:
    return g.node("MaxPool", x, dilations=s.option("dilation"), **_windows(s, s.option("dilation")))


@translates("AvgPool2d")
def avg_pool(g: Graph, s: Step, x: str) -> str:
    """ONNX divides each window's sum by its size; `share` is what minires multiplies it with."""
    size, share = math.prod(s.option("kernel")), np.asarray(s.option("share"))
    y = g.node("AveragePool", x, count_include_pad=1, **_windows(s, (1, 1)))
    return y if np.all(share * size == 1) else g.node("Mul", y, g.constant(share * size, s.dtype))


def _windows(s: Step, dilation: Sequence[int]) -> dict[str, Any]:
    """Kernel, stride and pads, with as much at the end as the number of windows says."""
    kernel, stride, starts, out = (s.option(name) for name in ("kernel", "stride", "padding", "out"))
    sizes = zip(s.shape()[2:], kernel, stride, starts, out, dilation, strict=True)
    ends = [max(0, (o - 1) * t + d * (k - 1) + 1 - n - p) for n, k, t, p, o, d in sizes]
    return {"kernel_shape": kernel, "strides": stride, "pads": [*starts, *ends]}


@translates("AdaptiveAvgPool2d")
def adaptive_avg_pool(g: Graph, s: Step, x: str) -> str:
    return _along_axes(g, s, x, s.values("rows"), s.values("columns"))


@translates("Bilinear")
def bilinear(g: Graph, s: Step, x: str) -> str:
    return _along_axes(g, s, x, s.values("rows"), s.values("cols"))


def _along_axes(g: Graph, s: Step, x: str, rows: np.ndarray, columns: np.ndarray) -> str:
    """R x C^T."""
    return g.node("MatMul", g.node("MatMul", g.constant(rows, s.dtype), x), g.constant(columns.T, s.dtype))


@translates("Nearest")
def nearest(g: Graph, s: Step, x: str) -> str:
    y = g.node("Gather", x, g.constant(s.values("r"), np.int64), axis=2)
    return g.node("Gather", y, g.constant(s.values("s"), np.int64), axis=3)


@translates("PadChannels")
def pad_channels(g: Graph, s: Step, x: str) -> str:
    step = s.option("stride")
    kept = x if step == 1 else g.node("Slice", x, g.ints(0, 0), g.ints(END, END), g.ints(2, 3), g.ints(step, step))
    rims = g.ints(0, s.option("before"), 0, 0, 0, s.option("after"), 0, 0)
    return g.node("Pad", kept, rims, g.constant(0, s.dtype))


# --- shapes


@translates("Reshape")
def reshape(g: Graph, s: Step, x: str) -> str:
    return g.node("Reshape", x, g.shape(s, "shape", infer=True))


@translates("Expand")
def expand(g: Graph, s: Step, x: str) -> str:
    return g.node("Expand", x, g.shape(s, "shape", infer=False))


@translates("Permute")
def permute(g: Graph, s: Step, x: str) -> str:
    return g.node("Transpose", x, perm=s.option("axes"))


@translates("Concat")
def concat(g: Graph, s: Step, *xs: str) -> str:
    return g.node("Concat", *xs, axis=s.option("axis"))


@translates("Stack")
def stack(g: Graph, s: Step, *xs: str) -> str:
    axis = s.option("axis")
    return g.node("Concat", *[g.node("Unsqueeze", x, g.ints(axis)) for x in xs], axis=axis)


@translates("Split")
def split(g: Graph, s: Step, x: str) -> tuple[str, ...]:
    sizes, axis = s.option("sizes"), s.option("axis")
    ends = np.cumsum(sizes)
    return tuple([_sliced(g, x, axis, int(end - size), int(end), 1) for size, end in zip(sizes, ends, strict=True)])


@translates("Unbind")
def unbind(g: Graph, s: Step, x: str) -> tuple[str, ...]:
    axis = s.option("axis")
    return tuple([g.node("Gather", x, g.constant(i, np.int64), axis=axis) for i in range(s.count([axis]))])


@translates("Flip")
def flip(g: Graph, s: Step, x: str) -> str:
    for axis in s.option("axes"):
        x = _sliced(g, x, axis, -1, -END, -1)
    return x


@translates("Pad")
def pad(g: Graph, s: Step, x: str) -> str:
    before, after = zip(*s.option("widths"), strict=True)
    return g.node("Pad", x, g.ints(*before, *after), g.constant(s.option("value"), s.dtype))


@translates("PadAxis")
def pad_axis(g: Graph, s: Step, x: str) -> str:
    return g.node("Gather", x, g.constant(s.values("source"), np.int64), axis=s.option("axis"))


@translates("BasicIndex")
def basic_index(g: Graph, s: Step, x: str) -> str:
    """Slices first, then the axes that integers pick go, then those that None makes come."""
    items, rank = list(s.option("index")), len(s.shape())
    used = sum(i is not None and i is not Ellipsis for i in items)
    dots = items.index(Ellipsis) if Ellipsis in items else len(items)
    items[dots : dots + 1] = [slice(None)] * (rank - used)
    axis, gone, new, after = 0, [], [], 0
    for item in items:
        if item is None:
            new.append(after)
        elif isinstance(item, slice):
            if item != slice(None):
                x = _cut(g, x, axis, item)
            axis += 1
        else:
            x = _sliced(g, x, axis, item, item + 1 or END, 1)  # -1 has no end that could be counted from behind
            gone.append(axis)
            axis += 1
        after += item is None or isinstance(item, slice)
    x = g.node("Squeeze", x, g.ints(*gone)) if gone else x
    return g.node("Unsqueeze", x, g.ints(*new)) if new else x


def _cut(g: Graph, x: str, axis: int, item: slice) -> str:
    step = item.step or 1
    start = item.start if item.start is not None else 0 if step > 0 else -1
    stop = item.stop if item.stop is not None else END if step > 0 else -END
    return _sliced(g, x, axis, start, stop, step)


def _sliced(g: Graph, x: str, axis: int, start: int, stop: int, step: int) -> str:
    return g.node("Slice", x, g.ints(start), g.ints(stop), g.ints(axis), g.ints(step))


@translates("AdvancedIndex")
def advanced_index(g: Graph, s: Step, x: str) -> str:
    """One array of positions, along one axis."""
    items = s.option("index")
    plain = [isinstance(i, slice) and i == slice(None) for i in items]
    if plain.count(False) != 1 or not hasattr(items[plain.index(False)], "dtype"):
        raise RequestError("ONNX export: AdvancedIndex is translated for one array of positions along one axis only")
    axis = plain.index(False)
    return g.node("Gather", x, g.constant(backend.to_host(items[axis]), np.int64), axis=axis)


@translates("Embedding")
def embedding(g: Graph, s: Step, w: str, indices: str) -> str:
    return g.node("Gather", w, indices)
