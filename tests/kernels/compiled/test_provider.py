import subprocess
import sys

import numpy as np
import pytest

from minires import functional as F
from minires.engine import Tensor, kernels_of
from minires.kernels.compiled import provider
from minires.kernels.conv import BlockedConv2d
from minires.ops.activation import Relu
from minires.ops.conv import Conv2d
from minires.ops.norm import BatchNorm
from minires.switches import formulas_only, without_compiled

rng = np.random.default_rng(0)


def op_of(*shapes, **options):
    x, w = (Tensor(rng.normal(size=s), requires_grad=True) for s in shapes)
    return type(F.conv2d(x, w, **options).op)


LARGE = (4, 8, 16, 16), (8, 8, 3, 3)


@pytest.mark.parametrize("op", [Conv2d, BatchNorm, Relu])
def test_the_compiled_kernel_is_asked_before_the_one_of_numpy(op):
    assert kernels_of(op)[0].__name__.startswith("Compiled")


def test_what_they_do_not_take_is_left_to_others():
    pytest.importorskip("numba", reason="compiled kernels need numba")
    assert op_of(*LARGE) is provider.CompiledConv2d
    assert op_of((1, 2, 4, 4), (2, 2, 3, 3)) is not provider.CompiledConv2d
    assert op_of(LARGE[0], (8, 4, 3, 3), groups=2) is not provider.CompiledConv2d
    half = lambda s: Tensor(rng.normal(size=s).astype(np.float16), requires_grad=True)
    assert type(F.conv2d(half(LARGE[0]), half(LARGE[1])).op) is Conv2d
    assert op_of((0, 8, 16, 16), LARGE[1]) is Conv2d


def test_they_can_be_switched_off_alone():
    with without_compiled():
        assert op_of(*LARGE) is BlockedConv2d
    with formulas_only():
        assert op_of(*LARGE) is Conv2d


def test_without_numba_numpy_does_the_work(monkeypatch):
    monkeypatch.setattr(provider, "_installed", lambda: False)
    assert op_of(*LARGE) is BlockedConv2d


def test_when_compiling_fails_one_warning_says_so_and_numpy_does_the_work(monkeypatch):
    def broken(name):
        raise OSError(f"no room for {name}\nand a long story")

    monkeypatch.setattr(provider, "_installed", lambda: True)
    monkeypatch.setattr(provider, "_family", broken)
    provider._compiled.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"conv are left out.*no room for conv\)") as caught:
        seen = [op_of(*LARGE), op_of(*LARGE)]
    assert seen == [BlockedConv2d] * 2
    assert len(caught) == 1
    provider._compiled.cache_clear()


@pytest.mark.parametrize("setting", ["off", "0"])
def test_the_environment_switches_them_off_and_numba_is_not_imported(setting, monkeypatch):
    monkeypatch.setenv("MINIRES_FAST", setting)
    code = (
        "import sys, numpy as np; from minires import functional as F; "
        "F.conv2d(np.ones((4, 8, 16, 16)), np.ones((8, 8, 3, 3))); assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_minires_does_not_import_numba():
    subprocess.run([sys.executable, "-c", "import minires, sys; assert 'numba' not in sys.modules"], check=True)
