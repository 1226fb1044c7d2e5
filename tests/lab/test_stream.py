"""The stream is what the net computes, its terms add up, and each kind grows as its formula says."""

import itertools

import numpy as np
import pytest

from minires import functional as F
from minires import nn
from minires.engine import Tensor
from minires.lab import nets, stream


@pytest.fixture(scope="module")
def net():
    """A net that knows a little, in float64, and 50 test images."""
    made = nets.build("pre", 5, 1)
    nets.train(made, 1, epochs=1)
    return made.to(np.float64)


@pytest.fixture(scope="module")
def images():
    pixels, labels = nets.digits().test
    return nets.Images(pixels[:50].astype(np.float64), labels[:50])


def test_the_trace_ends_where_the_net_does(net, images):
    found = stream.trace(net, images.pixels)
    with nn.evaluating(net):
        scores = net.head(net.norm(Tensor(found.points[-1])))
        np.testing.assert_array_equal(scores.data, net(images.pixels).data)
    np.testing.assert_allclose(found.points[1:], found.points[:-1] + found.updates, atol=1e-12)
    assert net.training


def test_shares_are_projections_and_add_up_to_one(net, images):
    found = stream.trace(net, images.pixels)
    shares = stream.shares(found)
    assert shares.sum() == pytest.approx(1.0, abs=1e-12)
    last = found.points[-1].reshape(-1)
    third = found.updates[2].reshape(-1)
    assert shares[3] == pytest.approx(third @ last / (last @ last))
    alone = stream.Stream(found.points, 2 * found.updates)
    assert stream.shares(alone).sum() != pytest.approx(1.0, abs=0.01)


def test_the_lens_ends_at_the_accuracy_of_the_net(net, images):
    seen = stream.lens(net, stream.trace(net, images.pixels), images.labels)
    assert len(seen) == 6
    assert seen[-1] == pytest.approx(1 - nets.error(net, *images))
    wrong = stream.lens(net, stream.trace(net, images.pixels), (images.labels + 1) % 10)
    assert wrong[-1] < seen[-1]


# --- growth


def test_a_power_of_depth_has_its_exponent():
    depth = np.arange(1, 40)
    assert stream.exponent(np.array([1.0, *(3 * depth**0.7)])) == pytest.approx(0.7)


def formula(kind, parts, x):
    """The last state of a stream by the formula in its name, from the branches alone."""
    terms = [x]
    for f in parts:
        if kind == "attention residuals":  # equal weights: the mean of all that was written
            terms.append(f.branch(f.norm_layer(sum(terms[1:], terms[0]) / len(terms))))
        elif kind == "post-norm":
            terms = [F.layer_norm(terms[0] + f.branch(terms[0]), stream.WIDTH)]
        elif kind == "no norm":
            terms = [terms[0] + f.branch(terms[0])]
        else:
            update = f.branch(F.layer_norm(terms[0], stream.WIDTH))
            update = {"scaled": update / len(parts) ** 0.5, "relu last": F.relu(update), "ReZero": update * 0}.get(
                kind, update
            )
            terms = [terms[0] + update]
    return sum(terms[1:], terms[0]) / len(terms)


@pytest.mark.parametrize("kind", stream.STREAMS)
def test_each_kind_of_stream_follows_its_formula(kind):
    norm = "post" if kind == "post-norm" else "pre"
    expected = formula(kind, stream.sublayers(3, 5, norm), stream.tokens(5))
    found = stream.states(kind, 3, 5)
    assert len(found) == 4
    np.testing.assert_allclose(found[-1], expected.data, rtol=1e-9, atol=1e-12)


def test_equal_weights_over_depth_point_where_the_sum_does():
    """Attention residuals with queries of zero are the pre-norm net up to a factor, which a norm forgets."""
    standard, attention = (stream.states(kind, 6, 0)[-1] for kind in ("pre-norm", "attention residuals"))
    cosine = np.sum(standard * attention, -1) / np.linalg.norm(standard, axis=-1) / np.linalg.norm(attention, axis=-1)
    assert cosine.min() > 1 - 1e-6


def test_a_rectified_branch_only_increases_the_stream():
    points = stream.states("relu last", 6, 0)
    assert all(np.all(after >= before) for before, after in itertools.pairwise(points))
    points = stream.states("pre-norm", 6, 0)
    assert not np.all(points[1] >= points[0])


def test_rezero_leaves_every_bit_in_place():
    points = stream.states("ReZero", 6, 0)
    assert all(np.array_equal(points[0], x) for x in points)


def test_growth_is_the_root_mean_square():
    expected = [np.sqrt(np.mean(x**2)) for x in stream.states("pre-norm", 4, 2)]
    np.testing.assert_allclose(stream.growth("pre-norm", 4, 2), expected, rtol=1e-12)


def test_weights_are_xavier_normal_and_biases_zero():
    for f in stream.sublayers(2, 0):
        for name, p in f.named_parameters():
            if p.ndim == 2:
                assert p.data.std() == pytest.approx(stream.WIDTH**-0.5, rel=0.05)
            elif not name.startswith("norm_layer"):
                assert not p.data.any()


def test_the_verdicts_can_fail():
    depth = np.arange(25)
    good = {
        "no norm": 2.0**depth,
        "relu last": 1.0 + depth,
        "pre-norm": np.sqrt(1 + depth),
        "scaled": 1 + depth / 100,
        "ReZero": np.ones(25),
        "post-norm": np.ones(25),
        "attention residuals": 1 / (1 + depth) ** 0.5,
    }

    def told(growth=(), **changes):
        trained = {"shares": [0.5, 0.1, 0.4], "relative": [0.5, 0.1], "lens": [0.2, 0.6, 0.97], **changes}
        return [v.holds for v in stream.judge([{"growth": {**good, **dict(growth)}, **trained}])]

    flags = told()
    assert flags == [True, False, True, False, True, True, False, True]
    for number, changes in (
        (0, {"growth": {"pre-norm": np.sqrt(1 + 2 * depth)}}),
        (0, {"growth": {"pre-norm": np.sqrt(1 + 0.4 * depth)}}),
        (2, {"growth": {"relu last": 1 + depth**0.5}}),
        (4, {"growth": {"scaled": 1.0 + depth}}),
        (4, {"growth": {"ReZero": 1 + depth * 1e-15}}),
        (5, {"relative": [0.5, 0.4]}),
        (7, {"lens": [0.2, 0.6, 0.8]}),
        (7, {"lens": [0.2, 0.95, 0.5, 0.97]}),
        (7, {"lens": [0.9, 0.95, 0.97]}),
    ):
        assert told(**changes) == [flag and k != number for k, flag in enumerate(flags)], changes
