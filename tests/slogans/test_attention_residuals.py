"""Attention residuals and hyper-connections against the standard skip they replace: equal at the start, and bounded.

Kimi Team 2026, Attention Residuals; Zhu et al. 2024, Hyper-Connections.
"""

import numpy as np
import pytest

from minires import functional as F
from minires.engine import Tensor
from tests.slogans.nets import gradient, norm, stack, two_layers

D, LAYERS = 32, 12


def sublayers(seed=0, eps=0.0):
    """Branches with a layer norm in front: without its eps they don't see how long their input is."""
    rng = np.random.default_rng(seed)
    ws = rng.standard_normal((LAYERS, 2, D, D)) * (2 / D) ** 0.5
    return [lambda x, u=u, v=v: two_layers(u, v)(F.layer_norm(x, D, eps=eps)) for u, v in ws]


def mixed(query, sources):
    """The sources weighed by softmax_i (query . RMSNorm(v_i)): keys are normalized, values are not."""
    values = F.stack(sources)  # (K, N, D)
    scores = F.sum(F.rms_norm(values, D, eps=0.0) * query, dim=-1, keepdim=True)  # (K, N, 1)
    return F.sum(values * F.softmax(scores, dim=0), dim=0)  # (N, D)


def attention_residuals(x, branches, queries, block=1):
    """h_1, ..., h_L and the final mixture: each sublayer reads a mixture of all blocks before it.

    A block is the sum of `block` sublayers; within one, the sum so far is one more source.
    """
    done, partial, reads = [x], [], []
    for f, query in zip(branches, queries, strict=False):
        sources = done + ([sum(partial[1:], partial[0])] if partial else [])
        reads.append(mixed(query, sources))
        partial.append(f(reads[-1]))
        if len(partial) == block:
            done, partial = [*done, sum(partial[1:], partial[0])], []
    return reads, mixed(queries[-1], done)


def hyper_connections(x, branches, n=4):
    """n streams at their start: branch k reads stream k mod n and writes to all; at the end they are summed."""
    streams = [x] * n
    for k, f in enumerate(branches):
        y = f(streams[k % n])
        streams = [s + y for s in streams]
    return sum(streams[1:], streams[0])


def standard(x, branches):
    return stack(x, branches)[-1]


def read(x):
    """What the net's head sees: the final norm."""
    return F.layer_norm(x, D, eps=0.0)


@pytest.mark.parametrize("block", [1, 4])
def test_true_that_with_zero_queries_attention_residuals_are_the_standard_net(block):
    """Uniform weights give the mean where the skip gives the sum, and a normalized reader sees no difference: output
    and gradient are equal."""
    rng = np.random.default_rng(1)
    x, gy = rng.standard_normal((2, 5, D))
    zero = np.zeros((LAYERS + 1, D))
    y = read(attention_residuals(Tensor(x), sublayers(), zero, block)[1])
    np.testing.assert_allclose(y.data, read(standard(x, sublayers())).data, atol=1e-12)
    np.testing.assert_allclose(
        gradient(lambda x: read(attention_residuals(x, sublayers(), zero, block)[1]), x, gy),
        gradient(lambda x: read(standard(x, sublayers())), x, gy),
        atol=1e-12,
    )


def test_true_that_only_without_the_norms_eps_are_they_equal():
    """With eps = .1 in the sublayers' norms a mean and a sum are read differently."""
    x = np.random.default_rng(2).standard_normal((5, D))
    y = read(attention_residuals(Tensor(x), sublayers(eps=0.1), np.zeros((LAYERS + 1, D)))[1])
    assert np.abs(y.data - read(standard(x, sublayers(eps=0.1))).data).max() > 1e-3


def test_true_that_zero_queries_still_learn():
    """Their gradient is not zero, so that the weights leave the uniform start at once."""
    rng = np.random.default_rng(3)
    x, gy = rng.standard_normal((2, 5, D))
    gw = gradient(lambda w: read(attention_residuals(Tensor(x), sublayers(), w)[1]), np.zeros((LAYERS + 1, D)), gy)
    assert min(norm(row) for row in gw[1:]) > 1e-3


def test_true_that_the_weights_are_shares():
    """They sum to one: a mixture of equal sources is that source, for any query."""
    rng = np.random.default_rng(4)
    v, query = rng.standard_normal((5, D)), rng.standard_normal(D)
    np.testing.assert_allclose(mixed(query, [Tensor(v)] * 7).data, v, rtol=1e-12)


def test_true_that_a_sum_of_vectors_grows_and_their_mixture_does_not():
    """|h_l| over 12 sublayers: the standard stream grows, the full mixture shrinks, blocks of 4 give a saw tooth."""
    x = np.random.default_rng(5).standard_normal((8, D))
    zero = np.zeros((LAYERS + 1, D))
    stream = [norm(h) for h in stack(x, sublayers())[:-1]]
    full = [norm(h) for h in attention_residuals(Tensor(x), sublayers(), zero)[0]]
    blocks = [norm(h) for h in attention_residuals(Tensor(x), sublayers(), zero, block=4)[0]]
    assert stream[-1] > 2 * stream[0]
    assert full[-1] < 0.5 * full[0]
    assert max(blocks) < 2 * blocks[0]
    assert blocks[5] < blocks[4]
    assert blocks[9] < blocks[8]


def test_true_that_hyper_connections_start_as_the_standard_net():
    """All streams are one and the same at first; their sum is n times the standard stream, which the final norm
    forgets."""
    rng = np.random.default_rng(6)
    x, gy = rng.standard_normal((2, 5, D))
    branches = sublayers()
    np.testing.assert_allclose(hyper_connections(Tensor(x), branches).data, 4 * standard(x, branches).data, rtol=1e-12)
    np.testing.assert_allclose(
        gradient(lambda x: read(hyper_connections(x, branches)), x, gy),
        gradient(lambda x: read(standard(x, branches)), x, gy),
        atol=1e-12,
    )
