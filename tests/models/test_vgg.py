"""VGG: torchvision's keys, numbers and outputs."""

import numpy as np
import pytest

from minires import models, nn
from minires.errors import RequestError
from tests import peers
from tests.models.twin import assert_same_network, load, randomize, thin

rng = np.random.default_rng(23)
CLASSES = 5


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn", "vgg19", "vgg19_bn"])
def test_depth_counts_the_layers_with_weights(name):
    model = models.create(name, width=1, hidden=2)
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == models.info(name).depth == int(name[3:5])


@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn", "vgg19", "vgg19_bn"])
@pytest.mark.parametrize("size", [(32, 32), (64, 40), (224, 224)])
def test_keys_outputs_and_gradients_are_torchvisions(name, size):
    if size == (224, 224) and name != "vgg16_bn":
        pytest.skip("one net at the full size is enough")
    torchvision, torch = peers.torchvision(), peers.torch()
    with torch.device("meta"):
        peer = getattr(torchvision.models, name)(weights=None, num_classes=CLASSES)
    theirs = randomize(torch, thin(torch, peer, 32, CLASSES))
    ours = models.create(name, num_classes=CLASSES, width=2, hidden=128, dropout=0.0)
    load(ours, theirs)
    assert_same_network(torch, ours, theirs, rng.standard_normal((2, 3, *size)))


def test_the_classifier_drops_out_in_training_alone():
    model = models.create("vgg16", num_classes=4, width=2, hidden=64)
    x = rng.standard_normal((2, 3, 32, 32)).astype(np.float32)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    assert not np.array_equal(model(x).data, model(x).data)
    model.eval()
    assert np.array_equal(model(x).data, model(x).data)


def test_layers_start_as_torchvisions():
    model = models.create("vgg16_bn", num_classes=10, width=16, hidden=64)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            std = 0.01 if isinstance(module, nn.Linear) else np.sqrt(2 / (9 * module.out_channels))
            w = module.weight.data / std
            assert abs(w.std() - 1) < 5 / np.sqrt(2 * w.size)
            assert abs(w.mean()) < 5 / np.sqrt(w.size)
            assert w.size < 2000 or np.abs(w).max() > 3  # normal, not uniform
            assert not module.bias.data.any()


@pytest.mark.parametrize("name", ["vgg16", "vgg19_bn"])
def test_images_too_small_for_five_poolings_are_refused_with_the_smallest_size(name):
    model = models.create(name, width=1, hidden=2).eval()
    assert model(np.zeros((1, 3, 32, 32), np.float32)).shape == (1, 1000)
    for size in ((31, 32), (32, 31)):
        with pytest.raises(RequestError, match=r"images of \d+ x \d+ are too small .* smallest are 32 x 32") as caught:
            model(np.zeros((1, 3, *size), np.float32))
        assert "\n" not in str(caught.value)
    with pytest.raises(RequestError, match=r"x is \(3, 32, 32\), but must be images \(N, C, H, W\)"):
        model(np.zeros((3, 32, 32), np.float32))


def test_bad_options_are_refused():
    for bad in ({"width": 0}, {"hidden": 0}):
        with pytest.raises(RequestError, match="must be at least 1"):
            models.create("vgg16", **bad)
    with pytest.raises(RequestError, match="probability"):
        models.create("vgg16", width=1, hidden=1, dropout=1.5)
