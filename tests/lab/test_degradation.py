"""The small nets that the lab shares, and the measurement of degradation."""

import copy
import os

import numpy as np
import pytest

from minires import data, nn
from minires.errors import RequestError
from minires.lab import degradation, nets
from minires.lab.spread import percent, spread
from minires.switches import no_grad

rng = np.random.default_rng(9)


def relu(z):
    return np.maximum(z, 0)


# --- the nets


@pytest.mark.parametrize("kind", nets.KINDS)
def test_a_net_is_stem_blocks_and_head_by_the_formula_of_its_kind(kind):
    """Against NumPy, in evaluation mode, where a fresh batch norm divides by sqrt(1 + eps)."""
    net = nets.build(kind, 2, seed=0, dtype=np.float64).eval()
    x = rng.standard_normal((5, 64))
    stem, *inside, head = [layer.weight.data for layer in net.layers()]
    shrink = (1 + 1e-5) ** -0.5
    h = x @ stem.T if kind == "pre" else relu(shrink * (x @ stem.T))
    for first, second in zip(inside[::2], inside[1::2], strict=True):
        if kind == "pre":
            h = h + relu(shrink * (relu(shrink * h) @ first.T)) @ second.T
        else:
            branch = shrink * (relu(shrink * (h @ first.T)) @ second.T)
            h = relu(branch) if kind == "plain" else relu(h + branch)
    h = relu(shrink * h) if kind == "pre" else h
    with no_grad():
        np.testing.assert_allclose(net(x).data, h @ head.T + net.head.bias.data, atol=1e-12)


def test_the_same_seed_makes_the_same_net_in_every_dtype():
    a, b, c = nets.build("pre", 2, 7), nets.build("pre", 2, 7, dtype=np.float64), nets.build("pre", 2, 8)
    for x, y, z in zip(a.layers(), b.layers(), c.layers(), strict=True):
        assert np.array_equal(x.weight.data, y.weight.data)
        assert not np.array_equal(x.weight.data, z.weight.data)
    assert a.head.weight.dtype == np.float32
    assert b.head.weight.dtype == np.float64


@pytest.mark.parametrize(("blocks", "depth"), [(3, 8), (9, 20), (27, 56)])
def test_depth_counts_the_layers_with_weights_and_plain_and_residual_nets_have_the_same(blocks, depth):
    plain, post, pre = (nets.build(kind, blocks, 0) for kind in nets.KINDS)
    assert len(plain.layers()) == len(post.layers()) == len(pre.layers()) == depth
    sizes = [sum(p.data.size for p in net.parameters()) for net in (plain, post)]
    assert sizes[0] == sizes[1]


def test_weights_start_from_hes_normal_distribution():
    net = nets.build("plain", 27, seed=0)
    weights = np.concatenate(
        [layer.weight.data.ravel() for layer in net.body.modules() if isinstance(layer, nn.Linear)]
    )
    assert weights.std() == pytest.approx((2 / 32) ** 0.5, rel=0.02)
    assert np.mean(np.abs(weights) < weights.std()) == pytest.approx(0.683, abs=0.01)  # normal, not uniform: .577


def test_training_is_sgd_with_momentum_decay_and_a_drop_of_the_rate():
    """Two epochs of one batch each, by hand: the second step has a tenth of the rate (60 % of 2 epochs is 1)."""
    net, twin = (nets.build("post", 2, seed=0, dtype=np.float64) for _ in range(2))
    images = nets.Images(*(a[:64] for a in nets.digits().train))
    nets.train(net, 0, images, epochs=2, lr=0.1)
    velocity = {}
    for lr in (0.1, 0.01):
        twin.zero_grad()
        nn.CrossEntropyLoss()(twin(images.pixels), images.labels).backward()
        for key, p in twin.named_parameters():
            velocity[key] = 0.9 * velocity.get(key, 0) + p.grad + 1e-4 * p.data
            with no_grad():
                p.copy_(p.data - lr * velocity[key])
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=0, atol=1e-10)


