"""Highway networks: the gate's limits, the layer's gradient, and the same networks written for PyTorch."""

import numpy as np
import pytest

from minires import functional as F
from minires import models, nn
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models.highway import HighwayLayer
from minires.nn import init
from tests import peers
from tests.models.twin import assert_same_network, load, randomize

rng = np.random.default_rng(41)


@pytest.mark.parametrize("name", ["highway_mlp2", "highway_mlp10", "plain_mlp10", "highway_cnn7", "highway_cnn19"])
def test_depth_counts_the_layers_on_the_longest_path_as_the_paper_does(name):
    with init.skip_init():
        model = models.create(name)
    layers = [k for k, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and "gate" not in k]
    classifier = 0 if "cnn" in name else 1  # the fully connected networks are named without theirs
    assert len(layers) - classifier == models.info(name).depth


def layer_of(kind, transfer_bias=-2.0, activation="tanh"):
    """A highway layer, and an input for it."""
    if kind == "linear":
        layers, x = (nn.Linear(4, 4), nn.Linear(4, 4)), rng.standard_normal((3, 4))
    else:
        layers, x = [nn.Conv2d(4, 4, 3, padding=1) for _ in range(2)], rng.standard_normal((2, 4, 5, 3))
    return HighwayLayer(*layers, activation, transfer_bias).to(np.float64), x


