"""What every test of a kernel does: run it and its formula on the same arrays, and compare all they give."""

import numpy as np
from hypothesis import strategies as st

from minires.engine import Tensor
from minires.switches import formulas_only, kernels_at_any_size
from tests.parity import assert_close

DTYPES = (np.float64, np.float32)


def run(f, *arrays, gy):
    """The op that made the output, the output, and the gradients of f's inputs."""
    leaves = [Tensor(a, requires_grad=True) for a in arrays]
    y = f(*leaves)
    op = type(y.op)
    y.backward(gy)
    return op, [y.data, *(leaf.grad for leaf in leaves)]


def assert_equals_formula(kernel, f, *arrays, gy, tolerance, least=0.0):
    """f runs `kernel`, which gives what the formula gives: relative to the largest entry of each array, or to `least`.

    A sum of many numbers of either sign may come out near zero; `least` is then how large it is as a rule.
    """
    with kernels_at_any_size():
        op, got = run(f, *arrays, gy=gy)
    assert op is kernel
    with formulas_only():
        op, expected = run(f, *arrays, gy=gy)
    assert op is kernel.stands_for
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype
        largest = float(np.max(np.abs(b), initial=0.0))
        assert_close(a, b, tolerance=tolerance * max(1.0, least / largest) if largest else tolerance)


def in_order(a, order):
    """The same values in another memory order: C, channels-last, fortran, or with gaps."""
    if order == "channels-last" and a.ndim == 4:
        return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    if order == "fortran":
        return np.asfortranarray(a)
    if order == "gaps":
        held = np.full([2 * n for n in a.shape], np.nan, a.dtype)
        held[tuple([slice(None, None, 2)] * a.ndim)] = a
        return held[tuple([slice(None, None, 2)] * a.ndim)]
    return np.ascontiguousarray(a)


ORDERS = ("C", "channels-last", "fortran", "gaps")


@st.composite
def convolutions(draw, images, channels, filters, groups=1, padding=3, room=6):
    """(x.shape, w.shape, options) of a convolution with at least one output; channels and filters are those of a group.

    The image has at most `room` pixels more than the kernel reaches over, up and down and across.
    """
    pairs = lambda low, high: draw(st.tuples(st.integers(low, high), st.integers(low, high)))
    kernel, dilation, padding, stride = pairs(1, 4), pairs(1, 2), pairs(0, padding), pairs(1, 3)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    image = [draw(st.integers(max(1, r - 2 * p), r + room)) for r, p in zip(reach, padding, strict=True)]
    g, c = draw(st.integers(1, groups)), draw(channels)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": g}
    return (draw(images), c * g, *image), (draw(filters) * g, c, *kernel), options


def transposed(xs, ws, options):
    """The options with which `conv_transpose2d` goes the way back to images of the very size."""
    axes = zip(xs[2:], options["padding"], options["dilation"], ws[2:], options["stride"], strict=True)
    return {**options, "output_padding": tuple((n + 2 * p - d * (k - 1) - 1) % s for n, p, d, k, s in axes)}
