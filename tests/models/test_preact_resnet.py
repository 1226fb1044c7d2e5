"""Pre-activation networks against a peer written for this test, and every order and shortcut against its formula."""

import numpy as np
import pytest

from minires import functional as F
from minires import models, nn
from minires.check import gradcheck
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models.preact_resnet import ORDERS, OrderedBlock, PreActBlock, PreActBottleneck, PreActResNet
from minires.switches import no_grad
from tests.models import twin

rng = np.random.default_rng(29)


def randomized(module):
    """In float64, with every gain, bias and running statistic away from 1 and 0."""
    with no_grad():
        for p in module.to(np.float64).parameters():
            p.copy_(p.numpy() + (0.5 if p.ndim == 1 else 0.1) * rng.standard_normal(p.shape))
        for name, b in module.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(0.3 * rng.standard_normal(b.shape))
            elif name.endswith("running_var"):
                b.copy_(rng.uniform(0.5, 2.0, b.shape))
    return module


def check_gradients(module, *inputs):
    gradcheck(module, *inputs, may_vanish=True)


# --- the stream


@pytest.mark.parametrize("kind", [PreActBlock, PreActBottleneck])
def test_a_block_whose_branch_is_zero_is_the_identity_for_signal_and_gradient(kind):
    block = kind(8, 8).to(np.float64)
    last = block.conv2 if kind is PreActBlock else block.conv3
    with no_grad():
        last.weight.copy_(np.zeros(last.weight.shape))
    x = Tensor(rng.standard_normal((2, 8, 4, 5)), requires_grad=True)
    y = block(x)
    gy = rng.standard_normal(y.shape)
    y.backward(gy)
    assert np.array_equal(y.data, x.data)
    assert np.array_equal(x.grad, gy)
    assert last.weight.grad.any()


@pytest.mark.parametrize("kind", [PreActBlock, PreActBottleneck])
@pytest.mark.parametrize("shortcut", ["pad", "project"])
def test_where_the_shape_changes_both_paths_start_from_the_activated_input(kind, shortcut):
    block = randomized(kind(4, 8, 2, shortcut))
    x = rng.standard_normal((3, 4, 5, 6))
    a = F.relu(block.bn1(x))
    skip = F.pad(a, (0, 0, 0, 0, 2, 2))[:, :, ::2, ::2] if shortcut == "pad" else block.shortcut(a)
    np.testing.assert_allclose(block(x).data, (skip + block.convolved(a)).data, rtol=1e-12)
    check_gradients(block, x)


@pytest.mark.parametrize("kind", [PreActBlock, PreActBottleneck])
def test_where_the_shape_stays_the_skip_carries_x_itself(kind):
    block = randomized(kind(8, 8))
    x = rng.standard_normal((3, 8, 5, 4))
    np.testing.assert_allclose(block(x).data - x, block.convolved(F.relu(block.bn1(x))).data, rtol=1e-9, atol=1e-12)
    check_gradients(block, x)


def test_the_first_block_shares_its_activation_and_only_the_first():
    for depth, options in ((20, {}), (20, {"block": "bottleneck"})):
        network = models.create(f"preact_resnet{depth}", width=4, **options)
        stages = (network.layer1, network.layer2, network.layer3)
        assert all([block.shared for block in stage] == [True] + [False] * (len(stage) - 1) for stage in stages)


def test_the_stride_is_where_it_is_asked_for():
    for place, strides in (("1x1", ((2, 2), (1, 1))), ("3x3", ((1, 1), (2, 2)))):
        block = models.create("preact_resnet11", width=4, stride_in=place).layer2[0]
        assert (block.conv1.options["stride"], block.conv2.options["stride"]) == strides


# --- table 2: five orders of norm, rectifier and sum


def by_formula(order, block, x):
    """He et al. 2016, figure 4, with one conv, bn and relu after another."""
    layers = iter([m for m in block.branch.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))])
    relu = F.relu

    def n(value):  # the next convolution or norm
        return next(layers)(value)

    if order == "original":
        return relu(x + n(n(relu(n(n(x))))))
    if order == "bn_after_addition":
        return relu(block.activation[0](x + n(relu(n(n(x))))))
    if order == "relu_before_addition":
        return x + relu(n(n(relu(n(n(x))))))
    if order == "relu_only_preactivation":
        return x + n(n(relu(n(n(relu(x))))))
    return x + n(relu(n(n(relu(n(x))))))


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_computes_the_papers_formula(order):
    block = randomized(OrderedBlock(4, 4, 1, order, "pad"))
    x = rng.standard_normal((3, 4, 5, 4))
    np.testing.assert_allclose(block(x).data, by_formula(order, block, Tensor(x)).data, rtol=1e-12)
    check_gradients(block, x)


