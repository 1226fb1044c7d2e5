import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.check import gradcheck
from minires.check.reference import conv as reference
from minires.engine import Tensor
from minires.errors import RequestError
from minires.switches import formulas_only
from tests.parity import assert_close, assert_like_torch, spread_out

rng = np.random.default_rng(5)

# (x, w, options): every kind of geometry; the bias is drawn for each
CONVOLUTIONS = {
    "plain": ((2, 3, 5, 4), (4, 3, 3, 2), {}),
    "one pixel": ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    "one image, one channel": ((1, 1, 4, 5), (1, 1, 2, 3), {}),
    "1x1": ((2, 3, 3, 4), (5, 3, 1, 1), {}),
    "padded": ((2, 3, 4, 5), (2, 3, 3, 3), {"padding": 1}),
    "padded beyond the kernel": ((1, 2, 3, 3), (2, 2, 2, 2), {"padding": (3, 2)}),
    "strided": ((2, 2, 6, 7), (3, 2, 3, 3), {"stride": 2, "padding": 1}),
    "stride beyond the kernel": ((2, 2, 7, 8), (3, 2, 2, 1), {"stride": (3, 4)}),
    "dilated": ((1, 2, 7, 6), (2, 2, 3, 2), {"dilation": (2, 3), "padding": (1, 2)}),
    "grouped": ((2, 4, 4, 5), (6, 2, 3, 2), {"groups": 2, "padding": 1}),
    "depthwise": ((2, 3, 5, 4), (3, 1, 3, 3), {"groups": 3, "padding": 1, "stride": (2, 1)}),
    "depthwise, two each": ((1, 2, 4, 4), (4, 1, 2, 2), {"groups": 2, "dilation": 2}),
    "all at once": ((2, 4, 8, 9), (2, 2, 3, 2), {"stride": (2, 3), "padding": (2, 1), "dilation": (1, 2), "groups": 2}),
}
TRANSPOSED = {
    "plain": ((2, 3, 3, 4), (3, 2, 3, 2), {}),
    "one pixel": ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    "strided": ((2, 2, 3, 4), (2, 3, 3, 3), {"stride": 2, "padding": 1}),
    "output padded": ((2, 2, 3, 4), (2, 3, 3, 3), {"stride": (2, 3), "padding": 1, "output_padding": (1, 2)}),
    "stride beyond the kernel": ((1, 2, 3, 2), (2, 1, 1, 2), {"stride": (3, 4)}),
    "dilated": ((1, 2, 3, 3), (2, 2, 3, 2), {"dilation": (2, 3), "padding": (1, 0), "output_padding": (1, 2)}),
    "grouped": ((2, 4, 3, 2), (4, 3, 2, 3), {"groups": 2, "stride": 2}),
    "depthwise": ((2, 3, 3, 3), (3, 1, 2, 2), {"groups": 3, "stride": 2}),
}


@pytest.fixture(autouse=True)
def _the_plain_formula():
    with formulas_only():
        yield


def arrays(*shapes, rng=rng, dtype=np.float64):
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def normal(options):
    """The reference's options: pairs."""
    return {k: v if k == "groups" or isinstance(v, tuple) else (v, v) for k, v in options.items()}


def gradients(f, *inputs, gy):
    leaves = [Tensor(a, requires_grad=True) for a in inputs]
    f(*leaves).backward(gy)
    return [leaf.grad for leaf in leaves]


@st.composite
def geometries(draw, transposed=False):
    """(x.shape, w.shape, options) of a convolution that has at least one output, all small."""
    n, groups, c, o = (draw(st.integers(1, 2)) for _ in range(4))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if transposed:
        options["output_padding"] = tuple(
            draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
        )
        image = [draw(st.integers(1 + 2 * p, 6)) for p in padding]
        return (n, groups * c, *image), (groups * c, o, *kernel), options
    image = [draw(st.integers(max(1, r - 2 * p), r + 3)) for r, p in zip(reach, padding, strict=True)]
    return (n, groups * c, *image), (groups * o, c, *kernel), options


# --- conv2d


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_conv2d_gradients(case):
    xs, ws, options = CONVOLUTIONS[case]
    x, w, b = arrays(xs, ws, ws[:1])
    gradcheck(lambda x, w, b: F.conv2d(x, w, b, **options), x, w, b)
    gradcheck(lambda x, w: F.conv2d(x, w, **options), x, w)


