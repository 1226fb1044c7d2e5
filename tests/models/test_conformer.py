"""The Conformer: its relative positions by the index formula, its block and whole encoder against peers."""

import math

import numpy as np
import pytest

from minires import functional as F
from minires import models
from minires.check import gradcheck
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models.conformer import ConformerBlock, ConvolutionModule, RelativeAttention, Subsampling, relative_shift
from minires.nn.positions import sinusoidal
from minires.switches import no_grad
from tests import peers
from tests.models import twin

rng = np.random.default_rng(29)


def randomized(module):
    """In float64, with every parameter away from where it starts."""
    module.to(np.float64)
    with no_grad():
        for name, p in module.named_parameters():
            p.copy_(p.numpy() + rng.standard_normal(p.shape) * (0.5 if p.ndim == 1 else 0.2))
            assert np.all(p.numpy() != 0), name
    return module


# --- relative positions


@pytest.mark.parametrize("t", [1, 2, 5])
def test_the_shift_gives_each_pair_the_score_of_its_distance(t):
    scores = rng.standard_normal((2, 3, t, 2 * t - 1))
    shifted = relative_shift(Tensor(scores)).data
    assert shifted.shape == (2, 3, t, t)
    for i in range(t):
        for j in range(t):
            assert np.array_equal(shifted[..., i, j], scores[..., i, t - 1 - (i - j)])


def test_the_gradient_of_the_shift_goes_back_to_where_a_score_was_read_and_is_zero_elsewhere():
    scores = Tensor(rng.standard_normal((2, 1, 4, 7)), requires_grad=True)
    gy = rng.standard_normal((2, 1, 4, 4))
    relative_shift(scores).backward(gy)
    expected = np.zeros(scores.shape)
    for i in range(4):
        for j in range(4):
            expected[..., i, 3 - (i - j)] = gy[..., i, j]
    assert np.array_equal(scores.grad, expected)
    gradcheck(relative_shift, scores.data)


def test_attention_is_the_formula_pair_by_pair():
    heads, width, t = 2, 6, 5
    layer = randomized(RelativeAttention(width, heads, 0.0))
    x, size = rng.standard_normal((3, t, width)), width // heads
    q, k, values = (x @ m.weight.numpy().T + m.bias.numpy() for m in (layer.query, layer.key, layer.value))
    joined = np.zeros_like(x)
    for n in range(3):
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            for i in range(t):
                scores = np.zeros(t)
                for j in range(t):
                    row = sinusoidal(np.array([i - j]), width)[0]
                    r = (layer.position.weight.numpy() @ row)[part]
                    content = (q[n, i, part] + layer.u.numpy()[h]) @ k[n, j, part]
                    scores[j] = (content + (q[n, i, part] + layer.v.numpy()[h]) @ r) / math.sqrt(size)
                chances = np.exp(scores) / np.exp(scores).sum()
                joined[n, i, part] = chances @ values[n, :, part]
    expected = joined @ layer.out.weight.numpy().T + layer.out.bias.numpy()
    assert np.max(np.abs(layer(x).data - expected)) < 1e-12


def test_where_content_says_nothing_attention_moves_with_the_sequence():
    """Without keys and queries only the distance is left: a value seen from three frames on looks alike anywhere."""
    layer = randomized(RelativeAttention(4, 1, 0.0))
    with no_grad():
        for part in (layer.query, layer.key):
            part.weight.copy_(np.zeros((4, 4)))
    scores = []
    for t in (6, 9):
        r = layer.position(sinusoidal(np.arange(t - 1, -t, -1), 4)[None]).data[0]  # (2 T - 1, 4)
        by_distance = np.broadcast_to(r @ (layer.query.bias.data + layer.v.data[0]), (1, 1, t, 2 * t - 1))
        scores.append(relative_shift(Tensor(by_distance)).data[0, 0])
    assert np.allclose(scores[0], scores[1][3:, 3:], rtol=0, atol=1e-12)
    assert not np.allclose(scores[0][0], scores[0][1])


# --- the rest of a block


@pytest.mark.parametrize(("kernel", "before", "after"), [(1, 0, 0), (4, 1, 2), (5, 2, 2), (32, 15, 16)])
def test_a_frame_sees_as_many_frames_before_and_after_as_the_kernel_says(kernel, before, after):
    module = randomized(ConvolutionModule(2, kernel, bias=True)).eval()
    x = rng.standard_normal((1, 50, 2))
    y = module(x).data
    x[0, 25] += 1.0
    changed = np.flatnonzero(np.abs(module(x).data - y).max(axis=(0, 2)) > 1e-12)
    assert list(changed) == list(range(25 - after, 25 + before + 1))  # frame t sees t - before, ..., t + after


