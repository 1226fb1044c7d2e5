"""Every op's cases, as drawn for the oracles, on the devices: forward and backward are NumPy's to 1e-12.

Real numbers, and complex ones too, on which jvp and hvp stand.
"""

import numpy as np
import pytest

from minires.check.case import subjects
from minires.check.draw import Seeded
from minires.check.oracles import several
from minires.engine import Tensor
from tests.devices import agree

SUBJECTS = [pytest.param(subject, id=subject.name) for subject in subjects()]
DRAWS = range(6)


def cases(subject, seed):
    """Some of the subject's cases; without those in long double, which no device has."""
    drawn = (subject.draw(Seeded((seed, k))) for k in DRAWS)
    return [case for case in drawn if np.dtype(case.options.get("dtype") or float).char not in "gG"]


def moved(library, value):
    """The arrays in a case's inputs and options, in the library's memory."""
    if isinstance(value, (tuple, list)):
        return type(value)(moved(library, part) for part in value)
    return library.asarray(value) if isinstance(value, np.ndarray) else value


def outputs_and_gradients(library, subject, case, spread=0.0):
    """What the op gives and hands back for random cotangents; with `spread`, around complex inputs."""
    rng = np.random.default_rng(5)

    def beside(x):
        return x + 1j * spread * rng.standard_normal(x.shape) if spread else x

    inputs = [
        Tensor(library.asarray(beside(x)), requires_grad=True) if i in case.checked else moved(library, x)
        for i, x in enumerate(case.inputs)
    ]
    options = {name: moved(library, value) for name, value in case.options.items()}
    if "device" in options:
        options["device"] = library.device
    outputs = several(subject.op.apply(*inputs, **options))
    for y in outputs:
        if y.requires_grad:
            y.backward(library.asarray(beside(rng.standard_normal(y.shape)).astype(y.dtype)), retain_graph=True)
    return outputs, [inputs[i].grad for i in case.checked]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_each_case_gives_the_numbers_of_numpy(library, subject):
    for case in cases(subject, 17):
        agree(library, lambda lib, case=case: outputs_and_gradients(lib, subject, case))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_each_analytic_case_gives_the_numbers_of_numpy_on_complex_numbers(library, subject):
    for case in cases(subject, 23):
        if case.analytic:
            agree(library, lambda lib, case=case: outputs_and_gradients(lib, subject, case, 1e-3))