@settings(deadline=None, max_examples=25)
@given(geometries(), st.integers(0, 99))
def test_conv2d_gradients_for_any_geometry(geometry, seed):
    xs, ws, options = geometry
    x, w, b = arrays(xs, ws, ws[:1], rng=np.random.default_rng(seed))
    gradcheck(lambda x, w, b: F.conv2d(x, w, b, **options), x, w, b, may_vanish=True)


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_conv2d_equals_its_index_loop(case):
    xs, ws, options = CONVOLUTIONS[case]
    x, w, b = arrays(xs, ws, ws[:1])
    assert_close(F.conv2d(x, w, b, **options).data, reference.conv2d(x, w, b, **normal(options)))
    assert_close(F.conv2d(x, w, **options).data, reference.conv2d(x, w, **normal(options)))


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_conv2d_matches_torch(case):
    torch = pytest.importorskip("torch")
    xs, ws, options = CONVOLUTIONS[case]
    assert_like_torch(
        lambda x, w, b: F.conv2d(x, w, b, **options),
        lambda x, w, b: torch.nn.functional.conv2d(x, w, b, **options),
        *arrays(xs, ws, ws[:1]),
    )


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")  # PyTorch's, on the cost of its own padding
@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (4, 2), (5, 4)])
@pytest.mark.parametrize("dilation", [1, 2, (1, 3)])
def test_same_padding_puts_the_odd_pixel_where_torch_does(kernel, dilation):
    xs, ws = (1, 2, 4, 5), (3, 2, *kernel)
    x, w = arrays(xs, ws)
    assert F.conv2d(x, w, padding="same", dilation=dilation).shape == (1, 3, 4, 5)
    gradcheck(lambda x, w: F.conv2d(x, w, padding="same", dilation=dilation), x, w)
    torch = pytest.importorskip("torch")
    assert_like_torch(
        lambda x, w: F.conv2d(x, w, padding="same", dilation=dilation),
        lambda x, w: torch.nn.functional.conv2d(x, w, padding="same", dilation=dilation),
        x,
        w,
    )


def test_valid_padding_is_none():
    x, w = arrays((1, 2, 4, 5), (3, 2, 2, 2))
    assert np.array_equal(F.conv2d(x, w, padding="valid").data, F.conv2d(x, w).data)


def test_one_image_needs_no_batch_axis():
    x, w, b = arrays((2, 4, 5), (3, 2, 2, 2), (3,))
    assert np.array_equal(F.conv2d(x, w, b).data, F.conv2d(x[None], w, b).data[0])
    gradcheck(F.conv2d, x, w, b)


def test_an_empty_batch_gives_an_empty_output_and_no_gradient():
    x, w, b = arrays((0, 2, 4, 5), (3, 2, 2, 2), (3,))
    assert F.conv2d(x, w, b).shape == (0, 3, 3, 4)
    gx, gw, gb = gradients(F.conv2d, x, w, b, gy=np.zeros((0, 3, 3, 4)))
    assert gx.shape == x.shape
    assert not gw.any()
    assert not gb.any()


def test_conv2d_gradients_in_any_memory_layout():
    x, w, b = spread_out(2, 3, 4, 5), spread_out(4, 3, 2, 3), spread_out(4)
    gradcheck(lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1), x, w, b)


def test_convolution_is_equivariant_to_a_shift():
    x, w = arrays((1, 2, 9, 8), (3, 2, 3, 3))
    y = F.conv2d(x, w).data
    assert_close(F.conv2d(np.roll(x, (2, 1), (2, 3)), w).data[:, :, 2:, 1:], y[:, :, :-2, :-1])


def test_a_1x1_convolution_is_a_linear_layer_at_each_pixel():
    x, w, b = arrays((2, 3, 4, 5), (6, 3, 1, 1), (6,))
    y = F.linear(x.transpose(0, 2, 3, 1), w[:, :, 0, 0], b).data
    assert_close(F.conv2d(x, w, b).data, y.transpose(0, 3, 1, 2))


def test_a_group_sees_only_its_own_channels():
    x, w = arrays((2, 4, 5, 5), (6, 2, 3, 3))
    y = F.conv2d(x, w, groups=2).data
    assert_close(y[:, :3], F.conv2d(x[:, :2], w[:3]).data)
    assert_close(y[:, 3:], F.conv2d(x[:, 2:], w[3:]).data)


