import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.check import gradcheck
from minires.check.reference import pool as reference
from minires.engine import Tensor
from minires.errors import RequestError
from tests.parity import assert_close, assert_like_torch, spread_out

rng = np.random.default_rng(17)

SHAPES = {
    "even": ((2, 3, 4, 6), {"kernel_size": 2}),
    "one pixel": ((1, 1, 1, 1), {"kernel_size": 1}),
    "rows left over": ((2, 2, 5, 7), {"kernel_size": (2, 3)}),
    "overlapping": ((2, 2, 6, 5), {"kernel_size": 3, "stride": 1}),
    "gaps": ((1, 2, 7, 8), {"kernel_size": 2, "stride": (3, 4)}),
    "padded": ((2, 2, 5, 4), {"kernel_size": (3, 2), "stride": 2, "padding": 1}),
    "ceil": ((2, 2, 5, 6), {"kernel_size": 2, "stride": (2, 4), "ceil_mode": True}),
    "ceil, last window in the padding": ((1, 2, 4, 3), {"kernel_size": 2, "padding": 1, "ceil_mode": True}),
    "ceil, padded": ((2, 1, 6, 7), {"kernel_size": 3, "stride": 3, "padding": 1, "ceil_mode": True}),
    "whole image": ((2, 2, 3, 4), {"kernel_size": (3, 4)}),
}
DILATED = {
    "dilated": ((2, 2, 6, 7), {"kernel_size": (3, 2), "stride": 1, "dilation": (2, 3), "padding": 1}),
    "dilated, ceil": ((1, 2, 8, 7), {"kernel_size": 2, "stride": 3, "dilation": 2, "ceil_mode": True}),
}
GRIDS = [((2, 3, 6, 4), (3, 2)), ((2, 2, 7, 5), (3, 4)), ((1, 1, 3, 2), (5, 4)), ((2, 2, 5, 4), (1, 1))]
AVERAGES = [{}, {"count_include_pad": False}, {"divisor_override": 5}]


def distinct(*shape, rng=rng):
    """Numbers of which no two are closer than 0.5: away from the kinks of a maximum."""
    size = int(np.prod(shape))
    return (rng.permutation(size) + 0.5 * rng.random(size) - size / 2).reshape(shape)


def gradient(f, x, gy):
    leaf = Tensor(x, requires_grad=True)
    f(leaf).backward(gy)
    return leaf.grad


def pairs(options):
    """The reference's arguments: kernel, stride and padding as pairs."""
    two = lambda v: v if isinstance(v, tuple) else (v, v)
    kernel = two(options["kernel_size"])
    return kernel, two(options.get("stride", kernel)), two(options.get("padding", 0))


@st.composite
def geometries(draw):
    """(shape, options) of a pool with at least one window."""
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    image = [draw(st.integers(max(1, k - 2 * p), 6)) for k, p in zip(kernel, padding, strict=True)]
    options = {"kernel_size": kernel, "padding": padding, "ceil_mode": draw(st.booleans())}
    options["stride"] = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    return (draw(st.integers(1, 2)), draw(st.integers(1, 2)), *image), options


# --- max_pool2d


@pytest.mark.parametrize("case", SHAPES | DILATED)
def test_max_pool2d_gradients(case):
    shape, options = (SHAPES | DILATED)[case]
    gradcheck(lambda x: F.max_pool2d(x, **options), distinct(*shape))


@settings(deadline=None, max_examples=25)
@given(geometries(), st.integers(0, 99))
def test_max_pool2d_for_any_geometry(geometry, seed):
    shape, options = geometry
    x = distinct(*shape, rng=np.random.default_rng(seed))
    gradcheck(lambda x: F.max_pool2d(x, **options), x)
    twin = reference.max_pool2d(x, *pairs(options), (1, 1), options["ceil_mode"])
    assert_close(F.max_pool2d(x, **options).data, twin)


@pytest.mark.parametrize("case", SHAPES | DILATED)
def test_max_pool2d_equals_its_index_loop(case):
    shape, options = (SHAPES | DILATED)[case]
    x, dilation = distinct(*shape), options.get("dilation", 1)
    dilation = dilation if isinstance(dilation, tuple) else (dilation, dilation)
    twin = reference.max_pool2d(x, *pairs(options), dilation, options.get("ceil_mode", False))
    assert_close(F.max_pool2d(x, **options).data, twin)


@pytest.mark.parametrize("case", SHAPES | DILATED)
def test_max_pool2d_matches_torch(case):
    torch = pytest.importorskip("torch")
    shape, options = (SHAPES | DILATED)[case]
    assert_like_torch(
        lambda x: F.max_pool2d(x, **options),
        lambda x: torch.nn.functional.max_pool2d(x, **options),
        rng.standard_normal(shape),
    )


