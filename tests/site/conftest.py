"""The site's own modules stand beside its pages, and import each other by name."""

import sys
from pathlib import Path

import pytest

SITE = Path(__file__).resolve().parents[2] / "tutorials" / "site"

if not SITE.is_dir():
    pytest.skip("the site's sources are in the repository only", allow_module_level=True)
sys.path.insert(0, str(SITE))
