"""Every public function on the emulated GPU, with all kernels on: the numbers of NumPy, and no waiting."""

import numpy as np
import pytest

from tests.devices import agree
from tests.kernels.cuda.comparing import needs_compiler
from tests.ops.test_on_strict_device import EVERY, WAITING, outputs_and_gradients, without_waiting

pytestmark = needs_compiler


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("f", "inputs"), EVERY)
def test_the_emulated_gpu_gives_the_numbers_of_numpy(device, f, inputs, dtype):
    agree(device, lambda lib: outputs_and_gradients(lib, f, inputs, dtype))


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(("f", "inputs"), [case for case in EVERY if case.id not in WAITING])
def test_no_kernel_waits_for_the_device(f, inputs):
    without_waiting(f, inputs)
