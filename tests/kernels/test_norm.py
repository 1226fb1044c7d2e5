import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.kernels import layout, norm, threads
from minires.ops.norm import BatchNorm, BatchNormEval
from minires.switches import kernels_at_any_size
from tests.kernels.equality import DTYPES, ORDERS, assert_equals_formula, in_order, run

BOUND = {np.float64: 1e-12, np.float32: 3e-5}


@pytest.fixture
def _small_blocks(monkeypatch):
    monkeypatch.setattr(layout, "BLOCK", 600)


@st.composite
def batches(draw):
    """x, w, b, gy of a batch norm whose channels differ in offset and scale."""
    n, c, h, w = (draw(st.integers(2, 9)), draw(st.integers(1, 20)), draw(st.integers(1, 9)), draw(st.integers(1, 40)))
    rng, dtype = np.random.default_rng(draw(st.integers(0, 999))), draw(st.sampled_from(DTYPES))
    scale, offset = np.exp(rng.normal(size=(c, 1, 1))), 3 * rng.normal(size=(c, 1, 1))
    x = in_order((scale * rng.normal(size=(n, c, h, w)) + offset).astype(dtype), draw(st.sampled_from(ORDERS)))
    gy = in_order(rng.normal(size=x.shape).astype(dtype), draw(st.sampled_from(ORDERS)))
    return x, *rng.normal(size=(2, c)).astype(dtype), gy


def usual(gy):
    """How large a channel's sum of such numbers is as a rule."""
    return float(np.sqrt(np.mean(gy.astype(np.float64) ** 2) * gy.size / gy.shape[1]))


@pytest.mark.usefixtures("_small_blocks")
@settings(deadline=None, max_examples=60)
@given(batches())
def test_batch_norm_equals_its_formula(batch):
    x, w, b, gy = batch
    f = lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True, eps=0.1)
    assert_equals_formula(norm.BlockedBatchNorm, f, x, w, b, gy=gy, tolerance=BOUND[x.dtype.type], least=usual(gy))


@pytest.mark.usefixtures("_small_blocks")
@settings(deadline=None, max_examples=40)
@given(batches())
def test_batch_norm_at_rest_equals_its_formula(batch):
    x, w, b, gy = batch
    rng = np.random.default_rng(1)
    mean, var = rng.normal(size=len(w)).astype(x.dtype), rng.uniform(0.5, 2, len(w)).astype(x.dtype)
    f = lambda x, w, b: F.batch_norm(x, mean, var, w, b)
    assert_equals_formula(norm.BlockedBatchNormEval, f, x, w, b, gy=gy, tolerance=BOUND[x.dtype.type], least=usual(gy))


def test_running_statistics_are_those_of_the_formula():
    x = np.random.default_rng(0).normal(2, 3, size=(8, 5, 16, 16))
    kept = [np.zeros(5), np.ones(5)]
    with kernels_at_any_size():
        F.batch_norm(x, *kept, training=True, momentum=0.25)
    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3), ddof=1)
    np.testing.assert_allclose(kept, [0.25 * mean, 0.75 + 0.25 * var], rtol=1e-12)


@pytest.mark.parametrize("ratio", [1e2, 1e4])
def test_the_variance_survives_a_mean_far_larger_than_the_deviation(ratio):
    x = np.random.default_rng(0).normal(ratio, 1, size=(64, 4, 16, 16)).astype(np.float32)
    mean, var = norm.statistics(layout.channels_last(x))
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(var, exact.var(axis=(0, 2, 3)), rtol=2e-5)


def test_the_variance_survives_rows_in_the_worst_order():
    """The sampled rows all lie on one side, as far from the mean as Cauchy-Schwarz allows."""
    x = np.random.default_rng(0).normal(0, 1e-3, size=(64, 16, 16, 32)).astype(np.float32)  # (N, H, W, C)
    layout.folded(x)[:: norm.SAMPLED] += 100
    mean, var = norm.statistics(x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(var, exact.var(axis=(0, 1, 2)), rtol=2e-5)


def test_a_constant_channel_has_variance_zero_and_no_nan():
    x = np.full((16, 3, 16, 16), 1234.567, np.float32)
    with kernels_at_any_size():
        op, (y, gx) = run(
            lambda x: F.batch_norm(x, None, None, training=True),
            x,
            gy=np.random.default_rng(0).normal(size=x.shape).astype(np.float32),
        )
    assert op is norm.BlockedBatchNorm
    assert np.isfinite(y).all()
    assert np.isfinite(gx).all()


def test_nan_in_one_channel_stays_in_it():
    x = np.random.default_rng(0).normal(size=(16, 3, 16, 16))
    x[3, 1, 2, 2] = np.nan
    with kernels_at_any_size():
        y = F.batch_norm(x, None, None, training=True).data
    assert np.isnan(y[:, 1]).all()
    assert np.isfinite(y[:, [0, 2]]).all()


def test_the_result_does_not_depend_on_the_number_of_threads(monkeypatch):
    rng = np.random.default_rng(0)
    x, gy = rng.normal(size=(2, 32, 8, 16, 16)).astype(np.float32)
    monkeypatch.setattr(layout, "BLOCK", 4096)
    seen = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(threads, "cores", lambda cores=cores: cores)
        seen.append(run(lambda x: F.batch_norm(x, None, None, training=True), x, gy=gy)[1])
    for other in seen[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(seen[0], other, strict=True))


def test_small_mixed_and_complex_batches_are_left_to_the_formula():
    x, w = np.ones((2, 3, 4, 4)), np.ones(3)
    for args in ((x, w, w), (np.ones((64, 3, 16, 16)), w.astype(np.float32), w), (np.ones((64, 3, 16, 16)) + 0j, w, w)):
        assert not norm.BlockedBatchNorm.accepts(*args)
    assert norm.BlockedBatchNorm.accepts(np.ones((64, 3, 16, 16)), w, w)
    assert {norm.BlockedBatchNorm.stands_for, norm.BlockedBatchNormEval.stands_for} == {BatchNorm, BatchNormEval}
