"""NumPy or CuPy: which library holds an array, and the few calls they spell differently.

This is the one file that imports cupy, and it does so only when an array of it turns up or is
asked for. An op never asks where it runs: the engine finds the `Library` of its inputs here and
hands the op `self.xp` (the module) and `self.lib` (the primitives below). Nothing global decides
where an existing array is computed; `device` only decides where new ones are made.
"""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from minires import cuda_graph
from minires.errors import CaptureError, LibraryError, RequestError

Array = Any  # np.ndarray or cupy.ndarray; NumPy's static types cannot express "either of the two"

_SCALARS = (bool, int, float, complex)


class Library:
    """One array library: its module `xp`, and the primitives whose spelling differs.

    Attributes
        name         "numpy" or "cupy"; kernels are registered under it
        device       "cpu" or "cuda"
        xp           the module whose functions the formulas call
        array_type   the class of its arrays
    """

    name = "numpy"
    device = "cpu"
    xp: ModuleType = np
    array_type: type = np.ndarray

    def asarray(self, values: Any, dtype: Any = None) -> Array:
        """An array of this library from nested lists, scalars or an array of any library."""
        return np.asarray(to_host(values), dtype=dtype)

    def to_host(self, array: Array) -> np.ndarray:
        """The same values as a NumPy array (no copy where it already is one)."""
        return array

    def add_at(self, target: Array, index: Any, values: Array) -> None:
        """target[index] += values, where an index that occurs twice is added twice."""
        np.add.at(target, index, values)

    def uniform(self, shape: Sequence[int], dtype: Any) -> Array:
        """Draws from U[0, 1) by the seeded generator (see `manual_seed`)."""
        draw = np.float32 if np.dtype(dtype) == np.float32 else np.float64
        return generator().random(tuple(shape), dtype=draw)

    def erf(self, x: Array) -> Array:
        """The error function of a real array."""
        return _vector_erf()(x)

    def synchronize(self) -> None:
        """Waits until the device has finished; nothing to wait for on the host."""

    def upload(self, array: np.ndarray, place: int = 0) -> Array:
        """A batch from the host, sent while the device still works; on NumPy the array itself.

        place    tells apart the arrays of one batch, which may be alike

        The host's array may be written to again at once. What is returned holds until the second next `upload` of
        this shape, dtype and place, which uses its memory.
        """
        return array


class CupyLibrary(Library):
    """CuPy on one CUDA device."""

    name = "cupy"
    device = "cuda"

    def __init__(self) -> None:
        self.xp = importlib.import_module("cupy")
        self.array_type = self.xp.ndarray
        self._uploads: dict[Any, cuda_graph.Upload] = {}

    def asarray(self, values: Any, dtype: Any = None) -> Array:
        return self.xp.asarray(values, dtype=dtype)

    def to_host(self, array: Array) -> np.ndarray:
        return self.xp.asnumpy(array)

    def add_at(self, target: Array, index: Any, values: Array) -> None:
        if target.dtype.kind != "c":
            self.xp.add.at(target, index, values)
            return
        self.xp.add.at(target.real, index, values.real)  # CuPy's atomic sums are of real numbers only
        self.xp.add.at(target.imag, index, values.imag)

    def uniform(self, shape: Sequence[int], dtype: Any) -> Array:
        # The device's generator is keyed by a draw of the host's, so that one saved state covers both.
        seed = int(generator().integers(2**63))
        draw = np.float32 if np.dtype(dtype) == np.float32 else np.float64
        return self.xp.random.default_rng(seed).random(tuple(shape), dtype=draw)

    def erf(self, x: Array) -> Array:
        return importlib.import_module("cupyx.scipy.special").erf(x)

    def synchronize(self) -> None:
        self.xp.cuda.get_current_stream().synchronize()

    def upload(self, array: np.ndarray, place: int = 0) -> Array:
        kind = array.shape, array.dtype.str
        if (kind, place) not in self._uploads:
            self._uploads[kind, place] = cuda_graph.Upload(self.xp, *kind)
        return self._uploads[kind, place].send(array)


NUMPY = Library()
_libraries: dict[type, Library] = {np.ndarray: NUMPY}


def register(library: Library) -> None:
    """Makes the arrays of one more library known (CuPy when first seen; a strict double in tests)."""
    _libraries[library.array_type] = library


@functools.cache
def cupy() -> Library:
    """The CuPy library.

    Raises RequestError when cupy is not installed or finds no device, saying which.
    """
    try:
        library = CupyLibrary()
    except ImportError as error:
        raise RequestError(
            f"device 'cuda' needs CuPy, which cannot be imported ({error}); "
            "type pip install 'minires[cuda12]' or 'minires[cuda13]', or use --device cpu"
        ) from None
    if not library.xp.is_available():
        raise RequestError(
            "device 'cuda' is not usable: CuPy is installed but finds no CUDA GPU or driver; use --device cpu"
        )
    register(library)
    return library


def is_array(value: Any) -> bool:
    """Whether `value` is exactly an array of a known library (not a NumPy scalar, not a subclass)."""
    return type(value) in _libraries


def find(arrays: Sequence[Any], op: str = "this op") -> Library:
    """The one library that all `arrays` belong to. Python scalars and None go with any.

    Raises LibraryError when two libraries meet, or for a type that no library owns.
    """
    library: Library | None = None
    owner = 0
    for position, array in enumerate(arrays):
        found = _libraries.get(type(array))
        if found is None:
            if array is None or type(array) in _SCALARS:
                continue
            found = _slow_find(array, op, position)
        if library is None:
            library, owner = found, position
        elif library is not found:
            first, second = arrays[owner], array
            raise LibraryError(
                f"{op}: input {owner} {first.shape} is a {library.name} array on {library.device}, "
                f"but input {position} {second.shape} is a {found.name} array on {found.device}; "
                f"move one with .to({library.device!r})"
            )
    return library or default()


