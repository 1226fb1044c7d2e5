"""Every kind of skip: its formula, its limits, and that a whole block's gradient is gy + J_Fᵀ gy."""

import itertools

import numpy as np
import pytest

from minires import backend, nn
from minires import functional as F
from minires.check import gradcheck
from minires.engine import Tensor
from minires.errors import RequestError
from minires.switches import no_grad
from minires.transforms import jacobian

rng = np.random.default_rng(61)


def branch(dim=5, hidden=7):
    """A smooth F that is not linear."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, dim)).to(np.float64)


def double(module):
    """In float64, with gains, biases, scales and gates away from their usual starts."""
    with no_grad():
        for p in module.to(np.float64).parameters():
            p.copy_(p.numpy() + 0.4 * rng.standard_normal(p.shape))
    return module


def backward(module, x):
    """(y, gy, gx) with a random cotangent."""
    leaf = Tensor(x, requires_grad=True)
    y = module(leaf)
    gy = rng.standard_normal(y.shape)
    y.backward(gy)
    return y.data, gy, leaf.grad


def close(a, b, tolerance=1e-12):
    a, b = (t.numpy() if isinstance(t, Tensor) else np.asarray(t) for t in (a, b))
    assert a.shape == b.shape
    assert np.max(np.abs(a - b)) <= tolerance * max(1.0, np.max(np.abs(b)))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def layer_norm(z, layer):
    z = z - z.mean(-1, keepdims=True)
    return z / np.sqrt((z * z).mean(-1, keepdims=True) + layer.eps) * layer.weight.data + layer.bias.data


# --- the +1 of whole blocks


def test_the_gradient_of_a_block_is_gy_and_the_jacobian_of_its_branch_transposed_times_gy():
    f = branch()
    x = rng.standard_normal(5)
    _, gy, gx = backward(nn.Residual(f), x)
    jf = jacobian(f)(x)
    close(gx, gy + np.asarray(jf.data if isinstance(jf, Tensor) else jf).T @ gy)


def test_the_gradient_through_two_blocks_is_the_product_of_one_plus_jacobian():
    first, second = nn.Residual(branch()), nn.Residual(branch())
    x = rng.standard_normal(5)
    _, gy, gx = backward(nn.Sequential(first, second), x)
    one = np.eye(5)
    j1, j2 = (np.asarray(jacobian(b.branch)(at)) for b, at in ((first, x), (second, first(x).data)))
    close(gx, (one + j1).T @ (one + j2).T @ gy)


@pytest.mark.parametrize("norm", [None, "pre"])
def test_a_branch_of_zero_makes_the_identity_and_hands_the_gradient_back_untouched(norm):
    f = branch()
    with no_grad():
        f[2].weight.copy_(np.zeros((5, 7)))
        f[2].bias.copy_(np.zeros(5))
    block = nn.Residual(f, norm=norm, norm_layer=norm and nn.LayerNorm(5)).to(np.float64)
    x = rng.standard_normal((4, 5))
    y, gy, gx = backward(block, x)
    assert np.array_equal(y, x)
    assert np.array_equal(gx, gy)


def test_a_branch_of_zero_before_an_activation_makes_that_activation():
    x = rng.standard_normal((4, 5))
    y, gy, gx = backward(nn.Residual(nn.Scale(0.0), activation=F.relu), x)
    assert np.array_equal(y, np.maximum(x, 0))
    assert np.array_equal(gx, gy * (x > 0))


# --- the formulas of every option, in NumPy


def test_pre_norm_leaves_the_stream_alone_and_normalizes_what_the_branch_sees():
    f, norm = branch(), double(nn.LayerNorm(5))
    x = rng.standard_normal((4, 5))
    close(nn.Residual(f, norm="pre", norm_layer=norm)(x), x + f(layer_norm(x, norm)).data)


def test_post_norm_normalizes_the_sum():
    f, norm = branch(), double(nn.LayerNorm(5))
    x = rng.standard_normal((4, 5))
    close(nn.Residual(f, norm="post", norm_layer=norm)(x), layer_norm(x + f(x).data, norm))


def test_every_option_at_once_in_the_order_that_the_docstring_gives():
    f, norm, gate = branch(), double(nn.LayerNorm(5)), double(nn.TransferGate(nn.Linear(5, 5)))
    x = rng.standard_normal((4, 5))
    t = sigmoid(x @ gate.layer.weight.data.T + gate.layer.bias.data)
    common = {"shortcut": nn.Scale(1.5), "scale": 0.3, "gate": gate, "norm_layer": norm, "activation": F.relu}
    pre, post = (nn.Residual(f, norm=where, **common) for where in ("pre", "post"))
    close(pre(x), np.maximum((1 - t) * 1.5 * x + t * 0.3 * f(layer_norm(x, norm)).data, 0))
    close(post(x), np.maximum(layer_norm((1 - t) * 1.5 * x + t * 0.3 * f(x).data, norm), 0))


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 0.5},
        {"scale": nn.LearnedScale(0.3)},
        {"scale": nn.LayerScale(5, 0.2)},
        {"shortcut": nn.Scale(0.5), "scale": 0.5},
        {"gate": nn.TransferGate(nn.Linear(5, 5))},
        {"shortcut": nn.GatedShortcut(nn.TransferGate(nn.Linear(5, 5)))},
        {"norm": "pre", "norm_layer": nn.LayerNorm(5)},
        {"norm": "post", "norm_layer": nn.LayerNorm(5), "activation": F.gelu},
        {"drop_path": nn.StochasticDepth(0.7).eval()},
    ],
    ids=lambda options: "-".join(options),
)
def test_the_gradient_of_every_option_by_complex_step(options):
    block = double(nn.Residual(nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 5)), **options))
    gradcheck(block, rng.standard_normal((3, 5)))


@pytest.mark.parametrize("drop", [0.0, 0.3, nn.StochasticDepth(0.6), nn.Dropout(0.3)])
def test_the_update_is_what_forward_adds_to_the_skip(drop):
    norm = double(nn.LayerNorm(5))
    block = nn.Residual(branch(), nn.Scale(2.0), scale=0.3, norm="pre", norm_layer=norm, drop_path=drop)
    x = rng.standard_normal((6, 5))
    for mode, seed in itertools.product((True, False), range(6)):
        block.train(mode)
        backend.manual_seed(seed)
        update = block.update(x).data
        backend.manual_seed(seed)
        close(block(x), 2 * x + update)


def test_a_subclass_may_write_its_branch_as_a_method_and_keeps_its_keys_flat():
    class Block(nn.Residual):
        def __init__(self):
            self.fc1 = nn.Linear(5, 5)
            super().__init__(activation=F.relu)

        def branch(self, x, factor=1.0):
            return self.fc1(x) * factor

    block = double(Block())
    x = rng.standard_normal((3, 5))
    f = x @ block.fc1.weight.data.T + block.fc1.bias.data
    assert list(block.state_dict()) == ["fc1.weight", "fc1.bias"]
    close(block(x), np.maximum(x + f, 0))
    close(block(x, factor=0.5), np.maximum(x + 0.5 * f, 0))


def test_a_subclass_may_write_any_part_as_a_method():
    class Block(nn.Residual):
        """y = 3 norm(2 x + f(x) / 4) with every part a method but the scale."""

        def __init__(self, **parts):
            super().__init__(norm="post", scale=0.5, **parts)
            self.linear, self.layer = nn.Linear(4, 4), nn.LayerNorm(4)

        def branch(self, x):
            return self.linear(x)

        def shortcut(self, x):
            return 2 * x

        def drop_path(self, f):
            return f / 2

        def norm_layer(self, x):
            return self.layer(x)

        def activation(self, x):
            return 3 * x

    block = double(Block())
    x = rng.standard_normal((2, 4))
    close(block(x), 3 * block.layer(2 * x + block.linear(x).data / 4).data)
    assert list(block.state_dict()) == ["linear.weight", "linear.bias", "layer.weight", "layer.bias"]
    for name in ("shortcut", "drop_path", "norm_layer", "activation"):
        with pytest.raises(RequestError, match=f"Block: {name} was given, but the class has its own {name}"):
            Block(**{name: nn.Identity()})
    with pytest.raises(RequestError, match="Block: branch was given"):
        Block(branch=nn.Identity())


def test_a_residual_that_cannot_be_is_refused():
    with pytest.raises(RequestError, match="Residual has no branch"):
        nn.Residual()
    with pytest.raises(RequestError, match="norm is 'middle', but there are"):
        nn.Residual(branch(), norm="middle")
    with pytest.raises(RequestError, match="give both, or neither"):
        nn.Residual(branch(), norm="pre")
    with pytest.raises(RequestError, match="give both, or neither"):
        nn.Residual(branch(), norm_layer=nn.LayerNorm(5))
    with pytest.raises(RequestError, match=r"a skip must not\s+broadcast"):
        nn.Residual(nn.Linear(5, 1))(rng.standard_normal((3, 5)))


# --- Highway


def highway(bias):
    gate = nn.TransferGate(nn.Linear(5, 5)).to(np.float64)
    with no_grad():
        gate.layer.weight.copy_(np.zeros((5, 5)))
        gate.layer.bias.copy_(np.full(5, bias))
    return nn.Residual(branch(), gate=gate)


def test_a_closed_transfer_gate_makes_the_identity_exactly():
    x = rng.standard_normal((4, 5))
    y, gy, gx = backward(highway(-800.0), x)
    assert np.array_equal(y, x)
    assert np.array_equal(gx, gy)


def test_an_open_transfer_gate_makes_the_branch_exactly_and_closes_the_skip():
    block, x = highway(800.0), rng.standard_normal((4, 5))
    y, gy, gx = backward(block, x)
    expected, gx_of_branch = block.branch(x), Tensor(x, requires_grad=True)
    block.branch(gx_of_branch).backward(gy)
    assert np.array_equal(y, expected.data)
    close(gx, gx_of_branch.grad, 1e-15)


def test_a_transfer_gate_starts_mostly_closed():
    x = rng.standard_normal((100, 6)).astype(np.float32)
    for layer, given in ((nn.Linear(6, 6), x), (nn.Conv2d(6, 6, 1), x[:, :, None, None])):
        gate = nn.TransferGate(layer, -3.0)
        assert np.all(gate.layer.bias.data == -3)
        assert gate(given).data.mean() < 0.1
    with pytest.raises(RequestError, match="the layer has no bias"):
        nn.TransferGate(nn.Linear(6, 6, bias=False))


def test_shortcut_only_gating_leaves_the_branch_at_full_strength():
    gate, f = double(nn.TransferGate(nn.Linear(5, 5))), branch()
    x = rng.standard_normal((4, 5))
    t = sigmoid(x @ gate.layer.weight.data.T + gate.layer.bias.data)
    close(nn.Residual(f, nn.GatedShortcut(gate))(x), (1 - t) * x + f(x).data)
    close(nn.Residual(f, nn.GatedShortcut(gate, nn.Scale(2.0)))(x), (1 - t) * 2 * x + f(x).data)


# --- scales


def test_rezero_starts_as_the_identity_with_a_gradient_for_alpha_alone():
    f = branch()
    block = nn.Residual(f, scale=nn.LearnedScale()).to(np.float64)
    x = rng.standard_normal((4, 5))
    y, gy, gx = backward(block, x)
    assert np.array_equal(y, x)
    assert np.array_equal(gx, gy)
    close(block.scale.alpha.grad, [np.sum(gy * f(x).data)])
    assert abs(block.scale.alpha.grad[0]) > 0.01
    assert all(not p.grad.any() for p in f.parameters())


def test_layer_scale_multiplies_each_feature_by_its_own_number():
    last, channels = double(nn.LayerScale(5, 0.1)), double(nn.LayerScale(5, 0.1, axis=1))
    x, image = rng.standard_normal((2, 3, 5)), rng.standard_normal((2, 5, 3, 4))
    close(last(x), x * last.gamma.data)
    close(channels(image), image * channels.gamma.data[:, None, None])
    assert np.all(nn.LayerScale(4, 0.25).gamma.data == 0.25)
    for layer, wrong in ((last, image), (channels, x), (channels, rng.standard_normal(5))):
        with pytest.raises(RequestError, match="must have 5 features on axis"):
            layer(wrong)


def test_a_sum_of_independent_branches_scaled_by_one_over_root_depth_keeps_its_size():
    blocks = 64
    layers = [nn.Linear(200, 200, bias=False).to(np.float64) for _ in range(blocks)]
    with no_grad():
        for layer in layers:
            layer.weight.copy_(rng.standard_normal((200, 200)) / np.sqrt(200))
    x = rng.standard_normal((1, 200))

    def mean_square(scale):
        y = Tensor(x)
        for layer in layers:
            y = nn.Residual(layer, scale=scale, norm="pre", norm_layer=nn.RMSNorm(200).to(np.float64))(y)
        return np.mean(y.data**2)

    assert 30 < mean_square(1.0) < 130  # 1 + L
    assert 1.3 < mean_square(blocks**-0.5) < 3  # 1 + 1


def test_the_constants_of_deepnorm_are_those_of_the_papers_table():
    close(nn.deepnorm(6), (12**0.25, 48**-0.25))
    close(nn.deepnorm(0, 6), (12**0.25, 48**-0.25))
    close(nn.deepnorm(18, 6, "encoder"), (0.81 * (18**4 * 6) ** 0.0625, 0.87 * (18**4 * 6) ** -0.0625))
    close(nn.deepnorm(18, 6), nn.deepnorm(18, 6, part="encoder"))
    close(nn.deepnorm(18, 6, "decoder"), (18**0.25, 72**-0.25))
    close(nn.deepnorm(500), (5.6234132519, 0.1257433430), 1e-9)  # 1000 sublayers
    for bad in ((0,), (0, 0), (-1,), (6, 0, "decoder"), (0, 6, "encoder"), (6, 6, "middle")):
        with pytest.raises(RequestError, match="deepnorm: part"):
            nn.deepnorm(*bad)


def test_deepnorm_is_a_post_norm_block_with_a_scaled_shortcut():
    alpha, _ = nn.deepnorm(12)
    f, norm = branch(), double(nn.LayerNorm(5))
    x = rng.standard_normal((4, 5))
    close(nn.Residual(f, nn.Scale(alpha), norm="post", norm_layer=norm)(x), layer_norm(alpha * x + f(x).data, norm))


# --- zero gamma


def test_zero_gamma_makes_blocks_that_end_in_a_norm_the_identity():
    conv = nn.Conv2d(3, 3, 3, padding=1)
    block = nn.Residual(nn.Sequential(conv, nn.Sequential(nn.BatchNorm2d(3)))).to(np.float64)
    network = nn.Sequential(nn.BatchNorm2d(3), block)
    assert nn.zero_gamma_(network) is network
    assert np.all(network[0].weight.data == 1)
    x = rng.standard_normal((2, 3, 4, 4))
    y, gy, gx = backward(block, x)
    assert np.array_equal(y, x)
    assert np.array_equal(gx, gy)
    assert block.branch[1][0].weight.grad.any()
    assert not nn.zero_gamma_(nn.LayerNorm(4)).weight.data.any()


def test_zero_gamma_refuses_where_no_branch_ends_in_a_norm():
    inside = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1))
    for module in (nn.Residual(inside), nn.Linear(3, 3), nn.BatchNorm2d(3, affine=False), nn.Residual(nn.Sequential())):
        with pytest.raises(RequestError, match="no residual branch in this"):
            nn.zero_gamma_(module)


# --- stochastic depth


class Twice(nn.Module):
    """Counts how often it is computed."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return F.mul(x, 2.0)


