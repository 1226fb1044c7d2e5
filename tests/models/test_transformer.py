"""The Transformer against torch's, position by position; DeepNorm; what does not fit."""

import re
import warnings

import numpy as np
import pytest

from minires import backend, models, nn
from minires.check import gradcheck
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models import transformer
from minires.models.transformer import EncoderDecoder, Transformer
from minires.models.transformer_layers import Attention, DecoderLayer, EncoderLayer, Sizes
from minires.nn.positions import sinusoidal
from minires.switches import no_grad
from tests import peers
from tests.parity import assert_close

rng = np.random.default_rng(31)
N, S, T, V = 3, 5, 4, 9
SMALL = Sizes(width=8, heads=2, feedforward=12, dropout=0.0)


def small(**options):
    sizes = {"width": 8, "heads": 2, "feedforward": 12, "dropout": 0.0, "encoder_layers": 2, "decoder_layers": 3}
    model = models.create("transformer_base", vocab_size=V, context=6, **{**sizes, **options})
    return randomize(model.to(np.float64))


def randomize(model):
    """Every number away from where it starts, gains and biases above all."""
    with no_grad():
        for p in model.parameters():
            p.copy_(p.data + (0.5 if p.ndim == 1 else 0.1) * rng.standard_normal(p.shape))
    return model


