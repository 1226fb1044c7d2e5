"""Stochastic depth: what is drawn, what a dropped branch leaves undone, and the rule at test time."""

import numpy as np
import pytest

from minires import backend, models, nn
from minires.check import gradcheck
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models.stochastic_depth import AveragingShortcut
from minires.switches import no_grad

rng = np.random.default_rng(31)


def images(n=4, size=8):
    return rng.standard_normal((n, 3, size, size))


def test_the_blocks_survive_with_linearly_falling_chances():
    network = models.create("stochastic_depth_resnet20", width=2, last=0.4)
    chances = [block.drop_path.survival for block in network.blocks()]
    np.testing.assert_allclose(chances, 1 - np.arange(1, 10) / 9 * 0.6, rtol=1e-14)
    default = models.create("stochastic_depth_resnet110", width=1).blocks()
    assert sum(block.drop_path.survival for block in default) == pytest.approx((3 * 54 - 1) / 4)
    with pytest.raises(RequestError, match="last is 2"):
        models.create("stochastic_depth_resnet8", last=2.0)


def test_a_dropped_branch_gets_no_gradient_and_its_batch_norms_see_no_batch():
    network = models.create("stochastic_depth_resnet20", width=2)
    for number, block in enumerate(network.blocks()):
        block.drop_path.survival = float(number % 2)
    y = network(Tensor(images().astype(np.float32)))
    y.backward(np.random.default_rng(3).standard_normal(y.shape).astype(np.float32))
    for number, block in enumerate(network.blocks()):
        computed = bool(number % 2)
        assert all((p.grad is not None) == computed for p in block.parameters())
        assert not computed or np.abs(block.conv2.weight.grad).max() > 1e-6
        assert block.bn1.num_batches_tracked.item() == block.bn2.num_batches_tracked.item() == computed


def test_on_average_as_many_branches_are_computed_as_their_chances_say():
    network = models.create("stochastic_depth_resnet32", width=1)
    x, passes = images(2, 4).astype(np.float32), 60
    backend.manual_seed(5)
    with no_grad():
        for _ in range(passes):
            network(x)
    computed = [block.bn1.num_batches_tracked.item() for block in network.blocks()]
    chances = np.array([block.drop_path.survival for block in network.blocks()])
    spread = np.sqrt(passes * np.sum(chances * (1 - chances)))
    assert abs(sum(computed) - passes * chances.sum()) < 4 * spread
    assert computed[0] > computed[-1]


def test_evaluation_is_the_network_with_each_branch_times_its_chance():
    network = models.create("stochastic_depth_resnet8", width=2).to(np.float64).eval()
    x = images()
    expected = nn.ReLU()(network.bn1(network.conv1(x)))
    for block in network.blocks():
        f = block.branch(expected) * block.drop_path.survival
        expected = nn.ReLU()(block.shortcut(expected) + f)
    expected = network.linear(nn.GlobalAvgPool2d()(expected))
    np.testing.assert_allclose(network(x).data, expected.data, rtol=1e-12)


@pytest.mark.parametrize("sides", [(6, 8), (5, 7), (1, 2)])
def test_the_averaging_shortcut_has_the_shape_of_its_branch_and_hands_back_a_share(sides):
    shortcut = AveragingShortcut(2, 5, 2)
    x = rng.standard_normal((2, 2, *sides))
    y = shortcut(x)
    assert y.shape == nn.Conv2d(2, 5, 3, 2, padding=1)(x.astype(np.float32)).shape
    assert not y.data[:, 2:].any()
    np.testing.assert_allclose(y.data[:, :2, 0, 0], x[:, :, :2, :2].mean((2, 3)), rtol=1e-13)
    gradcheck(shortcut, x)


def test_the_same_seed_drops_the_same_branches():
    network = models.create("stochastic_depth_resnet56", width=1).to(np.float64)
    x = images(2, 4)

    def scores(seed):
        backend.manual_seed(seed)
        with no_grad():
            return network(x).data

    assert np.array_equal(scores(3), scores(3))
    assert not np.array_equal(scores(3), scores(4))
