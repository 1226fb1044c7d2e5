"""The split of a gradient is what lesions leave of it, its shares add up to 1, and a skip that is not +1 is seen."""

import itertools

import numpy as np
import pytest

import minires as mr
from minires import functional as F
from minires.lab import nets, skip

BLOCKS = 4


@pytest.fixture
def net():
    return nets.build("pre", BLOCKS, 3, np.float64)


@pytest.fixture
def images():
    pixels, labels = skip.batch()
    return nets.Images(pixels[:32], labels[:32])


def gradients(net, images, **lesion):
    """The gradients at x_0, ..., x_L under a lesion."""
    points, scores = skip.stream(net, images.pixels)
    with mr.lesion(**lesion):
        F.cross_entropy(scores, images.labels).backward()
    net.zero_grad()
    return [x.grad for x in points]


@pytest.mark.parametrize("block", range(BLOCKS))
def test_each_part_is_what_a_lesion_of_the_other_leaves(net, images, block):
    found = skip.split(net, images)
    only_skip = gradients(net, images, skip_grad=1, branch_grad=0, block=block)[block]
    only_branch = gradients(net, images, skip_grad=0, branch_grad=1, block=block)[block]
    whole = gradients(net, images, skip_grad=1)[block]
    assert found["skip"][block] == pytest.approx(np.linalg.norm(only_skip), rel=1e-12)
    assert found["branch"][block] == pytest.approx(np.linalg.norm(only_branch), rel=1e-12)
    assert found["total"][block] == pytest.approx(np.linalg.norm(whole), rel=1e-12)
    np.testing.assert_allclose(only_skip + only_branch, whole, atol=1e-15)
    cosine = np.vdot(only_skip, only_branch) / np.linalg.norm(only_skip) / np.linalg.norm(only_branch)
    assert found["cosine"][block] == pytest.approx(cosine, rel=1e-9)


def test_shares_add_up_to_one_and_norms_do_not(net, images):
    found = {key: np.array(value) for key, value in skip.split(net, images).items()}
    np.testing.assert_allclose(found["skip_share"] + found["branch_share"], 1.0, rtol=1e-12)
    assert np.all(found["skip"] + found["branch"] > 1.01 * found["total"])
    squares = found["skip"] ** 2 + found["branch"] ** 2 + 2 * found["cosine"] * found["skip"] * found["branch"]
    np.testing.assert_allclose(squares, found["total"] ** 2, rtol=1e-12)


def test_the_skips_entry_is_the_gradient_from_above_bit_for_bit(net, images):
    found = skip.split(net, images)
    assert found["untouched"]
    assert found["rounding"] < 1e-15
    above = gradients(net, images, skip_grad=1)
    assert found["skip"] == [float(np.linalg.norm(gy)) for gy in above[1:]]
    lengths = [np.linalg.norm(g, axis=1) for g in above]
    assert found["smaller"] == [float(np.mean(gx < gy)) for gx, gy in itertools.pairwise(lengths)]


def test_a_rectifier_behind_the_sum_touches_it(images):
    assert not skip.split(nets.build("post", BLOCKS, 3, np.float64), images)["untouched"]


def test_a_wrong_backward_of_the_sum_is_seen(net, images):
    with mr.lesion(skip_grad=1 + 1e-12):
        assert not skip.split(net, images)["untouched"]


@pytest.mark.parametrize("factor", [1.0, 0.0, 0.7])
def test_reach_is_the_norm_of_the_gradient_with_so_much_of_the_skip(net, images, factor):
    expected = [np.linalg.norm(g) for g in gradients(net, images, skip_grad=factor)]
    np.testing.assert_allclose(skip.reach(net, images, factor), expected, rtol=1e-12)


def test_nothing_is_left_behind_in_the_net(net, images):
    before = {name: p.data.copy() for name, p in net.named_parameters()}
    skip.split(net, images)
    skip.reach(net, images, 0.0)
    for name, p in net.named_parameters():
        assert p.grad is None
        np.testing.assert_array_equal(p.data, before[name])


def test_small_weights_make_every_branch_and_its_gradient_small(net, images):
    whole = skip.split(net, images)
    tiny = skip.split(skip.shrink_(net, 1e-6), images)
    assert max(tiny["branch_share"]) < 1e-4 < min(np.abs(whole["branch_share"]))
    np.testing.assert_allclose(tiny["ratio"], 1.0, atol=1e-4)


def test_the_verdicts_can_fail():
    def told(**changes):
        good = {"skip": [1.0], "ratio": [1.0], "cosine": [0.0], "untouched": True, "rounding": 0.0, "smaller": [0.2]}
        result = {
            "before": {**good, **changes.get("split", {})},
            "after": good,
            "tiny": {"whole": 1.0, "cut": 1e-30, **changes.get("tiny", {})},
            "loss": {"whole": [0.1], "cut": [1.0], "plain": [2.0], **changes.get("loss", {})},
        }
        return [verdict.holds for verdict in skip.judge([result])]

    good = [True, True, True, False, True]
    assert told() == good
    for number, changes in (
        (0, {"split": {"untouched": False}}),
        (0, {"split": {"rounding": 1e-9}}),
        (1, {"tiny": {"whole": 0.1}}),
        (1, {"tiny": {"cut": 0.9}}),
        (2, {"split": {"ratio": [0.1]}}),
        (4, {"loss": {"cut": [0.15]}}),
        (4, {"loss": {"plain": [0.15]}}),
    ):
        assert told(**changes) == [flag and k != number for k, flag in enumerate(good)], changes
