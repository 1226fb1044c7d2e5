"""The strict device refuses what CuPy refuses and takes what it takes. With a GPU, CuPy is asked the same."""

import operator
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minires as mr
from minires import backend
from minires.engine import Tensor
from minires.errors import LibraryError, RequestError
from minires.functional import add
from tests.strict_device import STRICT, StrictArray, counts, no_sync
from tests.strict_device import xp as strict


def devices():
    try:
        return {"strict": strict, "cupy": backend.cupy().xp}
    except RequestError:  # no CuPy, or no GPU
        return {"strict": strict}


DEVICES = devices()


@pytest.fixture(params=DEVICES)
def xp(request):
    return DEVICES[request.param]


def square(xp):
    return xp.asarray(np.arange(9.0).reshape(3, 3))


def ones(xp, *shape, dtype="float64"):
    return xp.ones(shape, dtype)


HOST = np.arange(3.0)

REFUSED = {
    "a host array as operand": lambda xp: square(xp) + HOST,
    "a host array as left operand": lambda xp: square(xp) * HOST,
    "a 0-d host array as operand": lambda xp: np.array(0.5) * square(xp),
    "a host array in a ufunc": lambda xp: xp.maximum(square(xp), HOST),
    "a host array in place": lambda xp: square(xp).__iadd__(HOST),
    "a host array in concatenate": lambda xp: xp.concatenate([ones(xp, 3), HOST]),
    "a host array in where": lambda xp: xp.where(square(xp) > 1, HOST, 0.0),
    "a host array in matmul": lambda xp: square(xp) @ HOST,
    "a host array in tensordot": lambda xp: xp.tensordot(square(xp), HOST, 1),
    "a host array assigned": lambda xp: square(xp).__setitem__(0, HOST),
    "a list assigned": lambda xp: square(xp).__setitem__(0, [1.0, 2.0, 3.0]),
    "a list in a ufunc": lambda xp: xp.exp([1.0, 2.0]),
    "a list in sum": lambda xp: xp.sum([1.0, 2.0]),
    "a shape in prod": lambda xp: xp.prod(square(xp).shape),
    "a list in max": lambda xp: xp.max([1.0, 2.0]),
    "a list as operand": lambda xp: operator.add(ones(xp, 3), [1.0, 2.0, 3.0]),
    "lists in concatenate": lambda xp: xp.concatenate([[1.0], [2.0]]),
    "np.asarray": lambda xp: np.asarray(square(xp)),
    "np.array": lambda xp: np.array([square(xp)]),
    "a host array filled from it": lambda xp: np.zeros(3).__setitem__(slice(None), ones(xp, 3)),
    "range over a 0-d array": lambda xp: range(xp.asarray(3)),
    "a 0-d array as a list's index": lambda xp: [1, 2, 3][xp.asarray(1)],
    "where= in a ufunc": lambda xp: xp.exp(square(xp), where=square(xp) > 0),
    "subok= in a ufunc": lambda xp: xp.add(1, square(xp), subok=False),
    "where= in sum": lambda xp: xp.sum(square(xp), where=square(xp) > 0),
    "initial= in max": lambda xp: xp.max(square(xp), initial=0.0),
    "initial= in the method max": lambda xp: square(xp).max(initial=0.0),
    "where= in mean": lambda xp: square(xp).mean(where=square(xp) > 0),
    "correction= in var": lambda xp: xp.var(square(xp), correction=1),
    "min= in clip": lambda xp: xp.clip(square(xp), min=0.0, max=1.0),
    "mode= in take": lambda xp: xp.take(square(xp), xp.asarray([0]), mode="clip"),
    "stable= in sort": lambda xp: xp.sort(square(xp), stable=True),
    "device= in zeros": lambda xp: xp.zeros(3, device="cpu"),
    "sorted= in unique": lambda xp: xp.unique(square(xp), sorted=True),
    "writeable= in as_strided": lambda xp: xp.lib.stride_tricks.as_strided(ones(xp, 3), (3,), (8,), writeable=False),
    "errstate": lambda xp: xp.errstate(all="ignore"),
    "vecdot": lambda xp: xp.vecdot(square(xp), square(xp)),
    "block": lambda xp: xp.block([[square(xp)]]),
    "insert": lambda xp: xp.insert(square(xp), 0, 1.0),
    "frompyfunc": lambda xp: xp.frompyfunc(abs, 1, 1),
    "unstack": lambda xp: xp.unstack(square(xp)),
    "linalg.vector_norm": lambda xp: xp.linalg.vector_norm(square(xp)),
    "maximum.reduce": lambda xp: xp.maximum.reduce(square(xp)),
    "logical_or.reduce": lambda xp: xp.logical_or.reduce(square(xp)),
    "maximum.accumulate": lambda xp: xp.maximum.accumulate(square(xp)),
    "add.at on complex numbers": lambda xp: xp.add.at(ones(xp, 3, dtype="complex128"), xp.asarray([0]), 1.0),
    "multiply.at": lambda xp: xp.multiply.at(ones(xp, 3), xp.asarray([0]), 2.0),
    "Generator.normal": lambda xp: xp.random.default_rng(0).normal(size=3),
    "Generator.permutation": lambda xp: xp.random.default_rng(0).permutation(3),
    "Generator.choice": lambda xp: xp.random.default_rng(0).choice(3),
    "an array of objects": lambda xp: xp.asarray([None, 1]),
    "an array of strings": lambda xp: xp.asarray(["a"]),
    "an unknown function": lambda xp: xp.no_such_function(1),
    "hash": lambda xp: hash(square(xp)),
}