def test_training_is_the_seeds_and_lowers_the_loss():
    told, runs = [], []
    for seed in (1, 1, 2):
        net = nets.build("pre", 2, seed=0)
        runs.append(nets.train(net, seed, epochs=2, tick=told.append, label="pre-5"))
        assert net.training
    assert runs[0] == runs[1] != runs[2]
    assert np.mean(runs[0][-10:]) < 0.5 * np.mean(runs[0][:3])
    assert len(told) == 6
    assert told[1].startswith("pre-5: epoch 2 of 2")


def test_an_error_is_by_running_statistics_and_changes_nothing():
    net = nets.build("post", 2, seed=0)
    nets.train(net, seed=0, epochs=1)
    net.body[0].eval()  # frozen by somebody
    kept = {key: t.data.copy() for key, t in net.state_dict().items()}
    images = nets.digits().test
    whole = nets.error(net, *images)
    assert [m.training for m in (net, net.body[0], net.body[1])] == [True, False, True]
    assert all(np.array_equal(t.data, kept[key]) for key, t in net.state_dict().items())
    halves = [nets.error(net, images.pixels[part], images.labels[part]) for part in (slice(0, 200), slice(200, 397))]
    assert whole == pytest.approx((200 * halves[0] + 197 * halves[1]) / 397)
    assert nets.error(net, images.pixels, (images.labels + 1) % 10) > 0.8


@pytest.mark.parametrize(
    ("request_", "words"), [(("dense", 3), "plain, post, pre"), (("pre", 0), "at least one block")]
)
def test_a_net_that_there_is_not_is_refused_in_a_line(request_, words):
    with pytest.raises(RequestError, match=words) as refused:
        nets.build(*request_, seed=0)
    assert "\n" not in str(refused.value)


def test_digits_are_standardized_and_whole():
    train, test = nets.digits()
    assert train.pixels.shape == (1400, 64)
    assert test.pixels.shape == (397, 64)
    assert abs(train.pixels.mean()) < 0.01
    assert train.pixels.std() == pytest.approx(1, abs=0.01)


# --- measuring


