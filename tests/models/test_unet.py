"""U-Net: the published sizes, where its skips come from, and PyTorch as an oracle."""

import numpy as np
import pytest

from minires import models, nn
from minires.check import gradcheck
from minires.engine import Tensor
from minires.errors import RequestError
from minires.switches import no_grad
from tests.models import twin

rng = np.random.default_rng(41)


def small(**options):
    return models.create("unet", **{"width": 2, "levels": 2, **options}).to(np.float64)


def test_without_padding_572_pixels_give_388_as_published():
    model = small(levels=4, padding="valid")
    assert model.map_size(572) == 388
    assert model.map_size(571) is None
    sizes = []
    for stage in [*model.encoder, model.bottom, *(stage.convs for stage in model.decoder)]:
        stage.forward = (lambda forward: lambda x: sizes.append(x.shape[-1]) or forward(x))(stage.forward)
    y = model(rng.standard_normal((1, 1, 572, 188)))
    assert y.shape == (1, 2, 388, 4)
    assert sizes[:4] == [188, 92, 44, 20]
    assert sizes[4:] == [8, 8, 8, 8, 8]


def test_the_layers_are_the_23_of_the_paper_with_its_channels():
    with nn.init.skip_init():
        model = models.create("unet")
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    assert len(layers) == models.info("unet").depth == 23
    assert [stage.conv2.out_channels for stage in model.encoder] == [64, 128, 256, 512]
    assert model.bottom.conv2.out_channels == 1024
    assert [(s.up.in_channels, s.up.out_channels, s.convs.conv1.in_channels) for s in model.decoder] == [
        (1024, 512, 1024),
        (512, 256, 512),
        (256, 128, 256),
        (128, 64, 128),
    ]


@pytest.mark.parametrize(("height", "width"), [(4, 8), (12, 4)])
def test_with_padding_the_map_has_the_images_size(height, width):
    y = small()(rng.standard_normal((2, 1, height, width)))
    assert y.shape == (2, 2, height, width)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_map_size_is_the_size_of_the_map_wherever_it_is_not_none(padding):
    model = small(padding=padding)
    for side in range(1, 53):
        if model.map_size(side) is not None:
            assert model(rng.standard_normal((1, 1, side, side))).shape[-1] == model.map_size(side)
    fitting = [side for side in range(1, 53) if model.map_size(side)]
    assert fitting == (list(range(4, 53, 4)) if padding == "same" else [44, 48, 52])


def test_the_scores_move_with_the_image_by_whole_poolings():
    """Without padding nothing depends on where the border is: a shifted window gives shifted scores."""
    model = small(padding="valid")
    x = rng.standard_normal((1, 1, 52, 52))
    whole = model(x).data
    window = model(x[:, :, 4:48, 8:52]).data
    assert np.allclose(window, whole[:, :, 4 : 4 + window.shape[2], 8 : 8 + window.shape[3]], atol=1e-12)


def test_with_the_way_below_cut_off_the_top_skip_still_carries_the_image_but_only_its_neighborhood():
    model = small()
    model.decoder[1].up.weight.data[...] = 0  # what comes from below says nothing
    x = rng.standard_normal((1, 1, 8, 8))
    other = x.copy()
    other[0, 0, 0, 0] += 1.0
    changed = (model(x).data != model(other).data)[0].any(0)  # (8, 8)
    assert changed[:3, :3].any()
    assert not changed[5:].any()  # four 3x3 convolutions reach four pixels far
    assert not changed[:, 5:].any()


def test_dropout_strikes_the_last_encoder_map_and_the_bottom_only_and_only_in_training():
    model = small(width=4, dropout=0.5)
    seen = {}

    def watch(name, module):
        forward = module.forward
        module.forward = lambda *xs: seen.update({name: xs}) or forward(*xs)

    for name, module in (("above", model.decoder[1]), ("last", model.decoder[0]), ("bottom", model.bottom)):
        watch(name, module)
    for stage in (*model.encoder, model.bottom):
        stage.conv2.weight.data[...] = 0
        stage.conv2.bias.data[...] = 1  # so that a zero comes from dropout and not from ReLU
    x = rng.standard_normal((4, 1, 16, 16))
    for training, share in ((True, 0.5), (False, 0.0)):
        model.train(training)
        model(x)
        below, encoded = (a.data for a in seen["last"])
        assert abs((encoded == 0).mean() - share) < 0.1
        assert abs((below == 0).mean() - share) < 0.1
        assert np.array_equal(seen["bottom"][0].data, encoded.reshape(4, 8, 4, 2, 4, 2).max((3, 5)))
        assert np.all(seen["above"][1].data == 1)


@pytest.mark.parametrize(("padding", "levels", "side"), [("same", 2, 8), ("valid", 1, 18)])
def test_gradients_through_the_whole_network(padding, levels, side):
    model = small(padding=padding, levels=levels)
    with no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p.copy_(rng.uniform(0.2, 0.6, p.shape))  # above 0, so that no way through two channels is dead
    names = [name for name, _ in model.named_parameters()]
    weights = [p.data.copy() for p in model.parameters()]

    def f(x, *weights):
        return nn.functional_call(model, dict(zip(names, weights, strict=True)), x)

    gradcheck(f, rng.standard_normal((2, 1, side, side)), *weights)


