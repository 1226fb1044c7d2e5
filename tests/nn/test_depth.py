"""The depth-mixing view: each kind of skip is a matrix over depth, and where two kinds are one network they agree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minires as mr
from minires import functional as F
from minires import nn
from minires.check import gradcheck
from minires.engine import Tensor
from minires.errors import RequestError
from minires.nn import depth
from minires.switches import no_grad
from tests.devices import agree
from tests.devices import library as library  # the fixture

WIDTH, L = 6, 8


class Branch(nn.Module):
    """f(norm(x)), which a positive factor on x does not change: eps is 0."""

    def __init__(self):
        self.norm, self.inner = nn.LayerNorm(WIDTH, eps=0.0), nn.Linear(WIDTH, 9)
        self.outer = nn.Linear(9, WIDTH)

    def forward(self, x):
        return self.outer(F.tanh(self.inner(self.norm(x))))


def sublayers(seed=0, n=L):
    mr.manual_seed(seed)
    rng = np.random.default_rng(seed)
    made = [Branch().to(np.float64) for _ in range(n)]
    for branch in made:
        randomize(branch, rng)
    return made


def randomize(module, rng, spread=0.5):
    with no_grad():
        for p in module.parameters():
            p.copy_(p.numpy() + spread * rng.standard_normal(p.shape))
    return module


def x_of(seed=1, *shape):
    return np.random.default_rng(seed).standard_normal(shape or (2, 3, WIDTH))


def normalized(y):
    """A final norm, as every pre-norm network has; it does not see a positive factor."""
    return F.rms_norm(y, (WIDTH,), None, 0.0).numpy()


def output(stream, fs, x):
    return depth.run(stream, fs, Tensor(x))


def stream_of(kind, rng=None, n=L):
    made = {
        "residual": lambda: depth.ResidualStream(n),
        "highway": lambda: depth.HighwayStream(n),
        "denseformer": lambda: depth.DenseFormerStream(n),
        "hyper": lambda: depth.HyperConnections(n, 3),
        "full": lambda: depth.AttentionResiduals(n, WIDTH, eps=0.0),
        "block": lambda: depth.BlockAttentionResiduals(n, WIDTH, 3, eps=0.0),
    }[kind]().to(np.float64)
    return made if rng is None else randomize(made, rng)


KINDS = ("residual", "highway", "denseformer", "hyper", "full", "block")
LINEAR = ("residual", "highway", "denseformer", "hyper")


# --- the same network in two ways


def test_the_residual_stream_is_x_plus_f_of_x_layer_by_layer():
    fs, x = sublayers(), x_of()
    y = Tensor(x)
    for f in fs:
        y = y + f(y)
    assert np.array_equal(output(depth.ResidualStream(L), fs, x).numpy(), y.numpy())


@pytest.mark.parametrize("kind", ["denseformer", "hyper", "full", "block"])
def test_at_the_start_every_stream_is_the_residual_stream_behind_a_final_norm(kind):
    fs, x = sublayers(), x_of()
    expected = normalized(output(depth.ResidualStream(L), fs, x))
    found = normalized(output(stream_of(kind), fs, x))
    assert np.max(np.abs(found - expected)) < 2e-14


def test_four_hyper_connections_start_as_exactly_four_times_the_stream():
    fs, x = sublayers(), x_of()
    hyper = depth.HyperConnections(L, 4).to(np.float64)
    assert np.array_equal(output(hyper, fs, x).numpy(), 4 * output(depth.ResidualStream(L), fs, x).numpy())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_blocks_of_one_sublayer_are_the_full_form_for_any_query(seed):
    fs, x, rng = sublayers(seed), x_of(seed + 1), np.random.default_rng(seed)
    full = randomize(depth.AttentionResiduals(L, WIDTH).to(np.float64), rng, 2.0)
    block = depth.BlockAttentionResiduals(L, WIDTH, 1).to(np.float64)
    block.load_state_dict(full.state_dict())
    assert np.array_equal(output(block, fs, x).numpy(), output(full, fs, x).numpy())


def test_one_block_of_everything_reads_the_embedding_and_one_running_sum():
    fs, x, rng = sublayers(), x_of(), np.random.default_rng(4)
    stream = randomize(depth.BlockAttentionResiduals(L, WIDTH, L).to(np.float64), rng)
    written, total = Tensor(x), None
    for k, f in enumerate(fs):
        state = [written] if total is None else [written, total]
        a = stream.weights(state, k).numpy()
        h = sum(a[i][..., None] * s.numpy() for i, s in enumerate(state))
        v = f(Tensor(h))
        total = v if total is None else total + v
    a = stream.weights([written, total], L).numpy()
    expected = a[0][..., None] * x + a[1][..., None] * total.numpy()
    assert np.allclose(output(stream, fs, x).numpy(), expected, rtol=0, atol=1e-13)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["full", "block"]))
def test_weights_over_depth_are_positive_sum_to_one_and_do_not_see_the_length_of_a_key(seed, kind):
    rng = np.random.default_rng(seed)
    stream = stream_of(kind, rng)
    state = [Tensor(rng.standard_normal((2, WIDTH))) for _ in range(4)]
    a = stream.weights(state, 3).numpy()
    longer = [Tensor(v.numpy() * c) for v, c in zip(state, rng.uniform(0.1, 9, 4), strict=True)]
    assert np.all(a > 0)
    assert np.allclose(a.sum(0), 1, rtol=0, atol=1e-14)
    assert np.allclose(stream.weights(longer, 3).numpy(), a, rtol=0, atol=1e-12)


def test_a_query_along_one_value_and_against_the_others_reads_that_value_as_it_is():
    stream = stream_of("full")
    values = [Tensor(7 * row) for row in np.eye(WIDTH)[:4]]
    with no_grad():
        stream.query[2] = 1e3 * np.eye(WIDTH)[1]
    assert np.array_equal(stream.read(values, 2).numpy(), values[1].numpy())


def test_a_pre_norm_residual_gives_the_stream_what_it_would_add():
    mr.manual_seed(2)
    layers = [nn.Residual(nn.Linear(WIDTH, WIDTH), norm="pre", norm_layer=nn.LayerNorm(WIDTH)) for _ in range(3)]
    x = x_of().astype(np.float32)
    y = Tensor(x)
    for layer in layers:
        y = layer(y)
    assert np.array_equal(nn.DepthMixing(layers)(x).numpy(), y.numpy())


# --- each stream against its paper's formula, in loops over indices


def values_of(rng, n=4):
    return rng.standard_normal((n + 1, 2, WIDTH))


def reads(stream, values):
    """What is read at every depth while `values` are written."""
    state, found = stream.start(Tensor(values[0])), []
    for k in range(len(values) - 1):
        found.append(stream.read(state, k).numpy())
        state = stream.write(state, k + 1, Tensor(values[k + 1]))
    return [*found, stream.finish(state).numpy()]


def by_hyper_connections(stream, values):
    a_m, b, a_r = (p.numpy() for p in (stream.a_m, stream.b, stream.a_r))
    n, h, found = 3, [values[0]] * 3, []
    for k, v in enumerate(values[1:]):
        found.append(sum(a_m[k, i] * h[i] for i in range(n)))
        h = [sum(a_r[k, j, i] * h[j] for j in range(n)) + b[k, i] * v for i in range(n)]
    return [*found, sum(h)]


def by_denseformer(stream, values):
    x, outputs, found = values[0], [values[0]], []
    for k, v in enumerate(values[1:], start=1):
        found.append(x)
        x = x + v
        if k % 2 == 0:
            outputs.append(x)
            alpha = stream.alpha[k // 2 - 1].weight.numpy()
            x = sum(alpha[j] * y for j, y in enumerate(outputs))
    return [*found, x]


def by_attention(stream, values, period):
    def read(k, sources):
        scores = []
        for v in sources:
            key = v / np.sqrt((v * v).mean(-1, keepdims=True)) * stream.gain.numpy()[k]
            scores.append(np.exp((key * stream.query.numpy()[k]).sum(-1, keepdims=True)))
        return sum(s * v for s, v in zip(scores, sources, strict=True)) / sum(scores)

    sources, found = [values[0]], []
    for k, v in enumerate(values[1:]):
        found.append(read(k, sources))
        sources = [*sources, v] if k % period == 0 else [*sources[:-1], sources[-1] + v]
    return [*found, read(len(values) - 1, sources)]


FORMULAS = {
    "hyper": by_hyper_connections,
    "denseformer": by_denseformer,
    "full": lambda stream, values: by_attention(stream, values, 1),
    "block": lambda stream, values: by_attention(stream, values, 3),
}


@pytest.mark.parametrize("kind", FORMULAS)
def test_what_is_read_is_the_papers_formula(kind):
    rng = np.random.default_rng(8)
    stream, values = stream_of(kind, rng, 4), values_of(rng)
    for k, (found, expected) in enumerate(zip(reads(stream, values), FORMULAS[kind](stream, values), strict=True)):
        assert np.allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max()), f"{kind}, depth {k}"


# --- the matrices


def test_the_matrix_of_the_residual_stream_is_all_ones_below_the_diagonal():
    assert np.array_equal(depth.depth_matrix(depth.ResidualStream(L)), np.tri(L + 1))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_the_matrix_of_a_highway_is_stick_breaking_and_its_rows_sum_to_one(seed):
    stream = stream_of("highway", np.random.default_rng(seed))
    t = np.concatenate([[1.0], 1 / (1 + np.exp(-stream.gate.numpy()))])
    m = depth.depth_matrix(stream)
    for k in range(L + 1):
        for j in range(k + 1):
            assert m[k, j] == pytest.approx(t[j] * np.prod(1 - t[j + 1 : k + 1]), rel=1e-12)
    assert np.allclose(m.sum(1), 1)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_below_the_diagonal_n_hyper_connections_have_rank_n(seed, n):
    stream = randomize(depth.HyperConnections(L, n).to(np.float64), np.random.default_rng(seed))
    m = depth.depth_matrix(stream)
    for cut in range(1, L + 1):
        values = np.linalg.svd(m[cut:, :cut], compute_uv=False)
        assert np.sum(values > 1e-10 * values[0]) <= n, cut


def test_a_denseformer_has_full_rank_below_the_diagonal_which_no_few_streams_have():
    m = depth.depth_matrix(stream_of("denseformer", np.random.default_rng(3)))
    values = np.linalg.svd(m[L // 2 :, : L // 2], compute_uv=False)
    assert np.sum(values > 1e-6 * values[0]) == 3  # three blocks' outputs are read there; two streams could not


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(LINEAR))
def test_the_matrix_mixes_the_values_as_the_stream_does(seed, kind):
    rng = np.random.default_rng(seed)
    stream = stream_of(kind, rng)
    values = rng.standard_normal((L + 1, 2, WIDTH))
    m = depth.depth_matrix(stream)
    assert np.array_equal(m, np.tril(m))
    state = stream.start(Tensor(values[0]))
    for k in range(L + 1):
        read = stream.read(state, k) if k < L else stream.finish(state)
        assert np.allclose(read.numpy(), np.tensordot(m[k], values, 1), rtol=0, atol=1e-10 * np.abs(m).max())
        if k < L:
            state = stream.write(state, k + 1, Tensor(values[k + 1]))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(LINEAR))
def test_the_gradient_of_a_value_comes_back_by_the_same_matrix(seed, kind):
    """dL/dv_j = sum_k M[k, j] g_k, where g_k is the gradient of what is read at depth k."""
    rng = np.random.default_rng(seed)
    stream = stream_of(kind, rng)
    values = [Tensor(v, requires_grad=True) for v in rng.standard_normal((L + 1, WIDTH))]
    g = rng.standard_normal((L + 1, WIDTH))
    state, loss = stream.start(values[0]), 0.0
    for k in range(L + 1):
        loss = F.sum((stream.read(state, k) if k < L else stream.finish(state)) * g[k]) + loss
        if k < L:
            state = stream.write(state, k + 1, values[k + 1])
    loss.backward()
    expected = depth.depth_matrix(stream).T @ g
    found = np.stack([v.grad for v in values])
    assert np.allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


# --- gradients, counts, devices, refusals


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_through_a_stream_and_its_weights_is_right(kind):
    n = 4
    net = nn.DepthMixing(sublayers(n=n), stream_of(kind, np.random.default_rng(5), n))
    gradcheck(net, x_of(6, 2, WIDTH))


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_gives_the_numbers_of_numpy(kind, library):
    def compute(library):
        net = nn.DepthMixing(sublayers(n=4), stream_of(kind, np.random.default_rng(5), 4)).to(library.device)
        x = Tensor(library.asarray(x_of()), requires_grad=True)
        y = net(x)
        y.backward(library.asarray(x_of(9)))
        return y, x.grad, {name: p.grad for name, p in net.named_parameters()}

    agree(library, compute, 1e-11)


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        (lambda: depth.AttentionResiduals(24, 768), 36_864 + 1_536),
        (lambda: depth.HyperConnections(24, 4), 576),
        (lambda: depth.DenseFormerStream(24, 2), 90),
    ],
)
def test_twelve_layers_of_768_get_as_many_new_parameters_as_published(make, parameters):
    assert sum(p.size for p in make().parameters()) == parameters


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: nn.DepthMixing(sublayers(n=2), depth.ResidualStream(3)), "made for 3 sublayers, but there are 2"),
        (lambda: depth.DenseFormerStream(5, 2), "5 sublayers do not make blocks of 2"),
        (lambda: depth.HyperConnections(3, 0), "streams is 0"),
        (lambda: depth.BlockAttentionResiduals(3, 4, 0), "period is 0"),
        (lambda: depth.AttentionResiduals(2, 5).start(Tensor(np.zeros((2, 4)))), r"vectors of 5, but x is \(2, 4\)"),
        (lambda: depth.ResidualStream(0), "sublayers is 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make, told):
    with pytest.raises(RequestError, match=told):
        make()
