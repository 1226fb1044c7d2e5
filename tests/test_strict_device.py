"""The strict device refuses what CuPy refuses and takes what it takes. With a GPU, CuPy is asked the same."""

import ctypes
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import minires as mr
from minires import backend
from minires.engine import Tensor
from minires.errors import LibraryError
from minires.functional import add
from tests.cupy_snippets import ACCEPTED, CORPUS, REFUSED, names, run, verdict
from tests.strict_device import STRICT, StrictArray, counts, no_sync
from tests.strict_device import xp as strict


@pytest.fixture
def xp(library):
    return library.xp


def square(xp):
    return xp.asarray(np.arange(9.0).reshape(3, 3))


def ones(xp, *shape, dtype="float64"):
    return xp.ones(shape, dtype)


# --- the corpus: what CuPy refuses and what it takes --------------------------------------------------


@pytest.mark.parametrize(("snippet", "expected"), CORPUS, ids=[snippet for snippet, _ in CORPUS])
def test_each_snippet_has_its_verdict(library, snippet, expected):
    assert verdict(snippet, names(library.xp, library.asarray)) == expected


@pytest.mark.parametrize("snippet", [snippet for snippet, expected in CORPUS if expected == ACCEPTED])
def test_an_accepted_snippet_gives_the_numbers_of_numpy(snippet):
    ours, theirs = names(strict, STRICT.asarray), names(np, np.array)
    ours["value"], theirs["value"] = run(snippet, ours), run(snippet, theirs)
    for name in ("value", "a", "v", "z"):
        for a, b in zip(several(ours[name]), several(theirs[name]), strict=True):
            assert np.array_equal(backend.to_host(a), b)
            assert getattr(a, "dtype", None) == getattr(b, "dtype", None)


def several(value):
    return value if isinstance(value, list) else [value]


def test_the_corpus_is_large_enough_to_tell_a_double_from_an_alias():
    """A double that is NumPy under another name agrees with hardly a refusal."""
    verdicts = [expected for _, expected in CORPUS]
    assert verdicts.count(REFUSED) >= 42
    assert verdicts.count(ACCEPTED) >= 21
    assert len(CORPUS) == len({snippet for snippet, _ in CORPUS})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alias = [verdict(snippet, names(np, np.array)) for snippet, expected in CORPUS if expected == REFUSED]
    assert alias.count(REFUSED) < len(alias) / 3


def test_without_a_gpu_the_installed_cupy_contradicts_no_verdict():
    """CuPy refuses much before it looks for a GPU: on arrays whose memory is not there, no verdict turns round."""
    cupy = pytest.importorskip("cupy")
    if cupy.is_available():
        pytest.skip("there is a GPU: the corpus has run on it")
    room = ctypes.create_string_buffer(1 << 12)

    def pretended(x):
        memory = cupy.cuda.UnownedMemory(ctypes.addressof(room), len(room), room, device_id=0)
        return cupy.ndarray(x.shape, x.dtype, cupy.cuda.MemoryPointer(memory, 0))

    undecided = (cupy.cuda.runtime.CUDARuntimeError, ImportError)  # no driver; no cuBLAS
    decided = 0
    for snippet, expected in CORPUS:
        with suppress(*undecided):
            assert (snippet, verdict(snippet, names(cupy, pretended))) == (snippet, expected)
            decided += 1
    assert decided >= 60


# --- what CuPy leaves undefined is loud ---------------------------------------------------------------


def test_empty_arrays_hold_nan():
    assert np.isnan(strict.empty((2, 3)).get()).all()
    assert np.isnan(strict.empty_like(square(strict)).get()).all()
    assert (strict.empty(3, "int64").get() < 0).all()


def test_an_index_out_of_bounds_raises():
    with pytest.raises(IndexError):
        square(strict)[strict.asarray([3])]
    with pytest.raises(IndexError):
        strict.take(square(strict), strict.asarray([3]), axis=0)


def test_a_fraction_as_index_raises_where_cupy_would_round_it():
    with pytest.raises(IndexError):
        square(strict)[0.5]


def test_an_assignment_that_writes_one_place_twice_raises():
    with pytest.raises(ValueError, match="writes one place twice"):
        ones(strict, 3)[strict.asarray([1, 1])] = strict.asarray([2.0, 3.0])
    ones(strict, 3)[strict.asarray([1, 2])] = strict.asarray([2.0, 3.0])


