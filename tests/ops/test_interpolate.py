"""Resizing is linear: each new pixel is a weighted mean, and backward gives each share back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires.check import gradcheck
from minires.check.reference.interpolate import interpolate as reference
from minires.engine import Tensor
from minires.errors import RequestError
from minires.functional.interpolate import interpolate

MODES = [("nearest", None), ("bilinear", None), ("bilinear", False), ("bilinear", True)]
SIDES = st.integers(1, 7)


def random(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def against_torch(x, **options):
    """Forward and backward beside PyTorch's; returns how far apart they are."""
    torch = pytest.importorskip("torch")
    a, b = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    ya, yb = interpolate(a, **options), torch.nn.functional.interpolate(b, **options)
    assert ya.shape == tuple(yb.shape)
    gy = random(*ya.shape, seed=9).astype(x.dtype)
    ya.backward(gy)
    yb.backward(torch.tensor(gy))
    return max(np.abs(ya.data - yb.detach().numpy()).max(), np.abs(a.grad - b.grad.numpy()).max())


@pytest.mark.parametrize(("mode", "align_corners"), MODES)
@given(h=SIDES, w=SIDES, oh=SIDES, ow=SIDES)
@settings(max_examples=25)
def test_forward_equals_its_index_loop_and_backward_is_the_adjoint(mode, align_corners, h, w, oh, ow):
    x = random(2, 1, h, w)
    y = interpolate(x, (oh, ow), None, mode, align_corners)
    np.testing.assert_allclose(y.data, reference(x, (oh, ow), mode, bool(align_corners)), rtol=1e-12, atol=1e-13)
    gradcheck(lambda x: interpolate(x, (oh, ow), None, mode, align_corners), x)


@pytest.mark.parametrize(("mode", "align_corners"), MODES)
@given(h=SIDES, w=SIDES, oh=st.integers(1, 16), ow=SIDES)
@settings(max_examples=25)
def test_sizes_equal_torch(mode, align_corners, h, w, oh, ow):
    assert against_torch(random(1, 2, h, w), size=(oh, ow), mode=mode, align_corners=align_corners) < 1e-10


@pytest.mark.parametrize(("mode", "align_corners"), MODES)
@given(h=SIDES, w=SIDES, s=st.floats(1.0, 4.0), t=st.floats(0.3, 2.5))
@settings(max_examples=40)
def test_scale_factors_equal_torch(mode, align_corners, h, w, s, t):
    dtype, tolerance = (np.float32, 1e-5) if mode == "nearest" else (np.float64, 1e-10)  # see nearest's rounding below
    x = random(2, 1, h, w).astype(dtype)
    error = against_torch(x, scale_factor=(s, max(t, 1 / w)), mode=mode, align_corners=align_corners)
    assert error < tolerance


@pytest.mark.parametrize("old", [3, 16, 41])
def test_nearest_rounds_as_torch_does_where_the_place_is_almost_whole(old):
    torch = pytest.importorskip("torch")
    x = random(1, 1, old, 1).astype(np.float32)  # in float64 torch is not of one mind
    sizes = [{"size": (new, 1)} for new in range(1, 150)]
    scales = [{"scale_factor": (s, 1.0)} for s in (0.4, 0.7, 1.3, 2.2, 2.3, np.float64(2.6), 4.6)]
    for options in sizes + scales:
        theirs = torch.nn.functional.interpolate(torch.tensor(x), **options).numpy()
        np.testing.assert_array_equal(interpolate(x, **options).data, theirs)


@pytest.mark.parametrize(("mode", "align_corners"), MODES)
def test_one_number_means_both_sides(mode, align_corners):
    x = random(2, 3, 4, 5)
    both = interpolate(x, scale_factor=2, mode=mode, align_corners=align_corners)
    np.testing.assert_array_equal(both.data, interpolate(x, (8, 10), None, mode, align_corners).data)
    assert interpolate(x, 3, mode=mode).shape == (2, 3, 3, 3)


@pytest.mark.parametrize(("mode", "align_corners"), MODES)
@given(h=SIDES, w=SIDES, oh=SIDES, ow=SIDES)
@settings(max_examples=15)
def test_a_constant_image_stays_constant_and_no_gradient_is_lost(mode, align_corners, h, w, oh, ow):
    x = Tensor(np.full((1, 1, h, w), 2.5), requires_grad=True)
    y = interpolate(x, (oh, ow), None, mode, align_corners)
    np.testing.assert_allclose(y.data, 2.5, rtol=1e-14)
    gy = random(1, 1, oh, ow)
    y.backward(gy)
    np.testing.assert_allclose(x.grad.sum(), gy.sum(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("mode", "align_corners"), MODES)
def test_the_same_size_is_the_identity(mode, align_corners):
    x = random(2, 2, 3, 5)
    np.testing.assert_array_equal(interpolate(x, (3, 5), None, mode, align_corners).data, x)


def test_align_corners_keeps_the_corner_pixels():
    x = random(1, 2, 3, 4)
    y = interpolate(x, (7, 9), mode="bilinear", align_corners=True).data
    np.testing.assert_allclose(y[:, :, ::6, ::8], x[:, :, ::2, ::3], rtol=1e-13)


def test_nearest_upscaling_sums_each_block_of_gradients():
    x = Tensor(random(1, 2, 2, 3), requires_grad=True)
    gy = random(1, 2, 4, 9)
    interpolate(x, (4, 9)).backward(gy)
    np.testing.assert_allclose(x.grad, gy.reshape(1, 2, 2, 2, 3, 3).sum((3, 5)), rtol=1e-12)


def test_nearest_keeps_a_pixel_that_is_not_finite_to_itself():
    x = random(1, 1, 2, 2)
    x[0, 0, 1, 0] = -np.inf
    np.testing.assert_array_equal(interpolate(x, 4).data, x.repeat(2, 2).repeat(2, 3))


@pytest.mark.parametrize(("mode", "align_corners"), MODES)
def test_strides_do_not_matter(mode, align_corners):
    x = random(4, 3, 2, 2).T
    gradcheck(lambda x: interpolate(x, (5, 2), None, mode, align_corners), x)


@pytest.mark.parametrize(("mode", "align_corners"), MODES)
def test_float32_stays_float32(mode, align_corners):
    x = Tensor(random(1, 2, 3, 3).astype(np.float32), requires_grad=True)
    y = interpolate(x, None, 1.7, mode, align_corners)
    y.backward(random(*y.shape).astype(np.float32))
    assert y.dtype == x.grad.dtype == np.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either size or scale_factor"),
        ({"size": 2, "scale_factor": 2}, "either size or scale_factor"),
        ({"size": 2, "mode": "bicubic"}, "unknown mode 'bicubic'"),
        ({"size": 2, "align_corners": False}, "align_corners has no meaning"),
        ({"size": (1, 2, 3)}, "a pair for height and width"),
        ({"size": 0}, "at least 1 a side"),
        ({"scale_factor": 0.1}, "at least 1 a side"),
    ],
)
def test_bad_requests_are_refused_in_one_line(options, message):
    with pytest.raises(RequestError, match=message) as caught:
        interpolate(random(1, 1, 3, 4), **options)
    assert "\n" not in str(caught.value)


def test_only_images_are_resized():
    with pytest.raises(RequestError, match=r"x is \(3, 4\), but must be \(N, C, H, W\)"):
        interpolate(random(3, 4), 2)
