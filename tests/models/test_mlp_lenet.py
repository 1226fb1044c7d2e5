"""MLP and LeNet: sizes, counts, and the images they take."""

import numpy as np
import pytest

from minires import models, nn
from minires.check import gradcheck
from minires.errors import RequestError

rng = np.random.default_rng(11)


def count(model):
    return sum(p.size for p in model.parameters())


@pytest.mark.parametrize("name", ["mlp", "lenet"])
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (1, 28), (3, 32), (2, 13)])
def test_every_usual_image_size_passes(name, channels, size):
    model = models.create(name, num_classes=7, in_channels=channels, image_size=size)
    y = model(rng.standard_normal((2, channels, size, size)).astype(np.float32))
    assert y.shape == (2, 7)
    assert y.dtype == np.float32
    with pytest.raises(RequestError, match=f"this {name} was built for images of .*image_size"):
        model(np.zeros((2, channels, size + 1, size + 1), np.float32))


def test_counts():
    assert count(models.create("lenet", in_channels=1, image_size=28)) == 61_706  # LeNet-5 without its table
    assert count(models.create("mlp", in_channels=1, image_size=28)) == 785 * 256 + 257 * 128 + 129 * 10
    assert count(models.create("mlp", in_channels=1, image_size=8, hidden=())) == 65 * 10


def test_bad_sizes_are_refused():
    with pytest.raises(RequestError, match="at least 4 pixels"):
        models.create("lenet", image_size=3)
    with pytest.raises(RequestError, match="hidden is 0, but must be at least 1"):
        models.create("mlp", hidden=(10, 0))


@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_gradients_of_every_parameter(name):
    options = {"hidden": (5, 4)} if name == "mlp" else {}
    model = models.create(name, num_classes=3, in_channels=2, image_size=6, **options).to(np.float64)
    names = [n for n, _ in model.named_parameters()]
    weights = [rng.standard_normal(p.shape) * 0.3 for _, p in model.named_parameters()]
    x = rng.standard_normal((2, 2, 6, 6))

    def f(x, *weights):
        return nn.functional_call(model, dict(zip(names, weights, strict=True)), x)

    gradcheck(f, x, *weights)