def _slow_find(array: Any, op: str, position: int) -> Library:
    if isinstance(array, np.generic):
        return NUMPY
    for kind, library in _libraries.items():
        if isinstance(array, kind):
            return library
    if type(array).__module__.split(".")[0] == "cupy":
        return cupy()
    raise LibraryError(
        f"{op}: input {position} is a {type(array).__name__}, not a Tensor or an array; wrap it in minires.tensor(...)"
    )


def to_host(values: Any) -> Any:
    """`values` with an array of any library brought to NumPy; anything else unchanged."""
    library = _libraries.get(type(values))
    if library is None and type(values).__module__.split(".")[0] == "cupy":
        library = cupy()
    return values if library is None else library.to_host(values)


# --- where new arrays are made ------------------------------------------------------------------


class _Place(threading.local):
    stack: tuple[Library, ...] = ()


_place = _Place()


def default() -> Library:
    """The library in which new arrays are made: NumPy, unless a `with device(...)` says otherwise."""
    return _place.stack[-1] if _place.stack else NUMPY


def devices() -> set[str]:
    """The device names of the libraries known so far."""
    return {library.device for library in _libraries.values()}


def library_of(name: str) -> Library:
    """The library behind a device name: "cpu" or "cuda"."""
    if name == "cpu":
        return NUMPY
    if name in ("cuda", "gpu"):
        return cupy()
    for library in _libraries.values():
        if library.device == name:
            return library
    raise RequestError(f"unknown device {name!r}: there are 'cpu' and 'cuda'")


class device:
    """`with device("cuda"): ...` makes new tensors on the GPU. Existing ones stay where they are."""

    def __init__(self, name: str) -> None:
        self.library = library_of(name)
        self.name = self.library.device

    def __enter__(self) -> device:
        _place.stack = (*_place.stack, self.library)
        return self

    def __exit__(self, *_: object) -> None:
        _place.stack = _place.stack[:-1]

    def __repr__(self) -> str:
        return f"device({self.name!r})"


# --- a whole step as one launch -----------------------------------------------------------------


def capture(
    step: Callable[..., Any],
    held: Callable[[], Mapping[str, Array]] | None = None,
    *,
    warmup: int = 3,
    library: Library | None = None,
) -> Callable[..., Any]:
    """`step`, which after some calls goes to the device as one launch (a CUDA graph); on NumPy, `step` itself.

    step      works on the device alone. Its arguments are arrays of `library`; what it returns is handed on
    held      gives every array that a call changes for the next one (parameters, buffers, the optimizer's state), by
              name; it is asked before and after the recording, to see that none was put in another's place
    warmup    plain calls before, for each combination of the arguments' shapes; they are steps like any other
    library   where the arguments are; by default that of `with device(...)`

    From then on Python does not run `step` any more: the device repeats, on the same memory, what it was asked to do
    when the step was recorded. So a step that is to be captured

    - writes in place what it keeps (`a += b`, `a[...] = b`), and forgets the gradients before it computes them;
    - neither waits for the device nor copies from or to the host (`.item()`, `if` on an array, lists as indices);
    - draws no random numbers, and leaves to its caller what happens on the host (schedules, counts);
    - takes what changes from call to call as an argument, which is copied to memory of its own, or by
      `cuda_graph.live`, as an optimizer does with its learning rate.

    What it returns lies in the same memory every time: read it, or copy it, before the next call. So do gradients:
    after a replay `.grad` is what the recorded call left there. Another combination of shapes is recorded apart;
    for more than two of them, calls stay plain.

    Raises CaptureError, in the call that records, when the step breaks these rules; the device has then done nothing
    of it, and calling `step` itself goes on. Raises RequestError when a name that is held has come to stand for
    another array.
    """
    library = default() if library is None else library
    return step if library is NUMPY else cuda_graph.Captured(step, held or dict, warmup, library.xp)


# --- randomness ---------------------------------------------------------------------------------

_generator = np.random.Generator(np.random.PCG64(0))


def generator() -> np.random.Generator:
    """The one generator that initialization, dropout and shuffling draw from.

    Raises CaptureError inside a captured step, which would draw the same numbers again and again.
    """
    if cuda_graph.capturing():
        raise CaptureError("it draws random numbers, and every replay would draw the same; draw them outside")
    return _generator


def manual_seed(seed: int) -> None:
    """Restarts the generator: the same seed gives the same run, bit for bit, on one machine."""
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
        raise RequestError(f"seed {seed!r} is not usable: it must be an integer of at least 0")
    _generator.bit_generator.state = np.random.PCG64(int(seed)).state


def generator_state() -> dict[str, Any]:
    """The generator's state as plain numbers, for a checkpoint (PCG64, JSON-serialisable)."""
    return dict(_generator.bit_generator.state)


def set_generator_state(state: dict[str, Any]) -> None:
    """Puts back what `generator_state` returned."""
    _generator.bit_generator.state = state


@functools.cache
def _vector_erf() -> Any:
    """SciPy's erf where it is installed, else the C library's, element by element."""
    try:
        return importlib.import_module("scipy.special").erf
    except ImportError:
        import math

        slow = np.frompyfunc(math.erf, 1, 1)
        return lambda x: np.asarray(slow(x), dtype=np.asarray(x).dtype)
