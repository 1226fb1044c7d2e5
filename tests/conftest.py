"""Options and profiles for the whole suite."""

import os

import pytest
from hypothesis import settings

pytest_plugins = ["tests.devices"]  # the fixture `library`: a test that takes it runs on every device

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("deep", deadline=None, max_examples=1000)  # pytest --hypothesis-profile=deep
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests that train on real data (minutes)")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: trains on real data; needs --slow")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="trains on real data for minutes; run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same generator, whichever tests ran before it."""
    from minires.backend import manual_seed

    manual_seed(0)
