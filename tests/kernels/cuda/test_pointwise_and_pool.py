"""The CUDA of activations, the skip's sum, dropout and pooling, run on the CPU."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import backend
from minires import functional as F
from minires.engine import Tensor
from minires.kernels.cuda.pointwise import (
    CudaDropout,
    CudaGelu,
    CudaGeluTanh,
    CudaPadChannels,
    CudaRelu,
    CudaResidualAdd,
)
from minires.kernels.cuda.pool import CudaAvgPool2d, CudaMaxPool2d
from minires.ops.dropout import Dropout
from minires.ops.pool import AvgPool2d
from minires.ops.residual import PadChannels
from tests.kernels.cuda.comparing import assert_equals_formula, is_channels_last, needs_compiler, run
from tests.kernels.equality import DTYPES, ORDERS, in_order
from tests.strict_device import StrictArray

pytestmark = [needs_compiler, pytest.mark.usefixtures("device")]

ACTIVATIONS = [(CudaRelu, F.relu), (CudaGelu, F.gelu), (CudaGeluTanh, lambda x: F.gelu(x, approximate="tanh"))]


@st.composite
def images(draw, low=1):
    """Two arrays (N, C, H, W) of one dtype, each in an order of its own, with ties among their numbers."""
    shape = [draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(low, 12)), draw(st.integers(low, 12))]
    rng, dtype = np.random.default_rng(draw(st.integers(0, 999))), draw(st.sampled_from(DTYPES))
    return [in_order((rng.integers(-4, 5, shape) / 2).astype(dtype), draw(st.sampled_from(ORDERS))) for _ in range(2)]


@settings(max_examples=40)
@given(images())
def test_activations_and_the_sum_equal_their_formulas(pair):
    x, gy = pair
    for kernel, f in ACTIVATIONS:
        assert_equals_formula(kernel, f, x, gy=gy)
        assert_equals_formula(kernel, f, x[0, 0, 0, 0], gy=gy[0, 0, 0, 0].copy())
    assert_equals_formula(CudaResidualAdd, F.residual_add, x, gy)


def test_one_launch_each_way_and_memory_order_is_kept():
    x, gy = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 6))
    for order in ("C", "channels-last"):
        for kernel, f in ACTIVATIONS:
            y = f(Tensor(StrictArray(in_order(x, order)), requires_grad=True))
            assert type(y.op) is kernel
            gx = y.op.backward(StrictArray(gy))
            assert is_channels_last(y.data._host) == is_channels_last(gx._host) == (order == "channels-last")
            *_, forward, backward = run(f, in_order(x, order))
            assert (len(forward), len(backward)) == (1, 1)
        y = F.residual_add(StrictArray(in_order(x, order)), StrictArray(in_order(gy, order)))
        assert is_channels_last(y.data._host) == (order == "channels-last")


@pytest.mark.parametrize("stride", [1, 2])
def test_the_shortcut_that_pads_channels_keeps_their_order(stride):
    x = in_order(np.random.default_rng(0).normal(size=(2, 3, 5, 6)), "channels-last")
    f = lambda x: F.pad_channels(x, 7, stride)
    assert_equals_formula(CudaPadChannels, f, x)
    y = f(Tensor(StrictArray(x), requires_grad=True))
    gx = y.op.backward(StrictArray(np.ones(y.shape)))
    assert is_channels_last(y.data._host)
    assert is_channels_last(gx._host)
    assert run(f, np.ascontiguousarray(x))[0] is PadChannels


def test_more_numbers_than_threads(monkeypatch):
    monkeypatch.setattr("minires.kernels.cuda.pointwise.ceil", lambda a, b: 1)  # a grid of one block
    assert_equals_formula(CudaGelu, F.gelu, np.random.default_rng(0).normal(size=1000))


def test_relu_lets_nan_through():
    assert np.isnan(F.relu(StrictArray(np.array([np.nan, -1.0]))).data._host).tolist() == [True, False]


@settings(max_examples=20)
@given(images(), st.sampled_from([0.0, 0.3, 1.0]))
def test_dropout_equals_its_formula_on_the_same_noise(pair, p):
    x, gy = pair

    def f(x):
        backend.manual_seed(5)
        return F.dropout(x, p, training=True)

    if p == 0:
        return
    forward, backward = assert_equals_formula(CudaDropout, f, x, gy=gy)
    assert (forward, backward) == (("dropout",), ("dropout_gradient",))


def test_dropping_whole_maps_is_left_to_the_formula():
    assert run(lambda x: F.dropout2d(x, 0.5, training=True), np.ones((2, 3, 4, 4)))[0] is Dropout


@settings(max_examples=40)
@given(images(low=5), st.tuples(st.integers(1, 4), st.integers(1, 3)), st.integers(1, 3), st.booleans(), st.data())
def test_pooling_equals_its_formula(pair, kernel, stride, ceiling, data):
    x, _ = pair
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    dilation = data.draw(st.integers(1, 5 // max(kernel)))
    f = lambda x: F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode=ceiling)
    forward, backward = assert_equals_formula(CudaMaxPool2d, f, x)
    assert (forward, backward) == (("max_pool",), ("max_pool_gradient",))
    forward, backward = assert_equals_formula(CudaAvgPool2d, lambda x: F.avg_pool2d(x, kernel, stride, padding), x)
    assert (forward, backward) == (("average_pool",), ("average_pool_gradient",))


def test_nan_and_minus_infinity_in_a_window():
    x = np.zeros((1, 1, 4, 4))
    x[0, 0, 0, 1], x[0, 0, 2:, :2] = np.nan, -np.inf
    gy = np.arange(1.0, 5).reshape(1, 1, 2, 2)
    _, (y, gx), *_ = run(lambda x: F.max_pool2d(x, 2), x, gy=gy)
    assert np.array_equal(y[0, 0], [[np.nan, 0], [-np.inf, 0]], equal_nan=True)
    assert gx[0, 0].tolist() == [[0, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]


def test_windows_of_several_sizes_are_left_to_the_formula():
    f = lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    assert run(f, np.ones((1, 1, 5, 5)))[0] is AvgPool2d
