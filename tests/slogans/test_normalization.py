"""Claims 12, 13 and 20: where the norm stands, and what it does to the stream, the skip and the tokens."""

import numpy as np
import pytest

import minires as mr
from minires import functional as F
from minires.engine import Tensor
from tests.slogans.nets import Transformer, norm, standardized

SEEDS = range(3)


def squares(layers, kind):
    """E |x_L|^2 / d."""
    nets = [Transformer(layers, kind, seed) for seed in SEEDS]
    return np.mean([np.mean(net.stream(net.tokens())[-1].data ** 2) for net in nets])


def profile(layers, kind, deep=False):
    """The gradient's norm for every layer's last weight, averaged over seeds."""
    return np.mean([Transformer(layers, kind, seed, deep=deep).gradients() for seed in SEEDS], axis=0)


# --- 12


def test_false_that_pre_norm_helps_to_control_the_growth_of_representations():
    """Claim 12 (S1): backwards. Under pre-norm the stream grows with depth; it is post-norm that holds it at 1."""
    sizes = [squares(layers, "pre") for layers in (6, 12, 24)]
    assert sizes[0] > 4
    assert sizes[1] > 1.5 * sizes[0]
    assert sizes[2] > 1.5 * sizes[1]
    for layers in (6, 24):
        assert squares(layers, "post") == pytest.approx(1.0, abs=1e-3)


def test_true_that_pre_norm_bounds_what_each_branch_reads():
    """Claim 12: the branch's input is of norm sqrt(d) at any depth, however far the stream has grown."""
    net = Transformer(24, "pre", 0)
    for x in net.stream(net.tokens()):
        read = net.ln(x).data
        np.testing.assert_allclose(np.mean(read**2, axis=-1), 1.0, atol=1e-4)


def test_true_that_the_last_layers_gradient_is_independent_of_depth_under_post_norm_and_falls_under_pre_norm():
    """Claim 12: O(d sqrt(ln d)) against O(d sqrt(ln d / L)). Xiong et al. 2020, theorem 1."""
    ratio = {kind: profile(24, kind)[-1] / profile(6, kind)[-1] for kind in ("pre", "post")}
    assert 0.6 < ratio["post"] < 1.7
    assert ratio["pre"] < 0.7
    assert ratio["pre"] == pytest.approx(0.5, abs=0.2)  # sqrt(6 / 24)


def test_true_that_under_pre_norm_a_batchs_gradient_is_larger_in_early_layers_and_under_deepnorm_flat():
    """Claim 12: Xiong's "flat" is about the gradient averaged over batches. A single one grows towards the input, the
    more the deeper; with DeepNorm's constants it stays level."""
    steep = [profile(layers, "pre") for layers in (6, 12, 24)]
    first_over_last = [p[0] / p[-1] for p in steep]
    assert 1.3 < first_over_last[0] < first_over_last[1] < first_over_last[2] < 10
    flat = profile(24, "post", deep=True)
    assert flat.max() / flat.min() < 1.5


def identity_path(scales, x, branch):
    """|g_0| / |g_L| through the skips of LN(x + branch(x)) alone."""
    leaf = y = Tensor(x, requires_grad=True)
    for k in range(scales):
        y = F.layer_norm(F.residual_add(y, branch(y, k)), y.shape[-1])
    gy = np.random.default_rng(7).standard_normal(x.shape)
    with mr.lesion(skip_grad=1, branch_grad=0.0):
        y.backward(gy)
    return norm(leaf.grad) / norm(gy)


def test_false_that_the_skip_of_a_post_norm_layer_carries_the_gradient_unchanged():
    """Claim 12 (S0, S2): LayerNorm(x + Sublayer(x)) "keeps the +1". Its norm divides the skip by sqrt(2) where branch
    and skip are independent and of one size: after 96 sublayers some 2^-48 = 3.6e-15 is left."""
    rng = np.random.default_rng(0)
    ws = rng.standard_normal((96, 64, 64)) / 8
    left = identity_path(96, rng.standard_normal((4, 64)), lambda x, k: F.linear(x, ws[k]))
    assert 2.0**-48 / 30 < left < 2.0**-48 * 30


