"""The ImageNet ResNets: torchvision's keys, numbers and outputs, and the variants of the paper."""

import numpy as np
import pytest

from minires import models, nn
from minires.check import gradcheck
from minires.engine import Tensor
from minires.errors import RequestError
from minires.switches import no_grad
from tests import peers
from tests.devices import library as library  # the fixture
from tests.models import test_every_family as every
from tests.models.small import Small, images
from tests.models.twin import assert_same_network, load, randomize, thin

rng = np.random.default_rng(31)
CLASSES = 5
NAMES = ["plain18", "plain34", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d"]


@pytest.mark.parametrize("name", NAMES)
def test_depth_counts_the_layers_on_the_longest_path(name):
    model = models.create(name, width=16)
    layers = [n for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and "downsample" not in n]
    assert len(layers) == models.info(name).depth


@pytest.mark.parametrize("name", ["resnet50", "resnet152", "resnet18", "plain18", "plain34"])
def test_the_full_name_wins_over_the_pattern_of_the_networks_for_small_images(name):
    assert type(models.create(name, width=1)) is models.ResNet
    assert models.info(name).shape == {"num_classes": 1000, "in_channels": 3}
    for small in ("resnet56", "resnet146", "plain20"):
        assert type(models.create(small, width=1)) is models.CifarResNet


# --- torchvision

OURS = [
    # name, options of both
    ("resnet18", {}),
    ("resnet50", {}),
    ("wide_resnet50_2", {}),
    ("resnet50", {"groups": 4, "width_per_group": 32}),  # a ResNeXt
]


def torchvisions(name, **options):
    torchvision, torch = peers.torchvision(), peers.torch()
    with torch.device("meta"):
        peer = getattr(torchvision.models, name)(num_classes=CLASSES, **options)
    return torch, randomize(torch, thin(torch, peer, 16, CLASSES))


@pytest.mark.parametrize(("name", "options"), OURS)
@pytest.mark.parametrize("size", [(40, 64), (41, 70)])
def test_keys_outputs_and_gradients_are_torchvisions(name, options, size):
    torch, theirs = torchvisions(name, **options)
    ours = models.create(name, num_classes=CLASSES, width=4, **options)
    load(ours, theirs)
    assert_same_network(torch, ours, theirs, rng.standard_normal((3, 3, *size)))


@pytest.mark.parametrize("name", ["resnet34", "resnet101", "resnet152", "resnext50_32x4d", "wide_resnet50_2"])
def test_the_keys_and_shapes_of_the_full_networks_are_torchvisions(name):
    torchvision, torch = peers.torchvision(), peers.torch()
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)()
    with nn.init.skip_init():
        ours = models.create(name)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, tuple(v.shape)) for k, v in theirs.state_dict().items()
    ]


