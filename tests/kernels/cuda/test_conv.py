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
from tests.kernels.equality import DTYPES, ORDERS, in_order
from tests.strict_device import StrictArray

pytestmark = [needs_compiler, pytest.mark.usefixtures("device")]
rng = np.random.default_rng(6)


@st.composite
def convolutions(draw):
    """x, w, b and the options of a convolution with at least one output, float64 or float32, in any memory order."""
    pairs = lambda low, high: draw(st.tuples(st.integers(low, high), st.integers(low, high)))
    kernel, dilation, padding, stride = pairs(1, 4), pairs(1, 2), pairs(0, 3), pairs(1, 3)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    image = [draw(st.integers(max(1, r - 2 * p), r + 6)) for r, p in zip(reach, padding, strict=True)]
    groups = draw(st.integers(1, 3))
    n, c, o = draw(st.integers(1, 5)), draw(st.sampled_from([1, 2, 5])), draw(st.integers(1, 4))
    rng, dtype = np.random.default_rng(draw(st.integers(0, 99))), draw(st.sampled_from(DTYPES))
    shapes = (n, c * groups, *image), (o * groups, c, *kernel), (o * groups,)
    x, w, b = (rng.normal(size=s).astype(dtype) for s in shapes)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return in_order(x, draw(st.sampled_from(ORDERS))), w, b, options


@settings(max_examples=60)
@given(convolutions(), st.sampled_from([1, 5000, 1 << 29]))
def test_convolution_and_its_transpose_equal_their_formulas(given, room):
    x, w, b, options = given
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv, "ROOM", room)
        assert_equals_formula(CudaConv2d, lambda x, w, b: F.conv2d(x, w, b, **options), x, w, b)
        y = F.conv2d(StrictArray(x), StrictArray(w), **options).data._host
        c = rng.normal(size=x.shape[1]).astype(x.dtype)
        extra = tuple(
            (n + 2 * p - d * (k - 1) - 1) % s
            for n, p, d, k, s in zip(
                x.shape[2:], options["padding"], options["dilation"], w.shape[2:], options["stride"], strict=True
            )
        )
        turned = lambda y, w, c: F.conv_transpose2d(y, w, c, output_padding=extra, **options)
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
