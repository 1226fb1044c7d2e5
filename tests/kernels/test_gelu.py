import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.engine import Tensor
from minires.kernels import gelu, slope, threads
from minires.switches import formulas_only, kernels_at_any_size, no_grad
from tests.kernels.equality import DTYPES, ORDERS, assert_equals_formula, in_order, run

BOUND = {np.float64: 1e-14, np.float32: 1e-6}
KERNELS = {"none": gelu.BlockedGelu, "tanh": gelu.BlockedGeluTanh}
rng = np.random.default_rng(5)


@pytest.fixture
def _short_strips(monkeypatch):
    monkeypatch.setattr(slope, "STRIP", 100)


@pytest.mark.usefixtures("_short_strips")
@pytest.mark.parametrize("approximate", KERNELS)
@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.sampled_from(DTYPES), st.data())
def test_gelu_equals_its_formula(approximate, shape, dtype, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    x, gy = (in_order((4 * rng.normal(size=shape)).astype(dtype), data.draw(st.sampled_from(ORDERS))) for _ in "xg")
    f = lambda x: F.gelu(x, approximate)
    assert_equals_formula(KERNELS[approximate], f, x, gy=gy, tolerance=BOUND[dtype], least=1.0)


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 2e-7), (np.float64, 1.2e-15)])
def test_gelu_and_its_slope_are_as_near_the_truth_as_the_dtype_allows(dtype, bound):
    x = np.linspace(-15, 15, 40001).astype(dtype)
    y, slope = np.empty_like(x), np.empty_like(x)
    gelu.gelu(x, y, slope)
    cdf = [0.5 * math.erfc(-v / math.sqrt(2)) for v in x.astype(np.float64)]
    true = x * np.array(cdf)
    density = np.exp(-0.5 * x.astype(np.float64) ** 2) / math.sqrt(2 * math.pi)
    assert np.max(np.abs(y - true) / np.maximum(1, np.abs(x))) < bound
    assert np.max(np.abs(slope - (cdf + x * density))) < 2 * bound


@pytest.mark.parametrize("approximate", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_far_out_gelu_is_the_rectifier(approximate, dtype):
    x = np.array([-1e4, -1e3, -50, 0, 50, 1e3, 1e4], dtype)
    with kernels_at_any_size():
        op, (y, gx) = run(lambda x: F.gelu(x, approximate), x, gy=np.ones_like(x))
    assert op is KERNELS[approximate]
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    np.testing.assert_allclose(gx, [0, 0, 0, 0.5, 1, 1, 1], rtol=0, atol=2e-16)


def test_without_scipy_gelu_is_the_same(monkeypatch):
    x = rng.normal(size=(70, 300)).astype(np.float32)
    expected = F.gelu(x).data
    monkeypatch.setattr("minires.backend._vector_erf", lambda: pytest.fail("the kernel asked for erf"))
    np.testing.assert_array_equal(F.gelu(x).data, expected)


def test_the_slope_is_saved_only_where_a_gradient_is_wanted():
    x = Tensor(rng.normal(size=(70, 300)), requires_grad=True)
    assert F.gelu(x).op.slope.shape == x.shape
    with no_grad():
        y = F.gelu(x).data
    with formulas_only():
        np.testing.assert_allclose(y, F.gelu(x).data, rtol=0, atol=1e-14)


@pytest.mark.parametrize("approximate", KERNELS)
def test_gelu_does_not_depend_on_the_number_of_threads(approximate, monkeypatch):
    x, gy = (rng.normal(size=(200, 1001)).astype(np.float32) for _ in "xg")
    seen = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(threads, "cores", lambda cores=cores: cores)
        seen.append(run(lambda x: F.gelu(x, approximate), x, gy=gy)[1])
    for got in seen[1:]:
        for a, b in zip(got, seen[0], strict=True):
            np.testing.assert_array_equal(a, b)
