"""A lab page in a browser: on a telephone as on a desk, by day and by night, with and without its figure."""

import pytest

from minires.lab import outcome, page
from tests.lab.test_command import COIN

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


@pytest.fixture(scope="module", params=[PIXEL, None], ids=["figure", "no figure"])
def lab_page(request, tmp_path_factory):
    """The page of an experiment that takes no time, as a file."""
    results = [COIN.measure("smoke", seed, lambda what: None) for seed in range(2)]
    found = outcome.Outcome(COIN, "smoke", results, COIN.judge(results), 1.0)
    path = tmp_path_factory.mktemp("lab") / "coin.html"
    path.write_text(page.page(COIN, found.record(), results, found.verdicts, request.param), encoding="utf-8")
    return path


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong_on_a_telephone_and_on_a_desk(lab_page, page_at, axe, color_scheme):
    shown = page_at(360, color_scheme=color_scheme)
    shown.goto(lab_page.as_uri())
    assert axe(shown) == []
    shown.set_viewport_size({"width": 1280, "height": 900})
    assert axe(shown) == []


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_no_wider_than_its_window_and_the_command_can_be_read(lab_page, page_at, width):
    shown = page_at(width)
    shown.goto(lab_page.as_uri())
    assert shown.evaluate("document.documentElement.scrollWidth") == width
    assert shown.evaluate("[...document.querySelectorAll('pre')].every(p => p.scrollWidth <= p.clientWidth)")
