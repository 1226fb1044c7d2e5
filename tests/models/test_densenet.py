"""DenseNet: torchvision's keys and numbers, the paper's CIFAR networks, and the memory-efficient form."""

import tracemalloc

import numpy as np
import pytest

import minires as mr
from minires import models, nn
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models.densenet import DenseBlock, DenseBottleneck, DenseLayer, DenseNet
from minires.nn import init
from minires.switches import formulas_only
from tests import peers
from tests.models.twin import assert_same_network, load, randomize

rng = np.random.default_rng(31)
IMAGENET = ["densenet121", "densenet161", "densenet169", "densenet201"]


@pytest.mark.parametrize("name", ["densenet7", "densenet40", "densenet_bc10", "densenet_bc100", *IMAGENET])
def test_depth_counts_the_layers_with_weights(name):
    with init.skip_init():
        model = models.create(name)
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == models.info(name).depth == int(name.removeprefix("densenet").removeprefix("_bc"))


def test_the_imagenet_networks_win_over_the_depths_of_the_plain_family():
    with init.skip_init():
        assert models.create("densenet121").classifier.weight.shape == (1000, 1024)
        assert models.create("densenet118").classifier.weight.shape == (10, 16 + 3 * 38 * 12)


# --- the block --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [DenseLayer, DenseBottleneck])
def test_each_layer_sees_all_maps_before_it_and_the_block_hands_on_every_one(kind):
    c, k, n = 3, 2, 4
    block = DenseBlock([kind(c + i * k, k) for i in range(n)]).to(np.float64)
    x = rng.standard_normal((2, c, 5, 4))
    y = block(x).data
    assert np.array_equal(y[:, :c], x)
    for i, layer in enumerate(block.children()):
        seen, own = c + i * k, slice(c + i * k, c + (i + 1) * k)
        assert np.array_equal(layer.branch(y[:, :seen]).data, y[:, own])


def test_a_layer_hands_back_the_gradient_of_x_untouched_where_its_own_maps_get_none():
    layer = DenseBottleneck(3, 2).to(np.float64)
    x = Tensor(rng.standard_normal((2, 3, 4, 4)), requires_grad=True)
    gy = rng.standard_normal((2, 5, 4, 4))
    gy[:, 3:] = 0
    layer(x).backward(gy)
    assert np.array_equal(x.grad, gy[:, :3])


def both_ways(kind, layers=5):
    """A block computed the usual way and from pieces: (output, all gradients, buffers) of each."""
    c, k = 4, 3
    blocks = [DenseBlock([kind(c + i * k, k, 0.2) for i in range(layers)], efficient) for efficient in (False, True)]
    blocks[1].load_state_dict(blocks[0].state_dict())
    x, gy = rng.standard_normal((2, c, 6, 5)), rng.standard_normal((2, c + layers * k, 6, 5))
    for block in blocks:
        block.to(np.float64)
        given = Tensor(x, requires_grad=True)
        mr.manual_seed(4)
        y = block(given)
        y.backward(gy)
        yield [y.data, given.grad, *(p.grad for p in block.parameters()), *(b.data for b in block.buffers())]


@pytest.mark.parametrize("kind", [DenseLayer, DenseBottleneck])
def test_the_memory_efficient_form_gives_the_same_numbers_with_dropout_too(kind):
    usual, efficient = both_ways(kind)
    for a, b in zip(efficient, usual, strict=True):
        assert np.max(np.abs(a - b)) <= 1e-12 * max(1.0, np.max(np.abs(b)))


def test_the_memory_efficient_form_keeps_the_new_maps_alone():
    """20 layers join 1 + ... + 20 pieces, and each op behind keeps the joined map; of the pieces, each is kept once."""

    def kept(efficient):
        c, k = 8, 8
        block = DenseBlock([DenseLayer(c + i * k, k) for i in range(20)], efficient)
        x = Tensor(rng.standard_normal((4, c, 16, 16)).astype(np.float32), requires_grad=True)
        tracemalloc.start()
        y = block(x)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return held / y.data.nbytes

    with formulas_only():  # kernels also keep work space, for the next call
        usual, efficient = kept(False), kept(True)
    assert efficient < 3 < 15 < usual, (efficient, usual)


# --- whole networks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block_config", "growth", "channels", "size"),
    [((2, 2), 4, 8, (9, 12)), ((1, 3, 2), 3, 5, (16, 13)), ((6, 12, 24, 16), 2, 4, (33, 29))],
)
def test_keys_outputs_and_gradients_are_torchvisions(block_config, growth, channels, size):
    torchvision, torch = peers.torchvision(), peers.torch()
    theirs = torchvision.models.densenet.DenseNet(growth, block_config, channels, num_classes=5).double()
    ours = DenseNet(block_config, growth, channels, num_classes=5)
    load(ours, randomize(torch, theirs))
    assert_same_network(torch, ours, theirs, rng.standard_normal((3, 3, *size)))


@pytest.mark.parametrize("name", IMAGENET)
def test_the_state_is_torchvisions_key_for_key(name):
    torchvision, torch = peers.torchvision(), peers.torch()
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)()
    with init.skip_init():
        ours = models.create(name)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, tuple(v.shape)) for k, v in theirs.state_dict().items()
    ]


