"""How many floating-point operations an op takes, from its shapes alone: one table, for the profiler.

What is counted are the operations of the formulas in `minires.ops`, whatever kernel runs: a multiplication and an
addition are two; a division, root, exponential or logarithm is one. Comparisons, choices, changes of sign, copies and
random draws are none. By the usual convention an activation is one for each element, tanh and GELU as well, and its
backward another one: what such an op costs is its bytes. An op that is not in the table has no count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

Shape = tuple[int, ...]
Count = Callable[[Any, Sequence[Shape | None], Sequence[Shape]], tuple[int, int]]  # op, inputs, outputs


def count(op: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> tuple[int | None, int | None]:
    """(forward, backward) of an op that has just run on arrays `inputs`; None for an op without a count.

    Backward is what the gradients take that `op.needs` asks for.
    """
    counted = TABLE.get(op.name)
    if counted is None:
        return None, None
    return counted(op, [getattr(x, "shape", None) for x in inputs], [y.shape for y in outputs])


def _none(op: Any, inputs: Sequence[Shape | None], outputs: Sequence[Shape]) -> tuple[int, int]:
    """What only moves numbers."""
    return 0, 0


def _each(forward: int, backward: int, of: str = "output") -> Count:
    """So many operations for each element of output 0, or of input 0."""

    def counted(op: Any, inputs: Sequence[Shape | None], outputs: Sequence[Shape]) -> tuple[int, int]:
        n = math.prod((outputs if of == "output" else inputs)[0] or ())
        return forward * n, backward * n * sum(op.needs)

    return counted


def _product(op: Any, inputs: Sequence[Shape | None], outputs: Sequence[Shape]) -> tuple[int, int]:
    """Products of matrices: for each number of y a sum over x's last axis; each gradient is as large a product."""
    x, y = inputs[0] or (), math.prod(outputs[0])
    products = 2 * y * x[-1]
    bias = y if len(inputs) > 2 and inputs[2] is not None else 0
    return products + bias, products * sum(op.needs[:2]) + (bias if op.needs[-1] else 0)


def _convolution(op: Any, inputs: Sequence[Shape | None], outputs: Sequence[Shape]) -> tuple[int, int]:
    """For each number of y, a sum over the C / groups x KH x KW numbers under its filter; transposed, the other way."""
    (x, w, b), y = inputs, outputs[0]
    if x is None or w is None:
        return 0, 0
    products = 2 * math.prod(x if op.name == "ConvTranspose2d" else y) * math.prod(w[1:])
    bias = 0 if b is None else math.prod(y)
    return products + bias, products * sum(op.needs[:2]) + bias * op.needs[2]


def _attention(op: Any, inputs: Sequence[Shape | None], outputs: Sequence[Shape]) -> tuple[int, int]:
    """Scores q kᵀ and the mixture p v, with softmax (4) and the scale (1) between. Backward: two products for each."""
    q, k, y = inputs[0] or (), inputs[1] or (), outputs[0]
    pairs = math.prod(q[:-1]) * k[-2]  # one score for each query and key
    scores, mixture = 2 * pairs * q[-1], 2 * pairs * y[-1]
    return scores + mixture + 5 * pairs, 2 * scores + 2 * mixture + 5 * pairs


def _pool(op: Any, inputs: Sequence[Shape | None], outputs: Sequence[Shape]) -> tuple[int, int]:
    """A mean of each window."""
    n = math.prod(inputs[0] or ())
    return n, n


def _resize(op: Any, inputs: Sequence[Shape | None], outputs: Sequence[Shape]) -> tuple[int, int]:
    """Bilinear is R x Cᵀ, backward Rᵀ gy C; nearest only picks, but its gradient is gathered by the same products."""
    (n, c, h, w), (oh, ow) = inputs[0] or (0, 0, 0, 0), outputs[0][2:]
    forward = 2 * n * c * (oh * h * w + oh * w * ow) if op.name == "Bilinear" else 0
    return forward, 2 * n * c * (h * oh * ow + h * ow * w)


def _norm(forward: int, gx: int, shares: bool = False) -> Count:
    """So many operations an element, one more for a bias, and one for a weight that is not part of the scale.

    shares    it is, and gx needs the sums that are the gradients of weight and bias (2 and 1), so these come free
    """

    def counted(op: Any, inputs: Sequence[Shape | None], outputs: Sequence[Shape]) -> tuple[int, int]:
        n = math.prod(outputs[0])
        used = forward + sum(x is not None for x in inputs[1 + shares : 3])
        first, *others = op.needs
        own = sum(cost for cost, need in zip((2, 1), others, strict=False) if need)
        return used * n, (gx * first + own * (not (first and shares))) * n

    return counted


def _table(counted: Count, names: str) -> dict[str, Count]:
    return dict.fromkeys(names.split(), counted)


TABLE: dict[str, Count] = {
    **_table(_convolution, "Conv2d ConvTranspose2d"),
    **_table(_product, "Linear Matmul"),
    **_table(_attention, "ScaledDotProductAttention"),
    # sum, x - mean, its square, their sum, times 1 / sigma; backward a sum, a sum of products, and four to combine them
    **_table(_norm(5, 7, shares=True), "BatchNorm"),
    **_table(_norm(5, 8), "LayerNorm GroupNorm"),
    **_table(_norm(3, 6), "RmsNorm"),
    **_table(_each(2, 1), "BatchNormEval"),
    **_table(_each(4, 4), "Softmax LogSoftmax"),
    **_table(_each(4, 2, "input"), "CrossEntropy SoftCrossEntropy"),
    **_table(_each(3, 2, "input"), "Mse L1 Huber BinaryCrossEntropyWithLogits Dice"),
    **_table(_each(1, 0), "Add Sub ResidualAdd"),  # the gradient passes untouched
    **_table(_each(1, 1), "Mul Div Pow Exp Log Sqrt Dropout"),
    **_table(_each(1, 1), "Elu Tanh Sigmoid Silu Softplus Gelu GeluTanh Hardswish LeakyRelu"),
    **_table(_each(1, 0, "input"), "Sum Mean"),
    **_table(_each(0, 1), "Embedding AdvancedIndex"),  # backward adds what was looked up
    **_table(_each(3, 2, "input"), "Var Logsumexp"),
    **_table(_resize, "Nearest Bilinear"),
    **_table(_pool, "AvgPool2d AdaptiveAvgPool2d GlobalAvgPool2d"),
    **_table(_none, "Relu Hardtanh Clip Maximum Minimum Where Neg Abs MaxPool2d Amax Amin Max Min Nll Cast OneHot"),
    **_table(_none, "PadChannels Reshape Permute Expand Concat Split Stack Unbind Flip Pad PadAxis BasicIndex To"),
}