def test_the_table_of_orders_and_the_block_written_out_agree():
    for kind, inside in ((PreActBlock, None), (PreActBottleneck, 2)):
        written = randomized(kind(8, 8))
        by_table = OrderedBlock(8, 8, 1, "full_preactivation", "pad", inside).to(np.float64)
        layers = [m for m in by_table.branch if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
        with no_grad():
            for ours, theirs in zip(layers, list(written.children()), strict=False):
                ours.load_state_dict(theirs.state_dict())
        x = rng.standard_normal((2, 8, 4, 5))
        assert np.array_equal(by_table(x).data, written(x).data)


@pytest.mark.parametrize("order", ORDERS)
def test_the_gradient_through_a_bottleneck_of_each_order_that_changes_the_shape(order):
    check_gradients(randomized(OrderedBlock(2, 4, 2, order, "project", 2)), rng.standard_normal((2, 2, 4, 5)))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_network_of_each_order_has_its_norms_and_rectifiers_around_the_blocks(order, block):
    depth = {"basic": 8, "bottleneck": 11}[block]
    network = PreActResNet(depth, 3, 2, 2, block=block, shortcut="pad", order=order).to(np.float64)
    x = rng.standard_normal((3, 2, 5, 6))
    h = network.conv1(x)
    if order != "full_preactivation":
        h = F.relu(network.stem[0](h))
    h = network.layer3(network.layer2(network.layer1(h)))
    if order == "full_preactivation":
        h = network.bn(h)
    if order in ("full_preactivation", "relu_only_preactivation"):
        assert h.data.min() < 0
        h = F.relu(h)
    expected = network.linear(F.mean(h, dim=(2, 3)))
    np.testing.assert_allclose(network(x).data, expected.data, rtol=1e-9)


# --- table 1: what else a shortcut can be, in the original unit


def on_the_shortcut(kind, block, x, f):
    if kind == "half":
        return x / 2 + f
    if kind == "halves":
        return x / 2 + f / 2
    if kind == "exclusive_gate":
        t = block.gate(x)
        return (1 - t) * x + t * f
    if kind == "shortcut_gate":
        return (1 - block.shortcut.gate(x)) * x + f
    return f if kind == "zero" else x + f


@pytest.mark.parametrize("kind", models.resnet_cifar.SHORTCUT_KINDS)
def test_a_kind_of_shortcut_computes_the_papers_formula(kind):
    network = models.create("resnet8", 3, 2, width=4, shortcut_kind=kind, gate_bias=-1.0)
    block = randomized(network.layer1[0]).eval()
    x = rng.standard_normal((3, 4, 5, 4))
    expected = F.relu(on_the_shortcut(kind, block, Tensor(x), block.branch(x)))
    np.testing.assert_allclose(block(x).data, expected.data, rtol=1e-12)
    check_gradients(block, x)


def test_dropout_on_the_shortcut_drops_half_of_it_and_doubles_the_rest():
    block = randomized(models.create("resnet8", 3, 2, width=4, shortcut_kind="dropout").layer1[0])
    x = rng.standard_normal((3, 4, 5, 4))
    carried = block.shortcut(x).data / x
    assert set(np.round(carried, 12).ravel()) == {0.0, 2.0}


@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
@pytest.mark.parametrize("kind", models.resnet_cifar.SHORTCUT_KINDS)
def test_every_kind_goes_with_every_option(kind, shortcut):
    network = models.create("resnet8", 3, 2, width=2, shortcut_kind=kind, shortcut=shortcut)
    assert network(rng.standard_normal((2, 2, 7, 5)).astype(np.float32)).shape == (2, 3)


def test_gates_start_from_their_bias():
    network = models.create("resnet8", width=2, shortcut_kind="shortcut_gate", gate_bias=-7.0)
    gates = [m for m in network.modules() if isinstance(m, nn.TransferGate)]
    assert len(gates) == 3
    assert all(np.all(gate.layer.bias.data == -7) for gate in gates)


def test_zero_gamma_makes_a_residual_network_of_rectified_shortcuts():
    network = nn.zero_gamma_(models.create("resnet8", width=4).to(np.float64))
    x = rng.standard_normal((2, 4, 6, 5))
    y = network.layer1[0](x)
    assert np.array_equal(y.data, np.maximum(x, 0))
    assert not any(block.bn2.weight.data.any() for block in network.blocks())
    with pytest.raises(RequestError, match="ends in a norm"):
        nn.zero_gamma_(models.create("preact_resnet8", width=4))


# --- what cannot be


def test_wrong_options_and_depths_are_refused():
    for option in ("block", "shortcut", "order", "stride_in"):
        with pytest.raises(RequestError, match=f"{option} is 'odd', but there are only"):
            models.create("preact_resnet20", **{option: "odd"})
    with pytest.raises(RequestError, match="shortcut_kind is 'odd', but there are only 'identity', 'half', "):
        models.create("resnet8", shortcut_kind="odd")
    with pytest.raises(RequestError, match="6n \\+ 2 or 9n \\+ 2 layers; try preact_resnet164 or preact_resnet170"):
        models.create("preact_resnet165")
    with pytest.raises(RequestError, match="try preact_resnet8 or preact_resnet11"):
        models.create("preact_resnet9")
    with pytest.raises(RequestError, match="try preact_resnet8"):
        models.create("preact_resnet5")
    with pytest.raises(RequestError, match=r"depth is 26, .*9n \+ 2 layers: 11, 20, 29"):
        models.create("preact_resnet26", block="bottleneck")


@pytest.mark.parametrize(
    ("depth", "kind"),
    [(8, PreActBlock), (11, PreActBottleneck), (56, PreActBlock), (110, PreActBlock), (164, PreActBottleneck)],
)
def test_a_depth_has_the_blocks_of_the_paper_and_as_many_layers_as_its_name_says(depth, kind):
    network = models.create(f"preact_resnet{depth}", width=1)
    layers = [n for n, m in network.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and "shortcut" not in n]
    assert len(layers) == depth == models.info(f"preact_resnet{depth}").depth
    assert isinstance(network.layer2[0], kind)


# --- a peer


def peer(torch, depth, width, classes, bottleneck, project):
    """The same network for PyTorch, after the paper and the released Lua code, and not after minires."""
    t = torch.nn

    class Unit(t.Module):
        def __init__(self, a, b, stride, first):
            super().__init__()
            self.common = first or a != b
            sizes = [(a, b // 4, 1), (b // 4, b // 4, 3), (b // 4, b, 1)] if bottleneck else [(a, b, 3), (b, b, 3)]
            for i, (i_, o, k) in enumerate(sizes, 1):
                setattr(self, f"bn{i}", t.BatchNorm2d(i_))
                setattr(self, f"conv{i}", t.Conv2d(i_, o, k, stride if i == 1 else 1, k // 2, bias=False))
            if project and a != b:
                self.shortcut = t.Conv2d(a, b, 1, stride, bias=False)
            self.widen = 0 if project else b - a
            self.count = len(sizes)

        def forward(self, x):
            f = self.bn1(x).relu()
            skip = f if self.common else x
            for i in range(1, self.count + 1):
                f = getattr(self, f"conv{i}")(f if i == 1 else getattr(self, f"bn{i}")(f).relu())
            if hasattr(self, "shortcut"):
                skip = self.shortcut(skip)
            elif self.widen:
                half = self.widen // 2
                skip = torch.nn.functional.pad(skip[:, :, ::2, ::2], (0, 0, 0, 0, half, half))
            return skip + f

    class Net(t.Module):
        def __init__(self):
            super().__init__()
            n, grow = ((depth - 2) // 9, 4) if bottleneck else ((depth - 2) // 6, 1)
            self.conv1 = t.Conv2d(3, width, 3, 1, 1, bias=False)
            a = width
            for stage in (1, 2, 3):
                b, units = width * grow * 2 ** (stage - 1), t.Sequential()
                for i in range(n):
                    units.append(Unit(a, b, 2 if i == 0 and stage > 1 else 1, first=stage == 1 and i == 0))
                    a = b
                setattr(self, f"layer{stage}", units)
            self.bn = t.BatchNorm2d(a)
            self.linear = t.Linear(a, classes)

        def forward(self, x):
            x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
            return self.linear(self.bn(x).relu().mean((2, 3)))

    return Net().double()


@pytest.mark.parametrize(
    ("block", "depth", "shortcut"), [("basic", 14, "pad"), ("basic", 14, "project"), ("bottleneck", 20, "project")]
)
def test_forward_gradients_and_running_statistics_equal_a_torch_network(block, depth, shortcut):
    torch = pytest.importorskip("torch", reason="the peer is a torch module")
    theirs = twin.randomize(torch, peer(torch, depth, 4, 5, block == "bottleneck", shortcut == "project"))
    ours = models.create(f"preact_resnet{depth}", 5, 3, width=4, block=block, shortcut=shortcut)
    twin.load(ours, theirs)
    twin.assert_same_network(torch, ours, theirs, rng.standard_normal((4, 3, 9, 8)))
