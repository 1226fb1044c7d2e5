"""AlexNet, in one column as torchvision's and in two towers as in 2012."""

import numpy as np
import pytest

from minires import models, nn
from minires.errors import RequestError
from minires.models.alexnet import SMALLEST, LocalResponseNorm
from tests import peers
from tests.models.twin import assert_same_network, load, randomize, thin
from tests.parity import assert_like_torch

rng = np.random.default_rng(29)
CLASSES = 5


@pytest.mark.parametrize("size", [(63, 63), (224, 224), (100, 79)])
def test_keys_outputs_and_gradients_are_torchvisions(size):
    torchvision, torch = peers.torchvision(), peers.torch()
    with torch.device("meta"):
        peer = torchvision.models.alexnet(num_classes=CLASSES)
    theirs = randomize(torch, thin(torch, peer, 16, CLASSES))
    ours = models.create("alexnet", num_classes=CLASSES, width=4, hidden=256, dropout=0.0)
    load(ours, theirs)
    assert_same_network(torch, ours, theirs, rng.standard_normal((2, 3, *size)))


def two_towers(torch, w, hidden):
    """The network of 2012 written for PyTorch, after the paper: each tower has its own convolutions."""
    t = torch.nn

    class Towers(t.Module):
        def __init__(self):
            super().__init__()
            norm = t.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
            a, b, c = 3 * w // 2, 4 * w, 6 * w
            self.features = t.Sequential(
                *(t.Conv2d(3, a, 11, 4, 2), t.ReLU(), norm, t.MaxPool2d(3, 2)),
                *(t.Conv2d(a // 2, b, 5, 1, 2), t.ReLU(), norm, t.MaxPool2d(3, 2)),
                *(t.Conv2d(b, c, 3, 1, 1), t.ReLU()),
                *(t.Conv2d(c // 2, c, 3, 1, 1), t.ReLU()),
                *(t.Conv2d(c // 2, b, 3, 1, 1), t.ReLU(), t.MaxPool2d(3, 2)),
            )
            self.classifier = t.Sequential(
                *(t.Linear(b * 36, hidden), t.ReLU(), t.Dropout()),
                *(t.Linear(hidden, hidden), t.ReLU(), t.Dropout()),
                t.Linear(hidden, CLASSES),
            )

        def forward(self, x):
            for i, layer in enumerate(self.features):
                if i in (4, 10, 12):
                    halves, kernels = x.chunk(2, 1), layer.weight.chunk(2, 0)
                    biases = layer.bias.chunk(2, 0)
                    x = torch.cat(
                        [
                            torch.nn.functional.conv2d(h, k, b, padding=layer.padding)
                            for h, k, b in zip(halves, kernels, biases, strict=True)
                        ],
                        1,
                    )
                else:
                    x = layer(x)
            return self.classifier(x.flatten(1))

    return Towers().double()


def test_two_towers_have_the_outputs_and_gradients_of_the_paper():
    torch = peers.torch()
    theirs = randomize(torch, two_towers(torch, 4, 16))
    ours = models.create("alexnet", num_classes=CLASSES, width=4, hidden=16, dropout=0.0, two_tower=True)
    load(ours, theirs)
    assert_same_network(torch, ours, theirs, 10 * rng.standard_normal((2, 3, 224, 224)))  # so that norms are felt


@pytest.mark.parametrize("channels", [1, 3, 8])
@pytest.mark.parametrize("options", [{"size": 5, "alpha": 0.7, "k": 2.0}, {"size": 3, "beta": 1.5}, {"size": 1}])
def test_local_response_norm_is_torchs(channels, options):
    def theirs(x):
        return peers.torch().nn.LocalResponseNorm(**options)(x)

    assert_like_torch(LocalResponseNorm(**options), theirs, rng.standard_normal((2, channels, 3, 4)))


def test_local_response_norm_is_the_papers_formula():
    k, n, alpha, beta = 2.0, 5, 1e-1, 0.75
    a = rng.standard_normal((2, 8, 3, 2))
    expected = np.empty_like(a)
    for i in range(8):
        near = a[:, max(0, i - n // 2) : min(8 - 1, i + n // 2) + 1]
        expected[:, i] = a[:, i] / (k + alpha * np.sum(near**2, axis=1)) ** beta
    y = LocalResponseNorm(n, alpha=n * alpha, beta=beta, k=k)(a)
    assert np.allclose(y.data, expected, rtol=1e-13, atol=0)


def test_two_towers_start_as_the_paper_says():
    model = models.create("alexnet", width=16, hidden=64, two_tower=True)
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert [set(layer.bias.data) for layer in layers] == [{b} for b in (0, 1, 0, 1, 1, 1, 1, 0)]
    for layer in layers:
        w = layer.weight.data / 0.01
        assert abs(w.std() - 1) < 5 / np.sqrt(2 * w.size)


@pytest.mark.parametrize("two_tower", [False, True])
def test_the_two_hidden_layers_have_dropout_of_one_half(two_tower):
    model = models.create("alexnet", width=4, hidden=8, two_tower=two_tower)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == models.info("alexnet").depth


@pytest.mark.parametrize("two_tower", [False, True])
def test_images_too_small_are_refused_with_the_smallest_size(two_tower):
    model = models.create("alexnet", width=4, hidden=8, two_tower=two_tower).eval()
    assert model(np.zeros((1, 3, SMALLEST, SMALLEST), np.float32)).shape == (1, 1000)
    x = np.zeros((1, 3, SMALLEST, SMALLEST - 1), np.float32)
    with pytest.raises(RequestError, match=r"images of 63 x 62 are too small .* the smallest are 63 x 63") as caught:
        model(x)
    assert "\n" not in str(caught.value)
    with pytest.raises(RequestError, match="max_pool2d"):  # so it is the smallest
        model.features(x)


def test_bad_options_are_refused():
    for option in ("width", "hidden"):
        with pytest.raises(RequestError, match=f"{option} is 0, but must be at least 1"):
            models.create("alexnet", **{option: 0})
    with pytest.raises(RequestError, match=r"width is 6, but with two_tower must be a multiple of 4"):
        models.create("alexnet", width=6, two_tower=True)
    for size in (0, 4):
        with pytest.raises(RequestError, match="an odd one"):
            LocalResponseNorm(size)
