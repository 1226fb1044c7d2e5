"""Batch norm's CUDA, run on the CPU: any shape and order, its statistics, its launches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.engine import Tensor
from minires.kernels.cuda import batch_norm, layout
from minires.kernels.cuda.batch_norm import CudaBatchNorm, CudaBatchNormEval
from tests.kernels.cuda.comparing import assert_equals_formula, is_channels_last, needs_compiler, run
from tests.kernels.equality import DTYPES, ORDERS, in_order
from tests.strict_device import STRICT, StrictArray

pytestmark = [needs_compiler, pytest.mark.usefixtures("device")]
rng = np.random.default_rng(4)


@st.composite
def batches(draw):
    """x, w, b, gy of a batch norm whose channels differ in offset and scale; 2-D to 4-D."""
    n, c = draw(st.integers(2, 9)), draw(st.sampled_from([1, 2, 3, 5, 16, 31, 33, 70]))
    positions = draw(st.sampled_from([(), (1,), (7,), (1, 1), (3, 5), (16, 17), (1, 40)]))
    rng, dtype = np.random.default_rng(draw(st.integers(0, 999))), draw(st.sampled_from(DTYPES))
    shape, column = (n, c, *positions), (c, *[1] * len(positions))
    x = np.exp(rng.normal(size=column)) * rng.normal(size=shape) + 3 * rng.normal(size=column)
    gy = rng.normal(size=shape)
    x, gy = (in_order(a.astype(dtype), draw(st.sampled_from(ORDERS))) for a in (x, gy))
    return x, *rng.normal(size=(2, c)).astype(dtype), gy


@settings(max_examples=30)
@given(batches(), st.sampled_from([1, 7, 40]))
def test_batch_norm_equals_its_formula(batch, blocks):
    x, w, b, gy = batch
    f = lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True, eps=0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "BLOCKS", blocks)
        assert_equals_formula(CudaBatchNorm, f, x, w, b, gy=gy)
        assert_equals_formula(CudaBatchNorm, lambda x: f(x, None, None), x, gy=gy)


@settings(max_examples=20)
@given(batches())
def test_batch_norm_at_rest_equals_its_formula(batch):
    x, w, b, gy = batch
    mean, var = rng.normal(size=len(w)).astype(x.dtype), rng.uniform(0.5, 2, len(w)).astype(x.dtype)
    f = lambda x, w, b, m, v: F.batch_norm(x, m, v, w, b)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "BLOCKS", 20)
        assert_equals_formula(CudaBatchNormEval, f, x, w, b, mean, var, gy=gy, constants=(3, 4))


def test_launches():
    x, w, b = rng.normal(size=(40, 6, 5, 5)), *rng.normal(size=(2, 6))
    *_, forward, backward = run(lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), x, w, b)
    assert forward == ("moments", "finish_moments", "normalize")
    assert backward == ("gradient_sums", "add_rows", "input_gradient")


@pytest.mark.parametrize("order", ["C", "channels-last"])
def test_images_keep_their_memory_order(order):
    x, gy = in_order(rng.normal(size=(4, 6, 5, 5)), order), rng.normal(size=(4, 6, 5, 5))
    y = F.batch_norm(Tensor(StrictArray(x), requires_grad=True), None, None, training=True)
    gx = y.op.backward(StrictArray(gy))[0]
    assert is_channels_last(y.data._host) == is_channels_last(gx._host) == (order == "channels-last")


def test_running_statistics_are_those_of_the_formula():
    x = rng.normal(2, 3, size=(8, 5, 16, 16))
    kept = [StrictArray(np.zeros(5)), StrictArray(np.ones(5))]
    F.batch_norm(StrictArray(x), *kept, training=True, momentum=0.25)
    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3), ddof=1)
    np.testing.assert_allclose([k._host for k in kept], [0.25 * mean, 0.75 + 0.25 * var], rtol=1e-12)


@pytest.mark.parametrize("ratio", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("order", ["C", "channels-last"])
def test_the_variance_survives_a_mean_far_larger_than_the_deviation(ratio, order):
    x = in_order(rng.normal(ratio, 1, size=(16, 4, 16, 16)).astype(np.float32), order)
    mean, var = (v._host for v in batch_norm.moments(STRICT.xp, StrictArray(x)))
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(var, exact.var(axis=(0, 2, 3)), rtol=2e-5)


def test_statistics_at_rest_may_move_on_before_backward():
    x, mean, var = rng.normal(size=(4, 3, 5, 5)), np.zeros(3), np.ones(3)
    leaf = Tensor(StrictArray(x), requires_grad=True)
    m, v = StrictArray(mean), StrictArray(var)
    y = F.batch_norm(leaf, m, v)
    v += 3.0
    y.backward(StrictArray(np.ones(x.shape)))
    np.testing.assert_allclose(leaf.grad._host, 1 / np.sqrt(1 + 1e-5), rtol=1e-12)


def test_nan_in_one_channel_stays_in_it():
    x = rng.normal(size=(16, 3, 16, 16))
    x[3, 1, 2, 2] = np.nan
    y = F.batch_norm(StrictArray(x), None, None, training=True).data._host
    assert np.isnan(y[:, 1]).all()
    assert np.isfinite(y[:, [0, 2]]).all()


def test_what_the_kernel_does_not_take_is_left_to_the_formula():
    x, w = np.ones((2, 3, 4, 4)), np.ones(3)
    for args in ((x[:0], w, w), (x, w.astype(np.float32), w), (x + 0j, w, w), (x.astype(np.float16), None, None)):
        assert not CudaBatchNorm.accepts(*args)
    assert CudaBatchNorm.accepts(x, w, w)
