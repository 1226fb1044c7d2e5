"""How exact products of float32 numbers are on the GPU: one setting for matrix products and convolutions.

By default they are float32 throughout. Tensor cores are several times faster, but round the factors to TF32, which
keeps 10 bits of the mantissa (a relative error of 5e-4 a factor) and sums in float32. Set MINIRES_TF32=on, or

    with allow_tf32():
        train()

PyTorch's defaults are mixed: TF32 for convolutions, none for matrix products. Compare like with like.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _State(threading.local):
    tf32 = os.environ.get("MINIRES_TF32", "off").lower() in ("on", "1")


_state = _State()


def tf32() -> bool:
    """Whether float32 products may be rounded to TF32, in this thread."""
    return _state.tf32


@contextmanager
def allow_tf32(allowed: bool = True) -> Iterator[None]:
    """Allows TF32 (or forbids it) for the length of a `with` block, in this thread."""
    before, _state.tf32 = _state.tf32, allowed
    try:
        yield
    finally:
        _state.tf32 = before