def test_a_block_whose_branches_are_zero_is_its_last_layer_norm_and_hands_the_gradient_on_untouched():
    block = randomized(ConformerBlock(4, 2, 3, 0.0, True))
    with no_grad():
        for part in (block.ffn1.branch[3], block.ffn2.branch[3], block.attention.branch.out):
            part.weight.copy_(np.zeros(part.weight.shape))
            part.bias.copy_(np.zeros(4))
        block.convolution.branch.pointwise2.weight.copy_(np.zeros((4, 4, 1)))
        block.convolution.branch.pointwise2.bias.copy_(np.zeros(4))
    x, alone = (Tensor(rng_x, requires_grad=True) for rng_x in [rng.standard_normal((2, 5, 4))] * 2)
    y, expected = block(x), block.norm(alone)
    assert np.array_equal(y.data, expected.data)
    gy = rng.standard_normal(y.shape)
    y.backward(gy)
    expected.backward(gy)
    assert np.array_equal(x.grad, alone.grad)


def test_the_feed_forward_layers_count_half():
    block = randomized(ConformerBlock(4, 2, 3, 0.0, True))
    x = Tensor(rng.standard_normal((2, 5, 4)))
    for half in (block.ffn1, block.ffn2):
        assert np.allclose(half(x).data, x.data + half.branch(half.norm_layer(x)).data / 2, rtol=0, atol=1e-14)
    for whole in (block.attention, block.convolution):
        assert np.allclose(whole(x).data, x.data + whole.branch(whole.norm_layer(x)).data, rtol=0, atol=1e-14)


def test_dropout_works_in_training_only():
    model = models.create("conformer_tiny", 3, mels=8, width=8, layers=1)
    x = rng.standard_normal((2, 20, 8)).astype(np.float32)
    assert not np.array_equal(model(x).data, model(x).data)
    model.eval()
    assert np.array_equal(model(x).data, model(x).data)


# --- sizes and bad input


@pytest.mark.parametrize(("frames", "left"), [(7, 1), (10, 1), (11, 2), (78, 18), (100, 24)])
def test_a_quarter_of_the_frames_is_left(frames, left):
    assert Subsampling(7, 2)(np.zeros((1, frames, 7), np.float32)).shape == (1, left, 2)


def test_without_classes_the_encoder_gives_one_row_a_frame_and_with_them_one_row_of_scores():
    x = rng.standard_normal((2, 30, 8)).astype(np.float32)
    small = {"mels": 8, "layers": 1, "width": 4, "heads": 2}
    encoder, classifier = models.create("conformer_s", **small), models.create("conformer_s", num_classes=5, **small)
    assert encoder(x).shape == (2, 6, 4)
    assert classifier(x).shape == (2, 5)
    classifier.eval()
    features = classifier.blocks(classifier.subsampling(x))
    assert np.array_equal(classifier(x).data, classifier.head(F.mean(features, dim=1)).data)


def test_bad_options_and_shapes_are_refused():
    for options, message in (
        ({"heads": 5}, "5 heads must divide the width, 48"),
        ({"heads": 0}, "0 heads must divide"),
        ({"width": 3, "heads": 1}, "width is 3, but must be even"),
        ({"layers": 0}, "layers is 0, but must be at least 1"),
        ({"kernel": 0}, "kernel is 0, but must be at least 1"),
        ({"mels": 6}, "mels is 6, .* at least 7"),
    ):
        with pytest.raises(RequestError, match=message):
            models.create("conformer_tiny", **options)
    model = models.create("conformer_tiny", mels=8, width=4, layers=1)
    for shape in ((2, 20, 9), (2, 6, 8), (20, 8)):
        with pytest.raises(RequestError, match=r"takes \(N, T, 8\) .* at least 7 frames, not"):
            model(np.zeros(shape, np.float32))


# --- peers


def fill_batch_norms(torch, peer):
    for module in peer.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.copy_(torch.from_numpy(rng.standard_normal(module.num_features) * 0.3))
            module.running_var.copy_(torch.from_numpy(rng.uniform(0.5, 2.0, module.num_features)))
    return peer


HUGGING_FACE = {
    "ffn1_layer_norm": "ffn1.norm_layer",
    "self_attn_layer_norm": "attention.norm_layer",
    "conv_module.layer_norm": "convolution.norm_layer",
    "ffn2_layer_norm": "ffn2.norm_layer",
    "final_layer_norm": "norm",
    "intermediate_dense": "branch.0",
    "output_dense": "branch.3",
    "self_attn.linear_q": "attention.branch.query",
    "self_attn.linear_k": "attention.branch.key",
    "self_attn.linear_v": "attention.branch.value",
    "self_attn.linear_out": "attention.branch.out",
    "self_attn.linear_pos": "attention.branch.position",
    "self_attn.pos_bias_": "attention.branch.",
    "conv_module.pointwise_conv": "convolution.branch.pointwise",
    "conv_module.depthwise_conv": "convolution.branch.depthwise",
    "conv_module.batch_norm": "convolution.branch.bn",
}


def from_hugging_face(key):
    key = key.removeprefix("layer.")
    for theirs, ours in HUGGING_FACE.items():
        key = key.replace(theirs, ours)
    return key


