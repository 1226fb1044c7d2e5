"""Claims 14, 15 and 19, and two more about variants: gates, dropped paths, concatenation, dilution."""

import numpy as np
import pytest

import minires as mr
from minires import functional as F
from minires.engine import Tensor
from minires.nn import DropPath
from tests.slogans.nets import gradient, norm, stack, two_layers


def highway(x, t, h):
    """y = T H(x) + (1 - T) x (Srivastava et al. 2015, eq. 3), for a gate given as a number."""
    return h(x) * t + x * (1 - t)


def silent(x):
    """An H that doesn't hear x, so that all gradient that arrives came through the skips."""
    return x * 0.0


# --- 14


@pytest.mark.parametrize(("t", "left"), [(0.01, 0.605), (0.5, 8.9e-16), (0.99, 1e-100)])
def test_false_that_a_gate_that_approaches_zero_shuts_the_highway_off(t, left):
    """Claim 14 (S1): "When T(x) approaches zero ... the gradient highway is effectively shut off". Reversed: after 50
    layers with T = .01 the skips still carry 60 % of the gradient; with T = .99 they carry nothing."""

    def net(x):
        for _ in range(50):
            x = highway(x, t, silent)
        return x

    assert gradient(net, np.ones(3), np.ones(3))[0] == pytest.approx(left, rel=0.01)


def gated_layer(bias, seed=0, d=4):
    """A highway layer with a learned gate, its x, and the Jacobians of the layer and of its H."""
    rng = np.random.default_rng(seed)
    w, v = rng.standard_normal((2, d, d))
    x = rng.standard_normal(d)

    def h(x):
        return F.tanh(F.linear(x, w))

    def layer(x):
        return highway(x, F.sigmoid(F.linear(x, v) + bias), h)

    return mr.jacobian(layer)(x).data, mr.jacobian(h)(x).data


def test_true_that_a_closed_gate_opens_the_skip_and_an_open_one_closes_it():
    """Claim 14: T -> 0 gives J -> I, and T -> 1 gives J -> J_H."""
    closed, _ = gated_layer(-40.0)
    np.testing.assert_allclose(closed, np.eye(4), atol=1e-15)
    opened, of_h = gated_layer(40.0)
    np.testing.assert_allclose(opened, of_h, atol=1e-14)


def test_true_that_what_a_closed_gate_starves_is_the_branch():
    """Claim 14: dL/dW_H is proportional to T."""
    rng = np.random.default_rng(1)
    x, gy = rng.standard_normal((2, 5, 4))
    weight = rng.standard_normal((4, 4))

    def of_weight(t):
        return gradient(lambda w: highway(x, t, lambda x: F.tanh(F.linear(x, w))), weight, gy)

    assert norm(of_weight(1.0)) > 0.1
    np.testing.assert_allclose(of_weight(0.01), 0.01 * of_weight(1.0))
    assert not of_weight(0.0).any()


# --- 15


def expected_over_subnets(f, x, p, blocks=2):
    """The mean output of x + b f(x) over all on-off settings of the gates, each with its probability."""
    total = 0.0
    for on in np.ndindex(*[2] * blocks):
        y = stack(np.float64(x), [lambda x, b=b: f(x) * float(b) for b in on])[-1].item()
        total += y * p ** sum(on) * (1 - p) ** (blocks - sum(on))
    return total


def by_the_test_rule(f, x, p, blocks=2):
    """x + p f(x), block after block."""
    return stack(np.float64(x), [lambda x: f(x) * p] * blocks)[-1].item()


def test_false_that_p_of_1_always_and_p_of_0_skips():
    """Claim 15 (S4): "x + p * F(x)  # p=1 always, p=0 skip". p is a probability, not a gate: as written F's weights get
    a gradient every time, where a dropped block's get none."""
    rng = np.random.default_rng(2)
    x, gy, w = rng.standard_normal((3, 4, 4))

    def of_weight(gate):
        return gradient(lambda w: F.residual_add(x, F.tanh(F.linear(x, w)) * gate), w, gy)

    assert not of_weight(0.0).any()
    np.testing.assert_allclose(of_weight(0.5), 0.5 * of_weight(1.0))
    assert norm(of_weight(0.5)) > 0.1


def test_true_that_one_trains_with_a_drawn_gate_and_tests_with_its_probability():
    """Claim 15: train x + b F(x) with b ~ Bernoulli(p), test x + p F(x). For linear F the test rule is the mean over
    all subnets, 2.25 = 2.25; for others it isn't quite, 2.625 against 2.75."""
    assert expected_over_subnets(lambda x: x, 1.0, 0.5) == by_the_test_rule(lambda x: x, 1.0, 0.5) == 2.25
    assert expected_over_subnets(lambda x: F.relu(x) ** 2, 1.0, 0.5) == 2.75
    assert by_the_test_rule(lambda x: F.relu(x) ** 2, 1.0, 0.5) == 2.625


def test_true_that_one_may_divide_by_p_in_training_instead():
    """Claim 15: DropPath draws b for each *sample* and adds (b / p) F(x), so that the test rule is x + F(x)."""
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((400, 3)), rng.standard_normal((3, 3))
    drop = DropPath(0.25)
    branch = F.linear(x, w).data
    trained = F.residual_add(x, drop(F.linear(x, w))).data
    for row, skip, f in zip(trained, x, branch, strict=True):
        assert np.allclose(row, skip) or np.allclose(row, skip + f / 0.75)
    dropped = np.isclose(trained, x).all(axis=1)
    assert dropped.mean() == pytest.approx(0.25, abs=0.1)
    np.testing.assert_array_equal(F.residual_add(x, drop.eval()(F.linear(x, w))).data, x + branch)


