"""MultiheadAttention against torch's, with every kind of mask."""

import numpy as np
import pytest

from minires import nn
from minires.check import gradcheck
from minires.engine import Tensor
from minires.errors import RequestError

rng = np.random.default_rng(29)
N, L, S, E, H = 3, 4, 5, 6, 2


def pair(torch, **options):
    theirs = torch.nn.MultiheadAttention(E, H, **options).double()
    ours = nn.MultiheadAttention(E, H, **options).to(np.float64)
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.from_numpy(rng.standard_normal(tuple(p.shape))))
    ours.load_state_dict({k: v.numpy().copy() for k, v in theirs.state_dict().items()})
    return ours, theirs


def padding():
    mask = np.zeros((N, S), bool)
    mask[0, 3:] = mask[2, 1] = True
    return mask


def forbidden(shape):
    mask = rng.uniform(size=shape) < 0.4
    mask[..., 0] = False  # every query may look somewhere
    return mask


MASKS = {
    "none": {},
    "padding": {"key_padding_mask": padding()},
    "boolean": {"attn_mask": forbidden((L, S))},
    "a head": {"attn_mask": forbidden((N * H, L, S))},
    "numbers": {"attn_mask": rng.standard_normal((L, S))},
    "both": {"attn_mask": rng.standard_normal((L, S)), "key_padding_mask": np.where(padding(), -np.inf, 0.0)},
}


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"bias": False}])
def test_output_weights_and_gradients_equal_torch(options, masks, need_weights):
    torch = pytest.importorskip("torch")
    ours, theirs = pair(torch, **options)
    shapes = [(n, N, E) for n in (L, S, S)]
    if options.get("batch_first"):
        shapes = [(n, length, e) for length, n, e in shapes]
    arrays = [rng.standard_normal(shape) for shape in shapes]
    ins_ours = [Tensor(a, requires_grad=True) for a in arrays]
    ins_theirs = [torch.from_numpy(a).requires_grad_() for a in arrays]
    y, weights = ours(*ins_ours, need_weights=need_weights, **masks)
    masks = {k: torch.from_numpy(m) for k, m in masks.items()}
    expected, expected_weights = theirs(*ins_theirs, need_weights=need_weights, **masks)
    near(y.data, expected)
    if need_weights:
        near(weights.data, expected_weights)
    else:
        assert weights is None
    gy = rng.standard_normal(y.shape)
    y.backward(gy)
    expected.backward(torch.from_numpy(gy))
    for a, b in zip([*ins_ours, *ours.parameters()], [*ins_theirs, *theirs.parameters()], strict=True):
        near(a.grad, b.grad)


def near(a, b):
    b = b.detach().numpy()
    assert a.shape == b.shape
    assert np.max(np.abs(a - b)) <= 1e-10 * np.max(np.abs(b))


def test_self_attention_without_a_batch_and_per_head_weights_equal_torch():
    torch = pytest.importorskip("torch")
    ours, theirs = pair(torch)
    x = rng.standard_normal((L, E))
    t = torch.from_numpy(x)
    for average in (True, False):
        y, weights = ours(x, x, x, average_attn_weights=average, key_padding_mask=np.arange(L) > 2)
        expected, expected_weights = theirs(
            t, t, t, average_attn_weights=average, key_padding_mask=torch.from_numpy(np.arange(L) > 2)
        )
        near(y.data, expected)
        near(weights.data, expected_weights)


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("padded", [False, True])
def test_causal_attention_is_the_mask_of_the_later_keys(need_weights, padded):
    layer = nn.MultiheadAttention(E, H, batch_first=True).to(np.float64)
    x = rng.standard_normal((N, L, E))
    more = {"need_weights": need_weights}
    if padded:
        more["key_padding_mask"] = padding()[:, :L] & (np.arange(L) > 0)
    later = np.triu(np.ones((L, L), bool), 1)
    y = layer(x, x, x, is_causal=True, **more)[0].data
    assert np.allclose(y, layer(x, x, x, attn_mask=later, **more)[0].data, atol=1e-14)
    x2 = x.copy()
    x2[:, -1] += 1
    y2 = layer(x2, x2, x2, is_causal=True, **more)[0].data
    assert np.array_equal(y[:, :-1], y2[:, :-1])
    assert not np.allclose(y[:, -1], y2[:, -1])


@pytest.mark.parametrize("need_weights", [True, False])
def test_gradients_of_every_input_and_parameter(need_weights):
    layer = nn.MultiheadAttention(E, H).to(np.float64)
    names = [n for n, _ in layer.named_parameters()]
    weights = [rng.standard_normal(p.shape) for p in layer.parameters()]

    def attend(q, k, v, *weights):
        y, w = nn.functional_call(
            layer,
            dict(zip(names, weights, strict=True)),
            q,
            k,
            v,
            need_weights=need_weights,
            attn_mask=MASKS["boolean"]["attn_mask"],
        )
        return (y, w) if need_weights else y

    gradcheck(attend, *(rng.standard_normal((n, 2, E)) for n in (L, S, S)), *weights)


def test_dropout_acts_in_training_only():
    layer = nn.MultiheadAttention(E, H, dropout=0.5)
    x = rng.standard_normal((L, N, E)).astype(np.float32)
    _, weights = layer(x, x, x, average_attn_weights=False)
    assert 0.2 < (weights.data == 0).mean() < 0.8
    layer.eval()
    y, weights = layer(x, x, x)
    assert np.allclose(weights.data.sum(-1), 1, atol=1e-6)
    assert y.dtype == weights.dtype == np.float32
    assert np.allclose(y.data, layer(x, x, x, need_weights=False)[0].data, atol=1e-6)


@pytest.mark.parametrize("need_weights", [True, False])
def test_a_query_that_may_look_nowhere_gets_zeros_and_hands_back_none(need_weights):
    layer = nn.MultiheadAttention(E, H, bias=False, batch_first=True).to(np.float64)
    x = Tensor(rng.standard_normal((2, L, E)), requires_grad=True)
    mask = np.zeros((2, L), bool)
    mask[1] = True  # the second sample is nothing but padding
    y, weights = layer(x, x, x, key_padding_mask=mask, need_weights=need_weights)
    assert not y.data[1].any()
    y.backward(rng.standard_normal(y.shape))
    assert not x.grad[1].any()
    assert x.grad[0].all()
    alone, alone_weights = layer(x.data[:1], x.data[:1], x.data[:1], need_weights=need_weights)
    assert np.allclose(y.data[0], alone.data[0], rtol=1e-12)
    if need_weights:
        assert not weights.data[1].any()
        assert np.allclose(weights.data[0], alone_weights.data[0], rtol=1e-12)


def test_what_does_not_fit_is_told():
    layer = nn.MultiheadAttention(E, H)
    x = np.zeros((L, N, E), np.float32)
    with pytest.raises(RequestError, match="4 heads must divide embed_dim, 6"):
        nn.MultiheadAttention(6, 4)
    with pytest.raises(RequestError, match=r"the last of them embed_dim, 6; key does not fit"):
        layer(x, x[..., :5], x)
    with pytest.raises(RequestError, match=r"attn_mask is \(4, 5\), but must be \(4, 4\) or \(6, 4, 4\)"):
        layer(x, x, x, attn_mask=np.zeros((4, 5), bool))
    with pytest.raises(RequestError, match=r"key_padding_mask is \(4, 3\), but must be \(3, 4\)"):
        layer(x, x, x, key_padding_mask=np.zeros((4, 3), bool))
