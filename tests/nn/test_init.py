"""Initial weights: the distribution each function promises, and the seed it obeys."""

import numpy as np
import pytest

from minires import backend, nn
from minires.errors import RequestError
from minires.nn import init

SHAPE = (64, 32, 5, 5)  # fan in 800, fan out 1600


def parameter(shape=SHAPE, dtype=np.float32):
    return nn.Parameter(np.zeros(shape), dtype=dtype)


@pytest.mark.parametrize(
    ("fill", "std"),
    [
        (lambda t: init.normal_(t, 0.0, 0.3), 0.3),
        (lambda t: init.xavier_normal_(t, 2.0), 2 * np.sqrt(2 / 2400)),
        (lambda t: init.kaiming_normal_(t), np.sqrt(2 / 800)),
        (lambda t: init.kaiming_normal_(t, mode="fan_out", nonlinearity="relu"), np.sqrt(2 / 1600)),
        (lambda t: init.kaiming_normal_(t, a=2.0), np.sqrt(2 / 5 / 800)),
    ],
)
def test_normal_starts_have_their_std_and_the_bells_tails(fill, std):
    w = parameter()
    assert fill(w) is w
    x = w.data.ravel() / std  # 51,200 values: the standard error of the std is 0.003
    assert abs(x.std() - 1) < 0.02
    assert abs(x.mean()) < 0.03
    assert abs((np.abs(x) < 1).mean() - 0.6827) < 0.015
    assert np.abs(x).max() > 3.5


@pytest.mark.parametrize(
    ("fill", "radius"),
    [
        (lambda t: init.uniform_(t, -0.2, 0.2), 0.2),
        (lambda t: init.xavier_uniform_(t, 2.0), 2 * np.sqrt(6 / 2400)),
        (lambda t: init.kaiming_uniform_(t), np.sqrt(6 / 800)),
        (lambda t: init.kaiming_uniform_(t, a=np.sqrt(5)), np.sqrt(1 / 800)),
        (lambda t: init.kaiming_uniform_(t, mode="fan_out", nonlinearity="linear"), np.sqrt(3 / 1600)),
    ],
)
def test_uniform_starts_fill_their_interval_evenly(fill, radius):
    x = fill(parameter()).data.ravel() / radius
    assert np.abs(x).max() <= 1 + 1e-6
    assert np.abs(x).max() > 0.999
    assert abs(x.std() - 1 / np.sqrt(3)) < 0.01
    assert abs(x.mean()) < 0.015


def test_truncated_normal_stays_inside_and_is_redrawn_not_clipped():
    x = init.trunc_normal_(parameter(dtype=np.float64), 0.5, 1.0, -0.5, 1.5).data
    assert x.min() >= -0.5
    assert x.max() <= 1.5
    assert len(np.unique(x)) == x.size
    assert abs(x.std() - 0.5396) < 0.01  # std of a bell cut at one sigma
    with pytest.raises(RequestError, match="more than 2 std"):
        init.trunc_normal_(parameter(), 0.0, 1.0, 3.0, 4.0)
    with pytest.raises(RequestError, match="is empty"):
        init.trunc_normal_(parameter(), 0.0, 1.0, 1.0, -1.0)


def test_constants():
    w = parameter((2, 3))
    assert np.all(init.ones_(w).data == 1)
    assert np.all(init.constant_(w, 2.5).data == 2.5)
    assert np.all(init.zeros_(w).data == 0)


def test_the_seed_alone_decides_whatever_the_dtype():
    backend.manual_seed(5)
    single = init.kaiming_normal_(parameter()).data
    backend.manual_seed(5)
    double = init.kaiming_normal_(parameter(dtype=np.float64)).data
    assert np.array_equal(single, double.astype(np.float32))
    assert not np.array_equal(single, init.kaiming_normal_(parameter()).data)


def test_gains_are_torchs():
    torch = pytest.importorskip("torch")
    for name in ("linear", "conv2d", "conv_transpose2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert init.calculate_gain(name) == pytest.approx(torch.nn.init.calculate_gain(name), rel=1e-15)
    assert init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)


def test_bad_requests_are_told():
    with pytest.raises(RequestError, match="unknown nonlinearity 'swish'"):
        init.calculate_gain("swish")
    with pytest.raises(RequestError, match="unknown mode 'fan'"):
        init.kaiming_normal_(parameter(), mode="fan")
    with pytest.raises(RequestError, match=r"shape \(3,\) has no fan in"):
        init.xavier_normal_(parameter((3,)))


def test_skip_init_draws_nothing_and_ends_with_the_block():
    before = backend.generator_state()
    with init.skip_init():
        layer = nn.Linear(3, 4)
    assert backend.generator_state() == before
    assert np.all(layer.weight.data == 0)
    with pytest.raises(ZeroDivisionError), init.skip_init():
        raise ZeroDivisionError
    assert np.all(nn.Linear(3, 4).weight.data != 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: n.Linear(200, 300),
        lambda n: n.Conv1d(40, 60, 5),
        lambda n: n.Conv2d(20, 64, 5, groups=2),
        lambda n: n.ConvTranspose2d(24, 50, 5),
        lambda n: n.Embedding(300, 100),
        lambda n: n.MultiheadAttention(96, 4),
        lambda n: n.BatchNorm2d(7),
        lambda n: n.LayerNorm(7),
        lambda n: n.GroupNorm(2, 6),
        lambda n: n.RMSNorm(6),
    ],
)
def test_every_layer_starts_from_torchs_distribution(make):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    ours, theirs = make(nn).state_dict(), make(torch.nn).state_dict()
    assert list(ours) == list(theirs)
    for key, t in theirs.items():
        a, b = ours[key].numpy().astype(float).ravel(), t.numpy().astype(float).ravel()
        assert ours[key].shape == tuple(t.shape)
        if b.std() == 0:
            assert np.array_equal(a, b), key
            continue
        noise = 5 / np.sqrt(b.size)  # five standard errors
        assert abs(a.std() / b.std() - 1) < noise, key
        assert abs(a.mean() - b.mean()) < 2 * noise * b.std(), key
        if b.size > 1000:  # the tails tell a uniform from a normal
            assert abs(np.abs(a).max() / b.std() - np.abs(b).max() / b.std()) < 1, key
