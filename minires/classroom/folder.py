"""A new folder, whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from minires.errors import RequestError


def write(directory: Path, files: Mapping[str, str]) -> None:
    """Writes the files into a new folder. Raises RequestError when something stands there or it cannot be written."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise RequestError(f"{directory} is not empty, and nothing in it is touched; name a new folder with --to")
    stands = directory.exists()
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        within = directory if stands else directory.parent
        half = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=within))
    except OSError as error:
        raise RequestError(f"{directory} cannot be made: {error.strerror}; name another folder with --to") from None
    try:
        for name, text in files.items():
            (half / name).write_text(text, encoding="utf-8")
        half.chmod(0o755)  # mkdtemp's are for their owner alone
        if stands:  # perhaps the folder that somebody works in, so it stays where it is
            for name in files:
                (half / name).rename(directory / name)
            half.rmdir()
        else:
            half.rename(directory)
    except OSError as error:
        shutil.rmtree(half, ignore_errors=True)
        raise RequestError(f"{directory} cannot be written: {error.strerror}; name another folder with --to") from None
