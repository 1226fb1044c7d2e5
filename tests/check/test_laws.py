"""Every law, by the name of what it states, on cases that hypothesis draws."""

import pytest
from hypothesis import settings

from minires.check.examine import of_law
from minires.check.law import all_laws
from minires.switches import use_kernels


@pytest.mark.parametrize("law", [pytest.param(law, id=law.name) for law in all_laws()])
def test_the_law_holds(law):
    of_law(law)(max(1, settings.default.max_examples // 5), 0, True)


@pytest.mark.parametrize("law", [pytest.param(law, id=law.name) for law in all_laws() if law.ops])
def test_the_law_holds_with_kernels_too(law):
    from minires.check.draw import for_each

    with use_kernels():
        for_each(law.test, 5, 1)


@pytest.mark.parametrize("law", [pytest.param(law, id=law.name) for law in all_laws()])
def test_a_law_is_stated_with_its_formula(law):
    assert len(law.statement) > 20
