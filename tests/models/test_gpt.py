"""GPT: Hugging Face's numbers, no look ahead, and a cache that changes nothing."""

import math

import numpy as np
import pytest

import minires as mr
from minires import functional as F
from minires import models, nn
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models.gpt import CausalSelfAttention, FeedForward
from minires.switches import no_grad
from tests import peers
from tests.devices import agree, without_waiting
from tests.models.small.gpt import SIZES

rng = np.random.default_rng(31)


def small(seed=3, **options):
    """A tiny GPT in float64 whose gains and biases are not 1 and 0."""
    mr.manual_seed(seed)
    model = models.create("gpt2", **{**SIZES, "vocab_size": 11, "context": 9, "width": 12, **options}).to(np.float64)
    with no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                p.copy_(rng.standard_normal(p.shape) * 0.4 + name.endswith("weight"))
            else:
                p.copy_(rng.standard_normal(p.shape) * 0.3)
    return model


def texts(n=3, t=7, vocabulary=11):
    return rng.integers(0, vocabulary, (n, t))


def close(a, b, tolerance=1e-12):
    return np.max(np.abs(a - b)) <= tolerance * np.max(np.abs(b))


# --- the peer


def huggingface_key(key):
    for ours, theirs in (("attn.norm_layer", "ln_1"), ("mlp.norm_layer", "ln_2")):
        key = key.replace(ours, theirs)
    return key


@pytest.mark.parametrize("tied", [True, False])
def test_logits_and_every_gradient_are_those_of_hugging_faces_gpt2(tied):
    transformers = peers.transformers()
    torch = peers.torch()
    config = transformers.GPT2Config(
        vocab_size=11,
        n_positions=9,
        n_embd=12,
        n_layer=2,
        n_head=2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=tied,
        attn_implementation="eager",
    )
    theirs = transformers.GPT2LMHeadModel(config).double()
    ours = small(tied=tied)
    peer = dict(theirs.named_parameters())
    pairs = {key: peer[huggingface_key(key)] for key, _ in ours.named_parameters()}
    assert len(pairs) == len(peer)

    def as_ours(key, tensor):
        """Hugging Face keeps a block's matrices as (in, out)."""
        block_matrix = ".h." in key and tensor.ndim == 2
        return tensor.detach().numpy().T if block_matrix else tensor.detach().numpy()

    with torch.no_grad():
        for key, parameter in ours.named_parameters():
            pairs[key].copy_(torch.from_numpy(as_ours(key, torch.from_numpy(parameter.data)).copy()))
    tokens = texts()
    y, expected = ours(tokens), theirs(torch.from_numpy(tokens)).logits
    assert close(y.data, expected.detach().numpy(), 1e-10)
    gy = rng.standard_normal(y.shape)
    y.backward(gy)
    expected.backward(torch.from_numpy(gy))
    for key, parameter in ours.named_parameters():
        assert close(parameter.grad, as_ours(key, pairs[key].grad), 1e-9), key


def by_hand(w, tokens, heads=2):
    """The logits, written once more from the paper and in plain NumPy; `w` has GPT's keys."""

    def norm(x, key):
        centered = x - x.mean(-1, keepdims=True)
        unit = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
        return unit * w[f"{key}.weight"] + w[f"{key}.bias"]

    def linear(x, key):
        return x @ w[f"{key}.weight"].T + w[f"{key}.bias"]

    def attention(x, key):
        q, k, v = np.split(linear(x, f"{key}.c_attn"), 3, axis=-1)
        head, t = x.shape[-1] // heads, x.shape[1]
        out = np.zeros_like(x)
        for n, h, i in np.ndindex(len(x), heads, t):
            own = slice(h * head, (h + 1) * head)
            scores = k[n, : i + 1, own] @ q[n, i, own] / math.sqrt(head)
            share = np.exp(scores - scores.max())
            out[n, i, own] = share / share.sum() @ v[n, : i + 1, own]
        return linear(out, f"{key}.c_proj")

    def mlp(x, key):
        u = linear(x, f"{key}.c_fc")
        return linear(u * (1 + np.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3))) / 2, f"{key}.c_proj")

    x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][: tokens.shape[1]]
    for i in range(2):
        block = f"transformer.h.{i}"
        x = x + attention(norm(x, f"{block}.attn.norm_layer"), f"{block}.attn")
        x = x + mlp(norm(x, f"{block}.mlp.norm_layer"), f"{block}.mlp")
    return norm(x, "transformer.ln_f") @ w.get("lm_head.weight", w["transformer.wte.weight"]).T


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_those_of_the_formula(tied):
    model, tokens = small(tied=tied), texts()
    weights = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    with no_grad():
        assert close(model(tokens).data, by_hand(weights, tokens))


# --- what a place may see


def test_no_place_sees_a_later_one():
    model, tokens = small(), texts(1, 9)
    changed = tokens.copy()
    changed[0, 5:] = (changed[0, 5:] + 1) % 11
    with no_grad():
        a, b = model(tokens).data, model(changed).data
    assert np.array_equal(a[0, :5], b[0, :5])
    assert np.abs(a[0, 5:] - b[0, 5:]).max(axis=-1).min() > 1e-3


def test_the_gradient_of_a_place_reaches_only_the_places_before_it():
    attention = CausalSelfAttention(12, 3).to(np.float64)
    x = Tensor(rng.standard_normal((1, 6, 12)), requires_grad=True)
    y = attention(x)
    gy = np.zeros(y.shape)
    gy[0, 3] = rng.standard_normal(12)
    y.backward(gy)
    assert np.all(x.grad[0, 4:] == 0)
    assert np.all(np.abs(x.grad[0, :4]).max(axis=-1) > 1e-6)


