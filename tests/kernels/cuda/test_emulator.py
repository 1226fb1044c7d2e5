"""The emulator notices what a GPU would not: each test here is a kernel, or a launch, that is wrong."""

import numpy as np
import pytest

from minires.kernels.cuda.source import NULL
from tests.kernels.cuda import emulator
from tests.kernels.cuda.comparing import needs_compiler
from tests.kernels.cuda.emulator import LaunchError, RawModule
from tests.strict_device import StrictArray

pytestmark = needs_compiler

HEAD = "typedef double real;\ntypedef long long integer;\n"
REVERSE = """
extern "C" __global__ void reverse(const real* x, real* y, integer n) {
  __shared__ real held[64];
  held[threadIdx.x] = x[threadIdx.x];
  BARRIER
  y[threadIdx.x] = held[n - 1 - threadIdx.x];
}
"""
WARP_SUM = """
extern "C" __global__ void sum(const real* x, real* y, integer n) {
  real v = threadIdx.x < n ? x[threadIdx.x] : 0;
  for (int lane = 16; lane > 0; lane /= 2) v += __shfl_xor_sync(0xffffffffu, v, lane);
  y[threadIdx.x] = v;
}
"""


def kernel(text, name):
    return RawModule(code=HEAD + text).get_function(name)


def arrays(n, dtype=np.float64):
    return StrictArray(np.arange(n).astype(dtype)), StrictArray(np.zeros(n, dtype))


def test_threads_see_what_others_wrote_before_a_barrier():
    x, y = arrays(64)
    kernel(REVERSE.replace("BARRIER", "__syncthreads();"), "reverse")((1,), (64,), (x, y, 64))
    assert np.array_equal(y._host, np.arange(64)[::-1])


def test_a_forgotten_barrier_shows():
    x, y = arrays(64)
    kernel(REVERSE.replace("BARRIER", ""), "reverse")((1,), (64,), (x, y, 64))
    assert np.isnan(y._host).any()  # shared memory that nobody has written yet


def test_a_warp_that_runs_ahead_shows():
    """Two sums through the same shared memory: without a barrier between them one overwrites what the other needs."""
    text = """
extern "C" __global__ void twice(const real* x, real* y) {
  __shared__ real held[2];
  for (int i = 0; i < 2; i++) {
    real v = x[64 * i + threadIdx.x];
    for (int lane = 16; lane > 0; lane /= 2) v += __shfl_xor_sync(0xffffffffu, v, lane);
    if (threadIdx.x % 32 == 0) held[threadIdx.x / 32] = v;
    __syncthreads();
    y[64 * i + threadIdx.x] = held[0] + held[1];
    BARRIER
  }
}
"""
    expected = np.repeat([np.arange(64).sum(), np.arange(64, 128).sum()], 64)
    for barrier in (True, False):
        right = []
        for _ in range(10):
            x, y = arrays(128)
            kernel(text.replace("BARRIER", "__syncthreads();" if barrier else ""), "twice")((1,), (64,), (x, y))
            right.append(np.array_equal(y._host, expected))
        assert all(right) == barrier


def test_a_barrier_that_some_threads_never_reach_is_an_error():
    x, y = arrays(64)
    wrong = kernel(REVERSE.replace("BARRIER", "if (threadIdx.x < 32) __syncthreads();"), "reverse")
    with pytest.raises(LaunchError, match="never come"):
        wrong((1,), (64,), (x, y, 64))


def test_a_warp_sums_by_shuffles():
    x, y = arrays(64)
    kernel(WARP_SUM, "sum")((1,), (64,), (x, y, 64))
    assert np.array_equal(y._host, np.repeat([np.arange(32).sum(), np.arange(32, 64).sum()], 32))


def test_a_shuffle_without_the_whole_warp_is_an_error():
    x, y = arrays(48)
    with pytest.raises(LaunchError, match="never come"):
        kernel(WARP_SUM, "sum")((1,), (48,), (x, y, 48))


