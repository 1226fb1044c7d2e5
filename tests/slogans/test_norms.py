"""Claims 9 and 10: how the residual stream grows, and what a single layer's share of it is."""

import numpy as np
import pytest

import minires as mr
from minires import functional as F
from minires.engine import Tensor
from minires.switches import no_grad
from tests.slogans.nets import Transformer, norm, stack


def unit(v):
    return v / np.linalg.norm(v)


def norms(branch, depth=256, d=128, seed=0):
    """|x_1|, ..., |x_L| from a random x_0 of length 1, through blocks x + branch(x, rng)."""
    rng = np.random.default_rng(seed)
    points = stack(unit(rng.standard_normal(d)), [lambda x: branch(x, rng)] * depth)
    return np.array([norm(x) for x in points[1:]])


def exponent(branch, **where):
    """The p of |x_l| ~ l^p, over the second half of the octaves."""
    sizes = norms(branch, **where)
    depth = np.arange(1, len(sizes) + 1)
    late = depth >= 16
    return np.polyfit(np.log(depth[late]), np.log(sizes[late]), 1)[0]


def normed_linear(x, rng):
    return F.linear(F.layer_norm(x, x.shape), rng.standard_normal((x.size, x.size)) / x.size**0.5)


# --- 9


@pytest.mark.parametrize("branch", [lambda x, rng: Tensor(unit(rng.standard_normal(x.shape))), normed_linear])
def test_false_that_the_norm_grows_linearly_with_depth(branch):
    """Claim 9 (S1): "|x_L| grows linearly, O(L)". With independent branches of mean zero it grows like sqrt(L)."""
    assert np.mean([exponent(branch, seed=seed) for seed in range(4)]) == pytest.approx(0.5, abs=0.06)


def test_false_that_growth_is_no_more_than_linear():
    """Claim 9: where nothing normalizes a branch's input, growth is exponential: 1.1^L, or 1e11 at L = 50."""
    assert norms(lambda x, rng: x * 0.1, depth=50)[-1] == pytest.approx(1.1**50)
    he = norms(lambda x, rng: F.relu(F.linear(x, rng.standard_normal((64, 64)) * (2 / 64) ** 0.5)), depth=50, d=64)
    assert 1e10 < he[-1] < 1e12


def test_false_that_it_grows_at_all():
    """Claim 9: F = -c x / |x| is a branch of constant norm with which nothing grows."""
    assert norms(lambda x, rng: x * (-0.07 / norm(x)), depth=64).max() <= 1.0


def test_true_that_linear_growth_is_the_upper_bound_for_branches_of_bounded_norm():
    """Claim 9: |x_L| <= |x_0| + sum |F_l|, with equality for aligned branches; non-negative ones come close."""
    rng = np.random.default_rng(0)
    same_way = unit(rng.standard_normal(128))
    aligned = norms(lambda x, rng: Tensor(same_way))
    assert np.all(aligned <= 1 + np.arange(1, 257) + 1e-9)
    assert exponent(lambda x, rng: Tensor(same_way)) == pytest.approx(1.0, abs=0.03)
    assert exponent(lambda x, rng: F.relu(normed_linear(x, rng))) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("layers", [6, 12, 24])
def test_true_that_at_the_start_of_a_pre_norm_transformer_the_square_grows_linearly(layers):
    """Claim 9: (1 + l/2) d <= E |x_l|^2 <= (1 + 3l/2) d, so the norm grows like sqrt(l). Xiong et al. 2020, lemma 2."""
    sizes = []
    for seed in range(3):
        net = Transformer(layers, "pre", seed)
        sizes.append([np.mean(x.data**2) for x in net.stream(net.tokens())])
    depth = np.arange(layers + 1)
    squares = np.mean(sizes, axis=0)
    assert np.all(squares >= 0.9 * (1 + depth / 2))
    assert np.all(squares <= 1.1 * (1 + 1.5 * depth))


def test_false_that_it_grows_with_the_length_of_the_sequence_too():
    """Claim 9 (S1): "(or long-sequence)", "depth/length". Sixteen times as many tokens change nothing."""
    sizes = []
    for length in (8, 32, 128):
        nets = [Transformer(12, "pre", seed) for seed in range(3)]
        with no_grad():
            sizes.append(np.mean([np.mean(net.stream(net.tokens(1, length))[-1].data ** 2) for net in nets]))
    assert max(sizes) < 1.4 * min(sizes)


# --- 10


def shares(terms):
    """|F_l| / |x_L| and <F_l, x_L> / |x_L|^2 for each term of x_L = sum of terms, added up by residual blocks."""
    total = stack(terms[0], [lambda x, f=f: f for f in terms[1:]])[-1].data
    size = np.linalg.norm(total)
    return np.linalg.norm(terms, axis=1) / size, terms @ total / size**2


def test_false_that_a_layers_contribution_is_one_Lth():
    """Claim 10 (S1): "any layer's contribution is 1/L of the total". Of 256 orthogonal terms each is 1/16 as long."""
    in_norm, along = shares(np.eye(257))
    np.testing.assert_allclose(in_norm, 257**-0.5)
    assert in_norm[0] == pytest.approx(0.0624, abs=1e-4)
    np.testing.assert_allclose(along, 1 / 257)


def test_true_that_orthogonal_terms_have_1_over_root_L_in_norm_and_1_over_L_along_the_sum():
    """Claim 10: so do random ones, on average: .062 and .0039. Only aligned terms have 1/L in norm."""
    random = np.random.default_rng(1).standard_normal((256, 512)) / 512**0.5
    in_norm, along = shares(random)
    assert in_norm.mean() == pytest.approx(0.062, abs=0.003)
    assert along.mean() == pytest.approx(0.0039, abs=1e-4)
    in_norm, along = shares(np.tile(random[0], (256, 1)))
    np.testing.assert_allclose(in_norm, 1 / 256)
    np.testing.assert_allclose(along, 1 / 256)


def test_true_that_shares_along_the_sum_add_up_to_1():
    """Claim 10: sum_l <F_l, x_L> / |x_L|^2 = 1, x_0's share with them; the ratios of norms add up to nothing."""
    in_norm, along = shares(np.random.default_rng(2).standard_normal((20, 8)))
    assert along.sum() == pytest.approx(1.0)
    assert in_norm.sum() > 1.5


def test_true_that_a_reader_with_a_norm_in_front_sees_less_of_a_new_term_the_longer_the_stream():
    """Claim 10: "effective learning rate decreases" is a heuristic about scale-invariant readers: F(c x) = F(x), so
    that J_F(c x) = J_F(x) / c. A reader without a norm sees the same of it at any length."""
    rng = np.random.default_rng(3)
    w, x = rng.standard_normal((6, 6)), rng.standard_normal(6)
    for reader, factor in (
        (lambda x: F.tanh(F.linear(F.layer_norm(x, 6, eps=0.0), w)), 1 / 8),
        (lambda x: F.linear(x, w), 1.0),
    ):
        near, far = mr.jacobian(reader)(x).data, mr.jacobian(reader)(8 * x).data
        np.testing.assert_allclose(far, factor * near, atol=1e-12)