@pytest.mark.parametrize("kind", ["linear", "convolution"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_closed_gate_carries_x_and_an_open_gate_transforms_it(kind, activation):
    closed, x = layer_of(kind, -1000.0, activation)
    given = Tensor(x, requires_grad=True)
    gy = rng.standard_normal(x.shape)
    y = closed(given)
    y.backward(gy)
    assert np.array_equal(y.data, x)
    assert np.array_equal(given.grad, gy)
    opened, x = layer_of(kind, 1000.0, activation)
    assert np.array_equal(opened(x).data, opened.branch(x).data)


def test_the_gradient_of_x_is_carried_by_1_minus_t_and_transformed_by_t():
    layer, x = layer_of("linear")
    given = Tensor(x, requires_grad=True)
    gy = rng.standard_normal(x.shape)
    layer(given).backward(gy)
    w, b = layer.branch.layer.weight.data, layer.branch.layer.bias.data
    v, c = layer.gate.layer.weight.data, layer.gate.layer.bias.data
    h, t = np.tanh(x @ w.T + b), 1 / (1 + np.exp(-(x @ v.T + c)))
    expected = (1 - t) * gy + (t * gy * (1 - h * h)) @ w + ((h - x) * gy * t * (1 - t)) @ v
    assert np.allclose(given.grad, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["highway_mlp10", "highway_cnn10"])
def test_gates_start_at_the_transfer_bias_and_other_biases_at_0(name):
    model = models.create(name, transfer_bias=-3.5)
    for key, p in model.named_parameters():
        if key.endswith("bias") and not key.startswith("linear"):
            assert np.all(p.data == (-3.5 if "gate" in key else 0.0)), key


@pytest.mark.parametrize(("activation", "gain"), [("relu", np.sqrt(2)), ("tanh", 1.0)])
def test_transforms_start_so_that_the_signal_keeps_its_size(activation, gain):
    model = models.create("highway_mlp3", units=200, activation=activation)
    for layer in (model.first.layer, *(m.branch.layer for m in model.hidden)):
        w = layer.weight.data * np.sqrt(layer.in_features) / gain
        assert abs(w.std() - 1) < 5 / np.sqrt(2 * w.size)
        assert np.abs(w).max() > 3


def test_with_closed_gates_a_hundred_layers_are_none():
    model = models.create("highway_mlp100", units=6, image_size=5, transfer_bias=-1000.0).to(np.float64)
    x = rng.standard_normal((2, 1, 5, 5))
    assert np.array_equal(model(x).data, model.linear(model.first(F.flatten(x, 1))).data)


def test_with_open_gates_it_is_the_plain_network():
    options = {"units": 6, "image_size": 5, "num_classes": 4}
    highway = models.create("highway_mlp10", transfer_bias=1000.0, **options).to(np.float64)
    plain = models.create("plain_mlp10", **options).to(np.float64)
    state = {k.replace("branch.", ""): v for k, v in highway.state_dict().items() if "gate" not in k}
    plain.load_state_dict(state)
    x = rng.standard_normal((2, 1, 5, 5))
    assert np.array_equal(highway(x).data, plain(x).data)


# --- PyTorch ----------------------------------------------------------------------------------------------


def torch_mlp(torch, depth, units, pixels, classes, activation, plain):
    """The paper's network, all gates in one place: y = h t + x (1 - t)."""
    t = torch.nn
    act = getattr(torch, activation)

    class Net(t.Module):
        def __init__(self):
            super().__init__()
            self.first = t.Linear(pixels, units)
            one = lambda: t.ModuleList(t.Linear(units, units) for _ in range(1 if plain else 2))
            self.layers = t.ModuleList(one() for _ in range(depth - 1))
            self.last = t.Linear(units, classes)

        def forward(self, x):
            x = act(self.first(x.flatten(1)))
            for transform, *gate in self.layers:
                h = act(transform(x))
                if gate:
                    open_ = torch.sigmoid(gate[0](x))
                    h = h * open_ + x * (1 - open_)
                x = h
            return self.last(x)

    return Net()


def torch_cnn(torch, layers, widths, classes):
    t = torch.nn

    class Net(t.Module):
        def __init__(self):
            super().__init__()
            self.stages, c = t.ModuleList(), 3
            for w in widths:
                convs = [t.Conv2d(c, w, 3, padding=1)]
                convs += [t.Conv2d(w, w, 3, padding=1) for _ in range(2 * (layers - 1))]
                self.stages.append(t.ModuleList(convs))
                c = w
            self.last = t.Linear(c, classes)

        def forward(self, x):
            for i, (first, *rest) in enumerate(self.stages):
                x = t.functional.max_pool2d(x, 2) if i else x
                x = first(x).relu()
                for h, g in zip(rest[::2], rest[1::2], strict=True):
                    gate = torch.sigmoid(g(x))
                    x = x + gate * (h(x).relu() - x)
            return self.last(x.mean((2, 3)))

    return Net()


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("family", ["highway_mlp", "plain_mlp"])
def test_the_fully_connected_network_equals_torchs(family, activation):
    torch = peers.torch()
    theirs = randomize(torch, torch_mlp(torch, 7, 5, 2 * 36, 4, activation, family == "plain_mlp").double())
    ours = models.create(f"{family}7", 4, 2, units=5, image_size=6, activation=activation)
    assert_equal_to_torchs(torch, ours, theirs, rng.standard_normal((3, 2, 6, 6)))


def test_the_convolutional_network_equals_torchs():
    torch = peers.torch()
    theirs = randomize(torch, torch_cnn(torch, 3, (3, 4, 5), 4).double())
    ours = models.create("highway_cnn10", 4, widths=(3, 4, 5))
    assert_equal_to_torchs(torch, ours, theirs, rng.standard_normal((3, 3, 9, 8)))


def assert_equal_to_torchs(torch, ours, theirs, x):
    """The weights stand in the same order, under other keys."""
    rename = dict(zip(theirs.state_dict(), ours.state_dict(), strict=True)).__getitem__
    load(ours, theirs, rename)
    assert_same_network(torch, ours, theirs, x, rename)


# --- bad input --------------------------------------------------------------------------------------------


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(RequestError, match=r"built for images of shape \(1, 28, 28\), but x is \(2, 1, 8, 8\)"):
        models.create("highway_mlp10")(np.zeros((2, 1, 8, 8), np.float32))
    model = models.create("highway_cnn7", widths=(2, 2, 2))
    assert model(np.zeros((1, 3, 4, 4), np.float32)).shape == (1, 10)
    with pytest.raises(RequestError, match="images of 4 x 3 are too small for its depth; the smallest are 4 x 4"):
        model(np.zeros((1, 3, 4, 3), np.float32))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("highway_mlp10", {"activation": "gelu"}, "activation is 'gelu', but there are only 'relu' and 'tanh'"),
        ("highway_cnn19", {"activation": "gelu"}, "activation is 'gelu', but there are only 'relu' and 'tanh'"),
        ("highway_mlp10", {"units": 0}, "units is 0, but must be at least 1"),
        ("plain_mlp10", {"image_size": 0}, "image_size is 0, but must be at least 1"),
        ("highway_cnn19", {"widths": (2, 3)}, r"widths is \(2, 3\), but there are three stages"),
        ("highway_cnn19", {"widths": (2, 0, 3)}, "widths is 0, but must be at least 1"),
        ("highway_cnn19", {"widths": (2, 2.5, 3)}, r"widths is \(2, 2.5, 3\), but must be like"),
        ("highway_mlp1", {}, "2 or more layers; try highway_mlp2"),
        ("highway_cnn20", {}, r"3n \+ 1 layers; try highway_cnn19 or highway_cnn22"),
    ],
)
def test_bad_options_are_refused_in_one_line(name, options, message):
    with pytest.raises(RequestError, match=message) as caught:
        models.create(name, **options)
    assert "\n" not in str(caught.value)