def test_the_expectation_over_all_subnetworks_is_the_test_rule_where_branches_are_linear():
    """E over b of y, every b weighted by its chance, is y with p in the place of b."""
    chances = [nn.linear_decay(block, 3, 0.4) for block in (1, 2, 3)]
    drops = [nn.StochasticDepth(p) for p in chances]
    factors = [nn.Linear(4, 4, bias=False).to(np.float64) for _ in chances]
    network = nn.Sequential(*(nn.Residual(f, drop_path=d) for f, d in zip(factors, drops, strict=True)))
    x = rng.standard_normal((2, 4))
    expectation = 0.0
    for bits in itertools.product((0, 1), repeat=3):
        y = x
        for b, f in zip(bits, factors, strict=True):
            y = y + b * (y @ f.weight.data.T)
        chance = np.prod([p if b else 1 - p for p, b in zip(chances, bits, strict=True)])
        expectation = expectation + chance * y
    close(network.eval()(x), expectation)


def test_the_test_rule_is_not_the_expectation_where_branches_are_not_linear():
    """Two blocks x + max(x, 0)^2 at x = 1 with p = 1/2: the mean is 2.75, the rule gives 2.625."""

    class Square(nn.Module):
        def forward(self, x):
            return F.relu(x) * F.relu(x)

    network = nn.Sequential(*(nn.Residual(Square(), drop_path=nn.StochasticDepth(0.5)) for _ in range(2)))
    assert network.eval()(np.ones(1)).item() == 2.625
    backend.manual_seed(4)
    drawn = [network.train()(np.ones(1)).item() for _ in range(4000)]
    assert set(drawn) == {1.0, 2.0, 6.0}
    assert abs(np.mean(drawn) - 2.75) < 5 * np.std(drawn) / np.sqrt(4000)