def test_at_a_tie_the_first_maximum_takes_the_gradient():
    x = np.array([[1.0, 3.0, 3.0, 0.0], [3.0, 3.0, 2.0, 3.0]]).reshape(1, 1, 2, 4)
    gy = rng.standard_normal((1, 1, 1, 2))
    expected = np.array([[0, gy[0, 0, 0, 0], gy[0, 0, 0, 1], 0], [0, 0, 0, 0]])
    assert np.array_equal(gradient(lambda x: F.max_pool2d(x, 2), x, gy)[0, 0], expected)


def test_ties_are_settled_as_in_torch():
    torch = pytest.importorskip("torch")
    x = rng.integers(0, 3, (3, 2, 7, 8)).astype(float)  # three values: nearly every window is a tie
    for options in ({"kernel_size": 2}, {"kernel_size": 3, "stride": 1, "padding": 1}, {"kernel_size": 7, "stride": 1}):
        assert_like_torch(
            lambda x, o=options: F.max_pool2d(x, **o), lambda x, o=options: torch.nn.functional.max_pool2d(x, **o), x
        )


def test_padding_never_wins_a_maximum():
    x = -1 - rng.random((2, 3, 4, 5))
    assert F.max_pool2d(x, 3, 1, 1).data.max() < -1
    gy = rng.standard_normal((2, 3, 4, 5))
    assert_close(gradient(lambda x: F.max_pool2d(x, 3, 1, 1), x, gy).sum(), gy.sum())


def test_a_window_of_minus_infinity_hands_its_gradient_to_a_pixel_and_not_to_the_padding():
    x, gy = np.full((1, 1, 2, 2), -np.inf), rng.standard_normal((1, 1, 2, 2))
    gx = gradient(lambda x: F.max_pool2d(x, 2, 2, 1), x, gy)
    assert np.array_equal(gx, gy)


def test_a_nan_is_not_hidden_by_a_maximum():
    x = rng.standard_normal((1, 1, 4, 4))
    x[0, 0, 1, 1] = np.nan
    assert np.isnan(F.max_pool2d(x, 2).data).tolist() == [[[[True, False], [False, False]]]]


def test_a_max_pool_hands_on_the_whole_gradient_and_nothing_else():
    x, gy = distinct(2, 3, 6, 6), rng.standard_normal((2, 3, 3, 3))
    gx = gradient(lambda x: F.max_pool2d(x, 2), x, gy)
    assert_close(gx.reshape(2, 3, 3, 2, 3, 2).sum(axis=(3, 5)), gy)
    assert np.count_nonzero(gx) == gy.size


# --- avg_pool2d


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("count", AVERAGES)
def test_avg_pool2d_gradients(case, count):
    shape, options = SHAPES[case]
    gradcheck(lambda x: F.avg_pool2d(x, **options, **count), rng.standard_normal(shape))


@settings(deadline=None, max_examples=25)
@given(geometries(), st.sampled_from(AVERAGES), st.integers(0, 99))
def test_avg_pool2d_for_any_geometry(geometry, count, seed):
    shape, options = geometry
    x = np.random.default_rng(seed).standard_normal(shape)
    gradcheck(lambda x: F.avg_pool2d(x, **options, **count), x)
    twin = reference.avg_pool2d(x, *pairs(options), options["ceil_mode"], **count)
    assert_close(F.avg_pool2d(x, **options, **count).data, twin)


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("count", AVERAGES)
def test_avg_pool2d_matches_torch(case, count):
    torch = pytest.importorskip("torch")
    shape, options = SHAPES[case]
    assert_like_torch(
        lambda x: F.avg_pool2d(x, **options, **count),
        lambda x: torch.nn.functional.avg_pool2d(x, **options, **count),
        rng.standard_normal(shape),
    )


@pytest.mark.parametrize(
    "f",
    [
        lambda x: F.avg_pool2d(x, 2),
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        lambda x: F.adaptive_avg_pool2d(x, (3, 4)),
        lambda x: F.adaptive_avg_pool2d(x, 1),
    ],
)
def test_every_average_pool_sends_each_input_its_share(f):
    """The shares of one output's gradient sum to one and are equal, and a constant image keeps its value."""
    x = rng.standard_normal((1, 1, 6, 7))
    y = f(np.full_like(x, 2.5)).data
    assert_close(y, np.full_like(y, 2.5))
    for at in np.ndindex(y.shape):
        gy = np.zeros_like(y)
        gy[at] = 1
        shares = gradient(f, x, gy)
        held = shares[shares != 0]
        assert_close(held.sum(), 1.0)
        assert_close(held, np.full_like(held, 1 / held.size))


# --- adaptive_avg_pool2d


@pytest.mark.parametrize(("shape", "size"), GRIDS)
def test_adaptive_avg_pool2d(shape, size):
    x = rng.standard_normal(shape)
    gradcheck(lambda x: F.adaptive_avg_pool2d(x, size), x)
    assert_close(F.adaptive_avg_pool2d(x, size).data, reference.adaptive_avg_pool2d(x, size))
    torch = pytest.importorskip("torch")
    peer = torch.nn.functional.adaptive_avg_pool2d
    assert_like_torch(lambda x: F.adaptive_avg_pool2d(x, size), lambda x: peer(x, size), x)


