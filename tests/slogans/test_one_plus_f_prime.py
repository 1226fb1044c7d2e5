"""Claims 1 to 5: what the 1 in 1 + F' is, and what it does not promise."""

import numpy as np
import pytest

import minires as mr
from minires import functional as F
from minires.engine import Tensor
from tests.slogans.nets import gradient, last, norm, slopes, stack, two_layers

# --- 1

A = np.array([[0.1, 0.2], [-0.3, 0.4]])
C = np.array([3.0, -2.0])


def x_plus_ax(c):
    """The gradients of x and of F(x) for y = x + A x, L = c^T y."""
    x = Tensor(np.array([0.7, -0.4]), requires_grad=True)
    f = F.linear(x, A).retain_grad()
    F.residual_add(x, f).backward(c)
    return x.grad, f.grad


def test_false_that_the_gradient_is_1_plus_the_branchs():
    """Claim 1 (S0): "dL/dx = 1 + dL/dF"."""
    gx, gf = x_plus_ax(C)
    np.testing.assert_allclose(1 + gf, [4, -1])
    np.testing.assert_allclose(gx, [3.9, -2.2])
    twice_gx, twice_gf = x_plus_ax(2 * C)  # a loss in cents, not in euros
    np.testing.assert_allclose(twice_gx, 2 * gx)
    assert not np.allclose(1 + twice_gf, 2 * (1 + gf))


def test_true_that_the_gradient_is_that_of_y_plus_the_branchs_pull():
    """Claim 1: gx = gy + J_F^T gy = (I + J_F)^T gy. The 1 is an identity matrix, and it multiplies."""
    gx, _ = x_plus_ax(C)
    np.testing.assert_allclose(gx, C + A.T @ C)
    np.testing.assert_allclose(gx, (np.eye(2) + A).T @ C)


# --- 2


def random_block(rng, scale, d=16):
    w1 = rng.standard_normal((d, d)) * (2 / d) ** 0.5
    w2 = rng.standard_normal((d, d)) * scale * (1 / d) ** 0.5
    return last([two_layers(w1, w2)])


def shrinkage(scale, draws=400):
    """|gx| / |gy| of as many random blocks."""
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(draws):
        block = random_block(rng, scale)
        x, gy = rng.standard_normal((2, 16))
        ratios.append(norm(gradient(block, x, gy)) / norm(gy))
    return np.array(ratios)


def test_false_that_the_direct_path_has_magnitude_at_least_1_whatever_the_branch():
    """Claim 2 (S0, S1, S4): "at least magnitude 1 regardless of dF/dx", "unconditionally", "Always at least 1!".

    A legal ReLU block computes F = -x, and then nothing is left.
    """
    eye = np.eye(3)
    block = last([two_layers(np.concatenate([eye, -eye]), -np.concatenate([eye, -eye], axis=1))])
    x = np.array([1.5, -0.3, 0.8])
    assert not block(x).data.any()
    assert not mr.jacobian(block)(x).data.any()
    assert not gradient(block, x, [3.0, -2.0, 1.0]).any()


@pytest.mark.parametrize(("scale", "share"), [(1.0, 0.06), (0.5, 0.19), (0.1, 0.43)])
def test_false_that_a_gradient_is_at_least_as_large_as_the_one_above(scale, share):
    """Claim 2 (S2): "the gradient reaching any layer is at least as large as the gradient from above".

    Even at random that many blocks make it smaller, the more of them the smaller the branch.
    """
    ratios = shrinkage(scale)
    assert abs((ratios < 1).mean() - share) < 0.05
    assert ratios.min() < 0.95


def test_false_that_the_smallest_singular_value_is_at_least_1():
    """Claim 2: for its worst cotangent, a random block keeps a few per cent."""
    rng = np.random.default_rng(1)
    worst = [
        np.linalg.svd(mr.jacobian(random_block(rng, 1.0))(rng.standard_normal(16)).data, compute_uv=False)[-1]
        for _ in range(60)
    ]
    assert min(worst) < 0.04


@pytest.mark.parametrize("e", [0.01, 0.3, 0.9])
def test_true_that_a_branch_of_norm_e_below_1_keeps_the_gradient_within_e(e):
    """Claim 2: ||J_F||_2 <= e < 1 suffices for (1 - e) |gy| <= |gx| <= (1 + e) |gy|."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        w1, w2 = rng.standard_normal((2, 6, 6))
        x, gy = rng.standard_normal((2, 6))
        branch = lambda x, w1=w1, w2=w2: F.linear(F.tanh(F.linear(x, w1)), w2)
        size = np.linalg.norm(mr.jacobian(branch)(x).data, 2)
        block = last([lambda x, branch=branch, size=size: branch(x) * (e / size)])
        assert 1 - e - 1e-12 <= norm(gradient(block, x, gy)) / norm(gy) <= 1 + e + 1e-12


# --- 3


def test_false_that_no_depth_can_close_it():
    """Claim 3 (S3): "no amount of depth can close" it, it "cannot collapse to zero". One block with F' = -1 does."""
    assert gradient(slopes(0.3, -1.0, 0.2, 0.5), 1.0, 1.0) == 0.0


@pytest.mark.parametrize(
    ("slope", "depth", "left"), [(-0.5, 20, 9.5e-7), (-0.5, 54, 5.6e-17), (-0.1, 54, 3.4e-3), (1.0, 20, 1.05e6)]
)
def test_false_that_the_product_is_1_plus_terms_that_may_shrink(slope, depth, left):
    """Claim 3 (S3): "prod (1 + F') = 1 + (terms that may shrink)". The terms may cancel the 1, or grow past it."""
    assert gradient(slopes(*[slope] * depth), 1.0, 1.0) == pytest.approx(left, rel=0.02)


