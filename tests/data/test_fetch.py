"""A file is used when it is the right one, fetched when it is missing, and refused by name when it is damaged."""

import gzip
import hashlib
import io
import os
import pickle
import tarfile

import numpy as np
import pooch
import pytest

from minires import data
from minires.data import datasets
from minires.data.fetch import Source, locate, present
from minires.errors import RequestError


def idx(array):
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes(), 1)


def md5(content):
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def published(monkeypatch):
    """A tiny MNIST in place of the published one: file name -> content."""
    rng = np.random.default_rng(1)
    files = {}
    for half, n in (("train", 6), ("t10k", 4)):
        files[f"{half}-images-idx3-ubyte.gz"] = idx(rng.integers(0, 256, (n, 3, 5), np.uint8))
        files[f"{half}-labels-idx1-ubyte.gz"] = idx(rng.integers(0, 10, n, np.uint8))
    sums = {name: md5(content) for name, content in files.items()}
    source = Source("mnist", sums, ("https://first.invalid/mnist/", "https://second.invalid/"))
    monkeypatch.setitem(datasets.SOURCES, "mnist", source)
    return files


@pytest.fixture
def net(monkeypatch):
    """Stands in for the network: `net[address]` is what an address serves, or the exception it raises."""
    served, asked = {}, []

    def call(self, url, output_file, pooch_object, check_only=False):
        asked.append(url)
        content = served.get(url, ConnectionError("no such host\n" * 50))
        if isinstance(content, Exception):
            raise content
        with open(output_file, "wb") as file:
            file.write(content)

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", call)
    served["asked"] = asked
    return served


