import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.engine import Tensor
from minires.kernels import layout, pool, rectifier, residual
from minires.switches import kernels_at_any_size
from tests.kernels.equality import DTYPES, ORDERS, assert_equals_formula, in_order, run

BOUND = {np.float64: 1e-12, np.float32: 1e-5}


@pytest.fixture
def _small_blocks(monkeypatch):
    for module in (layout, pool):
        monkeypatch.setattr(module, "BLOCK", 300)


@st.composite
def images(draw, *, distinct=False):
    """(rng, x), with all values apart from one another where the op has kinks at ties."""
    shape = [draw(st.integers(1, high)) for high in (7, 9, 12, 12)]
    rng, dtype = np.random.default_rng(draw(st.integers(0, 999))), draw(st.sampled_from(DTYPES))
    x = rng.permutation(np.prod(shape)).reshape(shape) * 0.1 - 3.05 if distinct else rng.normal(size=shape)
    return rng, in_order(x.astype(dtype), draw(st.sampled_from(ORDERS)))


def cotangent(rng, y, order="C"):
    return in_order(rng.normal(size=y.shape).astype(y.dtype), order)


@pytest.mark.usefixtures("_small_blocks")
@settings(deadline=None, max_examples=40)
@given(images(), st.sampled_from(ORDERS))
def test_relu_equals_its_formula(drawn, order):
    rng, x = drawn
    assert_equals_formula(rectifier.BlockedRelu, F.relu, x, gy=cotangent(rng, x, order), tolerance=0)


@pytest.mark.parametrize("shape", [(50,), (6, 7), (2, 3, 5), (2, 3, 2, 2, 3)])
def test_relu_takes_arrays_of_any_rank(shape):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape)
    for order in ("C", "fortran", "gaps"):
        assert_equals_formula(
            rectifier.BlockedRelu, F.relu, in_order(x, order), gy=cotangent(rng, x, order), tolerance=0
        )


def test_relu_at_zero_hands_back_nothing_and_lets_nan_through():
    x = np.array([[-0.0, 0.0, np.nan, -1.0, 2.0, np.inf, -np.inf]])
    gy = np.array([[1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5]])
    with kernels_at_any_size():
        op, (y, gx) = run(F.relu, x, gy=gy)
    assert op is rectifier.BlockedRelu
    np.testing.assert_array_equal(y, [[0, 0, np.nan, 0, 2, np.inf, 0]])
    np.testing.assert_array_equal(gx, [[0, 0, 0, 0, 5.5, 6.5, 0]])


@pytest.mark.parametrize(
    ("kernel", "f"), [(residual.BlockedResidualAdd, F.residual_add), (residual.BlockedAdd, lambda x, f: x + f)]
)
@pytest.mark.usefixtures("_small_blocks")
@settings(deadline=None, max_examples=40)
@given(images(), st.sampled_from(ORDERS), st.sampled_from(ORDERS))
def test_a_sum_equals_its_formula(kernel, f, drawn, order, cotangent_order):
    rng, x = drawn
    other, gy = cotangent(rng, x, order), cotangent(rng, x, cotangent_order)
    assert_equals_formula(kernel, f, x, other, gy=gy, tolerance=0)


def test_a_sum_that_broadcasts_or_mixes_is_left_to_the_formula():
    x = np.ones((8, 16, 32, 32))
    assert residual.BlockedAdd.accepts(x, x)
    for other in (2.0, x[0], x.astype(np.float32), x + 0j, x.astype(int)):
        assert not residual.BlockedAdd.accepts(x, other)


