"""The data sets hold exactly what was published, and bad requests are one line."""

import dataclasses
import os
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from minires import data
from minires.data import datasets, fetch
from minires.errors import RequestError


def real(name):
    """The data set from MINIRES_DATA; the test is skipped where it is not."""
    if not os.environ.get("MINIRES_DATA") or not fetch.present(datasets.SOURCES[name]):
        pytest.skip(f"MINIRES_DATA has no {name}")
    return data.load(name, download=False)


def small(n=10, channels=1, **change):
    rng = np.random.default_rng(3)
    parts = {
        "images": rng.integers(0, 256, (n, channels, 4, 5), np.uint8),
        "labels": rng.integers(0, 3, n),
        "name": "small",
        "classes": ("a", "b", "c"),
        "mean": (0.5,) * channels,
        "std": (0.25,) * channels,
    }
    return data.Dataset(**{**parts, **change})


def normalization(dataset):
    """(mean, std) of each channel, from how often each value occurs: exact, without a copy of CIFAR as floats."""
    values = np.arange(256) / dataset.scale
    counts = [np.bincount(dataset.images[:, c].ravel(), minlength=256) for c in range(dataset.images.shape[1])]
    mean = np.array([np.average(values, weights=n) for n in counts])
    return mean, np.sqrt([np.average((values - m) ** 2, weights=n) for m, n in zip(mean, counts, strict=True)])


def rows(dataset):
    """Every image with its label, as one row."""
    return np.column_stack([dataset.images.reshape(len(dataset), -1), dataset.labels])


# --- digits


def test_digits_are_the_1797_published_images_in_a_split_that_never_changes():
    train, test = data.load("digits")
    assert train.images.shape == (1400, 1, 8, 8)
    assert test.images.shape == (397, 1, 8, 8)
    both = np.concatenate([train.labels, test.labels])
    np.testing.assert_array_equal(np.bincount(both), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])  # UCI's count
    assert (train.images.min(), train.images.max(), train.scale) == (0, 16, 16.0)
    chosen = np.zeros(1797, bool)
    chosen[np.random.default_rng(0).permutation(1797)[:397]] = True
    with np.load(resources.files("minires.data") / "digits.npz", allow_pickle=False) as stored:
        np.testing.assert_array_equal(stored["test"], chosen)
    # The first digit of the file is a 0 and its first rows are these; the file begins 0 1 2 3 ...
    first = (train if not chosen[0] else test).images[0, 0]
    np.testing.assert_array_equal(first[:2], [[0, 0, 5, 13, 9, 1, 0, 0], [0, 0, 13, 15, 10, 15, 5, 0]])


def test_digits_need_neither_a_folder_nor_the_network(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIRES_DATA", str(tmp_path / "nowhere"))
    assert len(data.load("digits", download=False).train) == 1400
    assert not (tmp_path / "nowhere").exists()


def test_no_digit_is_in_both_training_and_test_set():
    train, test = data.load("digits")
    seen = {row.tobytes() for row in rows(train)}
    assert not any(row.tobytes() in seen for row in rows(test))


def test_a_damaged_digits_file_is_refused(monkeypatch):
    monkeypatch.setattr(datasets, "DIGITS_SHA256", "0" * 64)
    with pytest.raises(RequestError, match=r"digits\.npz is damaged, though it comes with minires: install it again"):
        data.load("digits")


def test_digits_normalization_is_that_of_the_training_images():
    train, _ = data.load("digits")
    np.testing.assert_allclose((train.mean, train.std), normalization(train), atol=5e-5)


# --- the real ones, where they are


def test_mnist_is_exactly_as_published():
    train, test = real("mnist")
    assert train.images.shape == (60000, 1, 28, 28)
    assert test.images.shape == (10000, 1, 28, 28)
    np.testing.assert_array_equal(train.labels[:10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4])
    np.testing.assert_array_equal(test.labels[:10], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9])
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(train.labels), counts)
    np.testing.assert_allclose((train.mean, train.std), normalization(train), atol=5e-5)


