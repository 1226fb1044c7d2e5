"""Claim 11: "deeper can no longer make it worse" (S3), "drive weights to zero and lose nothing" (S3), "no reason not to
use them" (S4), "skip always open" (S1): where the identity is not there for the taking.
"""

import numpy as np
import pytest

import minires as mr
from minires import functional as F
from minires.engine import Tensor
from minires.models import ResidualBlock
from minires.nn import BatchNorm2d, Conv2d, Residual, Sequential
from minires.switches import no_grad
from tests.slogans.nets import gradient, losses, norm, two_layers


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def in_double(module, rng):
    """The module with float64 weights and random norms."""
    for p in module.parameters():
        p.data = p.data.astype(np.float64)
    for m in module.modules():
        if isinstance(m, BatchNorm2d):
            with no_grad():
                m.weight.copy_(rng.uniform(0.5, 1.5, m.weight.shape))
                m.bias.copy_(rng.uniform(0.2, 0.8, m.bias.shape))
    return module


def zeroed(parameter):
    with no_grad():
        parameter.copy_(np.zeros(parameter.shape))


def test_false_that_deeper_can_no_longer_make_it_worse():
    """Claim 11 (S3): it did, by the papers' own errors in per cent on CIFAR-10, with the same kind of block each.

    He et al. 2015, table 6 (110, 1202), and He et al. 2016, table 2, original units (164, 1001).
    """
    errors = {110: 6.43, 1202: 7.93, 164: 5.93, 1001: 7.61}
    assert errors[1202] > errors[110]
    assert errors[1001] > errors[164]


def test_false_that_a_block_with_a_zero_branch_is_the_identity(rng):
    """Claim 11 (S3): "drive weights to zero and lose nothing". The original block then computes relu(x)."""
    block = in_double(ResidualBlock(3, 3, 1, "A"), rng)
    zeroed(block.bn2.weight)
    zeroed(block.bn2.bias)
    x = rng.standard_normal((2, 3, 4, 4))
    np.testing.assert_array_equal(block(x).data, np.maximum(x, 0))
    assert not np.array_equal(block(x).data, x)


def test_false_that_the_skip_is_always_open(rng):
    """Claim 11 (S1): where x + F(x) < 0, the original block's ReLU shuts both paths: the gradient is exactly zero."""
    block = in_double(ResidualBlock(3, 3, 1, "A"), rng)
    zeroed(block.bn2.weight)
    x = -1 - rng.random((2, 3, 4, 4))  # bn2.bias is at most .8
    assert not gradient(block, x, rng.standard_normal(x.shape)).any()


@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
def test_false_that_every_block_has_an_identity_to_fall_back_on(shortcut, rng):
    """Claim 11: a block that widens has none. With a zero branch option A hands three of four pixels no gradient, and
    options B and C hand on what their projection makes of it."""
    block = in_double(ResidualBlock(2, 4, 2, shortcut), rng)
    zeroed(block.bn2.weight)
    x = rng.random((3, 2, 4, 4)) + 0.5
    gx = gradient(block, x, rng.standard_normal((3, 4, 2, 2)))
    assert not gx[:, :, 1::2].any()
    assert not gx[:, :, :, 1::2].any()
    assert gx[:, :, ::2, ::2].any()


def test_false_that_the_last_convolution_driven_to_zero_makes_a_block_with_batch_norm_the_identity(rng):
    """Claim 11: batch norm divides the smallness out again; and at zero exactly its bias is left."""
    conv, bn = Conv2d(3, 3, 3, padding=1, bias=False), BatchNorm2d(3, eps=1e-15)
    block = in_double(Residual(Sequential(conv, bn)), rng)
    x = rng.standard_normal((4, 3, 4, 4))
    before = block(x).data
    with no_grad():
        conv.weight.copy_(conv.weight.data * 1e-3)
    np.testing.assert_allclose(block(x).data, before, atol=1e-5)
    zeroed(conv.weight)
    np.testing.assert_allclose(block(x).data - x, np.broadcast_to(bn.bias.data[:, None, None], x.shape))