def lay(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def everything(root):
    """Every file under `root`, with its content."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def refused(message, name="mnist", **options):
    with pytest.raises(RequestError, match=message) as caught:
        data.load(name, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_are_there_are_read_without_the_network(tmp_path, published, net):
    lay(tmp_path / "mnist", published)
    train, test = data.load("mnist", root=str(tmp_path))
    assert (train.images.shape, test.images.shape) == ((6, 1, 3, 5), (4, 1, 3, 5))
    assert net["asked"] == []


def test_missing_files_are_fetched_once_and_only_those(tmp_path, published, net):
    first, *others = published
    lay(tmp_path / "mnist", {first: published[first]})
    net.update({f"https://first.invalid/mnist/{name}": content for name, content in published.items()})
    for _ in range(2):
        assert len(data.load("mnist", root=tmp_path).train) == 6
    assert net["asked"] == [f"https://first.invalid/mnist/{name}" for name in others]
    assert everything(tmp_path) == {f"mnist/{name}": content for name, content in published.items()}


def test_the_next_mirror_is_tried_when_one_fails_or_serves_another_file(tmp_path, published, net):
    names = list(published)
    net[f"https://first.invalid/mnist/{names[1]}"] = b"<html>gone</html>"
    net.update({f"https://second.invalid/{name}": content for name, content in published.items()})
    assert len(data.load("mnist", root=tmp_path).train) == 6
    assert everything(tmp_path) == {f"mnist/{name}": content for name, content in published.items()}


def test_without_network_one_line_says_why_what_to_fetch_and_where_to_put_it(tmp_path, published, net):
    names = list(published)
    net[f"https://second.invalid/{names[0]}"] = b"half a fi"
    line = refused("mnist: 4 of 4 files not downloaded", root=tmp_path)
    assert "first.invalid: ConnectionError, second.invalid: it sent a file with another MD5 sum" in line
    assert f"fetch {', '.join(names)} from https://first.invalid/mnist/ into {tmp_path / 'mnist'}" in line
    assert "set MINIRES_DATA" in line
    assert list(tmp_path.iterdir()) == []  # neither half a file nor an empty folder


@pytest.mark.parametrize("error", [TimeoutError(), ValueError(), OSError(28, "No space left on device")])
def test_a_failure_of_few_words_is_one_line_too(tmp_path, published, net, error, monkeypatch):
    def retrieve(*_, **__):
        raise error

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    refused("not downloaded", root=tmp_path)


def test_download_false_asks_no_one(tmp_path, published, net):
    lay(tmp_path / "mnist", dict(list(published.items())[:3]))
    line = refused("mnist: 1 of 4 files not found; fetch t10k-labels", root=tmp_path, download=False)
    assert "https://first.invalid/mnist/" in line
    assert net["asked"] == []


def _cut(content):
    return content[: len(content) // 2]


def _flip(content):
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


@pytest.mark.parametrize("damage", [_cut, _flip, lambda content: b"", lambda content: b"another file altogether"])
def test_a_damaged_file_is_refused_by_name_and_left_as_it_is(tmp_path, published, net, damage):
    victim = "train-labels-idx1-ubyte.gz"
    lay(tmp_path / "mnist", {**published, victim: damage(published[victim])})
    before = everything(tmp_path)
    line = refused("is damaged, half downloaded or another file", root=tmp_path)
    assert str(tmp_path / "mnist" / victim) in line
    assert everything(tmp_path) == before
    assert net["asked"] == []


def test_a_damaged_file_is_refused_before_anything_else_is_fetched(tmp_path, published, net):
    lay(tmp_path / "mnist", {"t10k-labels-idx1-ubyte.gz": b"damaged"})
    net.update({f"https://first.invalid/mnist/{name}": content for name, content in published.items()})
    refused("t10k-labels-idx1-ubyte.gz is damaged", root=tmp_path)
    assert net["asked"] == []


def test_a_folder_in_a_files_place_is_refused(tmp_path, published):
    lay(tmp_path / "mnist", published)
    (tmp_path / "mnist" / "train-labels-idx1-ubyte.gz").unlink()
    (tmp_path / "mnist" / "train-labels-idx1-ubyte.gz").mkdir()
    refused(r"train-labels-idx1-ubyte\.gz cannot be read", root=tmp_path)


def test_a_root_that_cannot_be_a_folder_is_refused(tmp_path, published, net):
    (tmp_path / "file").write_bytes(b"")
    refused("cannot be written .*; set MINIRES_DATA", root=tmp_path / "file")


def test_present_goes_by_name(tmp_path, published):
    source = datasets.SOURCES["mnist"]
    lay(tmp_path / "mnist", dict(list(published.items())[:3]))
    assert not present(source, tmp_path)
    lay(tmp_path / "mnist", published)
    assert present(source, tmp_path)


def test_images_and_labels_of_unequal_number_are_refused(tmp_path, published, monkeypatch):
    other = idx(np.zeros(5, np.uint8))
    source = datasets.SOURCES["mnist"]
    sums = {**source.files, "train-labels-idx1-ubyte.gz": md5(other)}
    monkeypatch.setitem(datasets.SOURCES, "mnist", Source("mnist", sums, source.mirrors))
    lay(tmp_path / "mnist", {**published, "train-labels-idx1-ubyte.gz": other})
    refused(r"holds \(6, 3, 5\) images, .* \(5,\) labels", root=tmp_path)


# --- an archive


def tar(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def cifar(monkeypatch):
    """A tiny CIFAR-100 in place of the published one: (its files, its archive)."""
    rng = np.random.default_rng(2)
    files = {"meta": pickle.dumps({b"fine_label_names": [b"apple", b"bee", b"crab"]}, 2)}
    for half, n in (("train", 5), ("test", 3)):
        batch = {
            b"data": rng.integers(0, 256, (n, 3072), np.uint8),
            b"fine_labels": [int(k) for k in rng.integers(0, 3, n)],
            b"coarse_labels": [0] * n,
        }
        files[half] = pickle.dumps(batch, 2)
    packed = tar({f"cifar-100-python/{name}": content for name, content in files.items()} | {"../escape": b"!"})
    sums = {name: md5(content) for name, content in files.items()}
    source = Source("cifar-100-python", sums, ("https://only.invalid/",), ("cifar-100-python.tar.gz", md5(packed)))
    monkeypatch.setitem(datasets.SOURCES, "cifar100", source)
    return files, packed


def test_an_archive_is_fetched_unpacked_and_gone_and_only_the_named_files_stay(tmp_path, cifar, net):
    files, packed = cifar
    net["https://only.invalid/cifar-100-python.tar.gz"] = packed
    root = tmp_path / "root"
    train, test = data.load("cifar100", root=root)
    assert (train.images.shape, test.images.shape) == ((5, 3, 32, 32), (3, 3, 32, 32))
    assert train.classes == ("apple", "bee", "crab")
    np.testing.assert_array_equal(train.labels, pickle.loads(files["train"])[b"fine_labels"])
    assert everything(tmp_path) == {f"root/cifar-100-python/{name}": content for name, content in files.items()}


def test_an_archive_that_cannot_be_had_is_one_line(tmp_path, cifar, net):
    line = refused("cifar-100-python: 3 of 3 files not downloaded", "cifar100", root=tmp_path)
    assert f"fetch https://only.invalid/cifar-100-python.tar.gz and unpack it in {tmp_path}" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["missing", "other"])
def test_an_archive_with_a_wrong_member_leaves_nothing_behind(tmp_path, cifar, net, monkeypatch, wrong):
    files, _ = cifar
    held = {f"cifar-100-python/{name}": content for name, content in files.items()}
    if wrong == "missing":
        del held["cifar-100-python/meta"]
    else:
        held["cifar-100-python/meta"] = b"other"
    packed = tar(held)
    source = datasets.SOURCES["cifar100"]
    archive = ("cifar-100-python.tar.gz", md5(packed))
    monkeypatch.setitem(datasets.SOURCES, "cifar100", Source(source.folder, source.files, source.mirrors, archive))
    net["https://only.invalid/cifar-100-python.tar.gz"] = packed
    refused("meta", "cifar100", root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_keep_their_final_name_only_when_whole(tmp_path, published, net, monkeypatch):
    """A Ctrl-C in the middle of a download leaves no file under the final name."""

    def interrupted(self, url, output_file, pooch_object, check_only=False):
        with open(output_file, "wb") as file:
            file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        locate(datasets.SOURCES["mnist"], tmp_path)
    assert [p for p in os.listdir(tmp_path) if p] == []
