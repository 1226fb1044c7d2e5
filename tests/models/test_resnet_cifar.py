"""CIFAR ResNets: the published counts, published weights, and gradients through whole networks."""

import os
from pathlib import Path

import numpy as np
import pytest

from minires import functional as F
from minires import models, nn
from minires.check import gradcheck
from minires.engine import Tensor
from minires.errors import RequestError
from minires.switches import no_grad

rng = np.random.default_rng(17)

COUNTS = [
    # name, options, parameters
    ("resnet20", {}, 269_722),
    ("resnet32", {}, 464_154),
    ("resnet44", {}, 658_586),
    ("resnet56", {}, 853_018),
    ("resnet110", {}, 1_727_962),
    ("resnet1202", {}, 19_421_274),
    ("resnet20", {"shortcut": "B"}, 272_474),
    ("resnet32", {"shortcut": "B"}, 466_906),
    ("resnet44", {"shortcut": "B"}, 661_338),
    ("resnet56", {"shortcut": "B"}, 855_770),
    ("resnet110", {"shortcut": "B"}, 1_730_714),
    # option C: a 1x1 convolution and batch norm around each of the 3 n blocks
    ("resnet20", {"shortcut": "C"}, 272_474 + 3 * (16 * 16 + 32) + 2 * (32 * 32 + 64) + 2 * (64 * 64 + 128)),
    ("plain20", {}, 269_722),
    ("plain56", {}, 853_018),
    ("plain110", {}, 1_727_962),
    ("resnet8", {}, 75_290),
    ("resnet14", {}, 172_506),
    ("resnet20", {"num_classes": 100}, 275_572),
    ("resnet8", {"width": 8, "in_channels": 1}, 19_074),
    ("resnet14", {"width": 8, "in_channels": 1}, 43_490),
    ("resnet20", {"width": 8, "in_channels": 1}, 67_906),
    ("resnet56", {"width": 8, "in_channels": 1}, 214_402),
]


@pytest.mark.parametrize(("name", "options", "parameters"), COUNTS)
def test_parameter_counts_are_the_published_ones(name, options, parameters):
    assert models.describe(name, **options).parameters == parameters


@pytest.mark.parametrize("depth", [8, 14, 26])
@pytest.mark.parametrize("family", ["plain", "resnet"])
def test_depth_counts_the_layers_on_the_longest_path(family, depth):
    model = models.create(f"{family}{depth}", width=2)
    layers = [n for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and "shortcut" not in n]
    assert len(layers) == depth == models.info(f"{family}{depth}").depth


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (1, 28), (3, 32), (3, 7)])
@pytest.mark.parametrize("options", [{}, {"shortcut": "B"}, {"shortcut": "C"}])
def test_every_image_size_passes(channels, size, options):
    model = models.create("resnet8", num_classes=5, in_channels=channels, width=2, **options)
    y = model(rng.standard_normal((2, channels, size, size)).astype(np.float32))
    assert y.shape == (2, 5)
    assert y.dtype == np.float32


def test_bad_options_are_refused():
    for bad in ("D", "a"):
        with pytest.raises(RequestError, match=r"unknown shortcut .*there are A"):
            models.create("resnet8", shortcut=bad)
    with pytest.raises(RequestError, match="width is 0"):
        models.create("plain8", width=0)
    with pytest.raises(RequestError, match=r"depth is 9, .*6n \+ 2"):
        models.CifarResNet(9)


def test_convolutions_start_he_normal():
    model = models.create("resnet20", width=16)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.in_channels * 9
            w = module.weight.data / np.sqrt(2 / fan_in)
            assert abs(w.std() - 1) < 5 / np.sqrt(2 * w.size), name
            assert w.size < 2000 or np.abs(w).max() > 3, name


def randomize(model):
    """Gains, biases and running statistics away from 1 and 0, where a wrong formula could hide."""
    with no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                p.copy_(rng.standard_normal(p.shape) * 0.5 + ("weight" in name))
        for name, b in model.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(rng.standard_normal(b.shape) * 0.3)
            elif name.endswith("running_var"):
                b.copy_(rng.uniform(0.5, 2.0, b.shape))
    return model


# --- gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [("resnet8", {}), ("resnet8", {"shortcut": "B"}), ("resnet8", {"shortcut": "C"}), ("plain8", {})],
)
def test_gradients_through_a_whole_network_in_training_mode(name, options):
    model = randomize(models.create(name, num_classes=3, in_channels=2, width=2, **options).to(np.float64))
    names = [n for n, _ in model.named_parameters()]
    weights = [p.data.copy() for p in model.parameters()]
    x = rng.standard_normal((3, 2, 5, 6))

    def f(x, *weights):
        return nn.functional_call(model, dict(zip(names, weights, strict=True)), x)

    gradcheck(f, x, *weights)


def test_a_block_whose_branch_is_zero_passes_relu_of_x_and_the_gradient_untouched():
    block = models.ResidualBlock(4, 4, 1, "A").to(np.float64)
    with no_grad():
        block.bn2.weight.copy_(np.zeros(4))
    x = Tensor(rng.standard_normal((2, 4, 5, 5)), requires_grad=True)
    y = block(x)
    assert np.array_equal(y.data, np.maximum(x.data, 0))
    gy = rng.standard_normal(y.shape)
    y.backward(gy)
    assert np.array_equal(x.grad, gy * (x.data > 0))


