"""gradcheck on modules, closures and whole models: every parameter by its name, and everything put back."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

import minires as mr
from minires import functional as F
from minires import models, nn
from minires.backend import generator_state
from minires.check import gradcheck
from minires.engine import Tensor
from minires.switches import no_grad
from tests.check.planted import op, refused

rng = np.random.default_rng(23)


def normal(*shape):
    return rng.standard_normal(shape)


def test_every_parameter_of_a_module_is_checked_by_name():
    layer = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    report = gradcheck(layer, normal(5, 4))
    assert [e.name for e in report.entries] == ["input 0 (x)", "0.weight", "0.bias", "1.weight", "1.bias"]
    assert report.max_rel_error < 1e-13
    assert [e.name for e in gradcheck(layer.forward, normal(5, 4)).entries][1] == "0.weight"


def test_integers_are_fine_where_there_are_parameters():
    report = gradcheck(nn.Embedding(5, 3), np.array([[0, 4], [2, 2]]))
    assert [e.name for e in report.entries] == ["weight"]


def test_frozen_parameters_are_not_checked():
    layer = nn.Linear(4, 3)
    layer.bias.requires_grad = False
    assert [e.name for e in gradcheck(layer, normal(2, 4)).entries] == ["input 0 (x)", "weight"]


@pytest.mark.parametrize("given", ["dict", "list", "tensor", "module", "pairs"])
def test_a_closure_names_its_parameters(given):
    layer = nn.Linear(4, 3)
    parameters, names = {
        "dict": ({"w": layer.weight}, ["w"]),
        "list": ([layer.weight, layer.bias], ["parameter 0", "parameter 1"]),
        "tensor": (layer.weight, ["parameter 0"]),
        "module": (layer, ["weight", "bias"]),
        "pairs": (layer.named_parameters(), ["weight", "bias"]),
    }[given]
    report = gradcheck(lambda x: layer(x).tanh(), normal(2, 4), parameters=parameters)
    assert [e.name for e in report.entries] == ["input 0 (x)", *names]


def test_only_leaves_can_be_parameters():
    w = Tensor(normal(3), requires_grad=True)
    assert "w: parameters= takes leaf Tensors" in refused(lambda x: x * w, normal(3), parameters={"w": w * 2.0})
    assert "not an array of float64" in refused(lambda x: x * w, normal(3), parameters=[w.data])


class Swapped(nn.Module):
    """Two weights, of which each is handed the other's gradient."""

    def __init__(self):
        self.left, self.right = nn.Parameter(normal(3)), nn.Parameter(normal(3))

    def forward(self, x):
        swapped = op(lambda x, a, b: x * a + x * x * b, lambda gy, x, a, b: ((a + 2 * x * b) * gy, x * x * gy, x * gy))
        return swapped(x, self.left, self.right)


class Detached(Swapped):
    def forward(self, x):
        return x * self.left + self.right.detach() * x


class Unused(Swapped):
    def forward(self, x):
        return x * self.left


def test_the_gradient_of_the_wrong_parameter_is_named():
    message = refused(Swapped(), normal(3))
    assert re.match(r"(left|right) at .*; also wrong: (left|right)$", message)


def test_a_parameter_cut_from_the_tape_or_not_used_is_named():
    assert re.match("right at .* backward gave 0 .*zero everywhere", refused(Detached(), normal(3)))
    assert refused(Unused(), normal(3)).startswith("right: this check cannot see your gradient")
    gradcheck(Unused(), normal(3), may_vanish="right")


def test_a_bias_before_batch_norm_has_no_gradient_and_the_check_says_so():
    block = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    assert refused(block, normal(2, 2, 5, 5)).startswith("0.bias: this check cannot see your gradient")
    gradcheck(block, normal(2, 2, 5, 5), may_vanish=["0.bias"])


@pytest.mark.parametrize("name", ["resnet8", "plain8"])
def test_a_whole_network_in_training_mode(name):
    model = models.create(name, num_classes=3, in_channels=2, width=2)
    report = gradcheck(model, normal(2, 2, 8, 8))
    assert len(report.entries) == 1 + len(list(model.parameters()))
    assert report.max_rel_error < 1e-12


def test_a_whole_network_with_its_loss():
    model, x = models.create("resnet8", num_classes=3, in_channels=2, width=2), normal(2, 2, 8, 8)
    report = gradcheck(lambda x: F.cross_entropy(model(x), np.array([2, 0])), x, parameters=model)
    assert report.max_rel_error < 1e-12


def test_a_wrong_skip_in_a_whole_network_is_found(monkeypatch):
    from minires.ops.residual import ResidualAdd

    monkeypatch.setattr(ResidualAdd, "backward", lambda self, gy: (0.9995 * gy, gy))
    model = models.create("resnet8", num_classes=3, in_channels=2, width=2)
    assert "also wrong: " in refused(model, normal(2, 2, 8, 8))


def snapshot(model):
    tensors = [*model.parameters(), *model.buffers()]
    flags = [m.training for m in model.modules()]
    grads = [p.grad for p in model.parameters()]
    values = [(t.data, t.data.copy(), t.dtype, t.requires_grad) for t in tensors]
    return SimpleNamespace(values=values, tensors=tensors, flags=flags, grads=grads, rng=generator_state())


class Meddling(nn.Module):
    """Switches its own modes and counts its calls, and now and then fails."""

    def __init__(self, fails):
        self.norm, self.layer, self.calls, self.fails = nn.BatchNorm1d(3), nn.Linear(3, 3), 0, fails

    def forward(self, x):
        self.eval().train()
        self.calls += 1
        mr.manual_seed(3)
        if self.fails and self.calls == 5:
            raise ZeroDivisionError
        return self.layer(F.dropout(self.norm(x).tanh(), 0.4)) * self.norm.weight


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_put_back(fails):
    model = Meddling(fails)
    model.norm.training = False
    model.layer.bias.requires_grad = False
    model.layer.weight.grad = kept = normal(3, 3).astype(np.float32)
    before = snapshot(model)
    if fails:
        with pytest.raises(ZeroDivisionError):
            gradcheck(model, normal(4, 3))
    else:
        gradcheck(model, normal(4, 3))
    after = snapshot(model)
    assert (after.flags, after.rng, model.calls) == (before.flags, before.rng, 0)
    assert all(a is b for a, b in zip(after.tensors, before.tensors, strict=True))
    assert all(a is b for a, b in zip(after.grads, before.grads, strict=True))
    assert model.layer.weight.grad is kept
    for (data, values, dtype, needs), (old, old_values, old_dtype, needed) in zip(
        after.values, before.values, strict=True
    ):
        assert data is old
        assert np.array_equal(values, old_values)
        assert (dtype, needs) == (old_dtype, needed)


def test_a_closed_over_parameter_keeps_its_grad_unasked():
    layer = nn.Linear(3, 3)
    layer.bias.grad = kept = np.ones(3, np.float32)
    gradcheck(lambda x: layer(x), normal(2, 3))
    assert layer.weight.grad is None
    assert layer.bias.grad is kept
    assert layer.weight.dtype == np.float32


def test_inputs_are_left_alone_and_no_grad_does_not_matter():
    x = normal(3, 4)
    before = x.copy()
    with no_grad():
        gradcheck(F.tanh, x)
    assert np.array_equal(x, before)