def test_a_block_equals_the_layer_of_transformers():
    transformers = peers.transformers()
    torch = peers.torch()
    from transformers.models.wav2vec2_conformer import modeling_wav2vec2_conformer as theirs

    width, t = 8, 7
    config = transformers.Wav2Vec2ConformerConfig(
        hidden_size=width,
        num_attention_heads=2,
        intermediate_size=4 * width,
        hidden_act="swish",
        conv_depthwise_kernel_size=5,
        position_embeddings_type="relative",
        max_source_positions=20,
    )
    config._attn_implementation = "eager"
    table = sinusoidal(np.arange(t - 1, -t, -1), width)[None]
    single = theirs.Wav2Vec2ConformerRelPositionalEmbedding(config)(torch.zeros(2, t, width))
    assert np.max(np.abs(single.numpy() - table)) < 1e-5  # which they make in float32

    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = theirs.Wav2Vec2ConformerEncoderLayer(config)

        def forward(self, x):
            y = self.layer(x, relative_position_embeddings=torch.from_numpy(table))
            return y[0] if isinstance(y, tuple) else y

    peer = fill_batch_norms(torch, twin.randomize(torch, Layer().double()))
    ours = ConformerBlock(width, 2, 5, 0.0, conv_bias=False)
    twin.load(ours, peer, from_hugging_face)
    twin.assert_same_network(torch, ours, peer, rng.standard_normal((3, t, width)), from_hugging_face)


def torch_conformer(torch, classes, mels, layers, width, heads, kernel):
    """The encoder written for PyTorch, after the paper: an even kernel, convolution biases, positions by index."""
    t = torch.nn

    class Attention(t.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key, self.value, self.out = (t.Linear(width, width) for _ in range(4))
            self.position = t.Linear(width, width, bias=False)
            self.u, self.v = (t.Parameter(torch.zeros(heads, width // heads)) for _ in range(2))

        def forward(self, x):
            n, length, _ = x.shape
            q, k, v = (m(x).view(n, length, heads, -1) for m in (self.query, self.key, self.value))
            at = torch.arange(length)
            apart = (at[:, None] - at[None, :]).double()[..., None]  # (T, T, 1)
            angles = apart / 10000.0 ** (torch.arange(0, width, 2) / width).double()
            table = torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)  # (T, T, width)
            r = self.position(table).view(length, length, heads, -1)
            scores = torch.einsum("nihd,njhd->nhij", q + self.u, k) + torch.einsum("nihd,ijhd->nhij", q + self.v, r)
            chances = (scores / math.sqrt(width // heads)).softmax(-1)
            return self.out(torch.einsum("nhij,njhd->nihd", chances, v).flatten(2))

    class Convolution(t.Module):
        def __init__(self):
            super().__init__()
            self.pointwise1 = t.Conv1d(width, 2 * width, 1)
            self.depthwise = t.Conv1d(width, width, kernel, groups=width)
            self.bn = t.BatchNorm1d(width)
            self.pointwise2 = t.Conv1d(width, width, 1)

        def forward(self, x):
            x = t.functional.glu(self.pointwise1(x.mT), dim=1)
            x = t.functional.pad(x, ((kernel - 1) // 2, kernel // 2))
            return self.pointwise2(t.functional.silu(self.bn(self.depthwise(x)))).mT

    class Skip(t.Module):
        def __init__(self, branch, share):
            super().__init__()
            self.branch, self.norm_layer, self.share = branch, t.LayerNorm(width), share

        def forward(self, x):
            return x + self.share * self.branch(self.norm_layer(x))

    class Block(t.Module):
        def __init__(self):
            super().__init__()
            self.ffn1, self.ffn2 = (Skip(self.feed_forward(), 0.5) for _ in range(2))
            self.attention, self.convolution = Skip(Attention(), 1.0), Skip(Convolution(), 1.0)
            self.norm = t.LayerNorm(width)

        def feed_forward(self):
            return t.Sequential(t.Linear(width, 4 * width), t.SiLU(), t.Identity(), t.Linear(4 * width, width))

        def forward(self, x):
            return self.norm(self.ffn2(self.convolution(self.attention(self.ffn1(x)))))

    class Frames(t.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = t.Conv2d(1, width, 3, 2), t.Conv2d(width, width, 3, 2)
            self.linear = t.Linear(width * (((mels - 1) // 2 - 1) // 2), width)

        def forward(self, x):
            x = self.conv2(self.conv1(x[:, None]).relu()).relu()  # (N, width, T', mels / 4)
            return self.linear(x.permute(0, 2, 1, 3).flatten(2))

    class Net(t.Module):
        def __init__(self):
            super().__init__()
            self.subsampling = Frames()
            self.blocks = t.Sequential(*(Block() for _ in range(layers)))
            self.head = t.Linear(width, classes)

        def forward(self, x):
            return self.head(self.blocks(self.subsampling(x)).mean(1))

    return Net()


def test_the_whole_network_equals_one_written_for_torch():
    torch = peers.torch()
    peer = torch_conformer(torch, 3, 11, 2, 4, 2, kernel=4).double()
    fill_batch_norms(torch, twin.randomize(torch, peer))
    ours = models.create("conformer_s", 3, mels=11, layers=2, width=4, heads=2, kernel=4, dropout=0.0)
    unchanged = str  # the names are the same, but not their order
    twin.load(ours, peer, unchanged)
    twin.assert_same_network(torch, ours, peer, rng.standard_normal((3, 23, 11)), unchanged)