ACCEPTED = {
    "Python scalars": lambda xp: 2 * square(xp) + 1.5 - True,
    "NumPy scalars": lambda xp: np.float64(2.0) * square(xp) + np.float32(1),
    "a ufunc on a scalar and an array": lambda xp: xp.maximum(square(xp), 0.0),
    "out= in a ufunc": lambda xp: xp.multiply(square(xp), 2.0, out=square(xp)),
    "in place": lambda xp: square(xp).__iadd__(1.0),
    "where with scalars": lambda xp: xp.where(square(xp) > 3, 0.0, square(xp)),
    "axis tuples": lambda xp: xp.sum(square(xp), axis=(0, 1), keepdims=True),
    "method sum": lambda xp: square(xp).sum(axis=-1, keepdims=True),
    "matmul": lambda xp: square(xp) @ square(xp),
    "einsum": lambda xp: xp.einsum("ij,kj->ik", square(xp), square(xp)),
    "tensordot": lambda xp: xp.tensordot(square(xp), square(xp), axes=([1], [0])),
    "pad": lambda xp: xp.pad(square(xp), ((1, 1), (0, 2)), constant_values=-1.0),
    "concatenate": lambda xp: xp.concatenate([square(xp), square(xp)], axis=1),
    "stack": lambda xp: xp.stack([square(xp), square(xp)]),
    "as_strided": lambda xp: xp.lib.stride_tricks.as_strided(xp.arange(4.0), (3, 2), (8, 8)),
    "sliding_window_view": lambda xp: xp.lib.stride_tricks.sliding_window_view(square(xp), (2, 2)),
    "a device array as index": lambda xp: square(xp)[xp.asarray([2, 0])],
    "a list as index": lambda xp: square(xp)[[2, 0]],
    "a host array as index": lambda xp: square(xp)[np.array([2, 0])],
    "a boolean mask": lambda xp: square(xp)[square(xp) > 4],
    "slices, None and Ellipsis": lambda xp: square(xp)[..., None, ::-1],
    "assignment": lambda xp: square(xp).__setitem__((slice(None), 0), ones(xp, 3)),
    "assignment of a scalar": lambda xp: square(xp).__setitem__(square(xp) > 4, 0.0),
    "add.at": lambda xp: xp.add.at(ones(xp, 3), xp.asarray([0, 0]), xp.asarray([1.0, 2.0])),
    "add.reduce": lambda xp: xp.add.reduce(square(xp), axis=1),
    "arange, eye, full": lambda xp: xp.arange(3) + xp.eye(3) + xp.full((3,), 2.0),
    "transposes": lambda xp: square(xp).transpose(1, 0).swapaxes(0, 1).reshape(-1).T,
    "moveaxis and flip": lambda xp: xp.flip(xp.moveaxis(square(xp), 0, 1), axis=0),
    "argmax": lambda xp: square(xp).argmax(axis=1),
    "take_along_axis": lambda xp: xp.take_along_axis(square(xp), xp.asarray([[0], [1], [2]]), axis=1),
    "astype": lambda xp: square(xp).astype("float32", copy=False),
    "dtype classes": lambda xp: xp.zeros(3, xp.float32) + xp.asarray(xp.inf, dtype=xp.float32),
    "cumsum": lambda xp: xp.cumsum(square(xp), axis=0),
    "clip by position": lambda xp: xp.clip(square(xp), 1.0, 2.0),
    "real and imag": lambda xp: (square(xp) * 1j).imag + square(xp).real,
    "Generator.random": lambda xp: xp.random.default_rng(0).random((3, 2), dtype=np.float32),
    "a NumPy function": lambda xp: np.exp(square(xp)),
    "broadcast_to": lambda xp: xp.broadcast_to(ones(xp, 3), (2, 3)),
    "dot": lambda xp: xp.dot(ones(xp, 3), ones(xp, 3)),
    "linalg.inv": lambda xp: xp.linalg.inv(xp.eye(3)),
    "iteration": lambda xp: [row + 1 for row in square(xp)],
    "bool of one element": lambda xp: bool(xp.asarray(1.0) > 0),
}


@pytest.mark.parametrize("snippet", REFUSED.values(), ids=REFUSED)
def test_refused(xp, snippet):
    with pytest.raises((TypeError, AttributeError, NotImplementedError, ValueError)):
        snippet(xp)


@pytest.mark.parametrize("snippet", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(xp, snippet):
    snippet(xp)


@pytest.mark.parametrize("name", [n for n, s in ACCEPTED.items() if "host" not in n and "Generator" not in n])
def test_accepted_snippets_have_the_numbers_of_numpy(name):
    def host(y):
        return [host(a) for a in y] if isinstance(y, list) else backend.to_host(y)

    ours, theirs = host(ACCEPTED[name](strict)), ACCEPTED[name](np)
    if theirs is not None:
        assert np.array_equal(ours, theirs)
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype


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


def test_an_assignment_that_writes_one_place_twice_raises():
    with pytest.raises(ValueError, match="writes one place twice"):
        ones(strict, 3)[strict.asarray([1, 1])] = strict.asarray([2.0, 3.0])
    ones(strict, 3)[strict.asarray([1, 2])] = strict.asarray([2.0, 3.0])


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
    assert (a + 1).base is None


def test_an_upload_copies(xp):
    host = np.ones(3)
    a = xp.asarray(host)
    host[:] = 5.0
    assert float(a[0]) == 1.0


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
