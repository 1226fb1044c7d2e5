"""A whole training step on the emulated GPU, captured: what the kernels do is in the graph."""

import numpy as np
import pytest

from minires import functional as F
from minires.backend import capture
from minires.engine import Tensor
from tests.kernels.cuda.comparing import needs_compiler
from tests.strict_device import STRICT, StrictArray

pytestmark = [needs_compiler, pytest.mark.usefixtures("device")]


def test_a_step_of_a_small_residual_net_replays():
    rng = np.random.default_rng(0)
    shapes = {"stem": (4, 3, 3, 3), "conv": (4, 4, 3, 3), "head": (5, 4)}
    start = {name: rng.normal(size=shape) * 0.3 for name, shape in shapes.items()}
    start |= {"mean": np.zeros(4), "var": np.ones(4)}
    batches = [(rng.normal(size=(2, 3, 6, 6)), rng.integers(5, size=2)) for _ in range(6)]

    def trained(captured):
        held = {name: StrictArray(value.copy()) for name, value in start.items()}

        def step(x, t):
            p = {name: Tensor(held[name], requires_grad=True) for name in shapes}
            stem = F.relu(F.conv2d(x, p["stem"], padding=1))
            branch = F.batch_norm(F.conv2d(stem, p["conv"], padding=1), held["mean"], held["var"], training=True)
            pooled = F.max_pool2d(F.relu(F.residual_add(stem, branch)), 6).reshape(2, 4)
            loss = F.cross_entropy(F.linear(pooled, p["head"]), t, label_smoothing=0.1)
            loss.backward()
            for name in shapes:
                held[name] -= 0.1 * p[name].grad
            return loss.data

        run = capture(step, lambda: held, library=STRICT) if captured else step
        losses = [float(run(StrictArray(x), StrictArray(t))._host) for x, t in batches]
        return losses, {name: value._host for name, value in held.items()}

    plain, replayed = trained(False), trained(True)
    assert plain[0] == replayed[0]
    for name, value in plain[1].items():
        assert np.array_equal(value, replayed[1][name]), name
