"""Which library an array belongs to, what is said where there is none, and the CPU's own primitives.

What CuPy computes is tested on a GPU; here a stand-in shows how it is found, and what is said when it cannot be.
"""

import importlib
import math
import sys
from types import ModuleType

import numpy as np
import pytest

import minires as mr
from minires import backend
from minires.engine import Tensor
from minires.errors import LibraryError, RequestError

rng = np.random.default_rng(5)


class Held:
    """An array on a stand-in device."""

    __module__ = "cupy._core"

    def __init__(self, values):
        self.values = np.asarray(values)
        self.shape, self.dtype = self.values.shape, self.values.dtype


@pytest.fixture
def cupy(monkeypatch):
    """A module called cupy, not seen so far."""
    module = ModuleType("cupy")
    module.ndarray, module.asarray, module.asnumpy = Held, lambda a, dtype=None: Held(a), lambda a: a.values
    module.is_available = lambda: True
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(backend, "_libraries", dict(backend._libraries))
    backend.cupy.cache_clear()
    yield module
    backend.cupy.cache_clear()


def test_an_array_of_cupy_is_known_from_the_first_one_on(cupy):
    a = Held([1.0, 2.0])
    assert not backend.is_array(a)
    library = backend.find((a, 2.0, None))
    assert (library.name, library.device) == ("cupy", "cuda")
    assert backend.is_array(a)
    assert backend.find((a,)) is library
    assert "cuda" in backend.devices()


def test_its_values_come_to_the_host_even_if_it_is_the_first_one(cupy):
    values = rng.standard_normal(3)
    assert backend.to_host(Held(values)) is values
    assert np.array_equal(backend.NUMPY.asarray(Held(values)), values)


def test_cuda_is_where_new_tensors_are_made_and_no_further(cupy):
    for name in ("cuda", "gpu"):
        with backend.device(name) as place:
            assert repr(place) == "device('cuda')"
            assert backend.default() is backend.cupy()
        assert backend.default() is backend.NUMPY
    with pytest.raises(KeyError), backend.device("cuda"):
        raise KeyError
    assert backend.default() is backend.NUMPY


def test_two_libraries_in_one_op_are_both_named(cupy):
    with pytest.raises(
        LibraryError,
        match=r"matmul: input 0 \(2, 3\) is a numpy array on cpu, but input 2 \(3,\) is a cupy array on cuda",
    ):
        backend.find((np.ones((2, 3)), 1.0, Held(np.ones(3))), "matmul")


def test_without_a_gpu_cuda_says_so(cupy):
    cupy.is_available = lambda: False
    with pytest.raises(RequestError, match="CuPy is installed but finds no CUDA GPU or driver; use --device cpu"):
        backend.device("cuda")


def test_without_cupy_cuda_says_what_to_install(cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RequestError, match=r"needs CuPy, which cannot be imported .*pip install 'minires\[cuda12\]'"):
        backend.device("cuda")


def test_a_library_may_have_a_device_of_its_own(monkeypatch):
    class Elsewhere(backend.Library):
        name, device, array_type = "elsewhere", "far", Held

    monkeypatch.setattr(backend, "_libraries", dict(backend._libraries))
    there = Elsewhere()
    backend.register(there)
    assert backend.library_of("far") is there
    assert backend.library_of("cpu") is backend.NUMPY
    with pytest.raises(RequestError, match="unknown device 'near'"):
        backend.library_of("near")


def test_subclasses_and_numpy_scalars_are_numpys():
    class Masked(np.ndarray):
        pass

    assert backend.find((np.zeros(2).view(Masked),)) is backend.NUMPY
    assert backend.find((np.float32(2.0),)) is backend.NUMPY
    assert backend.find(()) is backend.NUMPY


def test_what_is_no_array_is_refused_by_name():
    with pytest.raises(LibraryError, match="add: input 1 is a str, not a Tensor or an array"):
        backend.find((1.0, "2"), "add")


def test_an_index_that_occurs_twice_is_added_twice():
    target, values = np.zeros(3), rng.standard_normal(4)
    backend.NUMPY.add_at(target, np.array([0, 2, 2, 2]), values)
    assert np.allclose(target, [values[0], 0.0, values[1:].sum()], rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_uniform_draws_from_the_seeded_generator(dtype):
    mr.manual_seed(3)
    a = backend.NUMPY.uniform((2, 500), dtype)
    mr.manual_seed(3)
    assert np.array_equal(backend.NUMPY.uniform((2, 500), dtype), a)
    assert a.dtype == (np.float32 if dtype == np.float32 else np.float64)
    assert 0 <= a.min() < a.max() < 1
    assert abs(a.mean() - 0.5) < 0.05
    assert backend.NUMPY.synchronize() is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_is_the_same_without_scipy(monkeypatch, dtype):
    x = rng.standard_normal((3, 4)).astype(dtype)
    present = importlib.import_module

    def absent(name, *rest):
        if name.startswith("scipy"):
            raise ImportError(name)
        return present(name, *rest)

    backend._vector_erf.cache_clear()
    monkeypatch.setattr(importlib, "import_module", absent)
    try:
        y = backend.NUMPY.erf(x)
        assert backend.NUMPY.erf(x[:0]).shape == (0, 4)
    finally:
        backend._vector_erf.cache_clear()
    assert y.dtype == dtype
    assert np.allclose(y, [[math.erf(v) for v in row] for row in x], rtol=1e-6 if dtype == np.float32 else 1e-15)


def test_erf_is_scipys_where_there_is_one():
    special = pytest.importorskip("scipy.special")
    backend._vector_erf.cache_clear()
    x = rng.standard_normal((3, 4))
    assert np.array_equal(backend.NUMPY.erf(x), special.erf(x))


@pytest.mark.parametrize("seed", [-1, 1.5, True, "7"])
def test_a_seed_is_an_integer_of_at_least_0(seed):
    with pytest.raises(RequestError, match="is not usable: it must be an integer of at least 0"):
        mr.manual_seed(seed)


def test_lists_become_arrays_of_the_default_library():
    assert Tensor([[1.0, 2.0]]).device == "cpu"
    assert backend.NUMPY.asarray([1, 2], np.float32).dtype == np.float32