def sentences(n, length):
    """Tokens with some rows that end early."""
    tokens = rng.integers(3, V, (n, length))
    tokens[0, length // 2 :] = tokens[-1, length - 1 :] = transformer.PAD
    return tokens


def count(module):
    return sum(p.size for p in module.parameters())


def test_layers_and_stacks_have_the_counts_of_torch():
    sizes = Sizes()
    with nn.init.skip_init():
        assert count(EncoderLayer(sizes)) == 3_152_384
        assert count(DecoderLayer(sizes)) == 4_204_032
        assert count(EncoderDecoder(sizes, final_norm=True)) == 44_140_544  # nn.Transformer()'s defaults


# --- torch ------------------------------------------------------------------------------------------


TORCH_KEYS = (  # (a pattern of ours, what it becomes in torch.nn.Transformer), the first that matches
    (r"(encoder|decoder)_norm\.", r"\1.norm."),
    (r"(encoder|decoder)\.(\d+)\.self_attn\.norm_layer\.", r"\1.layers.\2.norm1."),
    (r"decoder\.(\d+)\.cross_attn\.norm_layer\.", r"decoder.layers.\1.norm2."),
    (r"encoder\.(\d+)\.feedforward\.norm_layer\.", r"encoder.layers.\1.norm2."),
    (r"decoder\.(\d+)\.feedforward\.norm_layer\.", r"decoder.layers.\1.norm3."),
    (r"(encoder|decoder)\.(\d+)\.self_attn\.attention\.", r"\1.layers.\2.self_attn."),
    (r"decoder\.(\d+)\.cross_attn\.attention\.", r"decoder.layers.\1.multihead_attn."),
    (r"(encoder|decoder)\.(\d+)\.feedforward\.", r"\1.layers.\2."),
)


def torch_key(name):
    for pattern, replacement in TORCH_KEYS:
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name)
    raise AssertionError(name)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_the_stacks_are_torchs_transformer_with_all_its_masks(norm):
    torch = peers.torch()
    ours = randomize(EncoderDecoder(Sizes(8, 2, 12, 0.0, norm), 2, 3, final_norm=True).to(np.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pre-norm cannot take torch's fast path, which it says
        theirs = torch.nn.Transformer(
            8, 2, 2, 3, 12, dropout=0.0, batch_first=True, norm_first=norm == "pre", dtype=torch.float64
        )
    theirs.load_state_dict({torch_key(k): torch.from_numpy(v.numpy().copy()) for k, v in ours.state_dict().items()})
    arrays = rng.standard_normal((N, S, 8)), rng.standard_normal((N, T, 8))
    padding = np.zeros((N, S), bool)
    padding[0, 3:] = padding[1, 1:] = True
    inputs = [Tensor(a, requires_grad=True) for a in arrays]
    peers_inputs = [torch.from_numpy(a).requires_grad_() for a in arrays]
    y = ours(*inputs, ~padding[:, None, None, :])
    expected = theirs(
        *peers_inputs,
        tgt_mask=torch.triu(torch.ones(T, T, dtype=torch.bool), 1),
        src_key_padding_mask=torch.from_numpy(padding),
        memory_key_padding_mask=torch.from_numpy(padding),
    )
    assert_close(y.data, expected.detach().numpy(), "the output", 1e-9)
    gy = rng.standard_normal(y.shape)
    y.backward(gy)
    expected.backward(torch.from_numpy(gy))
    for x, peer in zip(inputs, peers_inputs, strict=True):
        assert_close(x.grad, peer.grad.numpy(), "the gradient of an input", 1e-9)
    gradients = {k: p.grad.numpy() for k, p in theirs.named_parameters()}
    assert len(gradients) == len(list(ours.named_parameters()))
    for name, p in ours.named_parameters():
        assert_close(p.grad, gradients[torch_key(name)], name, 1e-9)


def test_one_attention_step_by_step_is_the_layer_it_inherits():
    layer = randomize(Attention(8, 2, batch_first=True).to(np.float64))
    x, source = rng.standard_normal((N, T, 8)), rng.standard_normal((N, S, 8))
    own = layer.attend(*layer.project(x, 0, 3), is_causal=True)
    assert_close(own.data, layer(x, x, x, is_causal=True)[0].data)
    across = layer.attend(*layer.project(x, 0, 1), *layer.project(source, 1, 3))
    assert_close(across.data, layer(x, source, source)[0].data)


# --- the model --------------------------------------------------------------------------------------


def test_logits_are_the_stacks_between_scaled_embeddings_and_the_same_embeddings():
    model = small()
    source, target = sentences(N, S), sentences(N, T)
    table = model.embedding.weight.data

    def embed(tokens):
        return table[tokens] * np.sqrt(8) + sinusoidal(np.arange(tokens.shape[1]), 8)

    y = model.stacks(embed(source), embed(target), (source != 0)[:, None, None]).data
    assert_close(model(source, target).data, y @ table.T)


def test_positions_are_the_published_waves_and_a_step_turns_each_pair_by_a_fixed_angle():
    table = sinusoidal(np.arange(-3, 20), 6)
    for row, p in enumerate(range(-3, 20)):
        for i in range(3):
            angle = p / 10000 ** (2 * i / 6)
            assert np.allclose(table[row, 2 * i : 2 * i + 2], [np.sin(angle), np.cos(angle)], rtol=0, atol=1e-14)
    step = 5
    for i, rate in enumerate(10000 ** (-np.arange(0, 6, 2) / 6)):
        turn = np.array([[np.cos(step * rate), np.sin(step * rate)], [-np.sin(step * rate), np.cos(step * rate)]])
        pair = table[:, 2 * i : 2 * i + 2]
        assert np.allclose(pair[step:], pair[:-step] @ turn.T, rtol=0, atol=1e-13)
    with pytest.raises(RequestError, match="width 5 is not even"):
        sinusoidal(np.arange(3), 5)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_no_logit_depends_on_a_later_target_or_on_padding(norm):
    model = small(norm=norm)
    source, target = sentences(N, S), rng.integers(3, V, (N, T))
    source[:, 3:] = transformer.PAD
    y = model(source, target).data
    for t in range(1, T):
        other = target.copy()
        other[:, t:] = (other[:, t:] - 3 + 1) % (V - 3) + 3
        z = model(source, other).data
        assert np.array_equal(z[:, :t], y[:, :t])
        assert np.all(np.any(z[:, t:] != y[:, t:], axis=-1))
    shorter = model(source[:, :3], target).data
    assert_close(shorter, y, "without the padding", 1e-12)


@pytest.mark.parametrize("options", [{}, {"norm": "pre"}, {"deep": True}], ids=str)
def test_gradients_through_the_whole_model(options):
    model = small(**options, encoder_layers=1, decoder_layers=1, width=4, feedforward=6)
    names = [n for n, _ in model.named_parameters()]
    weights = [p.data.copy() for p in model.parameters()]
    source, target = sentences(2, 4), sentences(2, 3)
    gradcheck(
        lambda *weights: nn.functional_call(model, dict(zip(names, weights, strict=True)), source, target), *weights
    )


def test_every_skip_is_a_residual_whose_empty_branch_hands_x_on():
    """F = 0: a pre-norm stack is then its last LN, a post-norm layer the LN of x."""
    x, source = rng.standard_normal((N, T, 8)), rng.standard_normal((N, S, 8))
    model = small(norm="pre")
    assert sum(isinstance(m, nn.Residual) for m in model.modules()) == 2 * 2 + 3 * 3
    with no_grad():
        for name, p in model.named_parameters():
            if "out_proj" in name or "linear2" in name:
                p.copy_(np.zeros(p.shape))
    stacks = model.stacks
    assert np.array_equal(stacks(source, x).data, stacks.decoder_norm(x).data)
    post = randomize(EncoderLayer(SMALL).to(np.float64))
    with no_grad():
        for name, p in post.named_parameters():
            if "out_proj" in name or "linear2" in name:
                p.copy_(np.zeros(p.shape))
    assert np.array_equal(post(x).data, post.feedforward.norm_layer(post.self_attn.norm_layer(x)).data)


def test_deepnorm_multiplies_every_skip_and_starts_all_but_queries_and_keys_smaller():
    backend.manual_seed(1)
    plain = EncoderDecoder(SMALL, 3, 5)
    backend.manual_seed(1)
    deep = EncoderDecoder(SMALL, 3, 5, deep=True)
    constants = {
        "encoder": (0.81 * (3**4 * 5) ** (1 / 16), 0.87 * (3**4 * 5) ** (-1 / 16)),
        "decoder": ((3 * 5) ** 0.25, (12 * 5) ** -0.25),
    }
    for part, (alpha, beta) in constants.items():
        for m in getattr(deep, part).modules():
            assert not isinstance(m, nn.Residual) or np.isclose(m.shortcut.factor, alpha)
        theirs = dict(getattr(plain, part).named_parameters())
        for name, p in getattr(deep, part).named_parameters():
            whole = theirs[name].data
            if name.endswith("in_proj_weight"):
                assert np.array_equal(p.data[:16], whole[:16])
                assert_close(p.data[16:], beta * whole[16:], name, 1e-6)
            elif p.ndim == 2:
                assert_close(p.data, beta * whole, name, 1e-6)


def test_dropout_acts_in_training_only_and_on_embeddings_and_branches():
    model = models.create("transformer_tiny", dropout=0.5)
    source, target = sentences(N, S), sentences(N, T)
    assert sum(isinstance(m, nn.Dropout) for m in model.modules()) == 1 + 2 * 2 + 2 * 3
    y = model(source, target).data
    assert not np.array_equal(model(source, target).data, y)
    model.eval()
    y = model(source, target)
    assert y.dtype == np.float32
    assert np.array_equal(model(source, target).data, y.data)


# --- bad input --------------------------------------------------------------------------------------


def test_what_does_not_fit_is_told():
    model = small()
    good = sentences(N, S)
    with pytest.raises(RequestError, match=r"a sequence of 7 tokens is longer than the context, 6; cut it"):
        model(sentences(N, 7), good)
    with pytest.raises(RequestError, match=r"a sequence of 7 tokens is longer"):
        model(good, sentences(N, 7))
    with pytest.raises(RequestError, match=r"a sequence of 7 tokens is longer"):
        model.embed(good, past=2)
    for bad in (-1, V):
        with pytest.raises(RequestError, match=rf"token {bad} is outside the vocabulary, 0 to {V - 1}"):
            model(np.where(good == good[1, 1], bad, good), good)
    for bad in (good.astype(float), good[0], good[:, :0]):
        with pytest.raises(RequestError, match=r"tokens must be integers, \(sentences, places\)"):
            model(bad, good)
    with pytest.raises(RequestError, match="3 sources and 2 targets"):
        model(good, good[:2])
    for options, message in (
        ({"heads": 3}, "3 heads do not divide a width of 8"),
        ({"norm": "both"}, "norm is 'both', but there are only 'post'"),
        ({"norm": "pre", "deep": True}, "use it with norm='post'"),
        ({"decoder_layers": 0}, "decoder_layers is 0"),
        ({"feedforward": 0}, "feedforward is 0"),
        ({"context": 0}, "context is 0"),
    ):
        with pytest.raises(RequestError, match=message):
            models.create(
                "transformer_base", **{"vocab_size": V, "width": 8, "heads": 2, "encoder_layers": 2, **options}
            )
    with pytest.raises(RequestError, match="vocab_size is 0"):
        Transformer(0, sizes=SMALL)