def test_add_at_sums_in_another_order_than_numpy():
    """CuPy's atomic sums come in any order: what hangs on the order must not pass."""
    values = np.array([1.0, 1e16, -1e16])
    there, here = strict.zeros(1), np.zeros(1)
    strict.add.at(there, strict.zeros(3, "int64"), strict.asarray(values))
    np.add.at(here, np.zeros(3, "int64"), values)
    assert (here[0], there.get()[0]) == (0.0, 1.0)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (0, 4)])
def test_add_at_adds_what_numpys_adds_for_every_kind_of_index(shape):
    for index in ((Ellipsis, slice(1, 3)), (Ellipsis, np.array([0, 3, 3])), (Ellipsis, None, np.array([[1], [0]]))):
        target, there = np.zeros(shape), strict.zeros(shape)
        values = np.random.default_rng(0).standard_normal(target[index].shape)
        np.add.at(target, index, values)
        strict.add.at(there, index, strict.asarray(values))
        assert np.array_equal(target, there.get())


# --- what an array is ---------------------------------------------------------------------------------


def test_results_are_c_ordered_even_where_numpy_keeps_the_order(xp):
    turned = square(xp).T
    assert not turned.flags.c_contiguous
    assert (turned + 1).flags.c_contiguous
    assert xp.exp(turned).flags.c_contiguous


def test_a_result_without_axes_stays_an_array(xp):
    for y in (square(xp).sum(), square(xp)[0, 0], xp.max(square(xp)), ones(xp, 3) @ ones(xp, 3)):
        assert type(y) is xp.ndarray
        assert y.shape == ()


def test_views_share_memory_and_know_their_base(xp):
    a = square(xp)
    row = a[1]
    row[...] = 7.0
    assert float(a[1, 0]) == 7.0
    assert row.base is a
    assert row[:2].base is a
    one = a[2, 1]
    one += 30.0
    assert (float(a[2, 1]), one.base is a) == (37.0, True)
    assert (a + 1).base is None


def test_an_upload_copies(xp):
    host = np.ones(3)
    a = xp.asarray(host)
    host[:] = 5.0
    assert float(a[0]) == 1.0
    host = np.ones(())
    a = xp.asarray(host)
    host[...] = 5.0
    assert float(a) == 1.0


# --- waiting ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wait",
    [
        lambda a: bool(a[0] > 0),
        lambda a: float(a[0]),
        lambda a: a[0].item(),
        lambda a: a.tolist(),
        lambda a: a.get(),
        lambda a: a[a > 0],
        lambda a: a.__setitem__(a > 0, 0.0),
        lambda a: strict.nonzero(a),
        lambda a: a.nonzero(),
        lambda a: strict.unique(a),
        lambda a: a[np.array([0])],
        lambda a: a[[0, 1]],
        lambda a: strict.asarray([1.0]),
        lambda a: STRICT.asarray(np.ones(3)),
    ],
)
def test_what_a_captured_graph_cannot_contain_is_counted_and_refused_in_no_sync(wait):
    a = ones(strict, 3)
    before = sum(counts.seen.values())
    wait(a)
    assert sum(counts.seen.values()) == before + 1
    with no_sync(), pytest.raises(AssertionError, match=r"inside no_sync\(\)"):
        wait(a)


def test_pure_device_work_passes_no_sync():
    a = square(strict)
    index = strict.asarray([0, 2])
    with no_sync():
        strict.where(a > 1, a @ a, 0.0)[index].sum(axis=0)
        a += 1.0


# --- as a library of minires ----------------------------------------------------------------------------


def test_mixing_libraries_in_one_op_names_both():
    host, device = Tensor(np.ones((2, 3))), Tensor(ones(strict, 2, 3))
    with pytest.raises(LibraryError, match=r"input 0 \(2, 3\) is a numpy array on cpu.*input 1 \(2, 3\) is a strict"):
        add(host, device)
    with pytest.raises(LibraryError, match=r"input 0 \(2, 3\) is a strict array.*input 1 \(3,\) is a numpy array"):
        add(device, np.ones(3))


def test_new_tensors_go_where_the_device_says():
    with mr.device("strict"):
        made = mr.tensor([1.0, 2.0])
    assert type(made.data) is StrictArray
    assert made.device == "strict"
    assert made.dtype == np.float32
    assert np.array_equal(made.numpy(), [1.0, 2.0])
    assert mr.tensor([1.0]).device == "cpu"


def test_a_gradient_of_another_library_is_refused():
    x = Tensor(ones(strict, 3), requires_grad=True)
    with pytest.raises(LibraryError):
        add(x, 1.0).backward(np.ones(3))


def test_the_table_of_signatures_is_that_of_the_installed_cupy():
    pytest.importorskip("cupy")
    script = Path(__file__).with_name("strict_signatures.py")
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
