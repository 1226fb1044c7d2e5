import threading

import numpy as np
import pytest
import threadpoolctl
from hypothesis import given, settings
from hypothesis import strategies as st

from minires import functional as F
from minires.check import gradcheck
from minires.engine import Tensor, kernels_of
from minires.kernels import conv, threads
from minires.ops.conv import Conv2d, ConvTranspose2d
from minires.switches import formulas_only
from tests.kernels.equality import convolutions, transposed
from tests.parity import assert_close, spread_out

BOUND = {np.float64: 1e-12, np.float32: 2e-5}  # of the largest entry; float32 sums of up to a few thousand products
rng = np.random.default_rng(23)


@pytest.fixture
def _small_blocks(monkeypatch):
    """Blocks and threads even for arrays that fit in a test."""
    monkeypatch.setattr(conv, "SMALL", 0)
    monkeypatch.setattr(conv, "CACHE", 3000)


def run(f, *arrays, gy):
    """The output and the gradients of f's float inputs, with whatever the engine chooses."""
    leaves = [Tensor(a, requires_grad=True) for a in arrays]
    y = f(*leaves)
    y.backward(gy)
    return [y.data, *(leaf.grad for leaf in leaves)]


def arrays(*shapes, rng=rng, dtype=np.float64):
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


GEOMETRIES = convolutions(st.integers(1, 20), st.integers(1, 4), st.integers(1, 4), groups=3, padding=5)


@pytest.mark.usefixtures("_small_blocks")
@settings(deadline=None, max_examples=80)
@given(GEOMETRIES, st.sampled_from([np.float64, np.float32]), st.integers(0, 99))
def test_the_kernel_equals_the_formula(geometry, dtype, seed):
    xs, ws, options = geometry
    rng = np.random.default_rng(seed)
    x, w, b, c = arrays(xs, ws, ws[:1], xs[1:2], rng=rng, dtype=dtype)
    forward = lambda x, w, b: F.conv2d(x, w, b, **options)
    y = forward(*(Tensor(a, requires_grad=True) for a in (x, w, b)))
    assert type(y.op) is conv.BlockedConv2d
    gy = rng.standard_normal(y.shape).astype(dtype)
    checks = [(forward, (x, w, b), gy)]
    way_back = transposed(xs, ws, options)
    backward = lambda g, w, c: F.conv_transpose2d(g, w, c, **way_back)
    checks.append((backward, (gy, w, c), x))
    for f, inputs, cotangent in checks:
        got = run(f, *inputs, gy=cotangent)
        with formulas_only():
            expected = run(f, *inputs, gy=cotangent)
        for a, b in zip(got, expected, strict=True):
            assert a.dtype == b.dtype == dtype
            assert_close(a, b, tolerance=BOUND[dtype])


@pytest.mark.parametrize("options", [{"padding": 1}, {"stride": 2, "padding": (2, 1)}, {"padding": "same"}])
@pytest.mark.usefixtures("_small_blocks")
def test_gradients_of_the_kernel_by_central_differences(options):
    x, w, b = arrays((9, 2, 6, 5), (3, 2, 4, 3), (3,))
    gradcheck(lambda x, w, b: F.conv2d(x, w, b, **options), x, w, b, method="central")


@pytest.mark.usefixtures("_small_blocks")
def test_any_memory_layout():
    x, w, b = spread_out(9, 3, 6, 5), spread_out(4, 3, 3, 2), spread_out(4)
    gy = spread_out(9, 4, 6, 6)
    got = run(lambda *a: F.conv2d(*a, padding=1), x, w, b, gy=gy)
    with formulas_only():
        expected = run(lambda *a: F.conv2d(*a, padding=1), x, w, b, gy=gy)
    for a, e in zip(got, expected, strict=True):
        assert_close(a, e, tolerance=1e-12)


def test_the_result_does_not_depend_on_the_number_of_threads_or_their_timing(monkeypatch):
    monkeypatch.setattr(conv, "CACHE", 1 << 16)
    x, w, b = arrays((32, 8, 16, 16), (8, 8, 3, 3), (8,), dtype=np.float32)
    gy = rng.standard_normal(x.shape).astype(np.float32)
    seen = []
    for cores in (1, 2, 2, 5, 5, 5):
        monkeypatch.setattr(threads, "cores", lambda cores=cores: cores)
        for stride, g in ((1, gy), (2, np.ascontiguousarray(gy[:, :, ::2, ::2]))):
            seen.append(run(lambda *a, s=stride: F.conv2d(*a, padding=1, stride=s), x, w, b, gy=g))
    for one, two in zip(seen[2:], seen, strict=False):
        assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_two_threads_may_convolve_at_once():
    x, w = arrays((32, 8, 16, 16), (8, 8, 3, 3), dtype=np.float32)
    expected = F.conv2d(x, w, padding=1).data
    results = []
    callers = [
        threading.Thread(target=lambda: results.extend(F.conv2d(x, w, padding=1).data for _ in range(5)))
        for _ in range(3)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 15
    assert all(np.array_equal(y, expected) for y in results)


def test_what_the_kernel_does_not_take_falls_back_to_the_formula():
    x, w = arrays((2, 4, 5, 5), (4, 4, 3, 3))
    mixed, whole = (x, w.astype(np.float32)), (x, w)
    leaf = lambda a: Tensor(a, requires_grad=True)
    assert type(F.conv2d(*map(leaf, mixed)).op) is Conv2d
    assert type(F.conv2d(leaf(x + 0j), leaf(w)).op) is Conv2d
    assert type(F.conv2d(leaf(x[:0]), leaf(w)).op) is Conv2d
    assert type(F.conv2d(*map(leaf, whole)).op) is conv.BlockedConv2d
    assert type(F.conv_transpose2d(*map(leaf, whole)).op) is conv.BlockedConvTranspose2d
    with formulas_only():
        assert type(F.conv2d(*map(leaf, whole)).op) is Conv2d
        assert type(F.conv_transpose2d(*map(leaf, whole)).op) is ConvTranspose2d


def test_kernels_are_registered_when_minires_is_imported():
    assert conv.BlockedConv2d in kernels_of(Conv2d)
    assert conv.BlockedConvTranspose2d in kernels_of(ConvTranspose2d)


def test_each_does_every_piece_once_and_hands_on_what_a_piece_raises(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 3)
    done = []
    threads.each(50, done.append)
    assert sorted(done) == list(range(50))

    def fail(i):
        if i == 7:
            raise ZeroDivisionError(i)

    with pytest.raises(ZeroDivisionError, match="7"):
        threads.each(20, fail)


def test_blas_gets_its_threads_back(monkeypatch):
    def blas_threads():  # of the libraries that were there when the kernels first looked; another's may have come since
        return [pool["num_threads"] for pool in threads._blas().info() if pool["user_api"] == "blas"]

    monkeypatch.setattr(threads, "cores", lambda: 2)
    during = []
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        threads.each(4, lambda i: during.append(blas_threads()))
        after = blas_threads()
    assert during == [[1] * len(before)] * 4
    assert after == before


def test_a_large_scratch_buffer_is_not_held_on_to():
    small, large = threads.scratch("test", (8,), np.float32), threads.scratch("test", (threads.KEPT,), np.float32)
    assert small.base is not None
    assert large.base is None
    assert np.shares_memory(threads.scratch("test", (4, 2), np.float32), small)
