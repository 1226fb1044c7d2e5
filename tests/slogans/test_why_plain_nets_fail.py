"""Claim 6: "plain nets failed because the gradient signal died" (S3), "plain networks of equal depth diverge" (S0).

He et al. 2015 saw healthy gradients in their plain nets with batch norm and left the cause open. Gradients at the start
depend on activation and normalization; what does tell plain from residual nets there is how fast they turn with x.
"""

import math

import numpy as np
import pytest

from minires import functional as F
from minires.engine import Tensor
from tests.slogans.nets import losses, norm, standardized

LAYERS = {
    "relu": lambda x, w: F.relu(F.linear(x, w * 2**0.5)),
    "tanh": lambda x, w: F.tanh(F.linear(x, w)),
    "sigmoid": lambda x, w: F.sigmoid(F.linear(x, w)),
    "norm and relu": lambda x, w: F.relu(standardized(F.linear(x, w))),
    "residual": lambda x, w: F.residual_add(x, F.linear(F.relu(standardized(x)), w * 2**0.5)),
}


def first_over_last(kind, depth, seed=0, d=64):
    """The norm of the first layer's weight gradient over the last one's, at the start."""
    rng = np.random.default_rng(seed)
    x = Tensor(rng.standard_normal((128, d)))
    weights = [Tensor(rng.standard_normal((d, d)) / d**0.5, requires_grad=True) for _ in range(depth)]
    for w in weights:
        x = LAYERS[kind](x, w)
    x = standardized(x) if kind == "residual" else x
    logits = F.linear(x, rng.standard_normal((10, d)) / d**0.5)
    F.cross_entropy(logits, rng.integers(0, 10, len(x))).backward()
    return norm(weights[0].grad) / norm(weights[-1].grad)


@pytest.mark.parametrize(("kind", "low", "high"), [("relu", 0.05, 20), ("tanh", 0.2, 5)])
def test_false_that_the_gradient_dies_in_a_plain_net(kind, low, high):
    """Claim 6: 50 plain layers with He's (Xavier's) start: the first layer's gradient is about the last one's size."""
    assert low < first_over_last(kind, 50) < high


def test_false_that_the_gradient_dies_in_the_plain_net_of_the_paper():
    """Claim 6: with batch norm and ReLU it *explodes* towards the input: sqrt(pi / (pi - 1)) = 1.21 a layer.

    Yang et al. 2019, A Mean Field Theory of Batch Normalization.
    """
    ratio = first_over_last("norm and relu", 50)
    assert ratio > 1000
    assert ratio ** (1 / 49) == pytest.approx(math.sqrt(math.pi / (math.pi - 1)), abs=0.02)


def test_false_that_plain_nets_of_equal_depth_diverge():
    """Claim 6: 32 plain layers without any normalization learn: slowly, but nothing diverges."""
    seen = losses(lambda x, f, a: f, seed=0)
    assert np.isfinite(seen).all()
    assert np.mean(seen[-10:]) < 0.95 * np.mean(seen[:5])


def test_true_that_sigmoids_let_it_vanish():
    """Claim 6: what died were the gradients of saturating nets without normalization: 1.5e-6 in 10 layers."""
    assert first_over_last("sigmoid", 10) < 1e-4


def test_true_that_a_normalized_residual_net_keeps_it_mild():
    """Claim 6: 50 residual layers with the norm in front stay within a factor 20, where the plain one had 10,000."""
    assert 0.2 < first_over_last("residual", 50) < 20


def test_true_that_skips_make_the_same_depth_learn_faster():
    """Claim 6: degradation is about optimization. With a skip (ReZero's, so that nothing explodes) the same 32 layers
    learn at once."""
    assert np.mean(losses(lambda x, f, a: F.residual_add(x, f * a), seed=0)[-10:]) < 1.2


def correlation(kind, depth, seed, width=64, points=256):
    """The correlation of dy/dx at neighboring points of [-2, 2], with batch norm's statistics held fixed."""
    rng = np.random.default_rng(seed)
    line = Tensor(np.linspace(-2, 2, points)[:, None], requires_grad=True)

    def norm(z):
        return F.batch_norm(z, z.data.mean(axis=0), z.data.var(axis=0))

    x = F.linear(line, rng.standard_normal((width, 1)))
    for _ in range(depth):
        w = rng.standard_normal((width, width)) * (2 / width) ** 0.5
        x = F.relu(norm(F.linear(x, w))) if kind == "plain" else F.residual_add(x, F.linear(F.relu(norm(x)), w))
    F.linear(x, rng.standard_normal((1, width))).backward(np.ones((points, 1)))
    g = line.grad[:, 0] - line.grad.mean()
    return float(np.sum(g[1:] * g[:-1]) / np.sum(g * g))


def test_true_that_what_does_tell_them_apart_is_that_plain_gradients_are_shattered():
    """Claim 6: after 24 plain layers dy/dx at neighboring points is white noise; after 24 residual ones it is not.

    Balduzzi et al. 2017, The Shattered Gradients Problem.
    """
    for seed in range(3):
        assert correlation("plain", 1, seed) > 0.8
        assert abs(correlation("plain", 24, seed)) < 0.3
        assert correlation("residual", 24, seed) > 0.5