def test_writing_beyond_an_array_is_an_error_and_reading_there_gives_nan():
    x, y = arrays(64)
    copy = 'extern "C" __global__ void copy(const real* x, real* y, integer n) { y[threadIdx.x] = x[threadIdx.x + n]; }'
    with pytest.raises(LaunchError, match="wrote beyond y"):
        kernel(copy, "copy")((1,), (65,), (x, y, 0))
    kernel(copy, "copy")((1,), (64,), (x, y, 1))
    assert np.array_equal(y._host, [*range(1, 64), np.nan], equal_nan=True)


def test_a_const_array_is_not_handed_back():
    x, _ = arrays(4)
    cheat = 'extern "C" __global__ void cheat(const real* x, integer n) { ((real*)x)[0] = 7; }'
    kernel(cheat, "cheat")((1,), (1,), (x, 1))
    assert x._host[0] == 0


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (lambda x, y: (x, y), "takes 3 arguments, but was given 2"),
        (lambda x, y: (x, y, 64.0), "n is integer, but was given 64.0, a float"),
        (lambda x, y: (x, y, np.int32(64)), "n is integer, but was given np.int32"),
        (lambda x, y: (x, y, x), "n is integer, but was given"),
        (lambda x, y: (x, y.astype(np.float32), 64), "y is real., of double, but was given float32"),
        (lambda x, y: (None, y, 64), "x is const real., but was given None"),
        (lambda x, y: (x[::2], y, 64), "x has gaps"),
        (lambda x, y: (x.reshape(8, 8).T, y, 64), "x has gaps, or lies in an order"),
    ],
)
def test_a_wrong_argument_is_refused(given, problem):
    reverse = kernel(REVERSE.replace("BARRIER", "__syncthreads();"), "reverse")
    with pytest.raises(LaunchError, match=problem):
        reverse((1,), (64,), given(*arrays(64)))


@pytest.mark.parametrize(
    ("grid", "block"), [((1,), (2048,)), ((1,), (64, 32)), ((1,), (1, 1, 128)), ((0,), (64,)), ((1, 70000), (64,))]
)
def test_a_grid_that_cuda_refuses_is_refused(grid, block):
    reverse = kernel(REVERSE.replace("BARRIER", "__syncthreads();"), "reverse")
    with pytest.raises(LaunchError):
        reverse(grid, block, (*arrays(64), 64))


def test_null_is_a_null_pointer():
    y = StrictArray(np.zeros(1))
    ask = 'extern "C" __global__ void ask(const real* x, real* y) { y[0] = x ? 1 : 2; }'
    kernel(ask, "ask")((1,), (1,), (NULL, y))
    assert y._host[0] == 2


def test_what_does_not_compile_says_where():
    with pytest.raises(LaunchError, match="nonsense"):
        RawModule(code=HEAD + 'extern "C" __global__ void wrong(real* x) { nonsense; }')


def test_the_product_reads_matrices_by_columns():
    """The emulated cuBLAS against the definition, with leading dimensions larger than the matrices."""
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 4, 6)), rng.normal(size=(2, 4, 7))
    expected = c.copy()
    for i in range(2):  # by columns: A is 5 x 3, of which 4 rows count; B is 6 x 4, C is 7 x 4
        expected[i, :, :4] = (2 * a[i].T[:4] @ b[i].T[:3] + 3 * c[i].T[:4]).T
    scalars, arrays = np.array([2.0, 3.0]), [StrictArray(x) for x in (a, b, c)]

    def multiply(count):
        at = scalars.ctypes.data
        pa, pb, pc = (x.data.ptr for x in arrays)
        given = pa, 1, 5, 15, pb, 1, 6, 24, at + 8, pc, 1, 7, 28, count, 70, -1
        emulator.gemm_strided_batched(emulator.HANDLE, 0, 0, 4, 4, 3, at, *given)

    with emulator.cuda():
        multiply(2)
        np.testing.assert_allclose(c, expected, rtol=1e-14)
        with pytest.raises(AssertionError, match="beyond its array"):
            multiply(3)