def test_a_dropped_branch_is_not_computed_and_the_whole_batch_shares_the_draw():
    f = Twice()
    block = nn.Residual(f, drop_path=nn.StochasticDepth(0.3))
    x = rng.standard_normal((5, 4))
    backend.manual_seed(0)
    survived = 0
    for _ in range(2000):
        f.calls = 0
        y = block(x).data
        assert np.array_equal(y, x + 2 * x if f.calls else x)
        survived += f.calls
    assert abs(survived - 600) < 5 * np.sqrt(2000 * 0.3 * 0.7)


def test_evaluation_multiplies_by_the_chance_of_survival_and_draws_nothing():
    layer, x = nn.StochasticDepth(0.3).eval(), rng.standard_normal((5, 4))
    state = backend.generator_state()
    close(layer(x), 0.3 * x)
    close(nn.Residual(Twice(), drop_path=layer)(x), x + 0.6 * x)
    assert backend.generator_state() == state


@pytest.mark.parametrize(("survival", "factor"), [(0.0, 0.0), (1.0, 1.0)])
def test_a_sure_fate_is_the_same_in_training_and_evaluation(survival, factor):
    block = nn.Residual(Twice(), drop_path=nn.StochasticDepth(survival))
    x = rng.standard_normal((5, 4))
    for mode in (True, False):
        close(block.train(mode)(x), x + factor * 2 * x)
        close(nn.StochasticDepth(survival).train(mode)(x), factor * x)


