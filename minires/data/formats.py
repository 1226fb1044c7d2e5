"""The publishers' own file formats: IDX (MNIST) and Python pickles (CIFAR), read without trusting them."""

from __future__ import annotations

import gzip
import io
import math
import pickle
import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from minires.errors import RequestError


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array of a gzipped IDX file: magic 0, 0, type 8, number of axes; the lengths; the values.

    Source: LeCun, Cortes and Burges, The MNIST database. Raises RequestError for anything else.
    """
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise RequestError(f"{path} cannot be unpacked ({error}); remove it and fetch it again") from None
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise RequestError(f"{path} is not an IDX file of bytes: it starts with {raw[:4].hex()}; fetch the original")
    head = 4 + 4 * raw[3]
    if len(raw) < head:
        raise RequestError(f"{path} is cut short: it ends within its header of {head} bytes; fetch it again")
    shape = tuple(int.from_bytes(raw[i : i + 4], "big") for i in range(4, head, 4))
    if len(raw) != head + math.prod(shape):
        raise RequestError(f"{path} is cut short: {len(raw) - head} values for a shape of {shape}; fetch it again")
    return np.frombuffer(raw, np.uint8, offset=head).reshape(shape)


def _array(kind: type, shape: Any, code: Any) -> np.ndarray:
    """An empty array: the pickle's next instruction gives it shape and content."""
    return np.ndarray((0,), np.uint8)


def _dtype(code: Any, align: Any = False, copy: Any = True) -> np.dtype:
    """uint8, always as a copy: the pickle's next instruction changes it, which must not reach NumPy's own."""
    if code not in (b"u1", "u1"):
        raise pickle.UnpicklingError(f"it asks for an array of {code!r}, not of bytes")
    return np.dtype(np.uint8, copy=True)


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 spells bytes in the pickle protocols of Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}, not latin1")
    return text.encode("latin1")


class _OnlyArrays(pickle.Unpickler):
    """Builds dictionaries, lists, numbers, bytes and arrays of bytes, by the three functions above.

    A pickle is a program that may call whatever it can name; here it can name nothing else.
    """

    allowed: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"): _array,
        ("numpy._core.multiarray", "_reconstruct"): _array,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _dtype,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs") from None


def read_cifar(path: Path, label_key: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, 32, 32) uint8 and labels (N,) int64 of one CIFAR batch.

    Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images. Raises RequestError for a file
    that is not such a batch, or that asks for more than arrays.
    """
    batch = _unpickle(path)
    try:
        pixels, labels = np.asarray(batch[b"data"]), np.asarray(batch[label_key], dtype=np.int64)
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3072):
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape} for {len(labels)} labels")
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(f"{path} is not a CIFAR batch ({error}); fetch the original") from None
    return pixels.reshape(-1, 3, 32, 32), labels


def read_cifar_names(path: Path, key: bytes) -> tuple[str, ...]:
    """The names of the classes, from the meta file."""
    meta = _unpickle(path)
    try:
        return tuple(name.decode() for name in meta[key])
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError):
        raise RequestError(f"{path} has no list of names under {key.decode()}; fetch the original") from None


def _unpickle(path: Path) -> Any:
    try:
        return _OnlyArrays(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise RequestError(f"{path} is not a readable CIFAR file ({error}); fetch the original") from None
