"""Tutorials under pytest: the smoke budget, `_kit` on the path, and how long each of them took."""

import importlib.util
import os
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
os.environ.setdefault("MINIRES_BUDGET", "smoke")  # before any tutorial reads it
sys.path.insert(0, str(HERE))

WITHOUT_FIGURES = importlib.util.find_spec("matplotlib") is None
collect_ignore_glob = ["t0[1-9]_*.py", "t[1-9]*_*.py"] if WITHOUT_FIGURES else []

_seconds: dict[str, float] = {}


def pytest_report_header(config):
    if WITHOUT_FIGURES:
        return "tutorials: only t00 runs, for matplotlib is missing; type: pip install 'minires[plot]'"
    return None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """A tutorial computes while it is imported, that is, while pytest collects it."""
    start = time.perf_counter()
    report = yield
    if isinstance(collector, pytest.Module) and collector.path.parent == HERE:
        _seconds[collector.path.stem] = time.perf_counter() - start
    return report


def pytest_terminal_summary(terminalreporter):
    if _seconds:
        told = ", ".join(f"{name[:3]} {seconds:.1f} s" for name, seconds in sorted(_seconds.items()))
        terminalreporter.write_line(f"tutorials at smoke budget: {told}")
