"""The sum over 2^L paths: every path is a product of Jacobians, and all of them together are backpropagation."""

import copy
import itertools
import math

import numpy as np
import pytest

import minires as mr
from minires import functional as F
from minires import nn
from minires.check.law import pull
from minires.errors import RequestError
from minires.lab import nets, paths

rng = np.random.default_rng(6)


def branches(blocks, d=5):
    """Random branches x -> v relu(u x) of two layers."""
    weights = rng.standard_normal((blocks, 2, d, d)) * d**-0.5
    return [lambda x, u=u, v=v: F.linear(F.relu(F.linear(x, u)), v) for u, v in weights]


def stacked(fs, after=lambda x: x):
    def net(x):
        for f in fs:
            x = after(F.residual_add(x, f(x)))
        return x

    return net


@pytest.mark.parametrize("blocks", [1, 2, 5])
@pytest.mark.parametrize("after", [lambda x: x, F.relu, F.tanh], ids=["identity", "relu", "tanh"])
def test_the_paths_add_up_to_backpropagation(blocks, after):
    """Also where an activation stands behind the sum: it is part of every path."""
    net, x, gy = stacked(branches(blocks), after), rng.standard_normal((3, 5)), rng.standard_normal((3, 5))
    _, (expected,) = pull(net, x, gy=gy)
    assert np.abs(paths.path_sum(net, x, gy) - expected).max() <= 1e-12 * np.abs(expected).max()
    assert paths.path_terms(net, x, gy).shape == (2**blocks, 3, 5)


def test_each_path_is_the_product_of_its_blocks_jacobians():
    fs, x, gy = branches(3), rng.standard_normal(5), rng.standard_normal(5)
    points = [x]
    for f in fs:
        points.append(points[-1] + f(points[-1]).data)
    jacobians = [mr.jacobian(f)(at).data for f, at in zip(fs, points, strict=False)]
    terms = paths.path_terms(stacked(fs), x, gy)
    for path, term in enumerate(terms):
        expected = gy
        for k in reversed(range(3)):
            expected = jacobians[k].T @ expected if path >> k & 1 else expected
        np.testing.assert_allclose(term, expected, rtol=0, atol=1e-13)


def test_the_path_of_skips_alone_brings_the_gradient_untouched():
    gy = rng.standard_normal((2, 5))
    assert np.array_equal(paths.path_terms(stacked(branches(4)), rng.standard_normal((2, 5)), gy)[0], gy)


def test_gradient_by_length_groups_the_paths():
    net, x, gy = stacked(branches(5)), rng.standard_normal((2, 5)), rng.standard_normal((2, 5))
    terms, lengths = paths.path_terms(net, x, gy), paths.path_lengths(5)
    grouped = np.stack([terms[lengths == k].sum(axis=0) for k in range(6)])
    np.testing.assert_allclose(paths.gradient_by_length(net, x, gy), grouped, rtol=0, atol=1e-12)


def test_a_real_nets_loss_is_taken_apart_as_well():
    net = nets.build("pre", 4, seed=1)
    images = nets.Images(*(a[:6] for a in nets.digits().train))
    f, x = paths.above_stem(net, images)
    _, (expected,) = pull(f, x, gy=np.array(1.0))
    for found in (paths.path_sum(f, x), paths.gradient_by_length(f, x).sum(axis=0)):
        assert np.abs(found - expected).max() <= 1e-12 * np.abs(expected).max()


def test_images_do_not_meet_on_their_paths():
    """Evaluation mode: an image's gradient is the same whoever stands beside it, but for the mean over the batch."""
    net = nets.build("pre", 2, seed=1)
    pixels, labels = (a[:6] for a in nets.digits().train)
    six, two = (paths.path_terms(*paths.above_stem(net, nets.Images(pixels[:n], labels[:n]))) for n in (6, 2))
    np.testing.assert_allclose(6 * six[:, :2], 2 * two, rtol=0, atol=1e-12)


def test_norms_of_random_paths_are_those_of_the_paths():
    net, x, gy = stacked(branches(3)), rng.standard_normal(5), rng.standard_normal(5)
    norms, lengths = np.linalg.norm(paths.path_terms(net, x, gy), axis=1), paths.path_lengths(3)
    found = paths.path_norms(net, x, draws=60, seed=0, gy=gy)
    assert found[0] == pytest.approx(norms[0])
    assert found[3] == pytest.approx(norms[7])
    for k in (1, 2):
        assert found[k] == pytest.approx(norms[lengths == k].mean(), rel=0.3)
        assert norms[lengths == k].min() < found[k] < norms[lengths == k].max()


def test_the_tape_is_left_as_it_was():
    """A walk is over when it is over: the next backward is whole again."""
    net, x, gy = stacked(branches(3)), rng.standard_normal(5), rng.standard_normal(5)
    _, (before,) = pull(net, x, gy=gy)
    paths.path_terms(net, x, gy)
    paths.gradient_by_length(net, x, gy)
    assert np.array_equal(pull(net, x, gy=gy)[1][0], before)


# --- lengths


@pytest.mark.parametrize("blocks", [1, 9, 54])
def test_lengths_counted_on_the_tape_are_binomial(blocks):
    np.testing.assert_allclose(paths.counted(blocks), paths.length_distribution(blocks), rtol=0, atol=1e-13)
    assert np.bincount(paths.path_lengths(9)).tolist() == [math.comb(9, k) for k in range(10)]


