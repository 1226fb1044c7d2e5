"""EfficientNet and MobileNetV2: torchvision's keys and numbers, and which blocks have a skip."""

import numpy as np
import pytest

from minires import models, nn
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models.efficientnet import EfficientNet, InvertedResidual, LinearBottleneck, MBConv, MobileNetV2, Stage
from minires.nn import init
from minires.switches import no_grad
from tests import peers
from tests.models.twin import assert_same_network, load, randomize

rng = np.random.default_rng(37)

STAGES = [Stage(1, 3, 1, 6, 2), Stage(4, 5, 2, 8, 2), Stage(2, 3, 1, 8, 1), Stage(3, 3, 2, 10, 2)]


def made(name, **options):
    with init.skip_init():
        return models.create(name, **options)


def blocks(model):
    return [m for m in model.modules() if isinstance(m, InvertedResidual)]


@pytest.mark.parametrize(
    ("name", "skips"), [("efficientnet_b0", "0 01 01 011 011 0111 0"), ("mobilenet_v2", "0 01 011 0111 011 011 0")]
)
def test_a_block_has_a_skip_where_stride_and_channels_stay(name, skips):
    has = [block.has_skip for block in blocks(made(name))]
    assert has == [digit == "1" for digit in skips.replace(" ", "")]
    assert sum(has) == {"efficientnet_b0": 9, "mobilenet_v2": 10}[name]


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v2"])
def test_depth_counts_the_layers_with_weights_but_for_the_gates(name):
    layers = [key for key, m in made(name).named_modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and "fc" not in key]
    assert len(layers) == models.info(name).depth


@pytest.mark.parametrize(
    ("width", "depth", "parameters"),
    [  # B1 ... B7 of torchvision
        (1.0, 1.1, 7_794_184),
        (1.1, 1.2, 9_109_994),
        (1.2, 1.4, 12_233_232),
        (1.4, 1.8, 19_341_616),
        (1.6, 2.2, 30_389_784),
        (1.8, 2.6, 43_040_704),
        (2.0, 3.1, 66_347_960),
    ],
)
def test_compound_scaling_gives_the_larger_efficientnets(width, depth, parameters):
    assert models.describe("efficientnet_b0", width_mult=width, depth_mult=depth).parameters == parameters


# --- torchvision ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v2"])
def test_the_state_is_torchvisions_key_for_key(name):
    torchvision, torch = peers.torchvision(), peers.torch()
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)()
    assert [(k, v.shape) for k, v in made(name).state_dict().items()] == [
        (k, tuple(v.shape)) for k, v in theirs.state_dict().items()
    ]


def test_drop_path_grows_with_the_block_as_in_torchvision():
    torchvision, torch = peers.torchvision(), peers.torch()
    with torch.device("meta"):
        theirs = torchvision.models.efficientnet_b0()
    rates = [m.stochastic_depth.p for m in theirs.modules() if hasattr(m, "stochastic_depth")]
    ours = [block.drop_path.p if block.drop_path else 0.0 for block in blocks(made("efficientnet_b0"))]
    assert ours == pytest.approx(rates, abs=1e-15)
    assert ours == pytest.approx([0.2 * i / 16 for i in range(16)], abs=1e-15)


@pytest.mark.parametrize("size", [(32, 32), (17, 20)])
def test_efficientnets_outputs_and_gradients_are_torchvisions(size):
    torchvision, torch = peers.torchvision(), peers.torch()
    config = type("Unrounded", (torchvision.models.efficientnet.MBConvConfig,), {})
    config.adjust_channels = staticmethod(lambda channels, factor, least=None: int(channels * factor))
    before = [4, *(stage.out_channels for stage in STAGES)]
    setting = [
        config(s.expand_ratio, s.kernel_size, s.stride, c, s.out_channels, s.layers)
        for s, c in zip(STAGES, before, strict=False)
    ]
    theirs = torchvision.models.EfficientNet(setting, 0.0, stochastic_depth_prob=0.0, num_classes=5)
    ours = EfficientNet(STAGES, 4, num_classes=5, dropout=0.0, stochastic_depth_prob=0.0)
    load(ours, randomize(torch, theirs.double()))
    assert sum(block.has_skip for block in blocks(ours)) == 4
    assert_same_network(torch, ours, theirs, rng.standard_normal((4, 3, *size)))


@pytest.mark.parametrize("size", [(32, 32), (17, 20)])
def test_mobilenets_outputs_and_gradients_are_torchvisions(size):
    torchvision, torch = peers.torchvision(), peers.torch()
    setting = [[s.expand_ratio, s.out_channels, s.layers, s.stride] for s in STAGES]
    theirs = torchvision.models.MobileNetV2(5, inverted_residual_setting=setting, round_nearest=1, dropout=0.0)
    ours = MobileNetV2(STAGES, num_classes=5, dropout=0.0)
    load(ours, randomize(torch, theirs.double()))
    assert_same_network(torch, ours, theirs, rng.standard_normal((4, 3, *size)))


