"""Claims 7 and 8: 2^L paths, which of them carry gradient, and whether that makes an ensemble."""

import itertools
import math

import numpy as np
import pytest

import minires as mr
from minires import functional as F
from minires import models
from minires.engine import Tensor
from minires.switches import no_grad
from tests.slogans.nets import last, norm, stack, two_layers


def gradient_by_path_length(depth, slope):
    """How much of the gradient comes through paths of 0, 1, ..., L branches, for blocks x + slope x.

    A walk that multiplies every branch's gradient by t returns sum_k t^k (what has come through k branches). Walks with
    t on the unit circle, and a Fourier transform, take the sum apart.
    """
    x = Tensor(np.ones((), dtype=complex), requires_grad=True)
    y = stack(x, [lambda x: x * slope] * depth)[-1]
    sums = []
    for t in np.exp(2j * np.pi * np.arange(depth + 1) / (depth + 1)):
        x.grad = None
        with mr.lesion(skip_grad=1, branch_grad=t):
            y.backward(np.ones(()), retain_graph=True)
        sums.append(complex(x.grad))
    return np.fft.fft(sums).real / (depth + 1)


def mean_length(depth, slope):
    shares = gradient_by_path_length(depth, slope)
    return float(np.sum(np.arange(depth + 1) * shares) / np.sum(shares))


# --- 7


def test_false_that_the_useful_paths_are_of_length_root_L():
    """Claim 7 (S1): useful paths are O(sqrt(L)) on average. With branches of one gain their length grows like L."""
    assert mean_length(27, 0.1) == pytest.approx(27 * 0.1 / 1.1)
    assert mean_length(108, 0.1) == pytest.approx(4 * mean_length(27, 0.1))


def test_true_that_path_lengths_are_binomial_and_the_root_is_their_deviation():
    """Claim 7: of 54 blocks' paths the mean length is 27, the deviation sqrt(54) / 2; 98.0 % have 19 to 35 blocks,
    and the 5 to 17 that Veit et al. 2016 find gradient in are .45 % of all paths."""
    share = gradient_by_path_length(54, 1.0) / 2.0**54  # with unit slopes every path counts once
    length = np.arange(55)
    np.testing.assert_allclose(share, [math.comb(54, k) / 2**54 for k in length], atol=1e-14)
    assert np.sum(length * share) == pytest.approx(27)
    assert np.sqrt(np.sum((length - 27) ** 2 * share)) == pytest.approx(math.sqrt(54) / 2)
    assert share[19:36].sum() == pytest.approx(0.980, abs=5e-4)
    assert share[5:18].sum() == pytest.approx(0.004537, abs=5e-7)


@pytest.mark.parametrize(("depth", "gain", "length"), [(110, 0.1, 10.0), (110, 110**-0.5, 9.6), (54, 0.5, 18.0)])
def test_true_that_gradient_is_weighed_by_the_branches_gain(depth, gain, length):
    """Claim 7: each branch of a path costs a factor e, so that gradient's mean path length is L e / (1 + e); it is of
    order sqrt(L) only where e is of order 1 / sqrt(L)."""
    assert mean_length(depth, gain) == pytest.approx(length, abs=0.05)


# --- 8


def test_false_that_gradient_flows_through_paths_of_two_or_three_layers():
    """Claim 8 (S0): "short paths (2-3 layers)". Branches of two layers and gain .2 in 54 blocks: some 18 layers, and
    of the gradient less than 1 % comes through paths of a single block or none."""
    shares = gradient_by_path_length(54, 0.2)
    assert 2 * mean_length(54, 0.2) == pytest.approx(18.0)
    assert shares[:2].sum() / shares.sum() < 0.01


def three_blocks(seed, bend=F.relu, d=16):
    rng = np.random.default_rng(seed)
    ws = rng.standard_normal((3, 2, d, d)) * d**-0.5
    return [lambda x, u=u, v=v: F.linear(bend(F.linear(x, u)), v) for u, v in ws], rng.standard_normal(d)


def as_an_ensemble(branches, x):
    """The sum, over the subsets of blocks, of what their branches give one after the other."""
    total = np.zeros(x.shape)
    for taken in itertools.product((False, True), repeat=len(branches)):
        y = x
        for f in itertools.compress(branches, taken):
            y = f(y)
        total = total + (y.data if isinstance(y, Tensor) else y)
    return total


def test_false_that_a_residual_net_is_an_ensemble_of_2_to_the_n_paths():
    """Claim 8 (S0, S1, S4): "understood as", "equivalent to" an ensemble of 2^n paths. The function isn't their sum."""
    errors = []
    for seed in range(10):
        branches, x = three_blocks(seed)
        y = last(branches)(x).data
        errors.append(norm(as_an_ensemble(branches, x) - y) / norm(y))
    assert np.median(errors) > 0.1
    branches, x = three_blocks(0, bend=lambda z: z)
    np.testing.assert_allclose(as_an_ensemble(branches, x), last(branches)(x).data, atol=1e-12)


def test_true_that_the_jacobian_at_a_point_is_the_sum_over_2_to_the_n_paths():
    """Claim 8: prod (I + J_k), expanded. That is exact, with each J_k taken where the net itself passes."""
    branches, x = three_blocks(0)
    jacobians = [mr.jacobian(f)(at).data for f, at in zip(branches, stack(x, branches), strict=False)]
    paths = np.zeros((16, 16))
    for taken in itertools.product((False, True), repeat=3):
        path = np.eye(16)
        for j in itertools.compress(jacobians, taken):
            path = j @ path
        paths += path
    np.testing.assert_allclose(mr.jacobian(last(branches))(x).data, paths, atol=1e-13)


def test_true_that_the_forward_sum_has_only_n_plus_1_terms():
    """Claim 8 (S1's own sum): x_L = x_0 + F_0(x_0) + ... + F_{L-1}(x_{L-1}). He et al. 2016, eq. 4."""
    rng = np.random.default_rng(3)
    branches = [two_layers(*rng.standard_normal((2, 8, 8))) for _ in range(5)]
    points = stack(rng.standard_normal(8), branches)
    terms = [points[0].data, *(f(at).data for f, at in zip(branches, points, strict=False))]
    assert len(terms) == 6
    np.testing.assert_allclose(points[-1].data, sum(terms), rtol=1e-12)


def test_true_that_a_block_that_widens_cannot_be_deleted_without_loss():
    """Claim 8: robustness to deleting a block excludes the down-sampling ones. Past the shortcut alone half of the
    channels are zero, and of every four pixels three are gone."""
    mr.manual_seed(1)
    net = models.create("resnet8", width=4)
    block = net.layer2[0]
    x = np.abs(np.random.default_rng(0).standard_normal((2, 4, 8, 8)))
    with no_grad():
        alive = block(x).data
        block.bn2.weight.copy_(np.zeros(8))
        left = block(x).data
    assert (alive > 0).any(axis=(0, 2, 3)).all()
    assert (left > 0).any(axis=(0, 2, 3)).tolist() == [False] * 2 + [True] * 4 + [False] * 2
    x[:, :, ::2, ::2] = 7.0
    np.testing.assert_array_equal(block(x).data[:, 2:6], 7.0)
