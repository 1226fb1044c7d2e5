"""Every public op, forward and backward, on the devices: the numbers of NumPy, float64 and float32."""

import numpy as np
import pytest

from minires import functional as F
from minires.engine import Tensor
from tests.devices import agree
from tests.strict_device import STRICT, no_sync

rng = np.random.default_rng(13)


def n(*shape):
    """Normal numbers: this input is differentiated."""
    return rng.standard_normal(shape)


def p(*shape):
    """Positive numbers."""
    return rng.random(shape) + 0.3


def ints(high, *shape):
    return rng.integers(high, size=shape)


def mask(*shape):
    return rng.random(shape) < 0.6


x, image = n(2, 3, 4), n(2, 4, 6, 5)

CASES = {
    "abs": [(F.abs, x)],
    "adaptive_avg_pool2d": [(lambda x: F.adaptive_avg_pool2d(x, (3, 2)), image)],
    "add": [(F.add, x, n(3, 1)), (lambda x: F.add(2.0, x), x)],
    "amax": [(lambda x: F.amax(x, (0, 2)), x), (F.amax, x)],
    "amin": [(lambda x: F.amin(x, 1, keepdim=True), x)],
    "argmax": [(lambda x: F.argmax(x, 1), x), (F.argmax, x)],
    "argmin": [(lambda x: F.argmin(x, 1), x)],
    "avg_pool1d": [(lambda x: F.avg_pool1d(x, 2), x)],
    "avg_pool2d": [
        (lambda x: F.avg_pool2d(x, 2), image),
        (lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False), image),
    ],
    "batch_norm": [
        (lambda x, m, v, w, b: F.batch_norm(x, m.detach(), v.detach(), w, b, True), image, n(4), p(4), n(4), n(4)),
        (lambda x, m, v, w, b: F.batch_norm(x, m.detach(), v.detach(), w, b), image, n(4), p(4), n(4), n(4)),
        (lambda x: F.batch_norm(x, None, None, training=True), n(5, 3)),
    ],
    "binary_cross_entropy_with_logits": [
        (F.binary_cross_entropy_with_logits, n(4, 3), rng.random((4, 3))),
        (
            lambda x, t, w, q: F.binary_cross_entropy_with_logits(x, t.detach(), w.detach(), pos_weight=q.detach()),
            n(4, 3),
            p(4, 3),
            p(4, 3),
            p(3),
        ),
    ],
    "bmm": [(F.bmm, n(2, 3, 4), n(2, 4, 5))],
    "broadcast_to": [(lambda x: F.broadcast_to(x, (5, 3, 4)), n(3, 1))],
    "cast": [(lambda x: F.cast(x, "float32"), x)],
    "cat": [(lambda a, b: F.cat([a, b], 1), x, n(2, 2, 4))],
    "chunk": [(lambda x: F.chunk(x, 2, 2), x)],
    "clamp": [(lambda x: F.clamp(x, -0.5, 0.5), x)],
    "clip": [(lambda x: F.clip(x, min=0.1), x)],
    "concat": [(lambda a, b: F.concat([a, b]), n(2, 3), n(1, 3))],
    "conv1d": [(lambda x, w, b: F.conv1d(x, w, b, stride=2, padding=1), n(2, 4, 7), n(6, 4, 3), n(6))],
    "conv2d": [
        (lambda x, w, b: F.conv2d(x, w, b, padding=1), image, n(6, 4, 3, 3), n(6)),
        (lambda x, w: F.conv2d(x, w, None, (2, 1), (1, 0), (1, 2), groups=2), image, n(6, 2, 3, 2)),
        (lambda x, w: F.conv2d(x, w, stride=2), image, n(5, 4, 1, 1)),
    ],
    "conv_transpose2d": [
        (lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, 1), image, n(4, 3, 3, 3), n(3)),
        (lambda x, w: F.conv_transpose2d(x, w, None, 1, groups=2, dilation=2), image, n(4, 3, 2, 3)),
    ],
    "cross_entropy": [
        (F.cross_entropy, n(5, 4), ints(4, 5)),
        (lambda x, t: F.cross_entropy(x, t, label_smoothing=0.1, ignore_index=2), n(5, 4), np.array([0, 2, 1, 3, 2])),
        (lambda x, t, w: F.cross_entropy(x, t, w.detach(), reduction="none"), n(2, 4, 3), ints(4, 2, 3), p(4)),
        (lambda x, t: F.cross_entropy(x, t.detach()), n(5, 4), p(5, 4)),
    ],
    "dice_loss": [(lambda x, t: F.dice_loss(x, t.detach()), rng.random((2, 3, 4)), p(2, 3, 4))],
    "div": [(F.div, x, p(3, 1)), (lambda x: F.div(1.0, x), p(3))],
    "drop_path": [(lambda x: F.drop_path(x, 0.3), image)],
    "dropout": [(lambda x: F.dropout(x, 0.3), x)],
    "dropout2d": [(lambda x: F.dropout2d(x, 0.3), image)],
    "elu": [(lambda x: F.elu(x, 0.7), x)],
    "embedding": [
        (lambda i, w: F.embedding(i, w), np.array([[0, 3, 3], [1, 0, 3]]), n(5, 2)),
        (lambda i, w: F.embedding(i, w, padding_idx=3), np.array([[0, 3, 3], [1, 0, 3]]), n(5, 2)),
    ],
    "exp": [(F.exp, x)],
    "expand": [(lambda x: F.expand(x, 5, -1, 4), n(1, 3, 1))],
    "flatten": [(lambda x: F.flatten(x, 1), x)],
    "flip": [(lambda x: F.flip(x, (0, 2)), x)],
    "gelu": [(F.gelu, x), (lambda x: F.gelu(x, approximate="tanh"), x)],
    "getitem": [
        (lambda x: F.getitem(x, (slice(None), 1, slice(None, None, -2))), x),
        (lambda x, i: F.getitem(x, i), x, np.array([1, 0, 1])),
        (lambda x, i, j: F.getitem(x, (i, slice(None), j)), x, np.array([1, 0, 1]), np.array([3, 3, 3])),
        (lambda x, m: F.getitem(x, m), x, mask(2, 3, 4)),
    ],
    "group_norm": [(lambda x, w, b: F.group_norm(x, 2, w, b), image, n(4), n(4))],
    "hardswish": [(F.hardswish, 3 * x)],
    "hardtanh": [(F.hardtanh, x)],
    "huber_loss": [(lambda x, t: F.huber_loss(x, t, delta=0.6), n(4, 3), n(4, 3))],
    "interpolate": [
        (lambda x: F.interpolate(x, scale_factor=2), image),
        (lambda x: F.interpolate(x, (4, 9), mode="bilinear", align_corners=False), image),
        (lambda x: F.interpolate(x, (4, 9), mode="bilinear", align_corners=True), image),
    ],
    "l1_loss": [(F.l1_loss, n(4, 3), n(4, 3))],
    "layer_norm": [
        (lambda x, w, b: F.layer_norm(x, (3, 4), w, b), x, n(3, 4), n(3, 4)),
        (lambda x: F.layer_norm(x, 4), x),
    ],
    "leaky_relu": [(F.leaky_relu, x)],
    "linear": [(F.linear, x, n(5, 4), n(5)), (F.linear, n(4), n(5, 4))],
    "log": [(F.log, p(3, 4))],
    "log_softmax": [(lambda x: F.log_softmax(x, 1), x)],
    "logsumexp": [(lambda x: F.logsumexp(x, (0, 2)), x)],
    "matmul": [
        (F.matmul, x, n(4, 5)),
        (F.matmul, n(4), n(2, 4, 3)),
        (F.matmul, n(2, 1, 3, 4), n(5, 4, 2)),
        (F.matmul, n(4), n(4)),
    ],
    "max": [(F.max, x), (lambda x: F.max(x, 1), x)],
    "max_pool1d": [(lambda x: F.max_pool1d(x, 2), x)],
    "max_pool2d": [
        (lambda x: F.max_pool2d(x, 2), image),
        (lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True), image),
        (lambda x: F.max_pool2d(x, 2, 1, 0, dilation=2), image),
    ],
    "maximum": [(F.maximum, x, n(3, 1))],
    "mean": [(F.mean, x), (lambda x: F.mean(x, (0, 2), keepdim=True), x)],
    "min": [(F.min, x), (lambda x: F.min(x, 2), x)],
    "minimum": [(F.minimum, x, n(3, 1))],
    "mm": [(F.mm, n(3, 4), n(4, 2))],
    "movedim": [(lambda x: F.movedim(x, 0, 2), x)],
    "mse_loss": [(F.mse_loss, n(4, 3), n(4, 3)), (lambda x, t: F.mse_loss(x, t, reduction="none"), n(4, 3), n(4, 3))],
    "mul": [(F.mul, x, n(3, 1)), (lambda x: F.mul(x, 2.5), x)],
    "neg": [(F.neg, x)],
    "nll_loss": [
        (F.nll_loss, n(5, 4), ints(4, 5)),
        (lambda x, t, w: F.nll_loss(x, t, w.detach()), n(5, 4), ints(4, 5), p(4)),
    ],
    "one_hot": [(lambda i: F.one_hot(i, 5), ints(5, 2, 3)), (F.one_hot, ints(5, 2, 3))],
    "pad": [
        (lambda x: F.pad(x, (1, 2, 0, 1), value=0.5), image),
        (lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect"), image),
        (lambda x: F.pad(x, (1, 2, 3, 0), mode="replicate"), image),
        (lambda x: F.pad(x, (1, 2, 3, 0), mode="circular"), image),
        (lambda x: F.pad(x, (-1, 1)), x),
    ],
    "pad_channels": [(lambda x: F.pad_channels(x, 7, 2), image)],
    "permute": [(lambda x: F.permute(x, 2, 0, 1), x)],
    "pow": [(lambda x: F.pow(x, 3), x), (F.pow, p(3, 4), n(4)), (lambda x: F.pow(2.0, x), x)],
    "relu": [(F.relu, x)],
    "relu6": [(F.relu6, 5 * x)],
    "reshape": [(lambda x: F.reshape(x, 4, -1), x)],
    "residual_add": [(F.residual_add, x, n(2, 3, 4))],
    "rms_norm": [(lambda x, w: F.rms_norm(x, (4,), w), x, n(4))],
    "scaled_dot_product_attention": [
        (F.scaled_dot_product_attention, n(2, 2, 5, 3), n(2, 2, 4, 3), n(2, 2, 4, 6)),
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), n(2, 5, 3), n(2, 5, 3), n(2, 5, 4)),
        (lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m), n(2, 5, 3), n(2, 4, 3), n(2, 4, 4), mask(5, 4)),
        (
            lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m, 0.2),
            n(2, 5, 3),
            n(2, 4, 3),
            n(2, 4, 4),
            n(5, 4),
        ),
    ],
    "sigmoid": [(F.sigmoid, x)],
    "silu": [(F.silu, x)],
    "smooth_l1_loss": [(lambda x, t: F.smooth_l1_loss(x, t, beta=0.5), n(4, 3), n(4, 3))],
    "softmax": [(lambda x: F.softmax(x, -1), x)],
    "softplus": [(lambda x: F.softplus(x, 2.0, 1.5), x)],
    "split": [(lambda x: F.split(x, [1, 3], 2), x)],
    "sqrt": [(F.sqrt, p(3, 4))],
    "squeeze": [(lambda x: F.squeeze(x, 1), n(2, 1, 3))],
    "stack": [(lambda a, b: F.stack([a, b], 1), x, n(2, 3, 4))],
    "std": [(lambda x: F.std(x, (0, 2)), x), (F.std, x)],
    "sub": [(F.sub, x, n(3, 1)), (lambda x: F.sub(1.0, x), x)],
    "sum": [(F.sum, x), (lambda x: F.sum(x, (0, -1)), x)],
    "tanh": [(F.tanh, x)],
    "transpose": [(lambda x: F.transpose(x, 0, 2), x)],
    "unbind": [(lambda x: F.unbind(x, 1), x)],
    "unsqueeze": [(lambda x: F.unsqueeze(x, 1), x)],
    "var": [(lambda x: F.var(x, 1, correction=0), x)],
    "view": [(lambda x: F.view(x, 6, 4), x)],
    "where": [(F.where, mask(2, 3, 4), x, n(3, 1)), (lambda c, x: F.where(c, x, 0.0), mask(3, 4), n(3, 4))],
}

