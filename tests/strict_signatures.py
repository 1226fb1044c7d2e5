"""Writes strict_signatures.json: what CuPy offers and with which parameters, as the strict device must know.

    python tests/strict_signatures.py            needs cupy-cuda12x or cupy-cuda13x, and no GPU
    python tests/strict_signatures.py --check    says whether the file still equals the package (exit code 1 if not)

A parameter is written as it stands in a def: "a", "axis=", "*operands", "**kwargs", and "*" before keyword-only ones.
"""

import inspect
import json
import operator
import re
import sys
from pathlib import Path

import numpy as np

TABLE = Path(__file__).with_suffix(".json")


def written(parameters):
    names, starred = [], False
    for p in parameters:
        if p.kind is p.VAR_POSITIONAL:
            starred = True
        if p.kind is p.KEYWORD_ONLY and not starred:
            names.append("*")
            starred = True
        prefix = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        names.append(prefix + p.name + ("" if prefix or p.default is p.empty else "="))
    return names


def from_docstring(f, leave_out=0):
    """Cython hides signatures but writes them into the docstring: `sum(self, axis=None, Py_ssize_t n=1) -> x`."""
    found = re.match(r"[\w.]+\((.*?)\)(?: ->|$)", ((f.__doc__ or "").strip() or "?").splitlines()[0])
    if found is None:
        return None
    parts = [part.strip() for part in found[1].split(",")][leave_out:]
    return [(part.split("=")[0].split()[-1] + ("=" if "=" in part else "")) for part in parts]


def signature(function):
    try:
        return written(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return from_docstring(function)


def functions(module, twin):
    """The functions of `module` that its NumPy twin has too."""
    found = {}
    for name in dir(module):
        value = getattr(module, name)
        if name[0] != "_" and callable(value) and not isinstance(value, type) and hasattr(twin, name):
            parameters = signature(value)
            if parameters is not None:
                found[name] = parameters
    return found


def table(cupy):
    public = {name: getattr(cupy, name) for name in dir(cupy) if name[0] != "_" and hasattr(np, name)}
    numpys_own = {
        name
        for name, value in public.items()
        if value is getattr(np, name) and not inspect.ismodule(value) and name not in ("annotations", "warnings")
    }
    ufuncs = {name: [f.nin, f.nout] for name, f in public.items() if isinstance(f, cupy.ufunc)}
    taken = numpys_own | set(ufuncs)
    methods = {}
    for name in dir(cupy.ndarray):
        method = getattr(cupy.ndarray, name)
        if name[0] != "_" and callable(method) and method.__doc__ and hasattr(np.ndarray, name):
            methods[name] = from_docstring(method, leave_out=1)
    return {
        "cupy": cupy.__version__,
        "numpys_own": sorted(numpys_own),
        "ufuncs": ufuncs,
        "functions": {name: p for name, p in functions(cupy, np).items() if name not in taken},
        "linalg": functions(cupy.linalg, np.linalg),
        "stride_tricks": functions(cupy.lib.stride_tricks, np.lib.stride_tricks),
        "methods": methods,
        "operators": [n for n in dir(cupy.ndarray) if n[0] == "_" and callable(vars(operator).get(n))],
        "generator": [n for n in dir(cupy.random.Generator) if n[0] != "_" and hasattr(np.random.Generator, n)],
    }


def text(found):
    """One name a line, so that a new CuPy shows as a readable difference."""
    sections = []
    for key, value in found.items():
        if isinstance(value, dict):
            rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(p)}" for name, p in sorted(value.items()))
            sections.append(f"{json.dumps(key)}: {{\n{rows}\n }}")
        else:
            sections.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{\n " + ",\n ".join(sections) + "\n}\n"


def main():
    import cupy

    fresh = text(table(cupy))
    if "--check" in sys.argv:
        same = fresh == TABLE.read_text(encoding="utf-8")
        print(f"{TABLE.name} {'equals' if same else 'differs from'} cupy {cupy.__version__}")
        return 0 if same else 1
    TABLE.write_text(fresh, encoding="utf-8")
    print(f"wrote {TABLE.name} from cupy {cupy.__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