@settings(deadline=None, max_examples=25)
@given(st.tuples(*[st.integers(1, 7)] * 4), st.integers(0, 99))
def test_adaptive_avg_pool2d_for_any_geometry(sizes, seed):
    x, size = np.random.default_rng(seed).standard_normal((1, 2, *sizes[:2])), sizes[2:]
    gradcheck(lambda x: F.adaptive_avg_pool2d(x, size), x)
    assert_close(F.adaptive_avg_pool2d(x, size).data, reference.adaptive_avg_pool2d(x, size))


def test_none_keeps_an_axis_of_an_adaptive_pool():
    x = rng.standard_normal((2, 3, 5, 6))
    assert_close(F.adaptive_avg_pool2d(x, None).data, x)
    assert_close(F.adaptive_avg_pool2d(x, (None, 1)).data, x.mean(axis=3, keepdims=True))


def test_an_adaptive_pool_to_one_cell_is_the_mean_of_the_image():
    x = rng.standard_normal((2, 3, 5, 6))
    assert_close(F.adaptive_avg_pool2d(x, 1).data, x.mean(axis=(2, 3), keepdims=True))


# --- sequences, single images, layouts, dtypes


def test_pools_of_sequences():
    x = distinct(2, 3, 9)
    gradcheck(lambda x: F.max_pool1d(x, 3, 2, 1, dilation=2), x)
    gradcheck(lambda x: F.avg_pool1d(x, 3, 2, 1, ceil_mode=True), x)
    torch = pytest.importorskip("torch")
    peer = torch.nn.functional
    assert_like_torch(lambda x: F.max_pool1d(x, 3, 2, 1, 2), lambda x: peer.max_pool1d(x, 3, 2, 1, 2), x)
    assert_like_torch(lambda x: F.max_pool1d(x, (2,)), lambda x: peer.max_pool1d(x, (2,)), x)
    assert_like_torch(
        lambda x: F.avg_pool1d(x, 4, 3, 2, True, False), lambda x: peer.avg_pool1d(x, 4, 3, 2, True, False), x
    )
    assert_close(F.max_pool1d(x[0], 2).data, F.max_pool1d(x, 2).data[0])


POOLS = [lambda x: F.max_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2), lambda x: F.avg_pool2d(x, 3, 2, 1, True, False)]
POOLS += [lambda x: F.adaptive_avg_pool2d(x, (2, 3)), lambda x: F.adaptive_avg_pool2d(x, 1)]


@pytest.mark.parametrize("f", POOLS)
def test_one_image_needs_no_batch_axis(f):
    x = distinct(3, 5, 6)
    assert np.array_equal(f(x).data, f(x[None]).data[0])
    gradcheck(f, x)


@pytest.mark.parametrize("f", POOLS)
def test_gradients_in_any_memory_layout(f):
    gradcheck(f, spread_out(2, 3, 5, 6))


@pytest.mark.parametrize("f", POOLS)
def test_float32_stays_float32(f):
    x = Tensor(distinct(2, 3, 5, 6).astype(np.float32), requires_grad=True)
    y = f(x)
    y.backward(rng.standard_normal(y.shape).astype(np.float32))
    assert y.dtype == x.grad.dtype == np.float32


# --- what is refused

X = np.ones((2, 3, 4, 5))
REFUSED = [
    (lambda: F.max_pool2d(X, 5), RequestError, "window reaches over 5 pixels where the padded image has 4"),
    (
        lambda: F.max_pool2d(X, 2, padding=2),
        RequestError,
        r"padding \(2, 2\) is more than half of kernel_size \(2, 2\)",
    ),
    (lambda: F.max_pool2d(X, 0), RequestError, "kernel_size is 0"),
    (lambda: F.max_pool2d(X, 2, stride=0), RequestError, "stride is 0"),
    (lambda: F.max_pool2d(X, 2, return_indices=True), TypeError, "return_indices=True is not available"),
    (lambda: F.max_pool2d(X[0, 0], 2), RequestError, r"input is \(4, 5\)"),
    (lambda: F.max_pool2d(X[:, :, :0], 2), RequestError, "not empty"),
    (lambda: F.max_pool2d(X.astype(int), 2), TypeError, "int64, but must be of floats"),
    (lambda: F.avg_pool2d(X, 2.5), TypeError, r"kernel_size is 2\.5"),
    (lambda: F.avg_pool2d(X, (2, 2, 2)), RequestError, r"kernel_size is \(2, 2, 2\)"),
    (lambda: F.avg_pool2d(X, 2, divisor_override=0), RequestError, "divisor_override is 0"),
    (lambda: F.adaptive_avg_pool2d(X, 0), RequestError, r"output_size is \(0, 0\)"),
    (lambda: F.adaptive_avg_pool2d(X, (1, 2, 3)), RequestError, r"output_size is \(1, 2, 3\)"),
    (lambda: F.max_pool1d(X, 2), RequestError, r"max_pool1d: input is \(2, 3, 4, 5\)"),
    (lambda: F.avg_pool1d(X[0], (2, 2)), RequestError, "a sequence has one axis"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
