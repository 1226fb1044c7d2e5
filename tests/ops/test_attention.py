import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires.backend import manual_seed
from minires.check import gradcheck
from minires.check.reference import attention as reference
from minires.engine import Tensor
from minires.errors import RequestError
from minires.functional.attention import scaled_dot_product_attention as attention
from tests.parity import assert_close, assert_like_torch, spread_out

rng = np.random.default_rng(11)


def qkv(*batch, t=4, s=5, e=3, d=2, dtype=np.float64, rng=rng):
    return tuple(rng.standard_normal((*batch, n, m)).astype(dtype) for n, m in ((t, e), (s, e), (s, d)))


def visible(*shape):
    """A random bool mask under which every query may look at key 0 at least."""
    mask = rng.random(shape) < 0.5
    mask[..., 0] = True
    return mask


def gradients(f, *arrays, gy):
    leaves = [Tensor(a, requires_grad=True) for a in arrays]
    f(*leaves).backward(gy)
    return [leaf.grad for leaf in leaves]


# --- gradients, by the complex step


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_gradients(batch):
    q, k, v = qkv(*batch)
    gradcheck(attention, q, k, v)
    gradcheck(lambda q, k, v: attention(q, k, v, scale=0.9), q, k, v)
    gradcheck(lambda q, k, v: attention(q, k, v, is_causal=True), q, k, v)


def test_gradients_under_a_bool_mask():
    q, k, v = qkv(2, 3)
    for mask in (visible(4, 5), visible(2, 1, 4, 5), visible(1, 5)):
        gradcheck(lambda q, k, v, m=mask: attention(q, k, v, m), q, k, v)


def test_gradients_with_a_float_mask_reach_the_mask():
    q, k, v = qkv(2, 3)
    for shape in [(4, 5), (2, 1, 4, 5), (3, 1, 5), (4, 1), (2, 3, 4, 5)]:
        vanishes = shape[-1] == 1  # the same for every key, so softmax forgets it
        gradcheck(attention, q, k, v, rng.standard_normal(shape), may_vanish=vanishes)


def test_gradients_where_a_float_mask_is_minus_infinity():
    q, k, v = qkv()
    mask = np.where(visible(4, 5), rng.standard_normal((4, 5)), -np.inf)
    gradcheck(lambda q, k, v: attention(q, k, v, mask), q, k, v)


def test_gradients_with_dropout():
    q, k, v = qkv(2, t=5, s=6)

    def dropped(q, k, v, m):
        manual_seed(4)
        return attention(q, k, v, m, dropout_p=0.4)

    gradcheck(dropped, q, k, v, rng.standard_normal((5, 6)))


def test_gradients_when_leading_axes_broadcast():
    shapes = [((2, 1), (3,), (1, 3)), ((), (2,), (2,)), ((2,), (), ()), ((), (), (2, 3))]
    for a, b, c in shapes:
        gradcheck(attention, qkv(*a)[0], qkv(*b)[1], qkv(*c)[2])


def test_gradients_in_any_memory_layout():
    gradcheck(attention, spread_out(2, 4, 3), spread_out(2, 5, 3), spread_out(2, 5, 2))


@settings(deadline=None, max_examples=25)
@given(*[st.integers(1, 4)] * 4, st.booleans(), st.integers(0, 99))
def test_gradients_for_any_geometry(t, s, e, d, causal, seed):
    q, k, v = qkv(2, t=t, s=s, e=e, d=d, rng=np.random.default_rng(seed))
    gradcheck(lambda q, k, v: attention(q, k, v, is_causal=causal), q, k, v, may_vanish=True)


# --- the twin, and PyTorch


def test_attention_equals_its_index_loop():
    q, k, v = qkv(2, 2)
    bias = rng.standard_normal((2, 2, 4, 5))
    mask = visible(2, 2, 4, 5)
    assert_close(attention(q, k, v).data, reference.scaled_dot_product_attention(q, k, v))
    assert_close(attention(q, k, v, mask).data, reference.scaled_dot_product_attention(q, k, v, mask))
    assert_close(attention(q, k, v, bias).data, reference.scaled_dot_product_attention(q, k, v, bias))
    causal = reference.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3)
    assert_close(attention(q, k, v, is_causal=True, scale=0.3).data, causal)


def test_attention_matches_torch():
    torch = pytest.importorskip("torch")
    peer = torch.nn.functional.scaled_dot_product_attention
    for sizes in ({}, {"t": 5, "s": 3}, {"t": 1}, {"s": 1}):
        q, k, v = qkv(2, 3, **sizes)
        assert_like_torch(attention, peer, q, k, v)
        for options in ({"is_causal": True}, {"scale": 0.8}):
            assert_like_torch(
                lambda q, k, v, o=options: attention(q, k, v, **o),
                lambda q, k, v, o=options: peer(q, k, v, **o),
                q,
                k,
                v,
            )
        mask = visible(q.shape[-2], k.shape[-2])
        assert_like_torch(
            lambda q, k, v, m=mask: attention(q, k, v, m),
            lambda q, k, v, m=mask: peer(q, k, v, attn_mask=torch.tensor(m)),
            q, k, v,
        )  # fmt: skip
        assert_like_torch(attention, peer, q, k, v, rng.standard_normal((3, q.shape[-2], k.shape[-2])))


