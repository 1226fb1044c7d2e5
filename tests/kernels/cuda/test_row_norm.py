"""Layer norm and RMS norm's CUDA, and sums down columns, run on the CPU."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.kernels.cuda import layout
from minires.kernels.cuda.row_norm import CudaLayerNorm, CudaRmsNorm
from minires.kernels.cuda.sums import column_sums
from tests.kernels.cuda.comparing import assert_equals_formula, needs_compiler
from tests.kernels.equality import DTYPES, in_order
from tests.strict_device import STRICT, StrictArray

pytestmark = [needs_compiler, pytest.mark.usefixtures("device")]

LENGTHS = st.sampled_from([1, 2, 31, 32, 33, 100, 129, 600, 2100])


@settings(max_examples=30)
@given(st.integers(1, 9), LENGTHS, st.sampled_from(DTYPES), st.sampled_from(["C", "gaps"]), st.integers(0, 99))
def test_norms_of_rows_equal_their_formulas(rows, d, dtype, order, seed):
    rng = np.random.default_rng(seed)
    x, gy = (in_order(rng.normal(1, 2, size=(rows, 2, d)).astype(dtype), order) for _ in range(2))
    w, b = rng.normal(size=(2, d)).astype(dtype)
    f = lambda x, w, b: F.layer_norm(x, (d,), w, b, eps=0.1)
    g = lambda x, w: F.rms_norm(x, (d,), w, eps=0.1)
    assert_equals_formula(CudaLayerNorm, f, x, w, b, gy=gy)
    assert_equals_formula(CudaLayerNorm, lambda x: f(x, None, None), x, gy=gy)
    assert_equals_formula(CudaRmsNorm, g, x, w, gy=gy)
    assert_equals_formula(CudaRmsNorm, lambda x: g(x, None), x, gy=gy)


def test_a_row_may_have_several_axes():
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(3, 4, 5)), *rng.normal(size=(2, 4, 5))
    assert_equals_formula(CudaLayerNorm, lambda x, w, b: F.layer_norm(x, (4, 5), w, b), x, w, b)


def test_launches():
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(300, 40)), *rng.normal(size=(2, 40))
    forward, backward = assert_equals_formula(CudaLayerNorm, lambda x, w, b: F.layer_norm(x, (40,), w, b), x, w, b)
    assert forward == ("normalize_rows",)
    assert backward == ("row_gradient", "column_sums", "add_rows")


@settings(max_examples=30)
@given(st.sampled_from([1, 2, 7, 33, 500]), st.sampled_from([1, 3, 31, 32, 33, 70]), st.sampled_from([1, 3, 20]))
def test_sums_down_columns(rows, d, blocks):
    g = np.random.default_rng(rows * d).normal(size=(rows, d))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "BLOCKS", blocks)
        got = column_sums(STRICT.xp, StrictArray(g))._host
    assert got.shape == (1, d)
    np.testing.assert_allclose(got[0], g.sum(axis=0), rtol=0, atol=1e-12)
