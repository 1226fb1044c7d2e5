"""The policy/value tower against one written for torch, and what it refuses."""

import numpy as np
import pytest

from minires import functional as F
from minires import models, nn
from minires.engine import Tensor
from minires.errors import RequestError
from minires.models.policy_value import TowerBlock
from minires.switches import no_grad
from tests import peers
from tests.models import twin

rng = np.random.default_rng(37)


def torch_tower(torch, planes, actions, size, blocks, width, hidden, policy_planes, value_planes, norm):
    """The same network written for PyTorch, after the paper and not after minires."""
    t = torch.nn

    def normal(channels, head=False):
        if norm == "batch":
            return t.BatchNorm2d(channels)
        return t.Identity() if head else t.GroupNorm(1, channels)

    class Block(t.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = t.Conv2d(width, width, 3, 1, 1, bias=False)
            self.norm1 = normal(width)
            self.conv2 = t.Conv2d(width, width, 3, 1, 1, bias=False)
            self.norm2 = normal(width)

        def forward(self, x):
            return (x + self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))).relu()

    class Net(t.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = t.Conv2d(planes, width, 3, 1, 1, bias=False), normal(width)
            self.blocks = t.Sequential(*(Block() for _ in range(blocks)))
            self.policy_conv = t.Conv2d(width, policy_planes, 1, bias=False)
            self.policy_norm = normal(policy_planes, head=True)
            self.policy = t.Linear(policy_planes * size * size, actions)
            self.value_conv = t.Conv2d(width, value_planes, 1, bias=False)
            self.value_norm = normal(value_planes, head=True)
            self.value_hidden, self.value = t.Linear(value_planes * size * size, hidden), t.Linear(hidden, 1)

        def forward(self, x):
            x = self.blocks(self.norm(self.conv(x)).relu())
            policy = self.policy(self.policy_norm(self.policy_conv(x)).relu().flatten(1))
            value = self.value_hidden(self.value_norm(self.value_conv(x)).relu().flatten(1)).relu()
            return torch.cat((policy, self.value(value).tanh()), 1)

    return Net()


class Joined(nn.Module):
    """Scores and value side by side, (N, actions + 1), for a comparison that takes one output."""

    def __init__(self, tower):
        self.tower = tower

    def forward(self, x):
        scores, value = self.tower(x)
        return F.cat((scores, F.unsqueeze(value, 1)), dim=1)


@pytest.mark.parametrize(("norm", "heads"), [("batch", (2, 1)), ("group", (3, 4))])
def test_scores_value_and_gradients_equal_torch(norm, heads):
    torch = peers.torch()
    shape = {"planes": 2, "actions": 5, "size": 4, "blocks": 2, "width": 6, "hidden": 7, "norm": norm}
    shape |= {"policy_planes": heads[0], "value_planes": heads[1]}
    peer = twin.randomize(torch, torch_tower(torch, **shape).double())
    with torch.no_grad():
        for name, p in peer.named_parameters():
            if "norm" in name and name.endswith("weight") and norm == "group":
                p += 1.0
    ours = models.create("policy_value_tower", **shape)
    twin.load(ours, peer)

    def inside(key):
        return f"tower.{key}"

    x = rng.standard_normal((5, 2, 4, 4))
    twin.assert_same_network(torch, Joined(ours), peer, x, inside)


def test_a_block_whose_branch_is_zero_passes_relu_of_x_and_the_gradient_untouched():
    block = TowerBlock(3, "batch").to(np.float64)
    with no_grad():
        block.norm2.weight.copy_(np.zeros(3))
    x = Tensor(rng.standard_normal((2, 3, 4, 4)), requires_grad=True)
    y = block(x)
    assert np.array_equal(y.data, np.maximum(x.data, 0))
    gy = rng.standard_normal(y.shape)
    y.backward(gy)
    assert np.array_equal(x.grad, gy * (x.data > 0))


def test_with_group_norm_a_board_is_judged_alone_and_with_batch_norm_by_its_company():
    x = rng.standard_normal((6, 3, 5, 5)).astype(np.float32)
    for norm, alone in (("group", True), ("batch", False)):
        model = models.create("policy_value_tower", size=5, width=4, blocks=1, norm=norm)
        together, one = model(x)[0].data[:2], model(x[:2])[0].data
        assert np.allclose(together, one, rtol=0, atol=1e-5) == alone


def test_the_value_lies_between_a_loss_and_a_win():
    model = models.create("policy_value_tower", size=4, width=4, blocks=1)
    scores, value = model(100 * rng.standard_normal((50, 3, 4, 4)).astype(np.float32))
    assert scores.shape == (50, 4)
    assert value.shape == (50,)
    assert np.all(np.abs(value.data) <= 1)


def test_the_depth_is_that_of_the_value_head():
    model = models.create("policy_value_tower", width=4)
    layers = [n for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and "policy" not in n]
    assert len(layers) == models.info("policy_value_tower").depth


def test_bad_options_and_boards_are_refused():
    for options, message in (
        ({"norm": "layer"}, "norm is 'layer', but there are only 'batch' and 'group'"),
        ({"blocks": -1}, "blocks is -1, but must be at least 0"),
        ({"width": 0}, "width is 0, but must be at least 1"),
        ({"actions": 0}, "actions is 0, but must be at least 1"),
    ):
        with pytest.raises(RequestError, match=message):
            models.create("policy_value_tower", **options)
    model = models.create("policy_value_tower", size=4, width=4, blocks=0)
    for shape in ((2, 3, 4, 5), (2, 2, 4, 4), (3, 4, 4)):
        with pytest.raises(RequestError, match=r"built for images of shape \(3, 4, 4\), but x is .* planes and size"):
            model(np.zeros(shape, np.float32))
