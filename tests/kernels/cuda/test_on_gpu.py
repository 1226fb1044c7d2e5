"""The same work with and without kernels: small on the emulator, and as large as in real networks on a GPU."""

import numpy as np
import pytest

from minires import backend
from minires.engine import Tensor
from minires.errors import RequestError
from minires.kernels.cuda import allow_tf32, cudnn
from minires.switches import formulas_only
from tests.devices import assert_close
from tests.kernels.cuda import emulator
from tests.kernels.cuda.work import works

BOUND = {np.float64: 1e-11, np.float32: 1e-4}  # sums of up to 131072 numbers, in another order
needs_one = pytest.mark.skipif(emulator.COMPILER is None, reason="no g++ to run the kernels' text on the CPU")


@pytest.fixture(params=[pytest.param("small", marks=needs_one), "real"])
def place(request):
    """(the library, the size of work for it)."""
    if request.param == "small":
        with emulator.cuda() as library:
            yield library, "small"
        return
    try:
        yield backend.cupy(), "real"
    except RequestError as error:
        pytest.skip(str(error))


def laid_out(library, a):
    """The array on the device, in the memory order that it has on the host."""
    order = np.argsort([-s for s in a.strides], kind="stable")
    return library.asarray(np.ascontiguousarray(a.transpose(order))).transpose(*np.argsort(order).tolist())


def answers(library, f, arrays, dtype):
    """The output and all gradients, on the host."""
    leaves = [Tensor(laid_out(library, a.astype(dtype)), requires_grad=True) for a in arrays]
    y = f(*leaves)
    gy = np.random.default_rng(9).normal(size=y.shape).astype(dtype)
    y.backward(library.asarray(gy))
    return [backend.to_host(a) for a in (y.data, *(leaf.grad for leaf in leaves))]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", works("small"))
def test_kernels_and_formulas_agree(place, name, dtype):
    library, size = place
    f, arrays = works(size)[name]
    got = answers(library, f, arrays, dtype)
    with formulas_only():
        expected = answers(library, f, arrays, dtype)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype == dtype
        assert_close(a, b, BOUND[dtype], name)


def test_tf32_is_used_where_it_is_allowed_and_nowhere_else(place):
    library, size = place
    f, arrays = works(size)["linear"]
    exact = answers(library, f, arrays, np.float64)[0]
    error = lambda y: np.abs(y - exact).max() / np.abs(exact).max()
    with allow_tf32():
        rounded = error(answers(library, f, arrays, np.float32)[0])
    assert error(answers(library, f, arrays, np.float32)[0]) < 2e-6
    if size == "real":
        assert 2e-6 < rounded < 2e-3


def test_cudnn_agrees_with_patches(place, monkeypatch):
    library, size = place
    if size == "small" or cudnn.frontend(library.xp.cuda.runtime.getDevice()) is None:
        pytest.skip("no cuDNN with its Python frontend on a GPU")
    for name, (f, arrays) in works(size).items():
        if name.startswith("convolution"):
            with allow_tf32():
                loose = answers(library, f, arrays, np.float32)
            got = answers(library, f, arrays, np.float32)
            with monkeypatch.context() as patch:
                patch.setattr(cudnn, "frontend", lambda device: None)
                expected = answers(library, f, arrays, np.float32)
            for a, b, c in zip(got, expected, loose, strict=True):
                assert_close(a, b, 1e-4, name)
                assert_close(c, b, 5e-3, name)