def test_conv2d_skips_the_gradients_nobody_wants():
    x, w, b = arrays((2, 3, 4, 4), (2, 3, 3, 3), (2,))
    for wanted in ((False, True, True), (True, False, False), (False, False, True)):
        y = F.conv2d(*[Tensor(a, requires_grad=flag) for a, flag in zip((x, w, b), wanted, strict=True)])
        assert [g is not None for g in y.op.backward(np.ones(y.shape))] == list(wanted)


# --- conv1d


@pytest.mark.parametrize(
    ("xs", "ws", "options"),
    [
        ((2, 3, 6), (4, 3, 3), {}),
        ((2, 4, 7), (6, 2, 3), {"stride": 2, "padding": 2, "dilation": 2, "groups": 2}),
        ((1, 1, 1), (1, 1, 1), {}),
        ((2, 2, 5), (2, 1, 2), {"groups": 2, "padding": (1,)}),
    ],
)
def test_conv1d(xs, ws, options):
    x, w, b = arrays(xs, ws, ws[:1])
    f = lambda x, w, b: F.conv1d(x, w, b, **options)
    gradcheck(f, x, w, b)
    plain = {k: v[0] if isinstance(v, tuple) else v for k, v in options.items()}
    assert_close(f(x, w, b).data, reference.conv1d(x, w, b, **plain))
    assert_close(f(x[0], w, b).data, f(x, w, b).data[0])
    torch = pytest.importorskip("torch")
    assert_like_torch(f, lambda x, w, b: torch.nn.functional.conv1d(x, w, b, **options), x, w, b)


def test_conv1d_with_same_padding_keeps_the_length():
    x, w = arrays((2, 3, 7), (4, 3, 4))
    gradcheck(lambda x, w: F.conv1d(x, w, padding="same", dilation=2), x, w)
    assert F.conv1d(x, w, padding="same", dilation=2).shape == (2, 4, 7)


# --- conv_transpose2d


@pytest.mark.parametrize("case", TRANSPOSED)
def test_conv_transpose2d_gradients(case):
    xs, ws, options = TRANSPOSED[case]
    x, w, b = arrays(xs, ws, (ws[1] * options.get("groups", 1),))
    gradcheck(lambda x, w, b: F.conv_transpose2d(x, w, b, **options), x, w, b)
    gradcheck(lambda x, w: F.conv_transpose2d(x, w, **options), x, w)


@settings(deadline=None, max_examples=25)
@given(geometries(transposed=True), st.integers(0, 99))
def test_conv_transpose2d_gradients_for_any_geometry(geometry, seed):
    xs, ws, options = geometry
    x, w, b = arrays(xs, ws, (ws[1] * options["groups"],), rng=np.random.default_rng(seed))
    gradcheck(lambda x, w, b: F.conv_transpose2d(x, w, b, **options), x, w, b, may_vanish=True)


@pytest.mark.parametrize("case", TRANSPOSED)
def test_conv_transpose2d_equals_its_index_loop(case):
    xs, ws, options = TRANSPOSED[case]
    x, w, b = arrays(xs, ws, (ws[1] * options.get("groups", 1),))
    assert_close(F.conv_transpose2d(x, w, b, **options).data, reference.conv_transpose2d(x, w, b, **normal(options)))


@pytest.mark.parametrize("case", TRANSPOSED)
def test_conv_transpose2d_matches_torch(case):
    torch = pytest.importorskip("torch")
    xs, ws, options = TRANSPOSED[case]
    assert_like_torch(
        lambda x, w, b: F.conv_transpose2d(x, w, b, **options),
        lambda x, w, b: torch.nn.functional.conv_transpose2d(x, w, b, **options),
        *arrays(xs, ws, (ws[1] * options.get("groups", 1),)),
    )


def test_conv_transpose2d_of_one_image_and_in_any_memory_layout():
    x, w = spread_out(3, 4, 5), spread_out(3, 2, 2, 3)
    assert np.array_equal(F.conv_transpose2d(x, w).data, F.conv_transpose2d(x[None], w).data[0])
    gradcheck(lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1), x, w)


