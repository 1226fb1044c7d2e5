"""Sums that add up whatever the batches, and gradient norms by layer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires import nn
from minires.train.evaluate import evaluate
from minires.train.metrics import Tally, gradient_norms


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_loss_and_accuracy_are_means_over_images_not_over_batches(sizes):
    rng = np.random.default_rng(0)
    tally, losses, hits = Tally(), [], []
    for size in sizes:
        right = rng.integers(0, 2, size)
        loss = rng.random()
        tally.add(loss, [right.sum()], size)
        losses += [loss] * size
        hits += list(right)
    assert tally.size == sum(sizes)
    assert tally.mean_loss == pytest.approx(np.mean(losses))
    assert tally.counts == [np.sum(hits)]


def test_an_empty_tally_is_zero():
    assert Tally().mean_loss == 0.0


def test_gradient_norms_are_of_weights_in_order_of_depth():
    rng = np.random.default_rng(1)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    F.cross_entropy(model(rng.standard_normal((6, 4)).astype(np.float32)), np.array([0, 1, 2, 0, 1, 2])).backward()
    norms = gradient_norms(model)
    assert list(norms) == ["0.weight", "2.weight"]
    for name, parameter in model.named_parameters():
        if name in norms:
            assert norms[name] == pytest.approx(np.linalg.norm(parameter.grad.astype(float)))
            assert norms[name] > 0


def batches(sizes, rng):
    return [(rng.standard_normal((n, 4)).astype(np.float32), rng.integers(0, 3, n)) for n in sizes]


def test_evaluation_is_the_same_for_every_batch_size_and_leaves_no_trace():
    rng = np.random.default_rng(2)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    parts = batches([5, 2, 3], rng)
    whole = [(np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts]))]
    before = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    found, again = evaluate(model, parts), evaluate(model, whole)
    assert found["loss"] == pytest.approx(again["loss"])
    assert found["acc"] == again["acc"]
    assert model.training
    assert all(np.array_equal(before[name], t.numpy()) for name, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_evaluation_agrees_with_its_formula():
    rng = np.random.default_rng(3)
    model = nn.Linear(4, 3)
    (x, y), *_ = parts = batches([7], rng)
    scores = (x @ model.weight.numpy().T + model.bias.numpy()).astype(float)
    log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    found = evaluate(model, parts)
    assert found["loss"] == pytest.approx(-log_p[np.arange(7), y].mean(), rel=1e-5)
    assert found["acc"] == (scores.argmax(1) == y).mean()


def test_evaluation_stops_when_asked_and_restores_the_mode():
    model = nn.Linear(4, 3)

    def stop():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        evaluate(model, batches([2, 2], np.random.default_rng(4)), stop)
    assert model.training
