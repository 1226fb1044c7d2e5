"""The data sets, by name, as arrays: `load("mnist").train.images`."""

from __future__ import annotations

import difflib
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minires.data.fetch import Source, locate
from minires.data.formats import read_cifar, read_cifar_names, read_idx
from minires.data.layout import channels_last, logical
from minires.errors import RequestError


@dataclass(frozen=True, eq=False)  # two sets of arrays have no one truth value
class Dataset:
    """Labeled images.

    Attributes
        images     (N, C, H, W) uint8, 0 to `scale`, in any order of memory; `load` keeps them channels-last, which
                   makes the loader's work cheapest
        labels     (N,) int64, 0 to len(classes) - 1
        name       of the data set
        classes    the name of each class
        mean, std  per channel, of images / scale: what a loader subtracts and divides by
        scale      the brightest value an image can hold

    Raises RequestError when these do not fit together.
    """

    images: np.ndarray
    labels: np.ndarray
    name: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 255.0

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise RequestError(
                f"{self.name}: images must be (N, C, H, W) uint8, not {self.images.shape} {self.images.dtype}"
            )
        n, channels = self.images.shape[:2]
        if self.labels.dtype != np.int64 or self.labels.shape != (n,):
            raise RequestError(
                f"{self.name}: {n} images need labels ({n},) int64, not {self.labels.shape} {self.labels.dtype}"
            )
        if n == 0 or self.labels.min() < 0 or self.labels.max() >= len(self.classes):
            found = f"{self.labels.min()} to {self.labels.max()}" if n else "there are none"
            raise RequestError(f"{self.name}: labels must lie in 0 to {len(self.classes) - 1}, but {found}")
        if len(self.mean) != channels or len(self.std) != channels or min(self.std) <= 0 or self.scale <= 0:
            raise RequestError(
                f"{self.name}: mean and std need one number for each of {channels} channels, std and scale above 0; "
                f"they are {self.mean}, {self.std} and {self.scale}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: np.ndarray) -> Dataset:
        """The images at `indices`, in that order. NumPy keeps the order of memory within an image."""
        return replace(self, images=self.images[indices], labels=self.labels[indices])


class Splits(NamedTuple):
    """What the publisher calls training and test set. A validation set is cut from the former, never the latter."""

    train: Dataset
    test: Dataset


TEN = tuple("0123456789")
CLOTHES = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")

IDX_FILES = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
IDX_TEST_FILES = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")

SOURCES = {
    "mnist": Source(
        "mnist",
        {
            IDX_FILES[0]: "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            IDX_FILES[1]: "d53e105ee54ea40749a09fcbcd1e9432",
            IDX_TEST_FILES[0]: "9fb629c4189551a2d022fa330f9573f3",
            IDX_TEST_FILES[1]: "ec29112dd5afa0611ce80d1b7f02629c",
        },
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    ),
    "fashion-mnist": Source(
        "fashion-mnist",
        {
            IDX_FILES[0]: "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            IDX_FILES[1]: "25c81989df183df01b3e8a0aad5dffbe",
            IDX_TEST_FILES[0]: "bef4ecab320f06d8554ea6380940ec79",
            IDX_TEST_FILES[1]: "bb300cfdad3c16e7a12a480ee83cd310",
        },
        (
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
    ),
    "cifar10": Source(
        "cifar-10-batches-py",
        {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
        ("https://www.cs.toronto.edu/~kriz/",),
        ("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
    ),
    "cifar100": Source(
        "cifar-100-python",
        {
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            "meta": "7973b15100ade9c7d40fb424638fde48",
        },
        ("https://www.cs.toronto.edu/~kriz/",),
        ("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
    ),
}

DIGITS_SHA256 = "6e3a38635bee3bc57d83094187efc9fc95d429321875d4058540b1508e41c01c"


def names() -> list[str]:
    """The data sets that `load` knows."""
    return ["digits", *SOURCES]


def require_known(name: str) -> None:
    """Raises RequestError, with suggestions, unless `name` is one of `names()`."""
    if name not in names():
        close = difflib.get_close_matches(str(name).lower(), names(), 2)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise RequestError(f"unknown data set {name!r}: {hint}there are {', '.join(names())}")


def require_whole(what: str, value: int, low: int) -> int:
    """`value` as an int. Raises RequestError, which names `what`, unless it is a whole number of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise RequestError(f"{what} is {value!r}, but must be a whole number of at least {low}")
    return int(value)


def load(name: str, root: str | Path | None = None, download: bool = True) -> Splits:
    """The training and test set of `name`, from `root` (default: `data_dir()`), downloaded where missing.

    Raises RequestError for an unknown name, and for files that are damaged or cannot be had.
    """
    require_known(name)
    if name == "digits":
        return _digits()
    folder = locate(SOURCES[name], None if root is None else Path(root).expanduser(), download)
    return _readers[name](folder)


def split_validation(train: Dataset, size: int | float, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Cuts a validation set off `train`: (the rest, the validation set), two different sets of images.

    size    how many images (int), or which fraction of them (float between 0 and 1)
    seed    of the permutation that decides which: its first images. Classes are not balanced on purpose. Both sets
            keep the order of `train`

    Raises RequestError when either set would be empty.
    """
    if isinstance(size, bool) or not isinstance(size, (int, float, np.number)) or not np.isfinite(size):
        raise RequestError(f"a validation set of {size!r} is not usable: give a number of images or a fraction of them")
    count = round(size * len(train)) if isinstance(size, (float, np.floating)) else int(size)
    if not 0 < count < len(train):
        raise RequestError(
            f"a validation set of {size} leaves {len(train) - count} of {len(train)} images for training and "
            f"{max(count, 0)} for validation; both need at least one"
        )
    order = np.random.default_rng(seed).permutation(len(train))
    return train.subset(np.sort(order[count:])), train.subset(np.sort(order[:count]))


def _digits() -> Splits:
    """UCI Optical Recognition of Handwritten Digits: 1,797 images of 8x8, values 0 to 16 (see DIGITS.md)."""
    file = resources.files("minires.data") / "digits.npz"
    raw = file.read_bytes() if file.is_file() else b""
    if hashlib.sha256(raw).hexdigest() != DIGITS_SHA256:
        raise RequestError(
            f"{file} is {'damaged' if raw else 'missing'}, though it comes with minires: install it again"
        )
    with np.load(io.BytesIO(raw), allow_pickle=False) as stored:
        images, labels, test = stored["images"][:, None], stored["labels"].astype(np.int64), stored["test"]
    everything = Dataset(images, labels, "digits", TEN, (0.3051,), (0.3760,), scale=16.0)
    return Splits(everything.subset(np.flatnonzero(~test)), everything.subset(np.flatnonzero(test)))


def _idx(name: str, classes: tuple[str, ...], mean: float, std: float) -> Callable[[Path], Splits]:
    def read(folder: Path) -> Splits:
        def half(files: tuple[str, str]) -> Dataset:
            images, labels = read_idx(folder / files[0]), read_idx(folder / files[1])
            if images.ndim != 3 or labels.shape != images.shape[:1]:
                raise RequestError(
                    f"{folder}: {files[0]} holds {images.shape} images, {files[1]} {labels.shape} labels"
                )
            return Dataset(images[:, None], labels.astype(np.int64), name, classes, (mean,), (std,))

        return Splits(half(IDX_FILES), half(IDX_TEST_FILES))

    return read


def _cifar10(folder: Path) -> Splits:
    classes = read_cifar_names(folder / "batches.meta", b"label_names")
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    batches = [read_cifar(folder / f"data_batch_{i}", b"labels") for i in range(1, 6)]
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    test = read_cifar(folder / "test_batch", b"labels")
    halves = ((images, labels), test)
    return Splits(*(Dataset(logical(channels_last(x)), y, "cifar10", classes, mean, std) for x, y in halves))


def _cifar100(folder: Path) -> Splits:
    classes = read_cifar_names(folder / "meta", b"fine_label_names")
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    halves = (read_cifar(folder / half, b"fine_labels") for half in ("train", "test"))
    return Splits(*(Dataset(logical(channels_last(x)), y, "cifar100", classes, mean, std) for x, y in halves))


_readers: dict[str, Callable[[Path], Splits]] = {
    "mnist": _idx("mnist", TEN, 0.1307, 0.3081),
    "fashion-mnist": _idx("fashion-mnist", CLOTHES, 0.2860, 0.3530),
    "cifar10": _cifar10,
    "cifar100": _cifar100,
}