@settings(deadline=None, max_examples=25)
@given(geometries(), st.integers(0, 99))
def test_conv_transpose2d_is_the_transpose_of_conv2d(geometry, seed):
    """<g, conv2d(x, w)> = <conv_transpose2d(g, w), x> for every x and g."""
    xs, ws, options = geometry
    x, w = arrays(xs, ws, rng=np.random.default_rng(seed))
    y = F.conv2d(x, w, **options).data
    g = np.random.default_rng(seed + 1).standard_normal(y.shape)
    axes = zip(xs[2:], ws[2:], options["stride"], options["padding"], options["dilation"], strict=True)
    extra = tuple((n + 2 * p - d * (k - 1) - 1) % s for n, k, s, p, d in axes)  # the pixels no output sees
    z = F.conv_transpose2d(g, w, output_padding=extra, **options).data
    assert abs(np.sum(g * y) - np.sum(z * x)) <= 1e-12 * (np.sum(abs(g * y)) + np.sum(abs(z * x)) + 1)


# --- common to all


@pytest.mark.parametrize("f", [F.conv2d, F.conv_transpose2d])
def test_float32_stays_float32(f):
    x, w, b = (Tensor(a, requires_grad=True) for a in arrays((2, 3, 4, 4), (3, 3, 3, 3), (3,), dtype=np.float32))
    y = f(x, w, b)
    y.backward(rng.standard_normal(y.shape).astype(np.float32))
    assert {a.dtype for a in (y, *(t.grad for t in (x, w, b)))} == {np.dtype(np.float32)}


@pytest.mark.parametrize("f", [F.conv2d, F.conv_transpose2d])
def test_the_bias_gradient_is_the_sum_of_gy_over_batch_and_pixels(f):
    x, w, b = arrays((2, 3, 4, 4), (3, 3, 3, 3), (3,))
    gy = rng.standard_normal(f(x, w, b).shape)
    assert_close(gradients(f, x, w, b, gy=gy)[2], gy.sum(axis=(0, 2, 3)))


X, W = np.ones((8, 3, 32, 32)), np.ones((16, 3, 3, 3))
REFUSED = [
    (
        lambda: F.conv2d(X, np.ones((16, 4, 3, 3))),
        r"\(8, 3, 32, 32\) and weight is \(16, 4, 3, 3\): weight's axis 1 must equal input's channels, 3",
    ),
    (lambda: F.conv2d(X, np.ones((16, 4, 3, 3)), groups=2), r"axis 1 times groups, 2, must equal input's channels, 3"),
    (lambda: F.conv2d(X, W, groups=3), r"groups, 3, must divide weight's axis 0, 16"),
    (lambda: F.conv2d(X, W, groups=0), r"groups is 0"),
    (lambda: F.conv2d(X, W[0]), r"must be \(N, C, H, W\)"),
    (lambda: F.conv2d(X[0, 0], W), r"must be \(N, C, H, W\)"),
    (lambda: F.conv2d(X, W[:, :, :0]), "at least 1"),
    (lambda: F.conv2d(X, W, np.ones(3)), r"bias is \(3,\), but 16 output channels need \(16,\)"),
    (lambda: F.conv2d(X[:, :, :2], W), "reaches over 3 pixels where the padded image has 2"),
    (lambda: F.conv2d(X, W, stride=0), "stride is 0"),
    (lambda: F.conv2d(X, W, dilation=(1, 1, 1)), r"dilation is \(1, 1, 1\)"),
    (lambda: F.conv2d(X, W, padding=-1), "padding is -1"),
    (lambda: F.conv2d(X, W, padding="same", stride=2), "'same' needs stride 1"),
    (lambda: F.conv2d(X, W, padding="full"), "unknown padding 'full'"),
    (lambda: F.conv1d(X, W), r"conv1d: input is \(8, 3, 32, 32\)"),
    (lambda: F.conv1d(X[0], W[0], stride=(1, 1)), r"conv1d: stride is \(1, 1\)"),
    (lambda: F.conv_transpose2d(X, W), "weight's axis 0 must equal input's channels, 3"),
    (lambda: F.conv_transpose2d(X, np.ones((3, 4, 3, 3)), output_padding=1), "must be smaller than stride"),
    (lambda: F.conv_transpose2d(X, np.ones((3, 4, 3, 3)), padding=17), "output would be 0 x 0 pixels"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(call, message):
    with pytest.raises(RequestError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_stride_that_is_no_integer_is_a_type_error():
    with pytest.raises(TypeError, match=r"stride is 1\.5"):
        F.conv2d(X, W, stride=1.5)
