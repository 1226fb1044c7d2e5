"""Claims 21 and 23: the articles' code, and how many parameters it has."""

import numpy as np
import pytest

import minires as mr
from minires import functional as F
from minires import models, nn
from minires.engine import Function, Tensor
from minires.errors import GraphError
from minires.switches import no_grad
from tests.slogans.nets import gradient, norm


@pytest.fixture
def rng():
    return np.random.default_rng(21)


# --- 21


def conv_bn(bias, x, weight):
    return F.batch_norm(F.conv2d(x, weight, bias, padding=1), None, None, training=True)


def test_false_that_a_convolution_before_batch_norm_has_a_bias_to_learn(rng):
    """Claim 21 (S4): nn.Conv2d(...) with its default bias, then BatchNorm2d. The norm takes the bias out again:
    BN(x + b) = BN(x), and its gradient is zero whatever happens."""
    x, weight = rng.standard_normal((4, 3, 5, 5)), rng.standard_normal((2, 3, 3, 3))
    gy = rng.standard_normal((4, 2, 5, 5))
    without = conv_bn(None, x, weight).data
    for bias in rng.standard_normal((3, 2)):
        np.testing.assert_allclose(conv_bn(bias, x, weight).data, without, atol=1e-13)
        gb = gradient(lambda b: conv_bn(b, x, weight), bias, gy)
        assert norm(gb) < 1e-12 * norm(gradient(lambda w, bias=bias: conv_bn(bias, x, w), weight, gy))


def articles_block(c_in, c_out, bias):
    """Two 3x3 convolutions with norms and, where the width changes, a projection with its norm."""
    parts = [
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=bias),
        nn.BatchNorm2d(c_out),
        nn.Conv2d(c_out, c_out, 3, padding=1, bias=bias),
        nn.BatchNorm2d(c_out),
    ]
    if c_in != c_out:
        parts += [nn.Conv2d(c_in, c_out, 1, bias=bias), nn.BatchNorm2d(c_out)]
    return sum(p.size for part in parts for p in part.parameters())


def test_false_that_the_articles_block_has_the_papers_parameters():
    """Claim 21 (S4): with biases 74,112 and 230,528."""
    assert articles_block(64, 64, bias=True) == 74_112
    assert articles_block(64, 128, bias=True) == 230_528


def test_true_that_it_has_them_without_biases():
    """Claim 21: 73,984 for 64 channels, and 230,144 where 64 become 128; the same as the library's block."""
    assert articles_block(64, 64, bias=False) == 73_984
    assert articles_block(64, 128, bias=False) == 230_144
    for c_in, c_out, stride in ((64, 64, 1), (64, 128, 2)):
        block = models.ResidualBlock(c_in, c_out, stride, "B")
        assert sum(p.size for p in block.parameters()) == articles_block(c_in, c_out, bias=False)


class Tanh(Function):
    """An op that saves its output, as many do."""

    def forward(self, x):
        self.y = self.xp.tanh(x)
        return self.y

    def backward(self, gy):
        return gy * (1 - self.y * self.y)


def test_false_that_out_plus_equals_residual_is_the_skip(rng):
    """Claim 21 (S4): "out += residual" in place. An op before it may have saved `out` for its backward: the gradient is
    then silently that of other numbers."""
    x, gy = rng.standard_normal((2, 5))
    right = gradient(lambda x: F.residual_add(x, Tanh.apply(x)), x, gy)
    leaf = Tensor(x, requires_grad=True)
    out = Tanh.apply(leaf)
    out.data += x  # where nobody watches
    out.backward(gy)
    assert np.abs(gy + leaf.grad - right).max() > 0.1


def test_true_that_minires_has_no_in_place_sum_and_refuses_a_saved_array_that_changed(rng):
    """Claim 21: `out += residual` makes a new tensor; a write that counts is refused by name, and under `debug()` so is
    one that bypasses everything."""
    x, gy = rng.standard_normal((2, 5))
    leaf = Tensor(x, requires_grad=True)
    out = before = Tanh.apply(leaf)
    out += leaf
    assert out is not before
    out.backward(gy)
    np.testing.assert_allclose(leaf.grad, gradient(lambda x: F.residual_add(x, Tanh.apply(x)), x, gy))

    out = Tanh.apply(Tensor(x, requires_grad=True))
    with pytest.raises(GraphError, match="carries a gradient"):
        out.copy_(x)
    out.data += x
    with pytest.raises(GraphError, match="changed in place"):
        out.touch().backward(gy)

    with mr.debug():
        out = Tanh.apply(Tensor(x, requires_grad=True))
        out.data += x
        with pytest.raises(GraphError, match="was written to between forward and backward"):
            out.backward(gy)


def test_true_that_the_diagrams_block_has_a_norm_after_each_convolution(rng):
    """Claim 21: without the norms that the diagram leaves out, a block's output grows with the weights; with them, its
    branch stays of one size, whatever the size of the weights."""
    block = models.ResidualBlock(4, 4, 1, "A")
    x = rng.standard_normal((4, 4, 6, 6))
    sizes = []
    for scale in (1.0, 100.0):
        with no_grad():
            block.conv1.weight.copy_(block.conv1.weight.data * scale)
            block.conv2.weight.copy_(block.conv2.weight.data * scale)
            bare = F.conv2d(F.relu(F.conv2d(x, block.conv1.weight, padding=1)), block.conv2.weight, padding=1)
            sizes.append((norm(bare), norm(block(x))))
    assert sizes[1][0] > 5000 * sizes[0][0]
    assert sizes[1][1] == pytest.approx(sizes[0][1], rel=0.01)


# --- 23


@pytest.mark.parametrize(
    ("name", "option", "parameters"),
    [
        ("resnet20", "A", 269_722),
        ("resnet20", "B", 272_474),
        ("resnet110", "A", 1_727_962),
        ("resnet110", "B", 1_730_714),
    ],
)
def test_true_that_option_a_and_option_b_have_these_counts(name, option, parameters):
    """Claim 23: the two are easily swapped; the papers' CIFAR nets are of option A."""
    assert models.describe(name, shortcut=option).parameters == parameters


def test_false_that_the_counts_of_the_two_options_may_be_swapped():
    """Claim 23: a slip that is easily made: 272,474 isn't the ResNet-20 of the paper, nor 1,730,714 its ResNet-110."""
    for name, with_projections in (("resnet20", 272_474), ("resnet110", 1_730_714)):
        assert models.info(name).options["shortcut"] == "A"
        assert models.describe(name).parameters < with_projections


def test_true_that_option_b_adds_two_projections_and_their_norms_at_any_depth():
    """Claim 23: 16 * 32 + 2 * 32 and 32 * 64 + 2 * 64 more, 2,752; a plain net has the same count as option A."""
    for depth in (20, 110):
        a, b = (models.describe(f"resnet{depth}", shortcut=option).parameters for option in "AB")
        assert b - a == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
        assert models.describe(f"plain{depth}").parameters == a