def test_gradient_norms_are_the_layers_and_leave_the_net_alone():
    net = nets.build("pre", 3, seed=0)
    nets.train(net, seed=0, epochs=1)
    net.zero_grad()
    kept = {key: t.data.copy() for key, t in net.state_dict().items()}
    norms = degradation.gradient_norms(net)
    assert all(np.array_equal(t.data, kept[key]) for key, t in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    images = nets.Images(*(a[:256] for a in nets.digits().train))
    nn.CrossEntropyLoss()(net(images.pixels), images.labels).backward()
    expected = [np.linalg.norm(layer.weight.grad) for layer in net.body.modules() if isinstance(layer, nn.Linear)]
    np.testing.assert_allclose(norms, expected, rtol=1e-5)


def test_in_a_plain_net_gradients_grow_by_a_fifth_a_layer():
    """sqrt(pi / (pi - 1)) = 1.21, and not at all like it with skips."""
    plain, pre = (degradation.gradient_norms(nets.build(kind, 15, seed=0)) for kind in ("plain", "pre"))
    assert (plain[0] / plain[-1]) ** (1 / 29) == pytest.approx(1.21, abs=0.05)
    assert pre[0] / pre[-1] < 20


def test_mnist_is_pooled_to_14_by_14_in_its_order():
    images = rng.integers(0, 256, (degradation.MNIST_IMAGES + 5, 1, 28, 28), dtype=np.uint8)
    labels = np.arange(len(images)) % 10
    held = data.Dataset(images, labels, "mnist", tuple("0123456789"), (0.1,), (0.5,))
    pooled = degradation._halved(held)
    assert pooled.pixels.shape == (degradation.MNIST_IMAGES, 196)
    assert pooled.pixels[3, 15] == pytest.approx((images[3, 0, 2:4, 2:4].mean() / 255 - 0.1) / 0.5, rel=1e-5)
    assert np.array_equal(pooled.labels, labels[: degradation.MNIST_IMAGES])


def test_where_mnist_is_not_here_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIRES_DATA", str(tmp_path))
    told = []
    found, absent = degradation._mnist(0, told.append)
    assert found is None
    assert "MINIRES_DATA names the folder" in absent
    assert len(told) == 6  # the bar runs to its end


@pytest.mark.parametrize("scale", ["smoke", "full"])
def test_every_part_of_a_measurement_is_ticked_and_told(scale, monkeypatch, tmp_path):
    monkeypatch.setenv("MINIRES_DATA", str(tmp_path))
    monkeypatch.setattr(degradation, "gradient_norms", lambda net: [1.0, 1.0])
    monkeypatch.setattr(nets, "error", lambda net, pixels, labels: 0.1)
    monkeypatch.setattr(nets, "train", lambda net, seed, images, epochs: [1.0] * epochs)
    told = []
    found = degradation.measure(scale, 0, told.append)
    assert len(told) == degradation.EXPERIMENT.ticks(scale)
    assert (found["conv"] is None) == (scale == "smoke")
    assert found["mnist"] is None
    assert found["mnist_absent"]
    assert len(degradation.EXPERIMENT.tables([found])) == (1 if scale == "smoke" else 2)


# --- verdicts


def result():
    """What a measurement could look like."""
    errors = {"plain": (0.01, 0.2, 0.8), "post": (0.01, 0.02, 0.1), "pre": (0.01, 0.01, 0.01)}
    found = {"seed": 0, "nets": {}, "conv": None, "mnist": None, "mnist_absent": "only at --scale full"}
    for kind, by_depth in errors.items():
        found["nets"][kind] = {}
        for depth, train in zip(degradation.DEPTHS, by_depth, strict=True):
            growth = 1.21 if kind == "plain" else 1.02
            start = [growth ** (depth - 3 - k) for k in range(depth - 2)]
            measured = {"train": train, "test": train + 0.03, "loss": train, "start": start, "end": [0.5] * (depth - 2)}
            found["nets"][kind][str(depth)] = measured
    return found


def test_the_claims_hold_for_such_a_measurement():
    assert [v.holds for v in degradation.EXPERIMENT.judge([result(), result()])] == [True] * 6


@pytest.mark.parametrize(
    ("number", "kind", "depth", "what", "value"),
    [
        (0, "plain", 56, "train", 0.3),
        (0, "plain", 20, "train", 0.02),
        (1, "plain", 56, "train", 0.1),
        (2, "post", 56, "train", 0.5),
        (3, "pre", 56, "train", 0.2),
        (3, "pre", 56, "train", 0.06),
        (4, "plain", 56, "start", [1e-6] * 53 + [1.0]),
        (4, "plain", 56, "end", [1e-6] * 53 + [1.0]),
        (5, "plain", 56, "start", [1.05**-k for k in range(54)]),
        (5, "pre", 56, "start", [1.21**-k for k in range(54)]),
    ],
)
def test_a_measurement_to_the_contrary_turns_the_verdict(number, kind, depth, what, value):
    other = copy.deepcopy(result())
    other["nets"][kind][str(depth)][what] = value
    assert not degradation.EXPERIMENT.judge([result(), other])[number].holds


def test_figure_text_and_tables_tell_the_numbers():
    found = [result(), result()]
    for words in ("plain 1.0, 20.0, 80.0", "pre-activation 1.0, 1.0, 1.0", "24,400 times in the plain net"):
        assert words in degradation.EXPERIMENT.alt(found)
    assert [row[2] for row in degradation.EXPERIMENT.tables(found)[0].rows[:3]] == [1, 20, 80]
    pytest.importorskip("matplotlib")
    from minires.train import figures

    figure = figures.blank(9.5, 4.5)
    degradation.EXPERIMENT.draw(found, figure)
    figure.savefig(os.devnull, format="png")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (spread([0.25]), "0.2"),
        (spread([1, 2], ".2f"), "1.50 (1.00 to 2.00)"),
        (percent([0.081]), "8.1 %"),
        (percent([0.08, 0.1]), "9.0 % (8.0 to 10.0)"),
        (degradation.rounded(25134.0), "25,100"),
        (degradation.rounded(12.19), "12.2"),
    ],
)
def test_numbers_are_told_with_their_spread(told, expected):
    assert told == expected
