"""Fixup networks: the paper's start, and the whole network against a peer written for this test."""

import numpy as np
import pytest

from minires import models, nn
from minires.models.fixup_resnet import FixupBlock, ScalarBias
from tests.models import twin

rng = np.random.default_rng(31)


def test_fixup_starts_by_the_papers_rules():
    network = models.create("fixup_resnet56", width=16)
    blocks = [m for m in network.modules() if isinstance(m, FixupBlock)]
    assert len(blocks) == 27
    for block in blocks:
        w = block.conv1.weight
        spread = w.data.std() / np.sqrt(2 / nn.init.fans(w)[0])
        assert abs(spread * 27**0.5 - 1) < 5 / np.sqrt(2 * w.size)  # L^(-1 / (2m - 2)) with m = 2
        assert not block.conv2.weight.data.any()
        assert block.multiplier.alpha.data == 1
    assert not network.linear.weight.data.any()
    assert not network.linear.bias.data.any()
    assert not any(m.beta.data for m in network.modules() if isinstance(m, ScalarBias))
    assert sum(isinstance(m, ScalarBias) for m in network.modules()) == 4 * 27 + 2


def test_fixup_starts_as_its_shortcuts_whatever_the_depth():
    network = models.create("fixup_resnet56", width=2).to(np.float64)
    h = nn.ReLU()(network.conv1(rng.standard_normal((4, 3, 8, 8))))
    y = network.layer1(h)
    assert np.array_equal(y.data, h.data)


def peer(torch, n, w, classes):
    """The network of the paper for PyTorch, written from its figure 1."""
    t = torch.nn

    class Plus(t.Module):
        def __init__(self):
            super().__init__()
            self.beta = t.Parameter(torch.zeros(1))

        def forward(self, x):
            return x + self.beta

    class Times(t.Module):
        def __init__(self):
            super().__init__()
            self.alpha = t.Parameter(torch.ones(1))

    class Block(t.Module):
        def __init__(self, a, b, stride):
            super().__init__()
            self.bias1, self.conv1 = Plus(), t.Conv2d(a, b, 3, stride, 1, bias=False)
            self.bias2, self.bias3 = Plus(), Plus()
            self.conv2, self.multiplier, self.bias4 = t.Conv2d(b, b, 3, 1, 1, bias=False), Times(), Plus()
            self.half = (b - a) // 2

        def forward(self, x):
            skip = torch.nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.half, self.half)) if self.half else x
            f = self.conv2(self.bias3(self.bias2(self.conv1(self.bias1(x))).relu()))
            return (skip + self.bias4(f * self.multiplier.alpha)).relu()

    class Net(t.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bias1 = t.Conv2d(3, w, 3, 1, 1, bias=False), Plus()
            self.layer1 = t.Sequential(*(Block(w, w, 1) for _ in range(n)))
            self.layer2 = t.Sequential(Block(w, 2 * w, 2), *(Block(2 * w, 2 * w, 1) for _ in range(n - 1)))
            self.layer3 = t.Sequential(Block(2 * w, 4 * w, 2), *(Block(4 * w, 4 * w, 1) for _ in range(n - 1)))
            self.bias2, self.linear = Plus(), t.Linear(4 * w, classes)

        def forward(self, x):
            x = self.layer3(self.layer2(self.layer1(self.bias1(self.conv1(x)).relu())))
            return self.linear(self.bias2(x.mean((2, 3))))

    return Net().double()


def test_fixups_forward_and_gradients_equal_a_torch_network():
    torch = pytest.importorskip("torch", reason="the peer is a torch module")
    theirs = twin.randomize(torch, peer(torch, 2, 4, 5))
    ours = models.create("fixup_resnet14", 5, 3, width=4)
    twin.load(ours, theirs)
    twin.assert_same_network(torch, ours, theirs, rng.standard_normal((4, 3, 9, 8)))