def torch_unet(torch, widths, padding, norm, in_channels, classes):
    """The same network written for PyTorch after figure 1 of the paper, as one recursion from the outside in."""
    t = torch.nn

    def double(a, b):
        layers = []
        for first, second in ((a, b), (b, b)):
            layers += [t.Conv2d(first, second, 3, padding=padding, bias=not norm)]
            layers += [t.BatchNorm2d(second)] if norm else []
            layers += [t.ReLU()]
        return t.Sequential(*layers)

    class Level(t.Module):
        def __init__(self, a, b, inner):
            super().__init__()
            self.left = double(a, b)
            self.inner = inner
            if inner is not None:
                self.up = t.ConvTranspose2d(2 * b, b, 2, 2)
                self.right = double(2 * b, b)

        def forward(self, x):
            x = self.left(x)
            if self.inner is None:
                return x
            up = self.up(self.inner(torch.max_pool2d(x, 2)))
            top, left = ((x.shape[d] - up.shape[d]) // 2 for d in (2, 3))
            crop = x[:, :, top : top + up.shape[2], left : left + up.shape[3]]
            return self.right(torch.cat([crop, up], 1))

    level = None
    for a, b in reversed(list(zip([in_channels, *widths], widths, strict=False))):
        level = Level(a, b, level)
    return t.Sequential(level, t.Conv2d(widths[0], classes, 1)).double()


def ours_of(peers, levels, norm):
    """The peer's state under our names, in our order."""
    layers = ["conv1", "bn1", "conv2", "bn2"] if norm else ["conv1", "conv2"]
    place = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4} if norm else {"conv1": 0, "conv2": 2}
    pairs = [(f"encoder.{i}", f"0.{'inner.' * i}left") for i in range(levels)]
    pairs += [("bottom", f"0.{'inner.' * levels}left")]
    for i in range(levels):
        pairs += [(f"decoder.{levels - 1 - i}.convs", f"0.{'inner.' * i}right")]
    names = {f"{theirs}.{place[k]}": f"{ours}.{k}" for ours, theirs in pairs for k in layers}
    names |= {f"0.{'inner.' * i}up": f"decoder.{levels - 1 - i}.up" for i in range(levels)} | {"1": "head"}
    return {f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value for key, value in peers.items()}


@pytest.mark.parametrize(("padding", "side"), [("same", 16), ("valid", 44)])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_forward_gradients_and_running_statistics_equal_torch(padding, side, norm):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    theirs = torch_unet(torch, [3, 6, 12], padding, norm == "batch", 2, 3)
    twin.randomize(torch, theirs)
    ours = models.create("unet", 3, 2, width=3, levels=2, padding=padding, norm=norm).to(np.float64)
    state = ours_of(theirs.state_dict(), 2, norm == "batch")
    ours.load_state_dict({key: value.numpy().copy() for key, value in state.items()})
    for training in (True, False):
        ours.train(training)
        theirs.train(training)
        x = rng.standard_normal((2, 2, side, side + 4))
        image, other = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        ours.zero_grad()
        theirs.zero_grad()
        y, peer = ours(image), theirs(other)
        twin.close(y.data, peer.detach().numpy(), "the output")
        gy = rng.standard_normal(y.shape)
        y.backward(gy)
        peer.backward(torch.tensor(gy))
        twin.close(image.grad, other.grad.numpy(), "the gradient of the images")
        grads = ours_of({key: p.grad.numpy() for key, p in theirs.named_parameters()}, 2, norm == "batch")
        assert grads.keys() == dict(ours.named_parameters()).keys()
        least = 1e-3 * max(np.abs(g).max() for g in grads.values())
        for key, p in ours.named_parameters():
            twin.close(p.grad, grads[key], f"the gradient of {key}", least)
        state = ours_of(theirs.state_dict(), 2, norm == "batch")
        for key, buffer in ours.named_buffers():
            twin.close(buffer.data, state[key].numpy(), key)


def test_weights_start_so_that_signals_keep_their_size():
    """N(0, 2 / fan_in) before a ReLU; the up-convolution, whose output meets none, gets 1 / in_channels."""
    model = models.create("unet", width=16, levels=3)
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            up = isinstance(module, nn.ConvTranspose2d)
            variance = 1 / module.in_channels if up else 2 / module.weight.data[0].size
            w = module.weight.data
            assert abs(w.std() / np.sqrt(variance) - 1) < 5 / np.sqrt(2 * w.size), name
            assert np.all(module.bias.data == 0), name


def test_what_does_not_fit_is_refused_in_one_line():
    model = models.create("unet", width=1)
    with pytest.raises(RequestError, match=r"250 x 256 does not fit 4 halvings.*pad it to 256 x 256"):
        model(np.zeros((1, 1, 250, 256), np.float32))
    with pytest.raises(RequestError, match=r"x is \(1, 32, 32\), but must be \(N, C, H, W\)"):
        model(np.zeros((1, 32, 32), np.float32))
    valid = models.create("unet", width=1, padding="valid")
    with pytest.raises(RequestError, match=r"256 x 572 .* padding 'valid'; pad it to 268 x 572"):
        valid(np.zeros((1, 1, 256, 572), np.float32))
    with pytest.raises(RequestError, match="10 x 10 does not fit"):
        valid(np.zeros((1, 1, 10, 10), np.float32))
    for option, value in (("width", 0), ("levels", 0)):
        with pytest.raises(RequestError, match=f"unet: {option} is 0, but must be at least 1"):
            models.create("unet", **{option: value})
    with pytest.raises(RequestError, match="padding is 'full', but there are only 'same' and 'valid'"):
        models.create("unet", padding="full")
    with pytest.raises(RequestError, match="norm is 'layer', but there are only 'none' and 'batch'"):
        models.create("unet", norm="layer")
    with pytest.raises(RequestError, match="channels"):
        model(np.zeros((1, 3, 16, 16), np.float32))