@pytest.mark.parametrize(("s", "rate"), [(0.5, -0.172), (1.0, -0.210)])
def test_true_that_with_random_slopes_the_typical_product_decays_while_the_mean_square_explodes(s, rate):
    """Claim 3: for F' ~ N(0, s^2), E log |1 + F'| < 0, although E prod^2 = (1 + s^2)^n."""
    rng = np.random.default_rng(3)
    deep = slopes(*(rng.standard_normal((54, 4000)) * s))
    logs = np.log(np.abs(gradient(deep, np.ones(4000), np.ones(4000))))
    assert logs.mean() / 54 == pytest.approx(rate, abs=0.01)
    shallow = slopes(*(rng.standard_normal((3, 200_000)) * s))
    squares = gradient(shallow, np.ones(200_000), np.ones(200_000)) ** 2
    assert squares.mean() == pytest.approx((1 + s * s) ** 3, rel=0.1)


def test_true_that_the_typical_gradient_at_54_random_blocks_is_ten_thousand_times_smaller():
    """Claim 3: e^{-.172 * 54} = 9e-5 for s = .5."""
    rng = np.random.default_rng(4)
    deep = slopes(*(rng.standard_normal((54, 4000)) * 0.5))
    assert 3e-5 < np.median(np.abs(gradient(deep, np.ones(4000), np.ones(4000)))) < 3e-4


def test_true_that_the_expansion_contains_the_identity_and_what_cancels_it_rarely_does_so_for_every_sample():
    """Claim 3: gy itself is one of the terms. He et al. 2016: F' "cannot be always -1 for all samples"."""
    x, gy = np.array([[1.5], [-0.5], [2.0], [-3.0]]), np.array([[1.0], [2.0], [-3.0], [4.0]])
    block = last([lambda x: -F.relu(x)])
    np.testing.assert_array_equal(gradient(block, x, gy), np.where(x > 0, 0, gy))
    with mr.lesion(skip_grad=1, branch_grad=0.0):
        np.testing.assert_array_equal(gradient(slopes(-1.0, -0.5, 0.7), gy, gy), gy)


# --- 4


def test_false_that_the_layers_derivatives_add_up_to_something_nonzero():
    """Claim 4 (S0): "1 + dF/dx (partial sum), guaranteed nonzero". Across layers it is a product, and it can be 0."""
    assert gradient(slopes(0.5, 0.5), 1.0, 1.0) == 2.25 != 1 + 0.5 + 0.5
    assert gradient(slopes(-1.0, 1.5), 1.0, 1.0) == 0.0 != 1 - 1.0 + 1.5


def test_true_that_it_is_a_product_or_1_plus_the_derivative_of_the_sum():
    """Claim 4: prod (I + J_k) = I + d(sum_k F_k)/dx, where each F_k is taken at an x_k that depends on x."""
    rng = np.random.default_rng(5)
    ws = rng.standard_normal((4, 3, 3)) * 0.7
    branches = [lambda x, w=w: F.tanh(F.linear(x, w)) for w in ws]
    x = rng.standard_normal(3)
    product = np.eye(3)
    for f, at in zip(branches, stack(x, branches), strict=False):
        product = (np.eye(3) + mr.jacobian(f)(at).data) @ product
    np.testing.assert_allclose(mr.jacobian(last(branches))(x).data, product, atol=1e-12)

    def summed(x):
        total = x * 0
        for f, at in zip(branches, stack(x, branches), strict=False):
            total = total + f(at)
        return total

    np.testing.assert_allclose(np.eye(3) + mr.jacobian(summed)(x).data, product, atol=1e-12)
    at_x_itself = np.eye(3) + sum(mr.jacobian(f)(x).data for f in branches)
    assert np.abs(at_x_itself - product).max() > 0.1


# --- 5

B = np.array([[0.5, 2.0], [0.0, 0.5]])


def plain(x, layers):
    for w in layers:
        x = F.linear(x, w)
    return x


def test_false_that_eigenvalues_below_1_make_the_gradient_vanish():
    """Claim 5 (S0, S4): "eigenvalues < 1 => vanishes". Here all are .5, and 20 layers multiply it by 3.3e6."""
    np.testing.assert_allclose(np.linalg.eigvals(B), 0.5)
    jacobian = mr.jacobian(lambda x: plain(x, [B, B.T] * 10))(np.ones(2)).data
    assert np.linalg.norm(jacobian, 2) == pytest.approx(3.3e6, rel=0.02)
    assert np.abs(np.linalg.eigvals(B.T @ B)).max() == pytest.approx(4.49, abs=0.01)


def test_false_that_factors_below_1_make_the_gradient_vanish():
    """Claim 5 (S4): "each term < 1 => vanishes". prod_{k >= 2} (1 - 1 / k^2) = 1/2."""

    def net(x):
        for k in range(2, 1001):
            x = x * (1 - 1 / k**2)
        return x

    assert gradient(net, 1.0, 1.0) == pytest.approx(0.5, abs=1e-3)


def test_true_that_norms_below_one_c_below_1_make_the_gradient_vanish():
    """Claim 5: ||J_k||_2 <= c < 1 for every k gives |gx| <= c^L |gy|. Norms, not eigenvalues, and one c for all."""
    rng = np.random.default_rng(6)
    layers = [w * (0.8 / np.linalg.norm(w, 2)) for w in rng.standard_normal((30, 5, 5))]
    gy = rng.standard_normal(5)
    assert 0 < norm(gradient(lambda x: plain(x, layers), np.ones(5), gy)) <= 0.8**30 * norm(gy)