def test_with_branches_that_give_nothing_only_the_embeddings_speak():
    model, tokens = small(), texts()
    body = model.transformer
    with no_grad():
        for block in body.h:
            for sublayer in (block.attn, block.mlp):
                nn.init.zeros_(sublayer.c_proj.weight)
                nn.init.zeros_(sublayer.c_proj.bias)
        x = body.wte.weight.data[tokens] + body.wpe.weight.data[: tokens.shape[1]]
        expected = body.ln_f(Tensor(x)).data @ body.wte.weight.data.T
        assert close(model(tokens).data, expected)


@pytest.mark.parametrize("sublayer", [CausalSelfAttention(8, 2), FeedForward(8)])
def test_the_stream_is_never_touched_but_added_to(sublayer):
    sublayer.to(np.float64)
    x = Tensor(rng.standard_normal((2, 3, 8)), requires_grad=True)
    with no_grad():
        assert np.array_equal(sublayer(x).data, x.data + sublayer.branch(sublayer.norm_layer(x)).data)


def test_dropout_acts_on_the_embeddings_on_what_each_branch_gives_and_on_the_attention_in_training_only():
    model, tokens = small(dropout=0.5, width=32), texts(4, 9)
    body, x = model.transformer, Tensor(rng.standard_normal((4, 9, 32)))
    block = body.h[0]
    for f in (lambda: body.embed(tokens), lambda: block.attn.update(x), lambda: block.mlp.update(x)):
        assert 0.4 < np.mean(f().data == 0) < 0.6
    assert not np.array_equal(block.attn.branch(x).data, block.attn.branch(x).data)
    model.eval()
    assert np.array_equal(model(tokens).data, model(tokens).data)


# --- how it starts


def test_weights_start_normal_and_what_adds_to_the_stream_smaller_by_the_depth():
    mr.manual_seed(5)
    model = models.create("gpt_char", layers=6, vocab_size=400)
    for name, p in model.named_parameters():
        if p.ndim == 2:
            std = 0.02 / math.sqrt(12) if name.endswith("c_proj.weight") else 0.02
            assert abs(p.data.std() / std - 1) < 5 / math.sqrt(2 * p.size), name
        else:
            assert np.all(p.data == (1 if name.endswith("weight") else 0)), name


def test_it_starts_by_knowing_nothing():
    mr.manual_seed(5)
    model, tokens = models.create("gpt_char"), texts(4, 40, 65)
    with no_grad():
        loss = F.cross_entropy(model(tokens[:, :-1]).reshape(-1, 65), tokens[:, 1:].reshape(-1)).item()
    assert abs(loss - math.log(65)) < 0.1


# --- the cache


@pytest.mark.parametrize("cuts", [[1] * 9, [4, 1, 4], [9], [1, 8], [5, 3, 1]])
def test_reading_from_a_cache_is_reading_it_all_again(cuts):
    model, tokens = small(), texts(3, 9)
    with no_grad():
        whole = model(tokens).data
        cache, parts, begun = model.new_cache(), [], 0
        for n in cuts:
            parts.append(model(tokens[:, begun : begun + n], cache).data)
            begun += n
    assert close(np.concatenate(parts, axis=1), whole)
    assert [memory.length for memory in cache] == [9, 9]


def test_a_cache_refuses_what_it_cannot_hold():
    model = small()
    with pytest.raises(RequestError, match=r"under no_grad\(\)"):
        model(texts(), model.new_cache())
    with no_grad():
        cache = model.new_cache()
        model(texts(2, 6), cache)
        with pytest.raises(RequestError, match="a sequence of 10 tokens is longer than the context, 9"):
            model(texts(2, 4), cache)
        with pytest.raises(RequestError, match="of 2 texts, not of 3"):
            model(texts(3, 1), cache)


# --- on a device


def test_a_device_gives_numpys_numbers_with_and_without_a_cache(library):
    tokens, gy = texts(), rng.standard_normal((3, 7, 11))

    def compute(lib):
        model = small_on(lib)
        read = lib.asarray(tokens)
        y = model(read)
        y.backward(lib.asarray(gy))
        cache = model.new_cache()
        with no_grad():
            parts = [model(read[:, :3], cache), model(read[:, 3:4], cache), model(read[:, 4:], cache)]
        return y, {name: p.grad for name, p in model.named_parameters()}, parts

    weights = {name: p.data.copy() for name, p in small().named_parameters()}

    def small_on(lib):
        model = small().to(lib.device)
        model.load_state_dict({name: lib.asarray(w) for name, w in weights.items()})
        return model

    agree(library, compute, tolerance=1e-11)


def test_a_step_never_waits_for_the_device(library):
    model = small(dropout=0.1).to(library.device)
    read, gy = library.asarray(texts()), library.asarray(rng.standard_normal((3, 7, 11)))
    with without_waiting(library):
        model(read).backward(gy)


# --- what is refused


@pytest.mark.parametrize(
    ("tokens", "why"),
    [
        (texts(1, 10), "a sequence of 10 tokens is longer than the context, 9"),
        (np.array([[1, 11]]), "token 11 is outside the vocabulary, 0 to 10"),
        (np.array([[-1, 2]]), "token -1 is outside the vocabulary"),
        (np.array([1, 2]), "tokens must be integers"),
        (np.array([[1.0, 2.0]]), "of float64"),
        (np.zeros((2, 0), int), "one place at least"),
    ],
)
def test_what_is_no_text_of_this_model_is_refused(tokens, why):
    with pytest.raises(RequestError, match=why):
        small()(tokens)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"heads": 5}, "5 heads do not divide a width of 12; try 10"),
        ({"layers": 0}, "layers is 0"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"tied": 1}, "tied is 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, why):
    with pytest.raises(RequestError, match=why):
        small(**options)