def test_alone_stochastic_depth_keeps_or_zeroes_the_whole_batch():
    layer, x = nn.StochasticDepth(0.5), rng.standard_normal((5, 4))
    backend.manual_seed(1)
    seen = {int(np.count_nonzero(layer(x).data)) for _ in range(50)}
    assert seen == {0, 20}


def test_a_gated_block_whose_branch_is_dropped_keeps_the_gate_on_its_skip():
    gate = double(nn.TransferGate(nn.Linear(4, 4)))
    block = nn.Residual(Twice(), gate=gate, drop_path=nn.StochasticDepth(0.0), activation=F.relu)
    x = rng.standard_normal((3, 4))
    close(block(x), np.maximum((1 - gate(x).data) * x, 0))


def test_drop_path_draws_for_each_sample_and_divides_in_training():
    block = nn.Residual(Twice(), drop_path=0.25)
    x = rng.standard_normal((4000, 3))
    backend.manual_seed(2)
    added = (block(x).data - x) / x
    assert np.all(np.ptp(added, axis=1) < 1e-9)
    kept = added[:, 0] > 0
    close(added[kept], np.full((kept.sum(), 3), 2 / 0.75), 1e-9)
    assert abs(kept.mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 4000)
    close(block.eval()(x), 3 * x)
    assert nn.Residual(Twice()).drop_path is None


