"""Softmax's and cross-entropy's CUDA, run on the CPU."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.kernels.cuda.loss import CudaCrossEntropy
from minires.kernels.cuda.softmax import CudaLogSoftmax, CudaSoftmax
from minires.ops.loss import CrossEntropy
from minires.ops.softmax import Softmax
from tests.kernels.cuda.comparing import assert_equals_formula, needs_compiler, run
from tests.kernels.equality import DTYPES, in_order
from tests.strict_device import StrictArray

pytestmark = [needs_compiler, pytest.mark.usefixtures("device")]
LENGTHS = st.sampled_from([1, 2, 10, 31, 32, 33, 129, 600, 2100])


@settings(max_examples=30)
@given(st.integers(1, 9), LENGTHS, st.sampled_from(DTYPES), st.sampled_from(["C", "gaps"]), st.sampled_from([1, 30]))
def test_softmax_equals_its_formula(rows, d, dtype, order, spread):
    rng = np.random.default_rng(rows + d)
    x, gy = (in_order((spread * rng.normal(size=(rows, d))).astype(dtype), order) for _ in range(2))
    assert_equals_formula(CudaSoftmax, lambda x: F.softmax(x, -1), x, gy=gy)
    assert_equals_formula(CudaLogSoftmax, lambda x: F.log_softmax(x, 1), x, gy=gy)


@settings(max_examples=40)
@given(
    st.sampled_from([1, 2, 9, 40]),
    st.sampled_from([1, 2, 10, 33, 129, 600]),
    st.sampled_from(DTYPES),
    st.sampled_from(["mean", "sum", "none"]),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([np.int64, np.int32, np.uint8]),
    st.booleans(),
)
def test_cross_entropy_equals_its_formula(n, d, dtype, reduction, smoothing, kind, ignoring):
    rng = np.random.default_rng(n + d)
    x, t = rng.normal(size=(n, d)).astype(dtype), rng.integers(min(d, 255), size=n).astype(kind)
    ignored = int(t[0]) if ignoring and (t != t[0]).any() else -100
    options = {"reduction": reduction, "label_smoothing": smoothing, "ignore_index": ignored}
    f = lambda x, t: F.cross_entropy(x, t, **options)
    forward, backward = assert_equals_formula(CudaCrossEntropy, f, x, t)
    assert forward == (("cross_entropy",) if reduction == "none" else ("cross_entropy", "reduce"))
    assert backward == ("cross_entropy_gradient",)


def test_one_sample_without_a_batch():
    assert_equals_formula(CudaCrossEntropy, F.cross_entropy, np.random.default_rng(0).normal(size=7), np.array(3))


def test_logits_far_from_zero_lose_no_digits():
    x = np.array([[1e4, 1e4 + 1, 1e4 - 2], [-3e4, -3e4, -3e4 + 3]], np.float32)
    t = np.array([1, 0])
    _, (loss, gx, _), *_ = run(F.cross_entropy, x, t, gy=np.float32(1).reshape(()))
    p = np.exp(x - x.max(axis=1, keepdims=True), dtype=np.float64)
    p /= p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(loss, -np.log(p[[0, 1], t]).mean(), rtol=1e-6)
    np.testing.assert_allclose(gx, (p - np.eye(3)[t]) / 2, atol=1e-7)


def test_if_every_sample_is_ignored_the_mean_is_nan():
    x, t = StrictArray(np.ones((2, 3))), StrictArray(np.array([1, 1]))
    assert np.isnan(F.cross_entropy(x, t, ignore_index=1).data._host)


def test_a_class_out_of_range_gives_nan_and_reads_nothing():
    losses = F.cross_entropy(StrictArray(np.ones((4, 3))), StrictArray(np.array([2, 3, -1, 10**9])), reduction="none")
    assert np.isnan(losses.data._host).tolist() == [False, True, True, True]


@pytest.mark.parametrize("f", [lambda x: F.softmax(x, -1), lambda x: F.log_softmax(x, -1)])
def test_a_row_of_minus_infinity_is_nan_and_a_nan_spoils_its_row_only(f):
    x = np.random.default_rng(0).normal(size=(3, 40))
    x[0], x[1, 7], x[2, 3] = -np.inf, np.nan, -np.inf
    y = f(StrictArray(x)).data._host
    assert np.isnan(y[:2]).all()
    assert not np.isnan(y[2]).any()


def test_what_the_kernels_do_not_take_is_left_to_the_formula():
    x, t = np.ones((4, 3, 2)), np.zeros((4, 2), np.int64)
    assert run(F.cross_entropy, x, t)[0] is CrossEntropy
    assert (
        run(lambda x, t, w: F.cross_entropy(x, t, w), x[..., 0], t[:, 0], np.ones(3), constants=(2,))[0] is CrossEntropy
    )
    assert run(lambda x: F.softmax(x, 1), x)[0] is Softmax