EVERY = [
    pytest.param(case[0], case[1:], id=f"{name}-{i}") for name, cases in CASES.items() for i, case in enumerate(cases)
]


def leaves_of(library, inputs, dtype):
    return [
        Tensor(library.asarray(a.astype(dtype)), requires_grad=True) if a.dtype.kind == "f" else library.asarray(a)
        for a in inputs
    ]


def outputs_and_gradients(library, f, inputs, dtype):
    leaves = leaves_of(library, inputs, dtype)
    result = f(*leaves)
    outputs = result if isinstance(result, tuple) else (result,)
    cotangents = np.random.default_rng(2)
    for y in outputs:
        if y.requires_grad:
            y.backward(library.asarray(cotangents.standard_normal(y.shape).astype(y.dtype)), retain_graph=True)
    return outputs, [t.grad for t in leaves if isinstance(t, Tensor)]


def test_every_public_function_has_a_case():
    public = {name for name in vars(F) if name[0] != "_" and callable(getattr(F, name))}
    assert set(CASES) == public


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("f", "inputs"), EVERY)
def test_a_device_gives_the_numbers_of_numpy(library, f, inputs, dtype):
    agree(library, lambda lib: outputs_and_gradients(lib, f, inputs, dtype))


WAITING = {
    "avg_pool2d-1",  # how many real pixels each window holds comes from the host
    "getitem-3",  # how many elements a mask picks is the result's shape
    "one_hot-0",  # labels out of range are refused, so they are looked at
    "one_hot-1",
}


@pytest.mark.parametrize("name", [case.id for case in EVERY])
def test_no_op_waits_for_the_device_but_those_named_here(name):
    f, inputs = next(case.values for case in EVERY if case.id == name)
    if name not in WAITING:
        without_waiting(f, inputs)
        return
    with pytest.raises(AssertionError, match=r"inside no_sync\(\)"):
        without_waiting(f, inputs)


def without_waiting(f, inputs):
    """Forward and backward as a captured CUDA graph would hold them."""
    leaves = leaves_of(STRICT, inputs, np.float32)
    with no_sync():
        result = f(*leaves)
        for y in result if isinstance(result, tuple) else (result,):
            if y.requires_grad:
                y.backward(STRICT.xp.ones_like(y.data), retain_graph=True)