def test_gradients_that_meet_are_added_by_the_kernel_and_no_op_s_own_array_is_written_to(monkeypatch):
    used, rng = [], np.random.default_rng(0)
    plain = residual.BlockedMeeting.forward
    monkeypatch.setattr(residual.BlockedMeeting, "forward", lambda op, x, f: used.append(1) or plain(op, x, f))
    x, gy = rng.normal(size=(2, 4, 8, 33, 33))
    leaf = Tensor(x, requires_grad=True)
    inner = leaf * 3.0
    handed = gy.copy()
    F.residual_add(inner, inner * inner).backward(handed)
    assert used == [1]  # of three edges into inner: the second sum goes into the first one's array
    np.testing.assert_allclose(leaf.grad, 3 * gy * (1 + 6 * x), rtol=1e-12)
    np.testing.assert_array_equal(handed, gy)


@settings(deadline=None, max_examples=40)
@given(images(), st.integers(0, 5), st.integers(1, 3))
def test_the_padded_shortcut_equals_its_formula(drawn, extra, stride):
    rng, x = drawn
    f = lambda x: F.pad_channels(x, x.shape[1] + extra, stride)
    gy = cotangent(rng, f(x))
    assert_equals_formula(residual.ChannelsLastPadChannels, f, x, gy=gy, tolerance=0)


@st.composite
def windows(draw):
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    return {"kernel_size": kernel, "padding": padding, "stride": stride, "ceil_mode": draw(st.booleans())}


def fits(x, options, dilation=(1, 1)):
    reach = [d * (k - 1) + 1 for k, d in zip(options["kernel_size"], dilation, strict=True)]
    return all(n + 2 * p >= r for n, p, r in zip(x.shape[2:], options["padding"], reach, strict=True))


@pytest.mark.usefixtures("_small_blocks")
@settings(deadline=None, max_examples=50)
@given(images(distinct=True), windows(), st.tuples(st.integers(1, 2), st.integers(1, 2)))
def test_max_pooling_equals_its_formula(drawn, options, dilation):
    rng, x = drawn
    if fits(x, options, dilation):
        f = lambda x: F.max_pool2d(x, dilation=dilation, **options)
        assume(np.isfinite(f(x).data).all())  # a dilated window may see padding alone
        assert_equals_formula(pool.BlockedMaxPool2d, f, x, gy=cotangent(rng, f(x)), tolerance=BOUND[x.dtype.type])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 99))
def test_the_first_of_equal_pixels_wins_in_max_pooling(seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, size=(3, 4, 6, 6)).astype(np.float64)
    gy = cotangent(rng, F.max_pool2d(x, 3, 2, 1))
    assert_equals_formula(pool.BlockedMaxPool2d, lambda x: F.max_pool2d(x, 3, 2, 1), x, gy=gy, tolerance=1e-12)


@pytest.mark.usefixtures("_small_blocks")
@settings(deadline=None, max_examples=50)
@given(images(), windows(), st.booleans())
def test_average_pooling_equals_its_formula(drawn, options, counted):
    rng, x = drawn
    if fits(x, options):
        f = lambda x: F.avg_pool2d(x, count_include_pad=counted, **options)
        assert_equals_formula(pool.BlockedAvgPool2d, f, x, gy=cotangent(rng, f(x)), tolerance=BOUND[x.dtype.type])


@pytest.mark.usefixtures("_small_blocks")
@settings(deadline=None, max_examples=30)
@given(images())
def test_global_average_pooling_equals_its_formula(drawn):
    rng, x = drawn
    f = lambda x: F.adaptive_avg_pool2d(x, 1)
    assert_equals_formula(pool.BlockedGlobalAvgPool2d, f, x, gy=cotangent(rng, f(x)), tolerance=BOUND[x.dtype.type])


@pytest.mark.parametrize(
    "f",
    [F.relu, lambda x: F.residual_add(x, x * 2), lambda x: F.pad_channels(x, 12, 2), lambda x: F.max_pool2d(x, 2)],
    ids=["relu", "residual_add", "pad_channels", "max_pool2d"],
)
def test_channels_last_images_stay_channels_last(f):
    x = in_order(np.random.default_rng(0).normal(size=(4, 8, 6, 6)), "channels-last")
    with kernels_at_any_size():
        y = f(x).data
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
