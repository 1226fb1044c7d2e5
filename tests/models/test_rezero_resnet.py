"""ReZero networks: how they start, and what their first step can move."""

import numpy as np
import pytest

from minires import models, nn
from minires.engine import Tensor
from minires.errors import RequestError

rng = np.random.default_rng(31)


def images(n=4, size=8):
    return rng.standard_normal((n, 3, size, size))


@pytest.mark.parametrize("norm", [True, False])
def test_rezero_starts_as_its_shortcuts_and_moves_alpha_first(norm):
    network = models.create("rezero_resnet14", width=4, norm=norm).to(np.float64)
    x = Tensor(images(), requires_grad=True)
    y = network(x)
    expected = nn.ReLU()(network.bn1(network.conv1(x)))
    for block in network.blocks():
        expected = block.shortcut(expected)  # not negative, so the rectifier changes nothing
    np.testing.assert_array_equal(y.data, network.linear(nn.GlobalAvgPool2d()(expected)).data)
    y.backward(rng.standard_normal(y.shape))
    for block in network.blocks():
        assert block.scale.alpha.grad.any()
        assert not any(p.grad.any() for name, p in block.named_parameters() if name != "scale.alpha")


def test_rezero_without_norm_has_none_and_biases_in_its_place():
    network = models.create("rezero_resnet8", width=2, norm=False)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert all(m.bias is not None for m in network.modules() if isinstance(m, nn.Conv2d))
    with pytest.raises(RequestError, match="unknown shortcut"):
        models.create("rezero_resnet8", shortcut="odd")