def test_linear_decay_falls_from_one_to_its_last_value():
    close([nn.linear_decay(block, 4, 0.5) for block in range(5)], [1, 0.875, 0.75, 0.625, 0.5])
    close(sum(nn.linear_decay(block, 54) for block in range(1, 55)), (3 * 54 - 1) / 4)  # 40 of 54 blocks
    close(nn.linear_decay(3, 4, 0.2), 0.4)
    assert nn.linear_decay(0, 0) == 1
    for bad in ((-1, 4), (5, 4), (1, -3)):
        with pytest.raises(RequestError, match="is not one of"):
            nn.linear_decay(*bad)
    with pytest.raises(RequestError, match=r"last is 1\.5"):
        nn.linear_decay(1, 4, 1.5)
    with pytest.raises(RequestError, match=r"survival is -0\.1"):
        nn.StochasticDepth(-0.1)


# --- skips that concatenate


def test_dense_concatenation_keeps_x_and_hands_back_its_part_of_the_gradient():
    f = nn.Conv2d(3, 2, 3, padding=1).to(np.float64)
    x = rng.standard_normal((2, 3, 4, 5))
    y, gy, gx = backward(nn.DenseConcat(f), x)
    assert np.array_equal(y[:, :3], x)
    close(y[:, 3:], f(x))
    alone = Tensor(x, requires_grad=True)
    f(alone).backward(gy[:, 3:])
    close(gx, gy[:, :3] + alone.grad)
    assert nn.DenseConcat(nn.Linear(4, 2), dim=-1)(np.ones((3, 4), np.float32)).shape == (3, 6)
    with pytest.raises(RequestError, match="DenseConcat has no branch"):
        nn.DenseConcat()