def test_one_binomial_gives_both_of_veits_ranges():
    all_, effective = paths.length_distribution(54), paths.length_distribution(54, 0.25)
    assert all_[19:36].sum() == pytest.approx(0.980, abs=5e-4)
    assert all_[5:18].sum() == pytest.approx(0.004537, abs=5e-7)
    assert paths.central_range(effective) == (5, 17)
    assert paths.central_range(all_) == (20, 34)


@pytest.mark.parametrize("gain", [0.1, 0.26, 1.0, 3.0])
def test_a_branchs_gain_tilts_the_binomial(gain):
    shares = paths.length_distribution(27, gain)
    assert shares.sum() == pytest.approx(1)
    assert paths.mean_length(shares) == pytest.approx(27 * gain / (1 + gain))
    np.testing.assert_allclose(paths.mass_by_length(7.0 * gain ** np.arange(28)), shares, atol=1e-14)
    slope, straight = paths.log_slope(7.0 * 0.5 ** np.arange(28))
    assert (math.exp(slope), straight) == (pytest.approx(0.5), pytest.approx(1))


def test_more_blocks_than_a_float_can_count_paths_of_are_refused():
    assert paths.mean_length(paths.length_distribution(1000)) == pytest.approx(500)
    with pytest.raises(RequestError, match="at most 1000"):
        paths.length_distribution(1001)


def test_central_range_is_the_median_where_nothing_is_left_of_the_mass():
    assert paths.central_range(np.array([1.0, 1.0, 5.0, 1.0, 1.0]), mass=0.1) == (2, 2)
    assert paths.central_range(np.array([1.0, 1.0, 5.0, 1.0, 1.0]), mass=0.9) == (0, 4)


# --- requests that cannot be met


@pytest.mark.parametrize(
    ("f", "gy", "words"),
    [
        (lambda x: x * 2.0, np.ones(5), "no residual sum"),
        (lambda x: x, np.ones(5), "no residual sum"),
        (stacked(branches(2)), None, "give gy"),
        (stacked(branches(17)), np.ones(5), "too many to list; gradient_by_length"),
    ],
    ids=["plain", "nothing", "no gradient", "17 blocks"],
)
def test_what_has_no_paths_to_list_is_refused_in_a_line(f, gy, words):
    with pytest.raises(RequestError, match=words) as refused:
        paths.path_terms(f, rng.standard_normal(5), gy)
    assert "\n" not in str(refused.value)


def test_a_plain_net_has_no_paths():
    net = nets.build("plain", 2, seed=0)
    with pytest.raises(RequestError, match=r"nn\.Residual"):
        paths.path_terms(*paths.above_stem(net, nets.Images(*(a[:4] for a in nets.digits().train))))


# --- verdicts


def result():
    """What a measurement could look like: a branch multiplies by .25, and paths cancel."""
    norms = [0.01 * 0.25**k for k in range(28)]
    by_length = {"norms": norms, "slope": math.log(0.25), "r2": 0.99, "shares": [0.1, 0.4, 0.3, 0.2] + [0.0] * 24}
    return {
        "seed": 0,
        "exact": {"blocks": 8, "paths": 256, "difference": 1e-15, "norms": norms[:9]},
        "start": copy.deepcopy(by_length),
        "trained": by_length,
        "counted": paths.length_distribution(54).tolist(),
    }


def test_the_verdicts_say_which_slogans_are_wrong():
    assert [v.holds == v.expected for v in paths.EXPERIMENT.judge([result(), result()])] == [True] * 7
    assert [v.expected for v in paths.EXPERIMENT.judge([result()])].count(False) == 2


@pytest.mark.parametrize(
    ("number", "path", "value"),
    [
        (0, ("exact", "difference"), 1e-10),
        (1, ("counted",), paths.length_distribution(54, 0.5).tolist()),
        (2, ("trained", "slope"), -0.1),
        (2, ("trained", "r2"), 0.5),
        (3, ("trained", "norms"), [1.0] * 28),
        (6, ("trained", "shares"), paths.length_distribution(27, 0.25).tolist()),
    ],
)
def test_a_measurement_to_the_contrary_turns_the_verdict(number, path, value):
    other = result()
    at = other
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    before, after = (paths.EXPERIMENT.judge([r])[number].holds for r in (result(), other))
    assert before != after


def test_every_kind_of_block_has_its_paths():
    """A Residual with a scale and a norm in front: still one sum, still two ways through it."""
    block = nn.Residual(nn.Linear(5, 5), scale=0.5, norm="pre", norm_layer=nn.LayerNorm(5)).to(np.float64)
    x, gy = rng.standard_normal((2, 5)), rng.standard_normal((2, 5))
    skip, branch = paths.path_terms(block, x, gy)
    assert np.array_equal(skip, gy)
    np.testing.assert_allclose(skip + branch, pull(block, x, gy=gy)[1][0], atol=1e-14)


def test_alt_text_and_tables_tell_the_numbers():
    text = paths.EXPERIMENT.alt([result()])
    for words in ("0.25 a branch", "13.5", "5.4", "1.6", "98 %"):
        assert words in text
    summary, by_length = paths.EXPERIMENT.tables([result()])
    assert len(by_length.rows) == 28
    assert summary.rows[1][1] == pytest.approx(0.25)
    assert list(itertools.accumulate(row[1] for row in by_length.rows))[-1] == pytest.approx(100)
