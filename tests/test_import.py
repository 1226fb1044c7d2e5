"""What `import minires` costs, and what it must not load."""

import os
import subprocess
import sys


def run(code, **env):
    ready = {**os.environ, **env}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ready).stdout


def test_import_loads_no_heavy_library():
    heavy = ["matplotlib", "torch", "cupy", "scipy", "PIL", "pooch", "tqdm", "pandas", "hypothesis"]
    loaded = run(f"import sys, minires; print([m for m in {heavy} if m in sys.modules])")
    assert loaded.strip() == "[]"


def test_import_takes_less_than_300_ms_beyond_numpy(tmp_path):
    cached = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}  # as on any second import
    code = "import numpy, time; t = time.perf_counter(); import minires; print(time.perf_counter() - t)"
    best = min(float(run(code, **cached)) for _ in range(5))  # the best of five: the rest is the machine's noise
    assert best < 0.3


def test_no_public_name_of_check_turns_into_a_module_once_all_is_loaded():
    code = (
        "import types, minires.check as c; c.all_laws(), c.bugs(), c.subjects(); import minires.check.mutation.judge;"
        "print([n for n in c.__all__ if isinstance(getattr(c, n), types.ModuleType)])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
