"""How much memory a process holds, and held at most.

On Linux from /proc: the high-water mark can be set back, so the peak is that of one piece of work. Elsewhere from
getrusage, whose mark never falls: then the peak includes whatever came before. Bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

_status = Path("/proc/self/status")
_clear = Path("/proc/self/clear_refs")


def _field(name: str) -> int:
    for line in _status.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_status} does not tell {name}")


def _highest() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def held() -> int:
    """Bytes resident now; elsewhere than on Linux, the most there ever were."""
    return _field("VmRSS") if _status.exists() else _highest()


def peak_of(work: Callable[[], None]) -> int:
    """The most bytes resident at once while `work` runs."""
    try:
        _clear.write_text("5")
    except OSError:
        work()
        return _highest()
    work()
    return _field("VmHWM")
