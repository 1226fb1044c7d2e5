"""What the tests of gradcheck share: ops with a chosen backward, and checks that must not pass."""

import pytest

from minires.check import GradcheckError, gradcheck
from minires.engine import Function


def refused(f, *inputs, error=GradcheckError, **options):
    """The message of a check that must not pass."""
    with pytest.raises(error) as caught:
        gradcheck(f, *inputs, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def op(forward, backward):
    """The op of these two formulas, as a function of Tensors."""

    class Planted(Function):
        def forward(self, *xs):
            self.saved = xs
            return forward(*xs)

        def backward(self, gy):
            return backward(gy, *self.saved)

    return Planted.apply


def square(wrong):
    """x^2 with a wrong gradient in place of 2 x gy."""
    return op(lambda x: x * x, wrong)


def written_to(a, value):
    a[...] *= value
    return a