def test_false_that_the_skips_of_a_post_norm_transformer_carry_the_gradient_unchanged():
    """Claim 12: there the branches are smaller than the stream, and 96 sublayers still leave less than 1e-9."""
    net = Transformer(48, "post", 0)
    x = net.tokens()
    y = net.stream(x)[-1]
    with mr.lesion(skip_grad=1, branch_grad=0.0):
        y.backward(np.random.default_rng(1).standard_normal(y.shape))
    assert norm(x.grad) / norm(np.ones(y.shape)) < 1e-9


def test_true_that_the_skips_of_a_pre_norm_transformer_carry_the_gradient_unchanged():
    """Claim 12: x + f(LN(x)) leaves the skip alone: with the branches cut the gradient arrives bit for bit."""
    net = Transformer(48, "pre", 0)
    x = net.tokens()
    y = net.stream(x)[-1]
    gy = np.random.default_rng(1).standard_normal(y.shape)
    with mr.lesion(skip_grad=1, branch_grad=0.0):
        y.backward(gy)
    np.testing.assert_array_equal(x.grad, gy)


# --- 13


def test_false_that_pre_activation_is_bn_of_relu():
    """Claim 13 (S1, S2): "x + F(BN(ReLU(x)))". As written ReLU comes first: what x has below zero is lost to the norm,
    and the convolution reads negative numbers."""
    x = np.random.default_rng(2).standard_normal((64, 5))
    stretched = np.where(x < 0, 3 * x, x)
    np.testing.assert_array_equal(standardized(F.relu(x)).data, standardized(F.relu(stretched)).data)
    assert standardized(F.relu(x)).data.min() < -0.5


def test_true_that_pre_activation_is_relu_of_bn():
    """Claim 13: norm, then ReLU, then convolution: every number of x counts, and the convolution reads none below 0."""
    x = np.random.default_rng(2).standard_normal((64, 5))
    stretched = np.where(x < 0, 3 * x, x)
    assert np.abs(F.relu(standardized(x)).data - F.relu(standardized(stretched)).data).max() > 0.3
    assert F.relu(standardized(x)).data.min() == 0


# --- 20


def spread(x):
    """What of x isn't the same for all tokens: |x - mean over tokens| / |x|."""
    x = x.data
    return norm(x - x.mean(axis=1, keepdims=True)) / norm(x)


def test_false_that_post_norm_transformers_train_stably_at_100_layers():
    """Claim 20 (S0): "stable training of 100+ layer variants". At 100 layers DeepNorm's skip has factors near 1 where
    plain post-norm's fade: this is what it (or pre-norm, or ReZero) is for."""
    left = {}
    for deep in (False, True):
        net = Transformer(100, "post", 0, d=32, deep=deep)
        x = net.tokens(2, 8)
        y = net.stream(x)[-1]
        gy = np.random.default_rng(3).standard_normal(y.shape)
        with mr.lesion(skip_grad=1, branch_grad=0.0):
            y.backward(gy)
        left[deep] = norm(x.grad) / norm(gy)
    assert left[False] < 1e-10
    assert left[True] > 0.05


def test_true_that_without_skips_attention_makes_all_tokens_equal():
    """Claim 20 (S2): "12+ layers unstable without skips": worse, tokens become one within a few layers, so that there
    is nothing left to learn from. With skips more than a third of what tells them apart survives 12 layers.

    Dong et al. 2021, Attention Is Not All You Need.
    """
    for seed in SEEDS:
        bare, with_skips = Transformer(12, "none", seed), Transformer(12, "pre", seed)
        without = [spread(x) for x in bare.stream(bare.tokens(1))]
        kept = [spread(x) for x in with_skips.stream(with_skips.tokens(1))]
        assert without[0] > 0.9
        assert without[3] < 0.05
        assert without[6] < 1e-3
        assert min(kept) > 0.35
