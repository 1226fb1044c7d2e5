"""Each fused op equals its composition out of elementary ops, in value and in every gradient."""

import numpy as np
import pytest

from minires.check.reference import composed
from minires.engine import Tensor
from minires.functional.attention import scaled_dot_product_attention
from minires.functional.loss import binary_cross_entropy_with_logits, cross_entropy
from minires.functional.norm import batch_norm, group_norm, layer_norm, rms_norm
from minires.functional.softmax import log_softmax, softmax
from tests.parity import assert_close

rng = np.random.default_rng(19)


def normal(*shape):
    return rng.standard_normal(shape) + 0.3


MEAN, VAR = normal(4), rng.uniform(0.5, 2.0, 4)
LABELS = rng.integers(0, 4, (3, 5))
ONEHOT = np.moveaxis(np.eye(4)[LABELS], -1, 1)
TARGET = rng.random((3, 4))
IMAGE = normal(3, 4, 2, 5), normal(4), normal(4)
QKV = normal(2, 4, 3), normal(2, 5, 3), normal(2, 5, 2)

PAIRS = {
    "batch_norm": (
        lambda x, w, b: batch_norm(x, None, None, w, b, training=True),
        composed.batch_norm,
        IMAGE,
    ),
    "batch_norm of features": (
        lambda x, w, b: batch_norm(x, None, None, w, b, training=True),
        composed.batch_norm,
        (normal(6, 4), normal(4), normal(4)),
    ),
    "batch_norm in evaluation": (
        lambda x, w, b: batch_norm(x, MEAN, VAR, w, b),
        lambda x, w, b: composed.batch_norm_eval(x, MEAN, VAR, w, b),
        IMAGE,
    ),
    "layer_norm": (
        lambda x, w, b: layer_norm(x, (4, 5), w, b),
        lambda x, w, b: composed.layer_norm(x, (4, 5), w, b),
        (normal(3, 4, 5), normal(4, 5), normal(4, 5)),
    ),
    "group_norm": (
        lambda x, w, b: group_norm(x, 2, w, b),
        lambda x, w, b: composed.group_norm(x, 2, w, b),
        IMAGE,
    ),
    "rms_norm": (
        lambda x, w: rms_norm(x, (5,), w, eps=1e-5),
        lambda x, w: composed.rms_norm(x, (5,), w),
        (normal(3, 5), normal(5)),
    ),
    "softmax": (lambda x: softmax(x, 1), lambda x: composed.softmax(x, 1), (normal(3, 4, 2),)),
    "log_softmax": (lambda x: log_softmax(x, 1), lambda x: composed.log_softmax(x, 1), (normal(3, 4, 2),)),
    "attention": (scaled_dot_product_attention, composed.scaled_dot_product_attention, QKV),
    "attention with a bias": (
        scaled_dot_product_attention,
        composed.scaled_dot_product_attention,
        (*QKV, normal(4, 5)),
    ),
    "cross_entropy": (
        lambda x: cross_entropy(x, LABELS),
        lambda x: composed.cross_entropy(x, ONEHOT),
        (normal(3, 4, 5),),
    ),
    "binary_cross_entropy_with_logits": (
        lambda x: binary_cross_entropy_with_logits(x, TARGET),
        lambda x: composed.binary_cross_entropy_with_logits(x, TARGET),
        (normal(3, 4),),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_fused_equals_composed(name):
    fused, by_parts, arrays = PAIRS[name]
    results = []
    for f in (fused, by_parts):
        leaves = [Tensor(a, requires_grad=True) for a in arrays]
        y = f(*leaves)
        y.backward(np.random.default_rng(1).standard_normal(y.shape))
        results.append([y.data, *(leaf.grad for leaf in leaves)])
    for i, (a, b) in enumerate(zip(*results, strict=True)):
        assert_close(a, b, f"{name}: {'the value' if i == 0 else f'the gradient of input {i - 1}'}")
