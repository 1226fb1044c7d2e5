"""CuPy's raw kernels and cuBLAS's product, as far as minires uses them, on the strict device.

A kernel's own CUDA text is compiled by g++ behind shim.h and called here, so that everything about it is tested but
its speed: the arithmetic, the barriers, the grid it is launched with, what it is given. A launch is refused where CUDA
would fail or, worse, not notice: an argument of another type than the kernel's parameter, an array with gaps, a block
that is too large. Arrays are handed over as copies between two margins, which must be untouched afterwards.
"""

import ctypes
import functools
import itertools
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from minires.kernels.cuda import cudnn
from tests import strict_graph
from tests.strict_device import STRICT, StrictArray

COMPILER = shutil.which("g++")
SHIM = Path(__file__).with_name("shim.h")
MARGIN = 4096  # bytes before and after each array
POINTERS = {"float": "f", "double": "d", "int": "i", "integer": "q", "bool": "?"}
SCALARS = {"integer": int, "double": float}  # what Python's numbers become when CuPy passes them


class LaunchError(Exception):
    """What a kernel was launched with, or did, that CUDA would not forgive."""


class Parameter:
    """One parameter of a kernel: `const real* x` or `integer n`."""

    def __init__(self, text, real):
        self.const, kind, star, self.name = re.fullmatch(r"(const )?(\w+)(\*?) (\w+)", text.strip()).groups()
        self.kind = real if kind == "real" else kind
        self.is_pointer = bool(star)
        self.type = f"{self.const or ''}{kind}{star}"

    def check(self, value):
        if self.is_pointer:
            if isinstance(value, StrictArray):
                check_memory(self.name, value._host)
                if value.dtype.char in "lq" and self.kind == "integer":
                    return
                if value.dtype.char != POINTERS[self.kind]:
                    raise LaunchError(f"{self.name} is {self.type}, of {self.kind}, but was given {value.dtype}")
            elif not (type(value) is np.int64 and value == 0):
                raise LaunchError(f"{self.name} is {self.type}, but was given {value!r}")
        elif isinstance(value, np.ndarray) and value.dtype.names:
            if value.ndim or self.kind in SCALARS:
                raise LaunchError(f"{self.name} is {self.type}, but was given {value.shape} structures")
        elif type(value) is not SCALARS.get(self.kind):
            raise LaunchError(f"{self.name} is {self.type}, but was given {value!r}, a {type(value).__name__}")


def check_memory(name, a):
    gapless = a.flags.c_contiguous or (a.ndim == 4 and a.transpose(0, 2, 3, 1).flags.c_contiguous)
    if not gapless:
        raise LaunchError(
            f"{name} has gaps, or lies in an order that no kernel expects: {a.shape}, strides {a.strides}"
        )


class RawModule:
    """cupy.RawModule(code=...): the text, compiled for this machine."""

    def __init__(self, *, code):
        real = re.match(r"typedef (\w+) real;", code)[1]
        found = re.findall(r'extern "C" __global__ void (\w+)\(([^)]*)\)', code)
        self.parameters = {name: [Parameter(p, real) for p in text.split(",")] for name, text in found}
        self.library = compiled(code + "\n".join(map(self.entry, self.parameters)))

    def entry(self, name):
        """A function that calls the kernel with arguments as CUDA's driver takes them: an array of their addresses."""
        given = ", ".join(f"*({p.type}*)a[{i}]" for i, p in enumerate(self.parameters[name]))
        return f"""
static void call_{name}(void** a) {{ {name}({given}); }}
extern "C" const char* run_{name}(const unsigned* grid, const unsigned* block, unsigned seed, void** a) {{
  return run_grid(grid, block, seed, call_{name}, a);
}}
"""

    def get_function(self, name):
        run = getattr(self.library, f"run_{name}")
        run.restype = ctypes.c_char_p
        return functools.partial(launch, name, run, self.parameters[name])


