"""What every test of a CUDA kernel does: run it and its formula on the emulated device, and compare all they give."""

import numpy as np
import pytest

from minires.engine import Tensor
from minires.switches import formulas_only
from tests.kernels.cuda import emulator
from tests.strict_device import StrictArray, no_sync

BOUND = {np.float64: 1e-12, np.float32: 3e-5}  # of the largest entry of each array, or of 1 where all are smaller

needs_compiler = pytest.mark.skipif(emulator.COMPILER is None, reason="no g++ to run the kernels' text on the CPU")


def on_device(a):
    """The array as it lies in memory, on the strict device, where nobody may write to it."""
    a = np.asarray(a).view()
    a.flags.writeable = False
    return StrictArray(a)


def run(f, *arrays, gy=None, constants=()):
    """What made the output, the output, the gradients of the inputs, and the kernels launched each way."""
    given = [a if a is None else on_device(a) for a in arrays]
    leaves = [
        a if a is None or i in constants or a.dtype.kind != "f" else Tensor(a, requires_grad=True)
        for i, a in enumerate(given)
    ]
    emulator.launches.clear()
    y = f(*leaves)
    forward = tuple(emulator.launches)
    emulator.launches.clear()
    if gy is None:
        gy = np.random.default_rng(99).normal(size=y.shape).astype(y.dtype)
    op = type(y.op)
    y.backward(on_device(gy))
    backward = tuple(emulator.launches)
    gradients = [None if not isinstance(leaf, Tensor) or leaf.grad is None else leaf.grad._host for leaf in leaves]
    return op, [y.data._host, *gradients], forward, backward


def assert_equals_formula(kernel, f, *arrays, gy=None, constants=(), tolerance=None):
    """f runs `kernel`, which gives what the formula gives. Returns the names of the kernels launched each way."""
    with no_sync():
        op, got, forward, backward = run(f, *arrays, gy=gy, constants=constants)
    assert op is kernel
    with formulas_only():
        op, expected, *_ = run(f, *arrays, gy=gy, constants=constants)
    assert op is kernel.stands_for
    for a, b in zip(got, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            bound = (tolerance or BOUND[b.dtype.type]) * max(1.0, np.max(np.abs(b), initial=0.0))
            np.testing.assert_allclose(a, b, rtol=0.0, atol=bound)
    return forward, backward


def is_channels_last(a):
    return a.transpose(0, 2, 3, 1).flags.c_contiguous