def test_true_that_survival_falls_linearly_to_a_half_so_that_three_quarters_of_the_blocks_are_there():
    """Claim 15: p_l = 1 - l / (2 L) and E (blocks) = (3 L - 1) / 4, 40 of 54. Huang et al. 2016, section 3."""
    survival = 1 - np.arange(1, 55) / (2 * 54)
    gates = Tensor(np.random.default_rng(4).random((4000, 54)) < survival)
    blocks = F.sum(gates, dim=1).data
    assert survival.sum() == pytest.approx((3 * 54 - 1) / 4)
    assert blocks.mean() == pytest.approx(40.25, abs=0.2)


# --- 19


def test_false_that_highway_layers_generalize_residual_ones():
    """Claim 19 (S2): with coupled gates T and 1 - T no T gives x + F(x) with H = F: T = 1/2 gives half of it."""
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal(6), rng.standard_normal((6, 6))

    def h(x):
        return F.tanh(F.linear(x, w))

    residual = F.residual_add(x, h(x)).data
    np.testing.assert_allclose(highway(Tensor(x), 0.5, h).data, residual / 2)
    assert min(norm(highway(Tensor(x), t, h).data - residual) for t in np.linspace(0, 1, 101)) > 0.2 * norm(residual)


def test_true_that_only_highway_layers_with_two_separate_gates_contain_them():
    """Claim 19: y = T H(x) + C x with T = C = 1 is x + H(x). (The highway net came first: May 2015.)"""
    rng = np.random.default_rng(6)
    w1, w2 = rng.standard_normal((2, 6, 6))
    x, gy = rng.standard_normal((2, 6))

    def uncoupled(x, t, c):
        return two_layers(w1, w2)(x) * t + x * c

    def residual(x):
        return F.residual_add(x, two_layers(w1, w2)(x))

    np.testing.assert_array_equal(uncoupled(Tensor(x), 1.0, 1.0).data, residual(Tensor(x)).data)
    np.testing.assert_allclose(gradient(lambda x: uncoupled(x, 1.0, 1.0), x, gy), gradient(residual, x, gy))


# --- concatenation


def test_false_that_the_skips_of_unet_and_densenet_are_residual():
    """S2, S4: their skips concatenate. Then x's own copy gets only its own channels' part of gy, and there is no +1:
    with that part zero, all that reaches x is what the branch hands back."""
    rng = np.random.default_rng(7)
    x, w = rng.standard_normal((2, 3, 4, 4)), rng.standard_normal((5, 3, 3, 3))
    gy = rng.standard_normal((2, 8, 4, 4))

    def branch(x):
        return F.tanh(F.conv2d(x, w, padding=1))

    gx = gradient(lambda x: F.cat([x, branch(x)], dim=1), x, gy)
    np.testing.assert_allclose(gx, gy[:, :3] + gradient(branch, x, gy[:, 3:]))
    gy[:, :3] = 0
    gx = gradient(lambda x: F.cat([x, branch(x)], dim=1), x, gy)
    np.testing.assert_allclose(gx, gradient(branch, x, gy[:, 3:]))


# --- dilution


def grown(gain, depth=64, d=64):
    """x_0, ..., x_L with normalized branches of random weights, scaled by `gain`."""
    rng = np.random.default_rng(8)
    ws = rng.standard_normal((depth, d, d)) / d**0.5
    return stack(rng.standard_normal((32, d)), [lambda x, w=w: F.linear(F.layer_norm(x, d), w) * gain for w in ws])


def last_share(points):
    """|F_L| / |x_L|."""
    return norm(points[-1].data - points[-2].data) / norm(points[-1])


def test_false_that_pre_norm_addresses_dilution():
    """S1 counts pre-norm and ReZero among the answers to dilution. Pre-norm is what brings it about: branches of equal
    norm leave the first a share of some .7, the 64th one of 1/8."""
    points = grown(1.0)
    assert last_share(points[:2]) == pytest.approx(0.7, abs=0.1)
    assert last_share(points) == pytest.approx(1 / 8, abs=0.03)


def test_true_that_one_over_root_L_bounds_the_stream_and_rezero_is_about_the_start():
    """With x + F(x) / sqrt(L) the stream stays near sqrt(2) |x_0|, and every layer's share is about as large as any
    other's. ReZero's stream is x_0 itself at the start, whatever the depth, and says nothing about later."""
    points = grown(64**-0.5)
    assert norm(points[-1]) / norm(points[0]) == pytest.approx(2**0.5, abs=0.2)
    assert last_share(points) > 0.6 * last_share(points[:2])
    assert norm(grown(1.0)[-1]) > 6 * norm(points[0])
    np.testing.assert_array_equal(grown(0.0)[-1].data, points[0].data)


def test_true_that_the_skips_part_of_a_gradient_can_be_read_separately():
    """What each slogan is about: gx with the branch cut is gy, and with the skip cut it is J_F^T gy."""
    rng = np.random.default_rng(10)
    w1, w2 = rng.standard_normal((2, 6, 6))
    x, gy = rng.standard_normal((2, 6))
    block, branch = (lambda x: F.residual_add(x, two_layers(w1, w2)(x))), two_layers(w1, w2)
    with mr.lesion(skip_grad=1, branch_grad=0.0):
        np.testing.assert_array_equal(gradient(block, x, gy), gy)
    with mr.lesion():
        np.testing.assert_allclose(gradient(block, x, gy), gradient(branch, x, gy))
