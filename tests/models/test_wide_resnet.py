"""Wide residual networks: the published counts, and an independent network written for PyTorch."""

import numpy as np
import pytest

from minires import functional as F
from minires import models, nn
from minires.engine import Tensor
from minires.errors import RequestError
from tests import peers
from tests.models.twin import assert_same_network, load, randomize

rng = np.random.default_rng(41)


@pytest.mark.parametrize(("depth", "k"), [(16, 4), (28, 10), (40, 4)])
def test_the_depth_counts_all_convolutions_and_k_the_widths(depth, k):
    name = f"wrn{depth}_{k}"
    model = models.create(name, width=2)
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == depth == models.info(name).depth
    assert model.conv1.weight.shape[0] == 2
    for factor, stage in zip((1, 2, 4), (model.layer1, model.layer2, model.layer3), strict=True):
        assert {block.conv2.weight.shape[0] for block in stage} == {2 * k * factor}


def torchs(torch, depth, k, width, classes):
    """WRN-depth-k for PyTorch, after the paper's table 1 and figure 1."""
    t = torch.nn

    class Block(t.Module):
        def __init__(self, a, b, stride):
            super().__init__()
            self.bn1 = t.BatchNorm2d(a)
            self.conv1 = t.Conv2d(a, b, 3, stride, 1, bias=False)
            self.bn2 = t.BatchNorm2d(b)
            self.conv2 = t.Conv2d(b, b, 3, 1, 1, bias=False)
            if a != b:
                self.shortcut = t.Conv2d(a, b, 1, stride, bias=False)

        def forward(self, x):
            a = self.bn1(x).relu()
            f = self.conv2(self.bn2(self.conv1(a)).relu())
            return f + (self.shortcut(a) if hasattr(self, "shortcut") else x)

    class Net(t.Module):
        def __init__(self):
            super().__init__()
            n, w = (depth - 4) // 6, k * width
            self.conv1 = t.Conv2d(3, width, 3, 1, 1, bias=False)
            self.layer1 = t.Sequential(Block(width, w, 1), *(Block(w, w, 1) for _ in range(n - 1)))
            self.layer2 = t.Sequential(Block(w, 2 * w, 2), *(Block(2 * w, 2 * w, 1) for _ in range(n - 1)))
            self.layer3 = t.Sequential(Block(2 * w, 4 * w, 2), *(Block(4 * w, 4 * w, 1) for _ in range(n - 1)))
            self.bn = t.BatchNorm2d(4 * w)
            self.linear = t.Linear(4 * w, classes)

        def forward(self, x):
            x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
            return self.linear(self.bn(x).relu().mean((2, 3)))

    return Net().double()


@pytest.mark.parametrize(("depth", "k", "width"), [(10, 3, 2), (16, 4, 1), (28, 10, 1), (22, 1, 3)])
def test_outputs_and_gradients_are_those_of_an_independent_network(depth, k, width):
    torch = peers.torch()
    theirs = randomize(torch, torchs(torch, depth, k, width, 5))
    ours = models.WideResNet(depth, k, 5, width=width)
    load(ours, theirs)
    assert_same_network(torch, ours, theirs, rng.standard_normal((3, 3, 12, 9)))


class Instead(nn.Module):
    """Keeps what it is given, and gives something else."""

    def __init__(self, value):
        self.value = value

    def forward(self, x):
        self.given = x
        return self.value


def test_dropout_stands_in_every_block_between_the_last_rectifier_and_conv2():
    model = models.create("wrn16_4", width=2, dropout=0.3)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.3] * 6
    block = models.WideBlock(4, 4, 1, dropout=0.3)
    block.dropout = Instead(Tensor(rng.standard_normal((2, 4, 5, 5)).astype(np.float32)))
    x = rng.standard_normal((2, 4, 5, 5)).astype(np.float32)
    y = block(x)
    assert np.array_equal(y.data, x + block.conv2(block.dropout.value).data)
    a = F.relu(block.bn1(x))
    assert np.array_equal(block.dropout.given.data, F.relu(block.bn2(block.conv1(a))).data)


def test_bad_options_are_refused():
    for make, message in (
        (lambda: models.WideResNet(12, 4), r"depth is 12, .* 6n \+ 4 layers: 10, 16, 22"),
        (lambda: models.WideResNet(16, 0), "k is 0"),
        (lambda: models.create("wrn16_4", width=0), "width is 0"),
        (lambda: models.create("wrn16_4", dropout=2.0), "probability"),
    ):
        with pytest.raises(RequestError, match=message):
            make()
