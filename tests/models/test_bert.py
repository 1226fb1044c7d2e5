"""BERT against Hugging Face's, under its own keys, heads and all; what does not fit."""

import numpy as np
import pytest

from minires import models, nn
from minires.check import gradcheck
from minires.errors import RequestError
from minires.switches import no_grad
from tests import peers
from tests.parity import assert_close

rng = np.random.default_rng(37)
N, T, V = 3, 5, 11
SIZES = {"vocab_size": V, "context": 7, "layers": 2, "heads": 2, "width": 8, "feedforward": 12, "dropout": 0.0}


def small(**options):
    return randomize(models.create("bert_base", **{**SIZES, **options}).to(np.float64))


def randomize(model):
    """Every number away from where it starts, gains and biases above all."""
    with no_grad():
        for p in model.parameters():
            p.copy_(p.data + (0.5 if p.ndim == 1 else 0.2) * rng.standard_normal(p.shape))
    return model


def texts():
    """Words, segments, and where there are words at all."""
    present = np.ones((N, T), bool)
    present[0, 3:] = present[1, 4:] = False
    return rng.integers(0, V, (N, T)), rng.integers(0, 2, (N, T)), present


# --- Hugging Face -----------------------------------------------------------------------------------


KINDS = {  # options, their class, which of their outputs ours are
    "with a pooler": ({}, "BertModel", ("last_hidden_state", "pooler_output")),
    "without": ({"pooler": False}, "BertModel", ("last_hidden_state",)),
    "masked": ({"head": "masked"}, "BertForMaskedLM", ("logits",)),
    "pretraining": ({"head": "pretraining"}, "BertForPreTraining", ("prediction_logits", "seq_relationship_logits")),
}


