"""`nn.evaluating`: dropout is out and nothing is recorded inside; afterwards all is as it was."""

import numpy as np
import pytest

from minires import nn
from minires.switches import is_grad_enabled


def test_each_module_gets_its_own_mode_back_even_after_an_error():
    frozen, awake = nn.BatchNorm2d(2).eval(), nn.Dropout(0.5)
    model = nn.Sequential(frozen, awake)
    frozen.eval()
    x = np.ones((2, 2, 3, 3), np.float32)
    with nn.evaluating(model):
        assert not any(m.training for m in model.modules())
        assert not is_grad_enabled()
        y = model(x)
        assert not y.requires_grad
        np.testing.assert_allclose(y.data, x, atol=1e-4)
    assert [model.training, frozen.training, awake.training] == [True, False, True]
    assert is_grad_enabled()
    with pytest.raises(ValueError, match="inside"), nn.evaluating(model):
        raise ValueError("inside")
    assert [model.training, frozen.training, awake.training] == [True, False, True]