@pytest.mark.parametrize("width", [0.05, 0.35, 0.75, 1.4])
def test_mobilenets_widths_are_rounded_as_torchvisions(width):
    torchvision, torch = peers.torchvision(), peers.torch()
    with torch.device("meta"):
        theirs = torchvision.models.mobilenet_v2(width_mult=width)
    ours = made("mobilenet_v2", width_mult=width)
    assert [p.shape for p in ours.parameters()] == [tuple(p.shape) for p in theirs.parameters()]


# --- the block --------------------------------------------------------------------------------------------


def test_a_dropped_block_passes_x_and_the_gradient_untouched():
    block = MBConv(4, 4, 1, 3, 5, drop_path=1.0).to(np.float64)
    x = Tensor(rng.standard_normal((2, 4, 5, 5)), requires_grad=True)
    gy = rng.standard_normal(x.shape)
    y = block(x)
    y.backward(gy)
    assert np.array_equal(y.data, x.data)
    assert np.array_equal(x.grad, gy)
    assert not any(np.any(p.grad) for p in block.parameters())
    block.eval()
    assert not np.array_equal(block(x).data, x.data)


@pytest.mark.parametrize(("in_channels", "out_channels", "stride"), [(4, 4, 2), (4, 6, 1), (6, 4, 2)])
def test_where_the_shape_changes_nothing_is_added_and_nothing_is_dropped(in_channels, out_channels, stride):
    block = MBConv(in_channels, out_channels, stride, 2, 3, drop_path=1.0).to(np.float64)
    x = rng.standard_normal((2, in_channels, 6, 5))
    y = block(x)
    assert y.shape == (2, out_channels, -(-6 // stride), -(-5 // stride))
    assert np.array_equal(y.data, block.branch(x).data)


@pytest.mark.parametrize("block", [MBConv(4, 4, 1, 2, 3), LinearBottleneck(4, 4, 1, 2)], ids=["MBConv", "Linear"])
def test_a_branch_that_ends_in_zero_gamma_leaves_the_identity(block):
    block.to(np.float64)
    last = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)][-1]
    with no_grad():
        last.weight.copy_(np.zeros(4))
    x = rng.standard_normal((2, 4, 5, 5))
    assert np.array_equal(block(x).data, x)


# --- starts, sizes, bad input -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v2"])
def test_layers_start_as_torchvisions(name):
    model = models.create(name, num_classes=100, width_mult=0.5)
    for key, m in model.named_modules():
        if isinstance(m, nn.Conv2d):
            o, _, kh, kw = m.weight.shape
            w = m.weight.data * np.sqrt(o * kh * kw / 2)
            assert abs(w.std() - 1) < 6 / np.sqrt(2 * w.size), key
            assert m.bias is None or not m.bias.data.any()
    linear = model.classifier[1]
    assert not linear.bias.data.any()
    if name == "mobilenet_v2":
        assert abs(linear.weight.data.std() / 0.01 - 1) < 0.02
    else:
        assert 0.099 < np.abs(linear.weight.data).max() <= 0.1


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v2"])
def test_every_image_size_passes(name):
    model = models.create(name, num_classes=4, width_mult=0.05, depth_mult=0.2).eval()
    for size in ((1, 1), (7, 9), (33, 64)):
        assert model(np.zeros((2, 3, *size), np.float32)).shape == (2, 4)
    with pytest.raises(RequestError, match=r"must be images \(N, C, H, W\)"):
        model(np.zeros((3, 8, 8), np.float32))


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v2"])
def test_small_images_keep_their_size_in_the_stem(name):
    for small, side in ((False, 1), (True, 2)):
        model = models.create(name, width_mult=0.05, depth_mult=0.2, small_images=small).eval()
        assert model.features(np.zeros((1, 3, 32, 32), np.float32)).shape[2:] == (side, side)


def test_dropout_and_drop_path_act_in_training_alone():
    x = rng.standard_normal((4, 3, 16, 16)).astype(np.float32)
    for options in ({"dropout": 0.5, "stochastic_depth_prob": 0.0}, {"dropout": 0.0, "stochastic_depth_prob": 0.9}):
        model = models.create("efficientnet_b0", num_classes=4, width_mult=0.05, small_images=True, **options)
        assert not np.array_equal(model(x).data, model(x).data)
        model.eval()
        assert np.array_equal(model(x).data, model(x).data)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("efficientnet_b0", {"width_mult": 0.0}, "width_mult is 0.0, but must be above 0"),
        ("efficientnet_b0", {"depth_mult": -1.0}, "depth_mult is -1.0, but must be above 0"),
        ("mobilenet_v2", {"width_mult": -0.5}, "width_mult is -0.5, but must be above 0"),
        ("mobilenet_v2", {"dropout": 1.5}, "a probability lies between 0 and 1"),
        ("efficientnet_b0", {"stochastic_depth_prob": 2.0}, "between 0 and 1"),
        ("efficientnet_b0", {"stochastic_depth_prob": -0.2}, "between 0 and 1"),
    ],
)
def test_bad_options_are_refused_in_one_line(name, options, message):
    with pytest.raises(RequestError, match=message) as caught:
        models.create(name, **{"width_mult": 0.05, **options})
    assert "\n" not in str(caught.value)