@pytest.mark.parametrize(("options", "name", "outputs"), KINDS.values(), ids=KINDS.keys())
def test_outputs_and_gradients_are_hugging_faces_under_its_own_keys(options, name, outputs):
    transformers, torch = peers.transformers(), peers.torch()
    config = transformers.BertConfig(
        vocab_size=V,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=7,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
        pad_token_id=None,  # word 0 is a word like any other here
    )
    make = getattr(transformers, name)
    theirs = (make(config, add_pooling_layer=False) if options == {"pooler": False} else make(config)).double()
    ours = small(**options)
    state = {k: torch.from_numpy(v.numpy().copy()) for k, v in ours.state_dict().items()}
    loaded = theirs.load_state_dict(state, strict=False)
    assert not loaded.unexpected_keys
    assert set(loaded.missing_keys) <= {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    theirs.tie_weights()
    words, segments, present = texts()
    found = ours(words, segments, present)
    found = [y for y in (found if isinstance(found, tuple) else (found,)) if y is not None]
    expected = theirs(
        torch.from_numpy(words),
        token_type_ids=torch.from_numpy(segments),
        attention_mask=torch.from_numpy(present.astype(int)),
    )
    peers_outputs = [expected[key] for key in outputs]
    cotangents = [rng.standard_normal(y.shape) for y in found]
    torch.autograd.backward(peers_outputs, [torch.from_numpy(g) for g in cotangents])
    for y, peer, gy in zip(found, peers_outputs, cotangents, strict=True):
        assert_close(y.data, peer.detach().numpy(), "an output", 1e-9)
        y.backward(gy, retain_graph=True)
    gradients = {k: p.grad.numpy() for k, p in theirs.named_parameters() if p.grad is not None}
    largest = max(np.abs(g).max() for g in gradients.values())
    for key, p in ours.named_parameters():
        if key.endswith("self.key.bias"):  # truly zero, since softmax does not see it: only rounding is left
            assert np.abs(p.grad).max() <= 1e-12 * largest
        else:
            assert_close(p.grad, gradients[key], key, 1e-9)


# --- laws -------------------------------------------------------------------------------------------


def test_what_is_not_present_is_seen_by_nobody():
    model = small()
    words, segments, present = texts()
    x, pooled = model(words, segments, present)
    other = np.where(present, words, (words + 1) % V)
    y, also = model(other, segments, present)
    assert np.array_equal(x.data[present], y.data[present])
    assert np.array_equal(pooled.data, also.data)
    assert_close(model(words[:1, :3], segments[:1, :3])[0].data, x.data[:1, :3], "alone", 1e-12)


def test_every_word_is_seen_from_every_place_and_place_and_segment_count():
    model = small()
    words, segments, _ = texts()
    y = model(words, segments)[0].data
    for changed in (
        (np.where(np.arange(T) == 4, (words + 1) % V, words), segments),
        (words, np.where(np.arange(T) == 4, 1 - segments, segments)),
        (words[:, [1, 0, 2, 3, 4]], segments[:, [1, 0, 2, 3, 4]]),
    ):
        assert np.all(np.any(model(*changed)[0].data != y, axis=-1))
    assert np.array_equal(model(words)[0].data, model(words, np.zeros_like(words))[0].data)


def test_every_skip_is_a_residual_whose_empty_branch_leaves_the_norms():
    model = small(layers=1)
    assert sum(isinstance(m, nn.Residual) for m in model.modules()) == 2
    layer = model.encoder.layer[0]
    assert not any("norm_layer" in key for key in model.state_dict())
    with no_grad():
        for dense in (layer.output.dense, layer.attention.output.dense):
            for p in dense.parameters():
                p.copy_(np.zeros(p.shape))
    x = rng.standard_normal((N, T, 8))
    assert np.array_equal(layer(x).data, layer.output.LayerNorm(layer.attention.output.LayerNorm(x)).data)


@pytest.mark.parametrize("options", [{}, {"head": "pretraining"}], ids=str)
def test_gradients_through_the_whole_model(options):
    model = small(**options, layers=1, width=4, feedforward=5)
    names = [n for n, _ in model.named_parameters()]
    weights = [p.data.copy() for p in model.parameters()]
    words, segments, present = texts()

    def f(*weights):
        return nn.functional_call(model, dict(zip(names, weights, strict=True)), words, segments, present)

    unseen = [f"input {i}" for i, name in enumerate(names) if name.endswith("key.bias")]
    gradcheck(f, *weights, may_vanish=unseen)


def test_it_starts_as_published():
    model = models.create("bert_base", vocab_size=500, width=64, heads=2, layers=2, head="pretraining")
    for name, p in model.named_parameters():
        if p.ndim == 2:
            assert abs(p.data.std() / 0.02 - 1) < 5 / np.sqrt(2 * p.size), name
        else:
            assert np.all(p.data == ("LayerNorm.weight" in name)), name


def test_dropout_acts_in_training_only():
    model = models.create("bert_tiny", dropout=0.4)
    words = rng.integers(0, 16, (N, T))
    y = model(words).data
    assert y.dtype == np.float32
    assert not np.array_equal(model(words).data, y)
    model.eval()
    assert np.array_equal(model(words).data, model(words).data)


# --- bad input --------------------------------------------------------------------------------------


def test_what_does_not_fit_is_told():
    model = small()
    words, segments, present = texts()
    with pytest.raises(RequestError, match="a sequence of 8 tokens is longer than the context, 7"):
        model(rng.integers(0, V, (N, 8)))
    with pytest.raises(RequestError, match=f"token {V} is outside the vocabulary, 0 to {V - 1}"):
        model(np.full((N, T), V))
    with pytest.raises(RequestError, match="segment 2 is outside the vocabulary, 0 to 1"):
        model(words, segments + 1)
    with pytest.raises(RequestError, match=r"segments are \(3, 4\) and tokens \(3, 5\)"):
        model(words, segments[:, 1:])
    with pytest.raises(RequestError, match=r"present is \(3, 4\) and tokens \(3, 5\)"):
        model(words, segments, present[:, 1:])
    for options, message in (
        ({"heads": 3}, "3 heads do not divide a width of 8"),
        ({"layers": 0}, "layers is 0, but must be at least 1"),
        ({"head": "both"}, "head is 'both', but there are only 'none', 'masked' and 'pretraining'"),
        ({"head": "pretraining", "pooler": False}, "use pooler=True"),
    ):
        with pytest.raises(RequestError, match=message):
            small(**options)
