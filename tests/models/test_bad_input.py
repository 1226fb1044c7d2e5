"""What does not fit is refused in one line, by every model: options at their edges, and inputs of every wrong shape."""

import functools

import numpy as np
import pytest

from minires import models
from minires.errors import RequestError
from minires.switches import no_grad
from tests.models.small import rows

SMALL = {row.name: row for row in rows("SMALL")}.values()  # one row a model
BAD = {  # by the kind of an option's default
    int: (0, -1),
    float: (-1.0, 2.0, float("nan"), float("inf")),
    str: ("nonsense",),
    tuple: ((), (0,), (-1, -1, -1), ("a", "b", "c")),
    bool: ("yes",),
}


def refused(call):
    """Whether it refused, in one line. Any error but a RequestError ends the test."""
    try:
        with no_grad():
            call()
    except RequestError as error:
        told = str(error)
    else:
        return False
    assert told
    assert "\n" not in told
    return True


def batch_of(row):
    return [a.astype(np.float32) if a.dtype.kind == "f" else a for a in row.batch(np.random.default_rng(0))]


def images(a):
    """Batches of images, boards or frames unlike `a`."""
    for axis, length in enumerate(a.shape):
        for other in {0, 1, length + 1} - {length}:
            yield np.ones((*a.shape[:axis], other, *a.shape[axis + 1 :]), a.dtype)
    for size in (0, 1):
        yield np.ones((*a.shape[:2], *[size] * (a.ndim - 2)), a.dtype)
    yield from (a[0], a[None], a[0, 0], np.ones((), a.dtype))


def tokens(a):
    """Batches of tokens unlike `a`."""
    yield from (a + 1000, a - 1000, a.astype(np.float32), a > 1, a[0], a[None], np.zeros((), a.dtype))
    yield from (a[:, :0], a[:0], a[:1], np.zeros((len(a), 5000), a.dtype))


@pytest.mark.parametrize("row", SMALL, ids=str)
def test_an_option_is_refused_when_the_model_is_made_or_it_works(row):
    batch = batch_of(row)
    for option, default in models.info(row.name).options.items():
        for value in BAD[type(default)]:
            options = {**row.options, option: value}
            if not refused(functools.partial(models.create, row.name, **options)):
                model = models.create(row.name, **options)
                assert not refused(functools.partial(row.loss, model, *batch)), (
                    f"{option}={value!r} is refused too late"
                )


@pytest.mark.parametrize("row", SMALL, ids=str)
def test_an_input_is_refused_in_one_line_or_taken(row):
    model = models.create(row.name, **row.options).eval()
    inputs = batch_of(row)[: row.inputs]
    outcomes = [
        refused(functools.partial(model, *inputs[:i], bad, *inputs[i + 1 :]))
        for i, a in enumerate(inputs)
        for bad in (images(a) if a.dtype.kind == "f" else tokens(a))
    ]
    assert sum(outcomes) >= 4