# --- PyTorch --------------------------------------------------------------------------------------


def torch_resnet(torch, depth, width, in_channels, num_classes, shortcut):
    """The same network written for PyTorch, after the paper and not after minires."""
    t = torch.nn

    class Block(t.Module):
        def __init__(self, a, b, stride):
            super().__init__()
            self.conv1 = t.Conv2d(a, b, 3, stride, 1, bias=False)
            self.bn1 = t.BatchNorm2d(b)
            self.conv2 = t.Conv2d(b, b, 3, 1, 1, bias=False)
            self.bn2 = t.BatchNorm2d(b)
            self.pad = (b - a) // 2
            project = shortcut == "C" or (shortcut == "B" and a != b)
            self.shortcut = t.Sequential(
                *([t.Conv2d(a, b, 1, stride, bias=False), t.BatchNorm2d(b)] if project else [])
            )

        def forward(self, x):
            f = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
            if shortcut is None:
                return f.relu()
            skip = self.shortcut(x)
            if shortcut == "A" and self.pad:
                skip = torch.nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
            return (skip + f).relu()

    class Net(t.Module):
        def __init__(self):
            super().__init__()
            n, w = (depth - 2) // 6, width
            self.conv1 = t.Conv2d(in_channels, w, 3, 1, 1, bias=False)
            self.bn1 = t.BatchNorm2d(w)
            self.layer1 = t.Sequential(*(Block(w, w, 1) for _ in range(n)))
            self.layer2 = t.Sequential(Block(w, 2 * w, 2), *(Block(2 * w, 2 * w, 1) for _ in range(n - 1)))
            self.layer3 = t.Sequential(Block(2 * w, 4 * w, 2), *(Block(4 * w, 4 * w, 1) for _ in range(n - 1)))
            self.linear = t.Linear(4 * w, num_classes)

        def forward(self, x):
            x = self.bn1(self.conv1(x)).relu()
            return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))

    return Net()


@pytest.mark.parametrize("shortcut", ["A", "B", "C", None])
def test_forward_gradients_and_running_statistics_equal_torch(shortcut):
    torch = pytest.importorskip("torch")
    options = {} if shortcut is None else {"shortcut": shortcut}
    name = "plain8" if shortcut is None else "resnet8"
    ours = randomize(models.create(name, num_classes=5, in_channels=3, width=4, **options).to(np.float64))
    theirs = torch_resnet(torch, 8, 4, 3, 5, shortcut).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict({k: torch.from_numpy(v.numpy().copy()) for k, v in ours.state_dict().items()})

    x = rng.standard_normal((4, 3, 9, 8))
    labels = rng.integers(0, 5, 4)
    x_ours, x_theirs = Tensor(x, requires_grad=True), torch.from_numpy(x).requires_grad_()
    loss_ours = F.cross_entropy(ours(x_ours), labels)
    loss_theirs = torch.nn.functional.cross_entropy(theirs(x_theirs), torch.from_numpy(labels))
    loss_ours.backward()
    loss_theirs.backward()
    assert abs(loss_ours.item() - loss_theirs.item()) < 1e-12

    def close(a, b):
        return np.max(np.abs(a - b.numpy())) <= 1e-10 * max(1e-3, np.max(np.abs(b.numpy())))

    assert close(x_ours.grad, x_theirs.grad)
    for (key, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert close(p.grad, q.grad), key
    for (key, a), b in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        assert close(a.data, b), key

    ours.eval()
    theirs.eval()
    with no_grad(), torch.no_grad():
        assert close(ours(x).data, theirs(torch.from_numpy(x)))


def published_weights():
    folder = os.environ.get("MINIRES_WEIGHTS") or Path(__file__).parents[2].parent / "shared" / "weights"
    file = Path(folder) / "resnet20-cifar10.safetensors"
    if not file.exists():
        pytest.skip("resnet20-cifar10.safetensors is not here; MINIRES_WEIGHTS names its folder")
    from safetensors.numpy import load_file

    return load_file(file)


def test_published_weights_load_and_give_torchs_logits():
    state = published_weights()
    torch = pytest.importorskip("torch")
    ours = models.create("resnet20")
    counters = {k for k in ours.state_dict() if k.endswith("num_batches_tracked")}
    assert set(ours.state_dict()) - counters == set(state)
    ours.load_state_dict(state)
    theirs = torch_resnet(torch, 20, 16, 3, 10, "A")
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)
    x = rng.standard_normal((8, 3, 32, 32)).astype(np.float32)
    ours.eval()
    theirs.eval()
    with no_grad(), torch.no_grad():
        y, expected = ours(x), theirs(torch.from_numpy(x)).numpy()
    assert y.dtype == np.float32
    assert np.max(np.abs(y.data - expected)) <= 1e-5 * np.max(np.abs(expected))


def test_published_weights_of_one_option_are_refused_by_another():
    state = published_weights()
    with pytest.raises(RequestError, match=r"missing \(layer2.0.shortcut.0.weight"):
        models.create("resnet20", shortcut="B").load_state_dict(state)
    with pytest.raises(RequestError, match=r"another shape \(linear.weight is \(100, 64\) here and \(10, 64\) there"):
        models.create("resnet20", num_classes=100).load_state_dict({k: state[k] for k in sorted(state, reverse=True)})
