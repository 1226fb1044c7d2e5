"""SE-ResNet: timm's legacy_seresnet* in numbers and outputs, and the gate's limits."""

import numpy as np
import pytest

from minires import functional as F
from minires import models, nn
from minires.check import gradcheck
from minires.engine import Tensor
from minires.errors import RequestError
from minires.switches import no_grad
from tests import peers
from tests.models.test_every_family import randomize as randomize_all
from tests.models.twin import assert_same_network, load, randomize, thin

rng = np.random.default_rng(37)
CLASSES = 5
NAMES = [f"se_resnet{depth}" for depth in (18, 34, 50, 101, 152)]


def our_key(key):
    """timm's key in ours: the stem and the classifier have other names."""
    return key.replace("layer0.", "").replace("last_linear.", "fc.")


@pytest.mark.parametrize("name", NAMES)
def test_depth_counts_the_layers_on_the_longest_path_without_the_gates(name):
    model = models.create(name, width=4, reduction=2)
    layers = [
        n
        for n, m in model.named_modules()
        if isinstance(m, (nn.Conv2d, nn.Linear)) and "downsample" not in n and "se_module" not in n
    ]
    assert len(layers) == models.info(name).depth
    gates = [m for m in model.modules() if isinstance(m, nn.SqueezeExcitation)]
    assert len(gates) == sum(isinstance(m, nn.Residual) for m in model.modules())


@pytest.mark.parametrize("name", NAMES)
def test_keys_and_shapes_of_the_full_networks_are_timms(name):
    timm, torch = peers.timm(), peers.torch()
    with torch.device("meta"):
        theirs = timm.create_model(f"legacy_{name.replace('_', '')}")
    with nn.init.skip_init():
        ours = models.create(name)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        our_key(k): tuple(v.shape) for k, v in theirs.state_dict().items()
    }


@pytest.mark.parametrize("name", ["se_resnet18", "se_resnet50"])
@pytest.mark.parametrize("size", [(40, 64), (57, 41)])
def test_outputs_and_gradients_are_timms(name, size):
    timm, torch = peers.timm(), peers.torch()
    with torch.device("meta"):
        peer = timm.create_model(f"legacy_{name.replace('_', '')}", num_classes=CLASSES, reduction=2, drop_rate=0.0)
    theirs = randomize(torch, thin(torch, peer, 16, CLASSES))
    ours = models.create(name, num_classes=CLASSES, width=4, reduction=2)
    load(ours, theirs, our_key)
    assert_same_network(torch, ours, theirs, rng.standard_normal((3, 3, *size)), our_key)


BLOCKS = [
    # SE block, the block without the gate, options
    (models.SEBasicBlock, models.BasicBlock, {"relu_before_gate": True}),
    (models.SEBasicBlock, models.BasicBlock, {"relu_before_gate": False}),
    (models.SEBottleneck, models.Bottleneck, {}),
]


@pytest.mark.parametrize(("kind", "without", "options"), BLOCKS)
def test_a_closed_gate_leaves_the_skip_and_an_open_one_the_residual_block(kind, without, options):
    block = kind(8, 8, 1, reduction=2, **options).to(np.float64).eval()
    x = Tensor(rng.standard_normal((2, 8, 5, 5)), requires_grad=True)
    with no_grad():
        f = without.branch(block, x)
        if options.get("relu_before_gate"):
            f = F.relu(f)
        block.se_module.fc2.weight.copy_(np.zeros(block.se_module.fc2.weight.shape))
        for bias, share in ((-1e9, 0.0), (1e9, 1.0), (0.0, 0.5)):
            block.se_module.fc2.bias.copy_(np.full(8, bias))
            assert np.allclose(block(x).data, np.maximum(x.data + share * f.data, 0), rtol=0, atol=1e-14)
        block.se_module.fc2.bias.copy_(np.full(8, -1e9))
    gy = rng.standard_normal(x.shape)
    block(x).backward(gy)
    assert np.array_equal(x.grad, gy * (x.data > 0))


@pytest.mark.parametrize(("kind", "without", "options"), BLOCKS)
def test_the_gradient_through_a_block_is_right(kind, without, options):
    block = randomize_all(kind(4, 8, 2, reduction=2, **options).to(np.float64), np.random.default_rng(7))
    gradcheck(block, rng.standard_normal((3, 4, 4, 5)))


def test_a_relu_before_the_gate_makes_the_branch_only_add():
    for relu in (True, False):
        block = models.SEBasicBlock(8, 8, 1, reduction=2, relu_before_gate=relu)
        f = block.branch(rng.standard_normal((2, 8, 5, 5)).astype(np.float32))
        assert (f.data.min() >= 0) is np.bool_(relu)


def test_the_stem_for_small_images_adds_only_the_gates_to_resnet18():
    def small(name):
        return models.describe(name, num_classes=10, small_images=True).parameters

    gates = sum(2 * (2 * c * (c // 16) + c // 16 + c) for c in (64, 128, 256, 512))
    assert small("resnet18") == 11_173_962
    assert small("se_resnet18") == 11_173_962 + gates
    model = models.create("se_resnet18", width=4, reduction=2, small_images=True).eval()
    assert model(np.zeros((1, 3, 1, 2), np.float32)).shape == (1, 1000)


def test_images_too_small_are_refused_with_the_smallest_size():
    model = models.create("se_resnet18", width=4, reduction=2).eval()
    assert model(np.zeros((1, 3, 3, 3), np.float32)).shape == (1, 1000)
    with pytest.raises(RequestError, match=r"images of 2 x 3 are too small .* the smallest are 3 x 3") as caught:
        model(np.zeros((1, 3, 2, 3), np.float32))
    assert "\n" not in str(caught.value)
    with pytest.raises(RequestError, match="max_pool2d"):  # so it is the smallest
        model.maxpool(F.relu(model.conv1(np.zeros((1, 3, 2, 3), np.float32))))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"width": 8}, "reduction"), ({"reduction": 0}, "reduction"), ({"width": 0}, "width is 0")],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(RequestError, match=message) as caught:
        models.create("se_resnet18", **options)
    assert "\n" not in str(caught.value)