def test_a_query_that_may_look_nowhere_gets_zeros_as_in_torch():
    q, k, v = qkv(2)
    mask = visible(4, 5)
    mask[2] = False
    gy = rng.standard_normal((2, 4, 2))
    assert np.all(attention(q, k, v, mask).data[:, 2] == 0)
    gq, gk, gv = gradients(lambda q, k, v: attention(q, k, v, mask), q, k, v, gy=gy)
    assert np.all(gq[:, 2] == 0)
    assert np.all(np.isfinite(gk))
    assert np.all(np.isfinite(gv))
    torch = pytest.importorskip("torch")
    peer = torch.nn.functional.scaled_dot_product_attention
    theirs = peer(*map(torch.tensor, (q, k, v)), attn_mask=torch.tensor(mask)).numpy()
    assert_close(attention(q, k, v, mask).data, theirs)


# --- laws


def test_attention_is_equivariant_to_a_permutation_of_the_tokens():
    """Permute the queries: the answers follow. Permute keys and values together: nothing changes."""
    q, k, v = qkv(2)
    gy = rng.standard_normal((2, 4, 2))
    to, so = rng.permutation(4), rng.permutation(5)
    y = attention(q, k, v).data
    assert_close(attention(q[:, to], k, v).data, y[:, to])
    assert_close(attention(q, k[:, so], v[:, so]).data, y)
    gq, gk, gv = gradients(attention, q, k, v, gy=gy)
    hq, hk, hv = gradients(attention, q[:, to], k[:, so], v[:, so], gy=gy[:, to])
    assert_close(hq, gq[:, to])
    assert_close(hk, gk[:, so])
    assert_close(hv, gv[:, so])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_not_one_bit_of_gradient_comes_from_the_future(dtype):
    q, k, v = qkv(3, t=6, s=6, dtype=dtype)
    for t in range(6):
        gy = np.zeros((3, 6, 2), dtype)
        gy[:, t] = rng.standard_normal((3, 2))
        _, gk, gv = gradients(lambda q, k, v: attention(q, k, v, is_causal=True), q, k, v, gy=gy)
        assert np.all(gk[:, t + 1 :] == 0)
        assert np.all(gv[:, t + 1 :] == 0)
        assert np.all(gv[:, : t + 1] != 0)


def test_the_future_does_not_change_the_past():
    q, k, v = qkv(t=6, s=6)
    y = attention(q, k, v, is_causal=True).data
    k[4:], v[4:] = 100 * rng.standard_normal((2, 3)), rng.standard_normal((2, 2))
    assert np.array_equal(attention(q, k, v, is_causal=True).data[:4], y[:4])


def test_an_answer_is_a_weighted_mean_of_the_values():
    q, k, v = qkv(2, d=1)
    y = attention(q, k, v).data
    assert np.all((v.min(1, keepdims=True) <= y) & (y <= v.max(1, keepdims=True)))
    assert_close(attention(q, k, np.full_like(v, 2.5)).data, np.full_like(y, 2.5))


def test_dropout_keeps_the_mean_and_drops_everything_at_one():
    q, k, v = qkv(4000, t=1, s=4, d=1)
    q[:], k[:], v[:] = q[0], k[0], v[0]
    mean = attention(q, k, v, dropout_p=0.3).data.mean()
    assert abs(mean - attention(q, k, v).data[0, 0, 0]) < 0.05
    assert np.all(attention(q, k, v, dropout_p=1.0).data == 0)


def test_huge_scores_do_not_overflow():
    q, k, v = qkv()
    y = attention(1e4 * q, 1e4 * k, v).data
    assert_close(y, v[(q @ k.T).argmax(1)])


def test_float32_stays_float32():
    q, k, v = qkv(2, dtype=np.float32)
    gy = rng.standard_normal((2, 4, 2)).astype(np.float32)
    bias = rng.standard_normal((4, 5)).astype(np.float32)
    for f in (
        attention,
        lambda q, k, v: attention(q, k, v, is_causal=True),
        lambda q, k, v: attention(q, k, v, visible(4, 5)),
        lambda q, k, v: attention(q, k, v, bias),
        lambda q, k, v: attention(q, k, v, dropout_p=0.5),
    ):
        assert f(q, k, v).dtype == np.float32
        assert {g.dtype for g in gradients(f, q, k, v, gy=gy)} == {np.dtype(np.float32)}


# --- what is refused


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"query": np.ones((4, 2))}, RequestError, r"query is \(4, 2\), key \(5, 3\).*features"),
        ({"value": np.ones((4, 2))}, RequestError, r"value \(4, 2\).*length"),
        ({"query": np.ones(3)}, RequestError, "two axes at least"),
        ({"query": np.ones((2, 4, 3)), "key": np.ones((3, 5, 3))}, RequestError, "leading axes do not broadcast"),
        ({"attn_mask": np.ones((4, 5), bool), "is_causal": True}, RequestError, "both given"),
        ({"attn_mask": np.ones((5, 5), bool)}, RequestError, r"attn_mask is \(5, 5\).*the scores, \(4, 5\)"),
        ({"attn_mask": np.ones((2, 4, 5), bool)}, RequestError, r"attn_mask is \(2, 4, 5\)"),
        ({"attn_mask": np.ones((4, 5), int)}, TypeError, "int64, but must be bool"),
        ({"attn_mask": np.ones((4, 5), np.float32)}, TypeError, "float32, but must be bool or query's float64"),
        ({"dropout_p": 1.5}, RequestError, "dropout_p is 1.5"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(change, error, message):
    given = {"query": np.ones((4, 3)), "key": np.ones((5, 3)), "value": np.ones((5, 2))} | change
    with pytest.raises(error, match=message) as caught:
        attention(**given)
    assert "\n" not in str(caught.value)
