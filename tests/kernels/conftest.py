import pytest

from minires.switches import without_compiled


@pytest.fixture(autouse=True)
def _as_without_numba(request):
    """The tests of the NumPy kernels see them also where numba is installed."""
    if "compiled" in request.path.parts:
        yield
        return
    with without_compiled():
        yield