def test_stride_in_the_first_1x1_is_the_network_of_the_paper():
    torch, theirs = torchvisions("resnet50")
    for stage in (theirs.layer2, theirs.layer3, theirs.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    ours = models.create("resnet50", num_classes=CLASSES, width=4, stride_in="1x1")
    load(ours, theirs)
    assert_same_network(torch, ours, theirs, rng.standard_normal((3, 3, 40, 33)))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_the_stem_for_small_images_keeps_their_size(name):
    torch, theirs = torchvisions(name)
    theirs.conv1 = torch.nn.Conv2d(3, 4, 3, padding=1, bias=False).double()
    theirs.maxpool = torch.nn.Identity()
    ours = models.create(name, num_classes=CLASSES, width=4, small_images=True)
    load(ours, randomize(torch, theirs))
    assert_same_network(torch, ours, theirs, rng.standard_normal((2, 3, 12, 9)))


# --- shortcuts


def torchs_shortcut(torch, theirs, kind):
    """Option A for every projection of a torchvision network, or no shortcut at all."""

    class Pad(torch.nn.Module):
        def __init__(self, conv):
            super().__init__()
            self.stride, self.added = conv.stride[0], conv.out_channels - conv.in_channels

        def forward(self, x):
            before = self.added // 2
            x = x[:, :, :: self.stride, :: self.stride]
            return torch.nn.functional.pad(x, (0, 0, 0, 0, before, self.added - before))

    class Nothing(torch.nn.Module):
        def forward(self, x):
            return 0.0

    for layer in theirs.modules():
        if hasattr(layer, "downsample"):
            if kind == "none":
                layer.downsample = Nothing()
            elif layer.downsample is not None:
                layer.downsample = Pad(layer.downsample[0])
    return theirs


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_option_a_pads_with_zeros(name):
    torch, theirs = torchvisions(name)
    torchs_shortcut(torch, theirs, "A")
    ours = models.create(name, num_classes=CLASSES, width=4, shortcut="A")
    load(ours, theirs)
    assert_same_network(torch, ours, theirs, rng.standard_normal((3, 3, 35, 32)))


@pytest.mark.parametrize(("plain", "residual"), [("plain18", "resnet18"), ("plain34", "resnet34")])
def test_a_plain_network_is_the_residual_one_without_its_skips(plain, residual):
    torch, theirs = torchvisions(residual)
    torchs_shortcut(torch, theirs, "none")
    ours = models.create(plain, num_classes=CLASSES, width=4)
    load(ours, theirs)
    assert_same_network(torch, ours, theirs, rng.standard_normal((3, 3, 35, 32)))
    assert list(models.create(residual, width=4, shortcut="A").state_dict()) == list(ours.state_dict())


def test_option_c_projects_around_every_block():
    model = models.create("resnet50", width=2, shortcut="C")
    blocks = [m for m in model.modules() if isinstance(m, models.Bottleneck)]
    assert all(f"layer1.{i}.downsample.0.weight" in model.state_dict() for i in range(3))
    assert len(blocks) == 16
    assert sum(k.endswith("downsample.0.weight") for k in model.state_dict()) == 16


# --- blocks


@pytest.mark.parametrize(("kind", "last"), [(models.BasicBlock, "bn2"), (models.Bottleneck, "bn3")])
def test_a_block_whose_branch_is_zero_passes_relu_of_x_and_its_gradient_untouched(kind, last):
    block = kind(8, 8, 1, "A").to(np.float64)
    with no_grad():
        getattr(block, last).weight.copy_(np.zeros(8))
    x = Tensor(rng.standard_normal((2, 8, 5, 5)), requires_grad=True)
    y = block(x)
    assert np.array_equal(y.data, np.maximum(x.data, 0))
    gy = rng.standard_normal(y.shape)
    y.backward(gy)
    assert np.array_equal(x.grad, gy * (x.data > 0))


@pytest.mark.parametrize("stride_in", ["3x3", "1x1"])
def test_only_the_stride_of_v15_lets_every_pixel_into_the_branch(stride_in):
    block = models.Bottleneck(8, 8, 2, "A", stride_in=stride_in).to(np.float64)
    x = Tensor(rng.standard_normal((1, 8, 6, 6)), requires_grad=True)
    y = block.branch(x)
    assert y.shape == (1, 8, 3, 3)
    y.backward(rng.standard_normal(y.shape))
    seen = np.any(x.grad != 0, axis=(0, 1))  # (H, W)
    even = np.arange(6) % 2 == 0
    assert np.array_equal(seen, np.ones((6, 6), bool) if stride_in == "3x3" else np.outer(even, even))


BOTTLENECKS = [
    # in, out, stride, shortcut, options
    (4, 8, 2, "B", {}),
    (4, 8, 2, "A", {"stride_in": "1x1"}),
    (8, 8, 1, "B", {"groups": 2, "width_per_group": 64}),
    (8, 8, 1, "C", {"width_per_group": 128}),
]


@pytest.mark.parametrize(("before", "after", "stride", "shortcut", "options"), BOTTLENECKS)
def test_the_gradient_through_a_bottleneck_is_right(before, after, stride, shortcut, options):
    block = randomized(models.Bottleneck(before, after, stride, shortcut, **options).to(np.float64))
    gradcheck(block, rng.standard_normal((3, before, 4, 5)))


def randomized(model):
    return every.randomize(model, np.random.default_rng(7))


# --- rows that are too deep for the gradient check of a whole model

TINY = {"num_classes": 3, "width": 2, "small_images": True}
DEEP = [
    Small("resnet50", {**TINY, "zero_init_residual": True}, images(size=9)),
    Small("resnext50_32x4d", {**TINY, "groups": 2, "width_per_group": 32}, images(size=9)),
    Small("plain18", TINY, images(size=9)),
    Small("se_resnet50", {**TINY, "reduction": 2}, images(size=9)),
]


@pytest.mark.parametrize("row", DEEP, ids=str)
def test_a_few_steps_make_the_loss_fall(row, library):
    every.test_a_few_steps_make_the_loss_fall(row, library)


@pytest.mark.parametrize("row", DEEP, ids=str)
def test_a_device_gives_the_numbers_of_numpy(row, library):
    every.test_a_device_gives_the_numbers_of_numpy(row, library)


# --- start


@pytest.mark.parametrize(("name", "last"), [("resnet18", "bn2"), ("resnet50", "bn3")])
def test_with_zero_init_residual_every_branch_starts_as_zero_and_none_does_without(name, last):
    for zero in (False, True):
        model = models.create(name, width=2, zero_init_residual=zero)
        ends = [getattr(m, last).weight.data for m in model.modules() if isinstance(m, nn.Residual)]
        assert len(ends) == {"resnet18": 8, "resnet50": 16}[name]
        assert all(not e.any() if zero else (e == 1).all() for e in ends)
        others = [m.bn1.weight.data for m in model.modules() if isinstance(m, nn.Residual)]
        assert all((w == 1).all() for w in [*others, model.bn1.weight.data])


def test_convolutions_start_he_normal_by_their_outputs_and_the_classifier_as_torchs():
    model = models.create("resnet50", width=16, num_classes=40, groups=4, width_per_group=64)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight.shape[0] * np.prod(module.kernel_size)
            w = module.weight.data / np.sqrt(2 / fan_out)
            assert abs(w.std() - 1) < 5 / np.sqrt(2 * w.size), name
            assert w.size < 2000 or np.abs(w).max() > 3, name
    bound = 1 / np.sqrt(512)
    w = model.fc.weight.data
    assert 0.99 * bound < np.abs(w).max() <= bound
    assert abs(w.std() / (bound / np.sqrt(3)) - 1) < 0.05


# --- sizes and bad options


@pytest.mark.parametrize(("channels", "size"), [(1, (8, 8)), (3, (32, 32)), (3, (1, 1)), (4, (7, 225))])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "plain18"])
def test_every_image_size_passes(name, channels, size):
    model = models.create(name, num_classes=5, in_channels=channels, width=2).eval()
    y = model(rng.standard_normal((2, channels, *size)).astype(np.float32))
    assert y.shape == (2, 5)
    assert y.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet18", {"width": 0}, "width is 0"),
        ("resnet18", {"shortcut": "D"}, "unknown shortcut 'D': there are A"),
        ("resnet50", {"shortcut": "b"}, "unknown shortcut 'b': there are A"),
        ("resnet50", {"stride_in": "7x7"}, "stride_in is '7x7', but there are only '3x3' and '1x1'"),
        ("resnext50_32x4d", {"width": 8}, "leaves its 3x3 convolution no channels; raise the width"),
        ("resnet50", {"groups": 0}, "groups=0 .* no channels"),
        ("resnet18", {"groups": 2}, "has no option 'groups'"),
        ("plain18", {"shortcut": "A"}, "has no option 'shortcut'"),
    ],
)
def test_bad_options_are_refused(name, options, message):
    with pytest.raises(RequestError, match=message) as caught:
        models.create(name, **options)
    assert "\n" not in str(caught.value)