@pytest.mark.parametrize("sides", [(6, 5), (9, 5), (8, 10), (7, 6)])
def test_the_encoders_map_is_cut_to_its_middle_and_gets_no_gradient_outside(sides):
    d = rng.standard_normal((2, 3, 6, 5))
    e = Tensor(rng.standard_normal((2, 4, *sides)), requires_grad=True)
    top, left = (sides[0] - 6) // 2, (sides[1] - 5) // 2
    y = nn.EncoderDecoderSkip()(d, e)
    assert np.array_equal(y.data[:, :4], e.data[:, :, top : top + 6, left : left + 5])
    assert np.array_equal(y.data[:, 4:], d)
    gy = rng.standard_normal(y.shape)
    y.backward(gy)
    expected = np.zeros(e.shape)
    expected[:, :, top : top + 6, left : left + 5] = gy[:, :4]
    assert np.array_equal(e.grad, expected)


@pytest.mark.parametrize("shape", [(2, 4, 5, 9), (2, 4, 9, 4), (3, 4, 6, 5), (2, 4, 6)])
def test_an_encoder_map_that_does_not_cover_the_decoders_is_refused(shape):
    with pytest.raises(RequestError, match="EncoderDecoderSkip: the decoder's map is"):
        nn.EncoderDecoderSkip()(np.zeros((2, 3, 6, 5)), np.zeros(shape))


# --- squeeze and excitation


@pytest.mark.parametrize("conv", [True, False])
def test_squeeze_and_excitation_weighs_each_channel(conv):
    layer = double(nn.SqueezeExcitation(6, 2, conv=conv))
    with no_grad():
        layer.fc1.bias.copy_(np.abs(layer.fc1.bias.numpy()) + 1)  # behind the ReLU not all may be zero
    x = rng.standard_normal((2, 6, 3, 4))
    w1, b1, w2, b2 = (p.data.reshape(p.shape[:2]) if p.ndim > 1 else p.data for p in layer.parameters())
    s = sigmoid(np.maximum(x.mean((2, 3)) @ w1.T + b1, 0) @ w2.T + b2)
    close(layer(x), x * s[:, :, None, None])
    gradcheck(layer, x)


def test_squeeze_and_excitation_takes_its_width_and_its_functions():
    layer = double(nn.SqueezeExcitation(6, squeezed=4, activation=F.silu, gate=F.hardswish))
    assert [p.shape for p in layer.parameters()] == [(4, 6, 1, 1), (4,), (6, 4, 1, 1), (6,)]
    assert sum(p.size for p in nn.SqueezeExcitation(64).parameters()) == 2 * 64 * 4 + 4 + 64
    x = rng.standard_normal((2, 6, 3, 4))
    hidden = layer.fc1(x.mean((2, 3), keepdims=True)).data
    s = layer.fc2(hidden * sigmoid(hidden)).data
    close(layer(x), x * s * np.clip(s + 3, 0, 6) / 6)
    with pytest.raises(RequestError, match="leave no hidden feature"):
        nn.SqueezeExcitation(8)
    with pytest.raises(RequestError, match=r"must be \(N, 6, H, W\)"):
        layer(x[:, :5])
