"""ViT against torchvision's; patches, LayerScale and drop path; what does not fit."""

import numpy as np
import pytest

from minires import functional as F
from minires import models, nn
from minires.check import gradcheck
from minires.engine import Tensor
from minires.errors import RequestError
from minires.switches import no_grad
from minires.weights.keymaps import VIT
from tests import peers
from tests.parity import assert_close

rng = np.random.default_rng(41)
SIZES = {"num_classes": 5, "image_size": 8, "patch_size": 4, "layers": 2, "heads": 2, "width": 8, "feedforward": 12}


def small(**options):
    model = models.create("vit_base", **{**SIZES, **options}).to(np.float64)
    with no_grad():
        for p in model.parameters():
            p.copy_(p.data + (0.5 if p.ndim == 1 else 0.1) * rng.standard_normal(p.shape))
    return model


def torchvision_key(name):
    return next(iter(VIT.theirs({name: None})))


def test_output_and_gradients_are_torchvisions():
    torchvision, torch = peers.torchvision(), peers.torch()
    theirs = torchvision.models.VisionTransformer(8, 4, 2, 2, 8, 12, num_classes=5).double()
    ours = small()
    theirs.load_state_dict(
        {torchvision_key(k): torch.from_numpy(v.numpy().copy()) for k, v in ours.state_dict().items()}
    )
    images = rng.standard_normal((3, 3, 8, 8))
    x, peer = Tensor(images, requires_grad=True), torch.from_numpy(images.copy()).requires_grad_()
    y, expected = ours(x), theirs(peer)
    assert_close(y.data, expected.detach().numpy(), "the output", 1e-9)
    gy = rng.standard_normal(y.shape)
    y.backward(gy)
    expected.backward(torch.from_numpy(gy))
    assert_close(x.grad, peer.grad.numpy(), "the gradient of the images", 1e-9)
    gradients = {k: p.grad.numpy() for k, p in theirs.named_parameters()}
    for name, p in ours.named_parameters():
        assert_close(p.grad, gradients[torchvision_key(name)], name, 1e-9)


def test_its_published_keys_are_torchvisions():
    theirs = peers.torchvision().models.vit_b_16()
    with nn.init.skip_init():
        ours = models.create("vit_base")
    assert {torchvision_key(k): v.shape for k, v in ours.state_dict().items()} == {
        k: tuple(v.shape) for k, v in theirs.state_dict().items()
    }


def test_a_patch_is_its_pixels_times_a_matrix_and_only_positions_tell_patches_apart():
    model = small()
    x = rng.standard_normal((2, 3, 8, 8))
    patch = model.conv_proj(x).data[:, :, 1, 0]
    flat = x[:, :, 4:, :4].reshape(2, -1)
    assert_close(patch, flat @ model.conv_proj.weight.data.reshape(8, -1).T + model.conv_proj.bias.data)
    y = model(x).data
    swapped = np.concatenate((x[:, :, 4:], x[:, :, :4]), axis=2)
    assert not np.allclose(model(swapped).data, y)
    with no_grad():
        model.encoder.pos_embedding.copy_(np.zeros(model.encoder.pos_embedding.shape))
    assert_close(model(swapped).data, model(x).data, "without positions", 1e-12)


@pytest.mark.parametrize("options", [{}, {"layer_scale": 0.3}, {"drop_path": 0.5}], ids=str)
def test_gradients_through_the_whole_model(options):
    model = small(**options, image_size=4, patch_size=2, layers=1 + ("drop_path" in options), width=4, feedforward=5)
    model.train("drop_path" not in options)
    names = [n for n, _ in model.named_parameters()]
    weights = [p.data.copy() for p in model.parameters()]
    x = rng.standard_normal((2, 3, 4, 4))
    gradcheck(lambda x, *weights: nn.functional_call(model, dict(zip(names, weights, strict=True)), x), x, *weights)


def test_layer_scale_multiplies_each_branch_and_from_zero_the_blocks_are_the_identity():
    model = small(layer_scale=0.2)
    scales = [m for m in model.modules() if isinstance(m, nn.LayerScale)]
    assert len(scales) == 2 * 2
    block = model.encoder.layers.encoder_layer_0
    x = rng.standard_normal((2, 5, 8))
    normed = block.feedforward.norm_layer(x)
    f = block.feedforward.linear2(F.gelu(block.feedforward.linear1(normed))).data
    assert_close(block.feedforward(x).data, x + f * block.feedforward.scale.gamma.data)
    with no_grad():
        for scale in scales:
            scale.gamma.copy_(np.zeros(8))
    assert np.array_equal(model.encoder.layers(x).data, x)


def test_drop_path_grows_with_depth_and_acts_in_training_only():
    model = small(drop_path=0.4, layers=3)
    rates = [[m.p for m in block.modules() if isinstance(m, nn.DropPath)] for block in model.encoder.layers]
    assert rates[0] == []
    assert np.allclose(rates[1:], [[0.2, 0.2], [0.4, 0.4]], rtol=1e-12)
    x = rng.standard_normal((8, 3, 8, 8))
    assert not np.array_equal(model(x).data, model(x).data)
    model.eval()
    assert np.array_equal(model(x).data, model(x).data)


@pytest.mark.parametrize(("size", "patch"), [(224, 16), (96, 8), (64, 8), (32, 4), (28, 4), (8, 2), (7, 1)])
def test_patches_follow_the_image_size(size, patch):
    with nn.init.skip_init():
        model = models.create("vit_tiny", image_size=size, layers=1)
    assert model.patch_size == patch
    assert model.encoder.pos_embedding.shape == (1, (size // patch) ** 2 + 1, 192)


def test_what_does_not_fit_is_told():
    model = small()
    for shape in ((2, 3, 8, 12), (2, 1, 8, 8), (2, 3, 16, 16), (3, 8, 8), ()):
        with pytest.raises(RequestError, match=r"this vit was built for images of shape \(3, 8, 8\)"):
            model(np.zeros(shape))
    for options, message in (
        ({"patch_size": 3}, "patches of 3 pixels do not divide images of 8"),
        ({"patch_size": 0, "image_size": 97}, "patches of 16 pixels do not divide images of 97; give a patch_size"),
        ({"heads": 3}, "3 heads do not divide a width of 8"),
        ({"layers": 0}, "layers is 0"),
        ({"drop_path": 1.0}, "drop_path is 1.0"),
    ):
        with pytest.raises(RequestError, match=message):
            small(**options)
