"""The devices that the suites run on: the strict double everywhere, CuPy where there is a GPU.

A test that takes the fixture `library` runs once on each; CuPy is skipped, with the reason, where it cannot be had.
Inside such a test the device "cuda" is that library, so that it may be spelled as a user spells it. `agree` holds
whatever a function computes on the library against the same on NumPy.
"""

from contextlib import contextmanager, nullcontext

import numpy as np
import pytest

from minires import backend
from minires.engine import Tensor
from minires.errors import RequestError
from minires.switches import formulas_only
from tests.strict_device import STRICT, no_sync

DEVICES = ("strict", "cupy")


@pytest.fixture(params=DEVICES)
def library(request, monkeypatch):
    if request.param == "strict":
        monkeypatch.setattr(backend, "cupy", lambda: STRICT)
        return STRICT
    try:
        return backend.cupy()
    except RequestError as error:
        pytest.skip(str(error))


def without_waiting(library):
    """A `with` block in which the strict double refuses to wait and to upload; CuPy cannot tell."""
    return no_sync() if library is STRICT else nullcontext()


@contextmanager
def drawn_on_the_host(library):
    """Random numbers are NumPy's: CuPy's own generator has another stream. The double has NumPy's anyway."""
    if library is STRICT:
        yield
        return
    library.uniform = lambda shape, dtype: library.asarray(backend.NUMPY.uniform(shape, dtype))
    try:
        yield
    finally:
        del library.uniform


def agree(library, compute, tolerance=1e-12):
    """Asserts that compute(library) gives the numbers of compute(NUMPY), which the plain formulas compute.

    compute      takes a library; returns arrays, Tensors and numbers in any nest of dicts, tuples and lists. Both
                 runs start from one seed, and every array must lie in the memory of the library it was given
    tolerance    of the largest value of each array, for float64; float32 gets 1e-5 where that is larger
    """
    with formulas_only():
        backend.manual_seed(11)
        expected = list(leaves(compute(backend.NUMPY)))
    backend.manual_seed(11)
    with drawn_on_the_host(library):
        got = list(leaves(compute(library)))
    assert [place for place, _ in got] == [place for place, _ in expected]
    for (place, a), (_, b) in zip(got, expected, strict=True):
        if isinstance(b, np.ndarray):
            assert type(a) is library.array_type, f"{place} is a {type(a).__name__}"
            assert (a.shape, a.dtype) == (b.shape, b.dtype), place
            a = backend.to_host(a)
        assert_close(a, b, tolerance, place)


def assert_close(a, b, tolerance, place=""):
    if np.asarray(b).dtype.kind not in "fc":
        assert np.array_equal(a, b), place
        return
    single = np.finfo(np.asarray(b).dtype).dtype == np.float32
    scale = max(np.max(np.abs(b), initial=0.0, where=np.isfinite(b)), 1.0 if single else 1e-3)
    tolerance = max(tolerance, 1e-5) if single else tolerance
    assert np.allclose(a, b, rtol=0.0, atol=tolerance * scale, equal_nan=True), place


def leaves(value, place="result"):
    """(where it stands, the array or number) for everything in a nest; a Tensor counts as its array."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, f"{place}[{key!r}]")
    elif isinstance(value, (tuple, list)):
        for i, part in enumerate(value):
            yield from leaves(part, f"{place}[{i}]")
    elif value is not None:
        yield place, value.data if isinstance(value, Tensor) else value