def test_true_that_the_last_norms_weight_and_bias_at_zero_make_a_pre_activation_block_the_identity(rng):
    """Claim 11: gamma = beta = 0 in the branch's last batch norm, and no ReLU after the sum: y = x and gx = gy."""
    bn = BatchNorm2d(3)
    block = in_double(Residual(Sequential(Conv2d(3, 3, 3, padding=1, bias=False), bn)), rng)
    zeroed(bn.weight)
    zeroed(bn.bias)
    x, gy = rng.standard_normal((2, 4, 3, 4, 4))
    np.testing.assert_array_equal(block(x).data, x)
    np.testing.assert_array_equal(gradient(block, x, gy), gy)


def weight_gradients(w1, w2, a=None):
    """The gradients of w1, w2 and, if there is one, of the gain a of y = x + a w2 relu(w1 x)."""
    leaves = [Tensor(np.asarray(w), requires_grad=True) for w in (w1, w2, *([] if a is None else [a]))]
    x, gy = np.random.default_rng(5).standard_normal((2, 6, 4))
    branch = two_layers(*leaves[:2])(x)
    y = F.residual_add(x, branch if a is None else branch * leaves[2])
    y.backward(gy)
    return y.data - x, [w.grad for w in leaves]


def test_false_that_a_branch_of_zeros_is_a_good_place_to_start_from():
    """Claim 11: all weights zero is a saddle. Neither layer has a gradient, so the block stays the identity forever."""
    added, gradients = weight_gradients(np.zeros((5, 4)), np.zeros((4, 5)))
    assert not added.any()
    assert not any(g.any() for g in gradients)


def test_true_that_only_the_last_layer_may_be_zero(rng):
    """Claim 11: then it has a gradient, and the layer before it gets one as soon as the last one has moved."""
    w1 = rng.standard_normal((5, 4))
    added, (g1, g2) = weight_gradients(w1, np.zeros((4, 5)))
    assert not added.any()
    assert not g1.any()
    assert norm(g2) > 0.1
    _, (g1, _) = weight_gradients(w1, -0.1 * g2)
    assert norm(g1) > 0.01


def test_true_that_a_single_gain_of_zero_does_as_well(rng):
    """Claim 11: ReZero, y = x + a F(x) with a = 0: the identity, da != 0, and dW = 0 at the first step."""
    added, (g1, g2, ga) = weight_gradients(rng.standard_normal((5, 4)), rng.standard_normal((4, 5)), np.zeros(()))
    assert not added.any()
    assert not g1.any()
    assert not g2.any()
    assert abs(ga) > 0.1


def test_false_that_there_is_no_reason_not_to_use_them():
    """Claim 11 (S4): x + relu(w x) with He's start and no norm doubles the stream with every block. 32 of them learn
    worse than 32 layers without any skip."""
    naive = losses(lambda x, f, a: F.residual_add(x, f), seed=0)
    assert naive[0] > 1e5
    assert min(naive) > 1000 * max(losses(lambda x, f, a: f, seed=0))


def test_true_that_a_deeper_net_could_do_no_worse(rng):
    """Claim 11: He et al. 2015 argue that the shallower net exists inside the deeper one, "by construction". To find
    it is another matter. Zero gains after the first 3 of 12 blocks give the 3-block net, bit for bit."""
    ws = rng.standard_normal((12, 2, 4, 4))

    def net(x, gains):
        for (w1, w2), a in zip(ws, gains, strict=True):
            x = F.residual_add(x, two_layers(w1, w2)(x) * a)
        return x

    x = rng.standard_normal((5, 4))
    shallow = Tensor(x)
    for w1, w2 in ws[:3]:
        shallow = F.residual_add(shallow, two_layers(w1, w2)(shallow))
    np.testing.assert_array_equal(net(x, [1.0] * 3 + [0.0] * 9).data, shallow.data)
    assert mr.jacobian(lambda x: net(x, [0.0] * 12))(x[0]).data.tolist() == np.eye(4).tolist()
