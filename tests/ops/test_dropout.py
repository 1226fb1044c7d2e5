"""Dropping: fair on average, the same silence forward and backward, and nothing at test time."""

import numpy as np
import pytest

from minires.backend import manual_seed
from minires.check import gradcheck
from minires.engine import Tensor
from minires.errors import RequestError
from minires.functional.dropout import drop_path, dropout, dropout2d

EACH = pytest.mark.parametrize("drop", [dropout, dropout2d, drop_path])


def random(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def seeded(drop, seed=1, **options):
    """The same function at each call: the mask is drawn again from the same place."""

    def f(x):
        manual_seed(seed)
        return drop(x, **options)

    return f


@EACH
@pytest.mark.parametrize("shape", [(8, 6, 2, 3), (1, 12, 1, 1)])
@pytest.mark.parametrize("p", [0.0, 0.3, 0.5])
def test_backward_is_the_adjoint(drop, shape, p):
    gradcheck(seeded(drop, p=p), random(*shape), may_vanish=drop is drop_path and shape[0] == 1)
    gradcheck(seeded(drop, p=p), random(*shape[::-1]).T, may_vanish=drop is drop_path and shape[0] == 1)


@EACH
@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_the_mean_is_kept_and_the_survivors_are_rescaled(drop, p):
    draws = {dropout: (40, 25, 4, 5), dropout2d: (200, 100, 1, 1), drop_path: (20000, 1, 1, 1)}[drop]
    y = drop(np.ones(draws), p).data
    assert set(np.unique(y)) == {0.0, 1 / (1 - p)}
    assert abs(y.mean() - 1) < 5 * np.sqrt(p / (1 - p) / y.size)  # five standard errors of the mean


@EACH
def test_the_gradient_is_silent_exactly_where_forward_was(drop):
    x = Tensor(random(30, 20, 3, 3), requires_grad=True)
    gy = random(*x.shape, seed=1)
    y = drop(x, 0.4)
    y.backward(gy)
    np.testing.assert_allclose(x.grad * x.data, y.data * gy, rtol=1e-12)
    assert 0 < (x.grad == 0).mean() < 1
    np.testing.assert_array_equal(x.grad == 0, y.data == 0)


@pytest.mark.parametrize(("drop", "axes"), [(dropout2d, (2, 3)), (drop_path, (1, 2, 3))])
def test_what_belongs_together_falls_together(drop, axes):
    kept = drop(np.ones((50, 10, 3, 2)), 0.5).data != 0
    np.testing.assert_array_equal(kept.all(axes), kept.any(axes))
    assert 0 < kept.mean() < 1


def test_drop_path_takes_any_rank():
    for shape in [(64,), (64, 3), (64, 2, 5)]:
        y = drop_path(np.ones(shape), 0.5).data.reshape(64, -1)
        assert (y == y[:, :1]).all()
        assert set(np.unique(y)) == {0.0, 2.0}


@EACH
def test_evaluation_is_the_identity(drop):
    x = Tensor(random(4, 3, 2, 2), requires_grad=True)
    for y in (drop(x, 0.9, training=False), drop(x, 0.0)):
        np.testing.assert_array_equal(y.data, x.data)
    np.testing.assert_array_equal(drop(x.data, 0.9, False).data, x.data)
    gy = random(*x.shape, seed=1)
    gradient = Tensor(random(1, 2, 2, 2), requires_grad=True)
    y = drop(gradient, 1.0, False)
    y.backward(gy[:1, :2])
    np.testing.assert_array_equal(gradient.grad, gy[:1, :2])


@EACH
def test_evaluation_draws_nothing(drop):
    x = np.ones((6, 5, 2, 2))
    plain = seeded(drop)(x).data
    manual_seed(1)
    drop(x, training=False)
    np.testing.assert_array_equal(drop(x).data, plain)


@EACH
def test_the_seed_decides_the_mask(drop):
    x = np.ones((64, 8, 1, 1))
    np.testing.assert_array_equal(seeded(drop, 7)(x).data, seeded(drop, 7)(x).data)
    assert (seeded(drop, 7)(x).data != seeded(drop, 8)(x).data).any()
    assert (drop(x).data != drop(x).data).any()


@EACH
def test_p_of_one_silences_everything(drop):
    x = Tensor(random(4, 3, 2, 2), requires_grad=True)
    y = drop(x, 1.0)
    y.backward(random(*x.shape, seed=1))
    np.testing.assert_array_equal(y.data, 0)
    np.testing.assert_array_equal(x.grad, 0)


@EACH
def test_float32_stays_float32(drop):
    x = Tensor(random(4, 3, 2, 2).astype(np.float32), requires_grad=True)
    y = drop(x, 0.3)
    y.backward(random(*x.shape).astype(np.float32))
    assert y.dtype == x.grad.dtype == np.float32


@EACH
@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("training", [True, False])
def test_p_outside_zero_to_one_is_refused(drop, p, training):
    with pytest.raises(RequestError, match=rf"{drop.__name__}: p is {p}, but a probability"):
        drop(random(2, 2, 2, 2), p, training)


def test_shapes_and_dtypes_that_make_no_sense_are_refused():
    with pytest.raises(RequestError, match=r"dropout2d: x is \(2, 3\)"):
        dropout2d(random(2, 3))
    with pytest.raises(RequestError, match="drop_path: x is 0-d"):
        drop_path(np.array(1.0))
    with pytest.raises(TypeError, match="dropout: x is of dtype int64"):
        dropout(np.array([1, 2]))


def test_survivors_equal_torch():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    x = random(40, 30)
    ours, theirs = dropout(x, 0.3).data, torch.nn.functional.dropout(torch.tensor(x), 0.3).numpy()
    both = (ours != 0) & (theirs != 0)
    assert both.sum() > 400
    np.testing.assert_allclose(ours[both], theirs[both], rtol=1e-12)
