"""Convolution's CUDA, run on the CPU: any geometry, groups, and pieces of a batch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.engine import Tensor
from minires.kernels.cuda import conv
from minires.kernels.cuda.conv import CudaConv2d, CudaConvTranspose2d
from tests.kernels.cuda.comparing import assert_equals_formula, is_channels_last, needs_compiler, run
from tests.kernels.equality import DTYPES, ORDERS, convolutions, in_order, transposed
from tests.strict_device import StrictArray

pytestmark = [needs_compiler, pytest.mark.usefixtures("device")]
rng = np.random.default_rng(6)


GEOMETRIES = convolutions(st.integers(1, 5), st.sampled_from([1, 2, 5]), st.integers(1, 4), groups=3)


@settings(max_examples=60)
@given(
    GEOMETRIES,
    st.sampled_from(DTYPES),
    st.sampled_from(ORDERS),
    st.integers(0, 99),
    st.sampled_from([1, 5000, 1 << 29]),
)
def test_convolution_and_its_transpose_equal_their_formulas(geometry, dtype, order, seed, room):
    (xs, ws, options), rng = geometry, np.random.default_rng(seed)
    x, w, b, c = (rng.normal(size=s).astype(dtype) for s in (xs, ws, ws[:1], xs[1:2]))
    x = in_order(x, order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv, "ROOM", room)
        assert_equals_formula(CudaConv2d, lambda x, w, b: F.conv2d(x, w, b, **options), x, w, b)
        y = F.conv2d(StrictArray(x), StrictArray(w), **options).data._host
        way_back = transposed(xs, ws, options)
        turned = lambda y, w, c: F.conv_transpose2d(y, w, c, **way_back)
        assert_equals_formula(CudaConvTranspose2d, turned, y, w, c)


def test_padding_on_one_side_more():
    x, w = rng.normal(size=(2, 3, 6, 7)), rng.normal(size=(4, 3, 4, 2))
    assert_equals_formula(CudaConv2d, lambda x, w: F.conv2d(x, w, padding="same"), x, w)


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1), (2, 0), (1, 1)])
def test_a_kernel_of_one_pixel(stride, padding):
    """At stride 2, padding 1, the output is as large as an image of 2 by 2, but does not see the same pixels."""
    x, w = rng.normal(size=(2, 3, 2, 2)), rng.normal(size=(4, 3, 1, 1))
    assert_equals_formula(CudaConv2d, lambda x, w: F.conv2d(x, w, stride=stride, padding=padding), x, w)


def test_launches():
    x, w, small = rng.normal(size=(2, 3, 6, 7)), rng.normal(size=(4, 3, 3, 3)), rng.normal(size=(4, 3, 1, 1))
    *_, forward, backward = run(lambda x, w: F.conv2d(x, w, padding=1), x, w)
    assert forward == ("patches", "gemm")
    assert backward == ("gemm", "scatter", "patches", "gemm")
    *_, forward, backward = run(F.conv2d, x, small)
    assert (forward, backward) == (("gemm",), ("gemm", "gemm"))


def test_images_come_channels_last_and_weights_in_c_order():
    x, w = (Tensor(StrictArray(rng.normal(size=s)), requires_grad=True) for s in ((2, 3, 6, 7), (4, 3, 3, 3)))
    y = F.conv2d(x, w, padding=1)
    gx, gw, _ = y.op.backward(StrictArray(rng.normal(size=y.shape)))
    assert is_channels_last(y.data._host)
    assert is_channels_last(gx._host)
    assert gw._host.flags.c_contiguous