def torch_densenet(torch, depth, k, bottleneck):
    """The CIFAR network written after the paper: every layer joins all maps before it anew."""
    t = torch.nn

    class Net(t.Module):
        def __init__(self):
            super().__init__()
            layers = (depth - 4) // (6 if bottleneck else 3)
            c = 2 * k if bottleneck else 16
            self.stem = t.Conv2d(3, c, 3, 1, 1, bias=False)
            self.blocks = t.ModuleList()
            for block in range(3):
                made = t.ModuleList()
                for _ in range(layers):
                    steps = [t.BatchNorm2d(c), t.ReLU()]
                    if bottleneck:
                        steps += [t.Conv2d(c, 4 * k, 1, bias=False), t.BatchNorm2d(4 * k), t.ReLU()]
                    steps += [t.Conv2d(4 * k if bottleneck else c, k, 3, 1, 1, bias=False)]
                    made.append(t.Sequential(*steps))
                    c += k
                self.blocks.append(made)
                if block < 2:
                    after = c // 2 if bottleneck else c
                    conv = t.Conv2d(c, after, 1, bias=False)
                    self.blocks.append(t.Sequential(t.BatchNorm2d(c), t.ReLU(), conv, t.AvgPool2d(2)))
                    c = after
            self.norm = t.BatchNorm2d(c)
            self.classifier = t.Linear(c, 4)

        def forward(self, x):
            x = self.stem(x)
            for block in self.blocks:
                if isinstance(block, t.Sequential):
                    x = block(x)
                    continue
                maps = [x]
                for layer in block:
                    maps.append(layer(torch.cat(maps, 1)))
                x = torch.cat(maps, 1)
            return self.classifier(self.norm(x).relu().mean((2, 3)))

    return Net().double()


@pytest.mark.parametrize(("name", "depth", "bottleneck"), [("densenet13", 13, False), ("densenet_bc16", 16, True)])
@pytest.mark.parametrize("memory_efficient", [False, True])
def test_the_networks_for_small_images_are_the_papers(name, depth, bottleneck, memory_efficient):
    torch = peers.torch()
    theirs = randomize(torch, torch_densenet(torch, depth, 3, bottleneck))
    ours = models.create(name, num_classes=4, growth_rate=3, memory_efficient=memory_efficient)
    rename = dict(zip(theirs.state_dict(), ours.state_dict(), strict=True)).__getitem__
    load(ours, theirs, rename)
    assert_same_network(torch, ours, theirs, rng.standard_normal((3, 3, 9, 8)), rename)


def test_layers_start_he_normal_and_the_classifier_without_bias():
    model = models.create("densenet_bc22", growth_rate=16)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            w = module.weight.data * np.sqrt(np.prod(module.weight.shape[1:]) / 2)
            assert abs(w.std() - 1) < 5 / np.sqrt(2 * w.size), name
            assert w.size < 2000 or np.abs(w).max() > 3, name
    assert not model.classifier.bias.data.any()


def test_dropout_acts_on_the_new_maps_in_training_alone():
    model = models.create("densenet10", num_classes=4, growth_rate=3, drop_rate=0.2)
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.2}
    x = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    assert not np.array_equal(model(x).data, model(x).data)
    model.eval()
    assert np.array_equal(model(x).data, model(x).data)
    layer = DenseLayer(3, 4, drop_rate=0.5)
    given = Tensor(rng.standard_normal((2, 3, 6, 6)).astype(np.float32))
    y = layer(given).data
    assert np.array_equal(y[:, :3], given.data)
    assert 0.2 < np.mean(y[:, 3:] == 0) < 0.8


# --- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "least"), [("densenet121", 29), ("densenet10", 4), ("densenet_bc10", 4)])
def test_images_too_small_for_the_depth_are_refused_with_the_smallest_size(name, least):
    options = {"num_init_features": 2} if name == "densenet121" else {}
    model = models.create(name, growth_rate=1, num_classes=4, **options).eval()
    assert model(np.zeros((1, 3, least, least), np.float32)).shape == (1, 4)
    for size in ((least - 1, least), (least, least - 1)):
        with pytest.raises(RequestError, match=f"too small for its depth; the smallest are {least} x {least}"):
            model(np.zeros((1, 3, *size), np.float32))
    with pytest.raises(RequestError, match=r"must be images \(N, C, H, W\)"):
        model(np.zeros((3, least, least), np.float32))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("densenet10", {"growth_rate": 0}, "growth_rate .* at least 1"),
        ("densenet_bc10", {"growth_rate": -1}, "growth_rate .* at least 1"),
        ("densenet121", {"num_init_features": 0}, "num_init_features .* at least 1"),
        ("densenet121", {"block_config": (2, 0)}, "block_config .* at least 1"),
        ("densenet121", {"block_config": ()}, "block_config .* at least 1"),
        ("densenet121", {"block_config": (2, 1.5)}, r"block_config is \(2, 1.5\), but must be like"),
        ("densenet10", {"drop_rate": 1.5}, "a probability lies between 0 and 1"),
        ("densenet12", {}, r"3n \+ 4 layers; try densenet10 or densenet13"),
        ("densenet_bc12", {}, r"6n \+ 4 layers; try densenet_bc10 or densenet_bc16"),
    ],
)
def test_bad_options_are_refused_in_one_line(name, options, message):
    with pytest.raises(RequestError, match=message) as caught:
        models.create(name, **options)
    assert "\n" not in str(caught.value)
