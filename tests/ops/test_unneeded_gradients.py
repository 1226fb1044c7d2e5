"""An op may leave out what nobody asked for, and what it does hand back is the same either way."""

import pytest

from minires.check.case import subjects
from minires.check.draw import for_each
from minires.check.invariants import an_unneeded_gradient_changes_no_other
from minires.switches import formulas_only


@pytest.mark.parametrize("subject", [pytest.param(subject, id=subject.name) for subject in subjects()])
def test_each_gradient_is_the_same_when_it_is_the_only_one_wanted(subject):
    with formulas_only():
        for_each(lambda draw: an_unneeded_gradient_changes_no_other(subject, subject.draw(draw), draw), 8, 23)
