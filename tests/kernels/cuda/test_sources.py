"""Every CUDA source compiles for the GPUs it is written for: by NVRTC, as CuPy does it, or else by nvcc."""

import importlib
import shutil
import subprocess

import pytest

from minires.kernels.cuda import source

ARCHITECTURES = ("sm_80", "sm_90")  # A100 and H100 or H200


def nvrtc():
    """CuPy's door to the runtime compiler, which needs no GPU; None where it cannot be had."""
    try:
        module = importlib.import_module("cupy_backends.cuda.libs.nvrtc")
        module.getVersion()
    except (ImportError, RuntimeError):
        return None
    return module


def problems_by_nvrtc(module, text, architecture):
    program = module.createProgram(text, "kernel.cu", (), ())
    try:
        module.compileProgram(program, (f"-arch={architecture}", "-std=c++17"))
    except Exception:
        return module.getProgramLog(program)
    return module.getProgramLog(program).strip("\0\n ")


def problems_by_nvcc(nvcc, text, architecture, folder):
    (folder / "kernel.cu").write_text(text, encoding="utf-8")
    command = [nvcc, f"-arch={architecture}", "-std=c++17", "-cubin", "-o", folder / "kernel.cubin"]
    done = subprocess.run([*command, folder / "kernel.cu"], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("real", source.REAL)
@pytest.mark.parametrize("name", source.NAMES)
def test_every_source_compiles_without_a_word(name, real, tmp_path):
    module, nvcc = nvrtc(), shutil.which("nvcc")
    if module is None and nvcc is None:
        pytest.skip("neither NVRTC (pip install cupy-cuda13x nvidia-cuda-nvrtc) nor nvcc is installed")
    text = source.text(name, real)
    if module is not None:
        assert [problems_by_nvrtc(module, text, architecture) for architecture in ARCHITECTURES] == ["", ""]
    else:
        assert problems_by_nvcc(nvcc, text, ARCHITECTURES[-1], tmp_path) == ""


def test_every_source_file_is_listed():
    folder = source.Path(source.__file__).parent
    assert tuple(sorted(path.stem for path in folder.glob("*.cu"))) == source.NAMES
