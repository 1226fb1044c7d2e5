"""Messages between the grader and an answer's process: JSON and raw arrays, never pickles.

A message is 8 bytes of length, JSON of that length, and the bytes of its arrays one after the other. The reader
believes nothing: lengths, dtypes and shapes are checked before anything is allocated.
"""

from __future__ import annotations

import builtins
import json
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from .steps import Opaque, Ref, Step

globals()["__builtins__"] = dict(vars(builtins))  # as in `guard`

LIMIT = 256 * 2**20  # bytes of a message
_KINDS = "biufc"  # booleans, integers, floats, complex
_dumps, _loads, _contiguous, _bytes = json.dumps, json.loads, np.ascontiguousarray, np.ndarray.tobytes


class WireError(Exception):
    """What came over the wire is no message."""


def pack(message: dict[str, Any]) -> bytes:
    """The message as bytes. Raises WireError when it is too long."""
    arrays: list[np.ndarray] = []
    tree = _plain(message, arrays)
    size = sum(a.nbytes for a in arrays)
    head = _dumps({"message": tree, "arrays": [[a.dtype.str, list(a.shape)] for a in arrays]}).encode()
    if len(head) + size > LIMIT:
        raise WireError(f"{(len(head) + size) >> 20} MB are too much for one message, {LIMIT >> 20} MB is the most")
    return len(head).to_bytes(8, "big") + head + b"".join(_bytes(_contiguous(a)) for a in arrays)


def unpack(read: Callable[[int], bytes]) -> dict[str, Any]:
    """The next message of a stream. Raises EOFError where it ends, WireError where it is no message."""
    length = int.from_bytes(_exactly(read, 8), "big")
    if length > LIMIT:
        raise WireError("a message longer than any")
    try:
        head = _loads(_exactly(read, length))
        kinds = [(np.dtype(kind), tuple(shape)) for kind, shape in head["arrays"]]
        sizes = [math.prod(shape) * kind.itemsize for kind, shape in kinds]
        if any(k.kind not in _KINDS for k, _ in kinds) or any(n < 0 for _, s in kinds for n in s) or sum(sizes) > LIMIT:
            raise WireError("arrays of no known kind")
        arrays = [
            np.frombuffer(_exactly(read, n), kind).reshape(shape).copy()
            for (kind, shape), n in zip(kinds, sizes, strict=True)
        ]
        message = _rich(head["message"], arrays)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, ZeroDivisionError) as error:
        raise WireError(f"a damaged message ({type(error).__name__})") from None
    if not isinstance(message, dict):
        raise WireError("a message of no known kind")
    return message


def _exactly(read: Callable[[int], bytes], n: int) -> bytes:
    parts = []
    while n:
        part = read(min(n, 2**20))
        if not part:
            raise EOFError("the stream ended")
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


def _plain(x: Any, arrays: list[np.ndarray]) -> Any:
    """x as JSON has it; what JSON lacks is an object with the one key that says what it is."""
    if isinstance(x, (np.ndarray, np.generic)):
        arrays.append(np.asarray(x))
        return {"array": len(arrays) - 1}
    if isinstance(x, int) and not isinstance(x, bool) and x.bit_length() > 63:
        return {"int": hex(x)}
    if x is None or isinstance(x, (bool, int, float, str)):
        return x
    if isinstance(x, complex):
        return {"complex": [x.real, x.imag]}
    if isinstance(x, Fraction):
        return {"fraction": [hex(x.numerator), hex(x.denominator)]}
    if isinstance(x, list):
        return [_plain(each, arrays) for each in x]
    if isinstance(x, tuple):
        return {"tuple": [_plain(each, arrays) for each in x]}
    if isinstance(x, dict):
        return {"dict": [[name, _plain(each, arrays)] for name, each in x.items()]}
    if isinstance(x, Ref):
        return {"ref": x.name}
    if isinstance(x, Opaque):
        return {"opaque": x.kind}
    if isinstance(x, Step):
        parts = (x.result, x.do, x.target, tuple(x.arguments), dict(x.options))
        return {"step": [_plain(part, arrays) for part in parts]}
    raise WireError(f"{type(x).__name__} cannot be sent")


def _rich(x: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(x, list):
        return [_rich(each, arrays) for each in x]
    if not isinstance(x, dict):
        return x
    ((kind, held),) = x.items()
    make: dict[str, Callable[[], Any]] = {
        "array": lambda: arrays[held],
        "int": lambda: int(held, 16),
        "complex": lambda: complex(*held),
        "fraction": lambda: Fraction(int(held[0], 16), int(held[1], 16)),
        "tuple": lambda: tuple(_rich(each, arrays) for each in held),
        "dict": lambda: {str(name): _rich(each, arrays) for name, each in held},
        "ref": lambda: Ref(str(held)),
        "opaque": lambda: Opaque(str(held)),
        "step": lambda: Step(*(_rich(part, arrays) for part in held)),
    }
    return make[kind]()
