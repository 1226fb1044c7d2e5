import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.functional import residual_add
from minires.kernels import threads
from minires.kernels.compiled import provider
from minires.switches import formulas_only, kernels_at_any_size
from tests.kernels.equality import DTYPES, ORDERS, assert_equals_formula, in_order, run

pytest.importorskip("numba", reason="compiled kernels need numba")
norm = pytest.importorskip("minires.kernels.compiled.norm")

BOUND = {np.float64: 1e-12, np.float32: 1e-5}


@st.composite
def batches(draw):
    """x, w, b, gy of a batch norm whose channels differ in offset and scale, with or without image axes."""
    n, c = draw(st.integers(2, 9)), draw(st.integers(1, 40))
    rest = draw(st.lists(st.integers(1, 40), max_size=2))
    rng, dtype = np.random.default_rng(draw(st.integers(0, 999))), draw(st.sampled_from(DTYPES))
    scale, offset = np.exp(rng.normal(size=(c, 1))), 3 * rng.normal(size=(c, 1))
    x = (scale * rng.normal(size=(n, c, int(np.prod(rest)))) + offset).reshape(n, c, *rest).astype(dtype)
    gy = rng.normal(size=x.shape).astype(dtype)
    x, gy = (in_order(a, draw(st.sampled_from(ORDERS))) for a in (x, gy))
    return x, *rng.normal(size=(2, c)).astype(dtype), gy


@settings(deadline=None, max_examples=80)
@given(batches())
def test_batch_norm_equals_its_formula(batch):
    x, w, b, gy = batch
    f = lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True, eps=0.1)
    assert_equals_formula(provider.CompiledBatchNorm, f, x, w, b, gy=gy, tolerance=3 * BOUND[x.dtype.type])
    plain = lambda x: F.batch_norm(x, None, None, None, None, training=True, eps=0.1)
    assert_equals_formula(provider.CompiledBatchNorm, plain, x, gy=gy, tolerance=3 * BOUND[x.dtype.type])


@settings(deadline=None, max_examples=50)
@given(batches())
def test_batch_norm_at_rest_equals_its_formula(batch):
    x, w, b, gy = batch
    rng = np.random.default_rng(1)
    mean, var = rng.normal(size=len(w)).astype(x.dtype), rng.uniform(0.5, 2, len(w)).astype(x.dtype)
    f = lambda x, w, b: F.batch_norm(x, mean, var, w, b)
    assert_equals_formula(provider.CompiledBatchNormEval, f, x, w, b, gy=gy, tolerance=BOUND[x.dtype.type])


def test_running_statistics_are_those_of_the_formula():
    x = np.random.default_rng(0).normal(2, 3, size=(8, 5, 16, 16))
    kept = [np.zeros(5), np.ones(5)]
    with kernels_at_any_size():
        F.batch_norm(x, *kept, training=True, momentum=0.25)
    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3), ddof=1)
    np.testing.assert_allclose(kept, [0.25 * mean, 0.75 + 0.25 * var], rtol=1e-12)


@pytest.mark.parametrize("ratio", [1, 1e2, 1e4])
def test_float32_statistics_are_those_of_float64_however_far_the_mean(ratio):
    x = np.random.default_rng(0).normal(ratio, 1, size=(64, 16, 16, 4)).astype(np.float32)
    x[::2] += 3
    mean, var = norm.statistics(x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(var, exact.var(axis=(0, 1, 2)), rtol=1e-5)


def test_a_constant_channel_has_variance_zero():
    _, var = norm.statistics(np.full((16, 16, 16, 3), 1234.567, np.float32))
    assert np.all(var < 1e-6)
    assert np.all(var >= 0)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.sampled_from(DTYPES),
    st.sampled_from(ORDERS),
    st.sampled_from(ORDERS),
    st.integers(0, 99),
)
def test_pointwise_kernels_equal_their_formulas(shape, dtype, one, other, seed):
    rng = np.random.default_rng(seed)
    x, f, gy = (in_order(rng.normal(size=shape).astype(dtype), o) for o in (one, other, other))
    assert_equals_formula(provider.CompiledRelu, F.relu, x, gy=gy, tolerance=0)
    assert_equals_formula(provider.CompiledResidualAdd, residual_add, x, f, gy=gy, tolerance=0)


def test_the_rectifier_treats_what_is_not_finite_as_the_formula_does():
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0])
    x, gy = (a.copy() for a in np.meshgrid(special, special))
    with np.errstate(invalid="ignore"):
        with formulas_only():
            _, expected = run(F.relu, x, gy=gy)
        with kernels_at_any_size():
            op, got = run(F.relu, x, gy=gy)
    assert op is provider.CompiledRelu
    for a, e in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, e)


def test_a_nan_stays_in_its_channel():
    x = np.random.default_rng(0).normal(size=(8, 3, 16, 16))
    x[1, 1, 2, 2] = np.nan
    with kernels_at_any_size():
        y = F.batch_norm(x, None, None, training=True).data
    assert np.isnan(y).any(axis=(0, 2, 3)).tolist() == [False, True, False]


def test_the_result_does_not_depend_on_the_number_of_threads(monkeypatch):
    rng = np.random.default_rng(0)
    x, gy = rng.normal(size=(2, 32, 16, 32, 32)).astype(np.float32)
    w, b = rng.normal(size=(2, 16)).astype(np.float32)
    f = lambda x, w, b: residual_add(F.relu(F.batch_norm(x, None, None, w, b, training=True)), x)
    seen = []
    for cores in (1, 2, 5, 5):
        monkeypatch.setattr(threads, "cores", lambda cores=cores: cores)
        seen.append(run(f, x, w, b, gy=gy)[1])
    for got in seen[1:]:
        assert all(np.array_equal(a, e) for a, e in zip(got, seen[0], strict=True))


def test_running_statistics_that_move_on_before_backward_change_no_gradient():
    rng = np.random.default_rng(0)
    x, w, gy = rng.normal(size=(4, 3, 8, 8)), rng.normal(size=3), rng.normal(size=(4, 3, 8, 8))
    mean, var = rng.normal(size=3), rng.uniform(1, 2, 3)

    def moving(x, w):
        kept = mean.copy(), var.copy()
        y = F.batch_norm(x, *kept, w)
        kept[0][:] = kept[1][:] = 99
        return y

    assert_equals_formula(provider.CompiledBatchNormEval, moving, x, w, gy=gy, tolerance=1e-12)
