"""The fixture that every test of a CUDA kernel uses."""

import pytest

from tests.kernels.cuda import emulator


@pytest.fixture(scope="module")
def device():
    """The strict device with the kernels of CuPy, for all tests of a module."""
    with emulator.cuda() as library:
        yield library
