"""The readers take exactly their formats: everything else is one line, and nothing a file names is called."""

import codecs
import gzip
import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires.data.formats import read_cifar, read_cifar_names, read_idx
from minires.errors import RequestError


def idx(array, kind=8):
    return bytes([0, 0, kind, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture
def file(tmp_path):
    def write(content):
        (tmp_path / "file").write_bytes(content)
        return tmp_path / "file"

    return write


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 99))
@settings(max_examples=30)
def test_idx_gives_back_what_was_written(tmp_path_factory, shape, seed):
    array = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    path = tmp_path_factory.getbasetemp() / "array.gz"
    path.write_bytes(gzip.compress(idx(array), mtime=0))
    np.testing.assert_array_equal(read_idx(path), array)


IDX = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (IDX, "cannot be unpacked"),  # not gzipped
        (gzip.compress(IDX, mtime=0)[:-12], "cannot be unpacked"),
        (gzip.compress(IDX, mtime=0)[:20], "cannot be unpacked"),
        (b"", "not an IDX file|cannot be unpacked"),
        (gzip.compress(b"", mtime=0), "not an IDX file of bytes"),
        (gzip.compress(idx(np.zeros(3, ">f4"), kind=13), mtime=0), "not an IDX file of bytes: it starts with 00000d01"),
        (gzip.compress(b"\x01" + IDX[1:], mtime=0), "not an IDX file of bytes: it starts with 01000803"),
        (gzip.compress(IDX[:9], mtime=0), "ends within its header of 16 bytes"),
        (gzip.compress(IDX[:-1], mtime=0), r"cut short: 23 values for a shape of \(2, 3, 4\)"),
    ],
)
def test_anything_but_idx_is_refused_by_name(file, content, message):
    with pytest.raises(RequestError, match=message) as caught:
        read_idx(file(content))
    assert "file" in str(caught.value)
    assert "\n" not in str(caught.value)


# --- CIFAR


def batch(n=4, seed=0):
    rng = np.random.default_rng(seed)
    return {b"data": rng.integers(0, 256, (n, 3072), np.uint8), b"labels": [int(k) for k in rng.integers(0, 10, n)]}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_a_cifar_batch_comes_back_as_channels_of_rows(file, protocol):
    held = batch()
    images, labels = read_cifar(file(pickle.dumps(held, protocol)), b"labels")
    assert images.shape == (4, 3, 32, 32)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, held[b"labels"])
    for n, c, i, j in [(0, 0, 0, 0), (3, 1, 5, 31), (2, 2, 31, 7)]:
        assert images[n, c, i, j] == held[b"data"][n, 1024 * c + 32 * i + j]


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


@pytest.mark.parametrize(
    "call",
    [
        Call(os.mkdir, "made-by-a-pickle"),
        Call(eval, "__import__('os').mkdir('made-by-a-pickle')"),
        Call(getattr, "text", "upper"),
        Call(np.load, "made-by-a-pickle"),
        Call(np.zeros, 3),
        Call(codecs.encode, "text", "rot13"),
        Call(codecs.decode, b"text", "utf-8"),
        np.zeros(3, object),
        np.zeros(3, np.float64),
        np.float64(3.0),
        {1, 2},
    ],
    ids=lambda call: f"{call.parts[0].__name__}" if isinstance(call, Call) else type(call).__name__,
)
def test_a_pickle_that_asks_for_anything_but_byte_arrays_is_refused(file, tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    path = file(pickle.dumps({**batch(), b"more": call}, 2))
    with pytest.raises(RequestError, match="is not a readable CIFAR file") as caught:
        read_cifar(path, b"labels")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "made-by-a-pickle").exists()


def test_reading_leaves_numpys_own_uint8_alone(file):
    pickled = pickle.dumps(batch(), 2).replace(b"X\x01\x00\x00\x00|", b"X\x01\x00\x00\x00>")
    read_cifar(file(pickled), b"labels")
    assert np.dtype(np.uint8).byteorder == "|"
    assert np.zeros(2, np.uint8).dtype.str == "|u1"


@given(st.data())
@settings(max_examples=60)
def test_damage_anywhere_is_one_line_or_harmless(tmp_path_factory, draw):
    whole = pickle.dumps(batch(1), 2)
    at = draw.draw(st.integers(0, 400) | st.integers(len(whole) - 60, len(whole) - 1))
    content = whole[:at] if draw.draw(st.booleans()) else whole[:at] + bytes([whole[at] ^ 0x11]) + whole[at + 1 :]
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    said = None
    try:
        images, labels = read_cifar(path, b"labels")
    except RequestError as error:
        said = str(error)
    if said is None:
        assert (images.shape, labels.shape) == ((1, 3, 32, 32), (1,))
    else:
        assert said.startswith(str(path))
        assert "\n" not in said


@pytest.mark.parametrize(
    "change",
    [
        {b"data": np.zeros((4, 3071), np.uint8)},
        {b"data": np.zeros((3, 3072), np.uint8)},
        {b"data": [1, 2, 3, 4]},
        {b"labels": [0, 1, 2]},
        {b"labels": [b"a", b"b", b"c", b"d"]},
        {b"labels": None},
    ],
    ids=str,
)
def test_a_batch_of_the_wrong_shape_is_refused(file, change):
    with pytest.raises(RequestError, match="is not a CIFAR batch"):
        read_cifar(file(pickle.dumps({**batch(), **change}, 2)), b"labels")


@pytest.mark.parametrize("held", [{}, [1], None, {b"fine_labels": [1]}], ids=str)
def test_a_pickle_that_is_no_batch_is_refused(file, held):
    with pytest.raises(RequestError, match="is not a CIFAR batch"):
        read_cifar(file(pickle.dumps(held, 2)), b"labels")
    with pytest.raises(RequestError, match="no list of names under label_names"):
        read_cifar_names(file(pickle.dumps(held, 2)), b"label_names")


def test_names_are_text(file):
    path = file(pickle.dumps({b"label_names": [b"airplane", b"cat"]}, 2))
    assert read_cifar_names(path, b"label_names") == ("airplane", "cat")