def test_cifar10_is_exactly_as_published():
    train, test = real("cifar10")
    assert train.images.shape == (50000, 3, 32, 32)
    assert test.images.shape == (10000, 3, 32, 32)
    np.testing.assert_array_equal(np.bincount(train.labels), [5000] * 10)
    np.testing.assert_array_equal(np.bincount(test.labels), [1000] * 10)
    np.testing.assert_array_equal(train.labels[:8], [6, 9, 9, 4, 1, 1, 2, 7])
    np.testing.assert_array_equal(test.labels[:8], [3, 8, 8, 0, 6, 6, 1, 6])
    assert train.classes[:4] == ("airplane", "automobile", "bird", "cat")
    np.testing.assert_array_equal(train.images[0, :, 0, 0], [59, 62, 63])  # red, green, blue of the frog's corner
    assert all(part.images.transpose(0, 2, 3, 1).flags.c_contiguous for part in (train, test))  # channels-last
    np.testing.assert_allclose((train.mean, train.std), normalization(train), atol=5e-5)


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar100"])
def test_the_other_two_have_balanced_classes(name):
    train, test = real(name)
    k = len(train.classes)
    np.testing.assert_allclose((train.mean, train.std), normalization(train), atol=5e-5)
    np.testing.assert_array_equal(np.bincount(train.labels), [len(train) // k] * k)
    np.testing.assert_array_equal(np.bincount(test.labels), [len(test) // k] * k)


# --- names


def test_every_name_is_known_and_listed():
    assert data.names() == ["digits", "mnist", "fashion-mnist", "cifar10", "cifar100"]


@pytest.mark.parametrize("name", ["cifar", "CIFAR-10", "cifar_10"])
def test_an_unknown_name_gets_suggestions(name):
    with pytest.raises(RequestError, match=r"unknown data set .*: did you mean .*cifar10") as caught:
        data.load(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "imagenet", 3, None])
def test_a_name_like_no_other_gets_the_list(name):
    with pytest.raises(RequestError, match="there are digits, mnist, fashion-mnist, cifar10, cifar100"):
        data.load(name)


def test_importing_data_loads_neither_pooch_nor_anything_heavy():
    import subprocess

    code = "import sys, minires.data; print({'pooch', 'requests', 'tqdm', 'scipy', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_data_dir_is_minires_data_else_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIRES_DATA", str(tmp_path))
    assert data.data_dir() == tmp_path
    monkeypatch.setenv("MINIRES_DATA", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # as good as unset, says the XDG standard
    assert data.data_dir().is_absolute()
    assert "minires" in data.data_dir().parts
    if sys.platform == "linux":
        assert data.data_dir() == Path.home() / ".cache" / "minires"


# --- splits


@pytest.mark.parametrize(("size", "count"), [(0.1, 140), (37, 37), (1399, 1399), (np.int64(5), 5), (0.5, 700)])
def test_validation_and_training_set_are_a_partition(size, count):
    train, _ = data.load("digits")
    rest, validation = data.split_validation(train, size, seed=4)
    assert (len(rest), len(validation)) == (1400 - count, count)
    both = np.concatenate([rows(rest), rows(validation)])
    whole = rows(train)
    np.testing.assert_array_equal(both[np.lexsort(both.T)], whole[np.lexsort(whole.T)])


def test_the_seed_and_nothing_else_decides_the_validation_set():
    train, _ = data.load("digits")
    first, again, other = (data.split_validation(train, 0.1, seed=s)[1] for s in (5, 5, 6))
    np.testing.assert_array_equal(rows(first), rows(again))
    assert not np.array_equal(rows(first), rows(other))


@pytest.mark.parametrize("size", [0, -1, 10, 11, 0.0, 1.0, 1.5, -0.1, 0.001])
def test_a_split_that_leaves_a_set_empty_is_refused(size):
    with pytest.raises(RequestError, match=r"a validation set of .* both need at least one"):
        data.split_validation(small(10), size)


@pytest.mark.parametrize("size", [True, "3", None, float("nan"), float("inf")])
def test_a_size_that_is_no_number_is_refused(size):
    with pytest.raises(RequestError, match="give a number of images or a fraction"):
        data.split_validation(small(10), size)


# --- Dataset


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((10, 1, 4, 5), np.float32)}, r"images must be \(N, C, H, W\) uint8, not .* float32"),
        ({"images": np.zeros((10, 4, 5), np.uint8)}, r"images must be \(N, C, H, W\) uint8, not \(10, 4, 5\)"),
        ({"labels": np.zeros(9, np.int64)}, r"10 images need labels \(10,\) int64, not \(9,\)"),
        ({"labels": np.zeros(10)}, r"10 images need labels \(10,\) int64, not \(10,\) float64"),
        ({"labels": np.full(10, 3)}, "labels must lie in 0 to 2, but 3 to 3"),
        ({"labels": np.full(10, -1)}, "labels must lie in 0 to 2, but -1 to -1"),
        ({"mean": (0.1, 0.2)}, "mean and std need one number for each of 1 channels"),
        ({"std": (0.0,)}, "std and scale above 0"),
    ],
)
def test_a_dataset_whose_parts_do_not_fit_is_refused(change, message):
    with pytest.raises(RequestError, match=message) as caught:
        small(**change)
    assert "\n" not in str(caught.value)


def test_a_subset_keeps_everything_but_the_images_left_out():
    whole = small()
    part = whole.subset(np.array([7, 2]))
    np.testing.assert_array_equal(part.images, whole.images[[7, 2]])
    np.testing.assert_array_equal(part.labels, whole.labels[[7, 2]])
    assert (part.name, part.classes, part.mean, part.scale) == (whole.name, whole.classes, whole.mean, whole.scale)
    assert dataclasses.replace(whole, mean=(0.1,)).mean == (0.1,)
