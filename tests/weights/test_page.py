"""The page about weights tells every key map, format and library, and no row that is not so."""

import re
from pathlib import Path

import pytest

from minires import weights
from minires.weights.keymaps import MAPS, SAME

PAGE = Path(__file__).parents[2] / "tutorials" / "site" / "weights.md"


@pytest.fixture(scope="module")
def page():
    if not PAGE.exists():
        pytest.skip("the tutorials are not part of this installation")
    return PAGE.read_text(encoding="utf-8")


def test_the_tables_are_the_key_maps(page):
    told = re.findall(r"^\| `(\S+\{\w+\}\S*|\S+\.weight)` \| `(\S+)` \|(?: (transposed)? ?\|)?$", page, re.MULTILINE)
    rows = [row for key_maps in MAPS.values() for m in key_maps for row in m.rows if row != SAME]
    assert told == [(row.theirs, row.ours, "transposed" if row.transposed else "") for row in rows]


def test_every_format_and_library_is_told(page):
    for suffix in weights.formats():
        assert f"`{suffix}`" in page
    for peer in weights.peers():
        assert peer in page