@functools.cache
def compiled(code):
    folder = Path(tempfile.mkdtemp(prefix="minires-cuda-"))
    (folder / "kernel.cpp").write_text(f'#include "{SHIM}"\n{code}', encoding="utf-8")
    command = [COMPILER, "-std=c++17", "-O1", "-fPIC", "-shared", "-w", "kernel.cpp", "-o", "kernel.so"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LaunchError("\n".join(done.stderr.splitlines()[:20]))
        return ctypes.CDLL(str(folder / "kernel.so"))
    finally:
        shutil.rmtree(folder)


launches = []  # the names of all kernels launched, products as "gemm"
seeds = itertools.count()


def launch(name, run, parameters, grid, block, arguments):
    grid, block = ((*n, 1, 1)[:3] for n in (grid, block))
    if not (all(1 <= n <= most for n, most in zip(block, (1024, 1024, 64), strict=True)) and np.prod(block) <= 1024):
        raise LaunchError(f"{name}: a block of {block} threads")
    if not all(1 <= n <= most for n, most in zip(grid, (2**31 - 1, 65535, 65535), strict=True)):
        raise LaunchError(f"{name}: a grid of {grid} blocks")
    if len(arguments) != len(parameters):
        raise LaunchError(f"{name} takes {len(parameters)} arguments, but was given {len(arguments)}")
    for parameter, value in zip(parameters, arguments, strict=True):
        parameter.check(value)
    pairs = list(zip(parameters, arguments, strict=True))
    written = [a for parameter, a in pairs if isinstance(a, StrictArray) and not parameter.const]
    arrays = [a for a in arguments if isinstance(a, StrictArray)]
    bare = [a._host if isinstance(a, StrictArray) else a for a in arguments]
    on_addresses(lambda: execute(name, run, parameters, grid, block, bare), arrays, written)
    launches.append(name)


addressed = []  # the arrays whose address has been asked for since the last launch


def on_addresses(compute, arrays, written):
    """Runs it as one operation of the strict device, on the arrays given and those at the addresses given."""
    at = list(addressed)
    addressed.clear()
    strict_graph.change(compute, [*arrays, *at], [*written, *at])


def execute(name, run, parameters, grid, block, arguments):
    lent = {
        id(a): Lent(a, 0xFF if parameter.const else 0x7F)
        for parameter, a in zip(parameters, arguments, strict=True)
        if is_array(a)
    }
    held = [held_by(value, lent) for value in arguments]
    addresses = (ctypes.c_void_p * len(held))(*[ctypes.cast(ctypes.pointer(h), ctypes.c_void_p) for h in held])
    three = ctypes.c_uint * 3
    problem = run(three(*grid), three(*block), next(seeds), addresses)
    if problem:
        raise LaunchError(f"{name}: {problem.decode()}")
    for parameter, value in zip(parameters, arguments, strict=True):
        if is_array(value):
            lent[id(value)].give_back(name, parameter)


def held_by(value, lent):
    """What CUDA's driver is given the address of: a pointer, a structure or a number."""
    if is_array(value):
        return ctypes.c_void_p(lent[id(value)].address)
    if isinstance(value, np.ndarray):
        return (ctypes.c_char * value.nbytes).from_buffer_copy(value.tobytes())
    return ctypes.c_double(value) if type(value) is float else ctypes.c_longlong(value)


def is_array(value):
    return isinstance(value, np.ndarray) and not value.dtype.names


class Lent:
    """A copy of an array's memory between margins of one byte: NaN where it is only read, else 1e38 or 1e306.

    Were it the same byte, a kernel that copies too much from one array to another would leave the margin as it was.
    """

    def __init__(self, array, margin):
        self.array, self.margin = array, margin
        self.bytes = np.full(array.nbytes + 2 * MARGIN, margin, np.uint8)
        self.inside = self.bytes[MARGIN : MARGIN + array.nbytes].view(array.dtype)
        self.inside[:] = in_memory_order(array).reshape(-1)
        self.address = self.bytes.ctypes.data + MARGIN

    def give_back(self, name, parameter):
        outside = self.bytes[:MARGIN], self.bytes[MARGIN + self.array.nbytes :]
        if any((part != self.margin).any() for part in outside):
            raise LaunchError(f"{name} wrote beyond {parameter.name}, {self.array.shape}")
        if not parameter.const:
            target = in_memory_order(self.array)
            target[...] = self.inside.reshape(target.shape)


def in_memory_order(a):
    return a if a.flags.c_contiguous else a.transpose(0, 2, 3, 1)


# --- cuBLAS -----------------------------------------------------------------------------------------------------

KINDS = {0: np.float32, 1: np.float64, 2: np.float16}  # CUDA_R_32F, CUDA_R_64F, CUDA_R_16F
SUMS = {68: np.float32, 77: np.float32, 70: np.float64}  # CUBLAS_COMPUTE_32F, _32F_FAST_TF32, _64F
precisions = []  # the compute type of each product


def gemm_strided_batched(
    handle, trans_a, trans_b, m, n, k, alpha, a, a_type, lda, stride_a, b, b_type, ldb, stride_b, beta, c, c_type, ldc,
    stride_c, batch_count, compute_type, algo,
):  # fmt: skip
    """cublasGemmStridedBatchedEx: C = alpha op(A) op(B) + beta C, every matrix by columns, at raw addresses."""
    assert handle == HANDLE
    assert algo == -1
    assert a_type == b_type == c_type
    kind, sums = KINDS[c_type], SUMS[compute_type]
    assert (sums is np.float64) == (kind is np.float64)
    of_a, of_b = ((k, m) if trans_a else (m, k)), ((n, k) if trans_b else (k, n))
    first = by_columns(a, kind, of_a, lda, stride_a, batch_count)
    second = by_columns(b, kind, of_b, ldb, stride_b, batch_count)
    target = by_columns(c, kind, (m, n), ldc, stride_c, batch_count)
    alpha, beta = (ctypes.cast(p, ctypes.POINTER(np.ctypeslib.as_ctypes_type(sums)))[0] for p in (alpha, beta))
    first, second = (x.swapaxes(1, 2) if t else x for x, t in ((first, trans_a), (second, trans_b)))

    def multiply():
        # with beta 0, C need not hold numbers
        target[...] = alpha * (first.astype(sums) @ second.astype(sums)) + (beta * target if beta else 0)

    on_addresses(multiply, [], [])
    launches.append("gemm")
    precisions.append(compute_type)


def by_columns(address, kind, shape, leading, step, count):
    """A batch of matrices stored by columns at an address, as (count, rows, columns)."""
    rows, columns = shape
    assert leading >= max(1, rows), f"leading dimension {leading} of a matrix with {rows} rows"
    item = np.dtype(kind).itemsize
    size = ((count - 1) * step + (columns - 1) * leading + rows) * item
    ends = [np.lib.array_utils.byte_bounds(strict_graph.root(array)._host) for array in addressed]
    assert any(start <= address and address + size <= end for start, end in ends), "a matrix beyond its array"
    memory = np.frombuffer((ctypes.c_char * size).from_address(address), kind)
    return np.lib.stride_tricks.as_strided(memory, (count, rows, columns), (step * item, item, leading * item))


HANDLE, STREAM = 4711, 4712
CUBLAS = {
    "cublas": SimpleNamespace(gemmStridedBatchedEx=gemm_strided_batched),
    "device": SimpleNamespace(get_cublas_handle=lambda: HANDLE),
    "runtime": SimpleNamespace(getDevice=lambda: 0),
}


def address_of(array):
    addressed.append(array)
    return SimpleNamespace(ptr=array._host.ctypes.data)


# --- the strict device as CuPy ------------------------------------------------------------------------------------


@contextmanager
def cuda():
    """Inside, the strict device takes the kernels that are registered for CuPy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(STRICT, "name", "cupy")
        patch.setattr(STRICT.xp, "RawModule", RawModule, raising=False)
        for name, made in CUBLAS.items():
            patch.setattr(strict_graph, name, made, raising=False)
        patch.setattr(strict_graph.Stream, "ptr", STREAM, raising=False)
        patch.setattr(cudnn, "frontend", lambda device: None)  # the real one would take addresses on the host
        patch.setattr(StrictArray, "data", property(address_of), raising=False)
        launches.clear()
        precisions.clear()
        yield STRICT
