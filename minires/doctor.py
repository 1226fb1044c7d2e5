"""`minires doctor`: what is installed, what is missing, and what to type to get it."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

# distribution: (what it is for, what to type when it is missing)
REQUIRED = {
    "numpy": "arrays",
    "safetensors": "checkpoints",
    "pooch": "downloads",
    "threadpoolctl": "one BLAS thread a worker",
    "tqdm": "progress bars",
}
OPTIONAL = {
    "matplotlib": ("figures of runs, of the lab and of the tutorials", "pip install 'minires[plot]'"),
    "numba": ("compiled kernels: training at twice the speed on a CPU", "pip install 'minires[fast]'"),
    "torch": ("reading .pt and .th files, comparing with PyTorch in the tests", "pip install 'minires[torch]'"),
    "onnx": ("minires export --to FILE.onnx", "pip install 'minires[onnx]'"),
    "sphinx": ("the site: python tutorials/site/build.py", "pip install 'minires[docs]'"),
    "pytest": ("the proof of every gradient", "pip install 'minires[test]'"),
    "playwright": ("the tests in a browser, which need Chromium too", "pip install 'minires[browser]'"),
}


def examine() -> Iterator[str]:
    """The report, line by line."""
    import minires

    yield f"minires        {minires.__version__}  {os.path.dirname(minires.__file__)}"
    yield f"python         {platform.python_version()}  {sys.executable}"
    yield f"system         {platform.platform()}, {os.cpu_count()} cores"
    for name, purpose in REQUIRED.items():
        found = _version(name)
        more = f"  BLAS: {_blas()}" if name == "numpy" else ""
        yield f"{name:14} {found}{more}" if found else f"{name:14} MISSING ({purpose}); type: pip install {name}"
    for name, (purpose, cure) in OPTIONAL.items():
        yield f"{name:14} {_version(name) or f'not installed ({purpose}); type: {cure}'}"
    yield f"gpu            {_gpu()}"
    yield from _data_sets()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _blas() -> str:
    import numpy as np

    found: Any = np.show_config(mode="dicts")
    blas = found.get("Build Dependencies", {}).get("blas", {})
    threads = os.environ.get("OMP_NUM_THREADS") or os.environ.get("OPENBLAS_NUM_THREADS") or "all"
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip() + f", threads: {threads}"


def _gpu() -> str:
    from minires import backend
    from minires.errors import RequestError

    try:
        cupy = backend.cupy().xp
    except RequestError as error:
        return f"none ({error})"
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return f"{name}, CuPy {cupy.__version__}, CUDA {cupy.cuda.runtime.runtimeGetVersion()}"


def _data_sets() -> Iterator[str]:
    from minires import data
    from minires.data.datasets import SOURCES
    from minires.data.fetch import present

    root = data.data_dir()
    origin = "MINIRES_DATA" if os.environ.get("MINIRES_DATA") else "the default; set MINIRES_DATA for another place"
    yield f"data           {root} ({origin})"
    for name in data.names():
        there = (
            "here"
            if name not in SOURCES or present(SOURCES[name])
            else f"not here yet; fetched by: minires train --data {name}"
        )
        yield f"  {name:14} {there}"
