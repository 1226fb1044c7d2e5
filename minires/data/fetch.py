"""Files of a data set: where they live, whether they are the right ones, and how to get them.

A file that is there with the right checksum is used. One with a wrong checksum is refused by name and never
touched. A missing one is downloaded (mirror by mirror, checked, and only then given its name), and where that
fails too, one line says what to fetch and where to put it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from minires.errors import RequestError


@dataclass(frozen=True)
class Source:
    """What the publisher ships.

    Attributes
        folder     where the files live, under `data_dir()`
        files      file name -> MD5 sum
        mirrors    addresses under which each file is found, or the archive that holds them all
        archive    name and MD5 sum of that archive, or None when the files come one by one
    """

    folder: str
    files: dict[str, str]
    mirrors: tuple[str, ...]
    archive: tuple[str, str] | None = None


def data_dir() -> Path:
    """Where data sets live: $MINIRES_DATA, else the user's cache folder."""
    chosen = os.environ.get("MINIRES_DATA")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "minires"


def present(source: Source, root: Path | None = None) -> bool:
    """Whether every file is there (its content is checked when it is loaded)."""
    folder = (root or data_dir()) / source.folder
    return all((folder / name).is_file() for name in source.files)


def locate(source: Source, root: Path | None = None, download: bool = True) -> Path:
    """The folder with every file of `source`, each with the right checksum, downloaded first where one is missing.

    Raises RequestError for a file that is damaged or cannot be had, and touches no file that was there.
    """
    folder = (root or data_dir()) / source.folder
    missing = [name for name in source.files if not (folder / name).exists()]
    for name in source.files:
        if name not in missing:
            _check(folder / name, source.files[name])
    if missing:
        if not download:
            raise RequestError(_what_to_fetch(source, folder, missing, "not found"))
        _download(source, folder, missing)
    return folder


def _check(path: Path, md5: str) -> None:
    try:
        with path.open("rb") as file:
            # It tells damage and mix-ups, not forgery: hence `formats`, which trusts nothing it reads.
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror or error}); check its permissions") from None
    if found != md5:
        raise RequestError(
            f"{path} is damaged, half downloaded or another file (MD5 {found[:8]}..., published {md5[:8]}...); "
            "remove it, and it will be downloaded again"
        )


def _download(source: Source, folder: Path, missing: list[str]) -> None:
    import pooch

    wanted = [source.archive] if source.archive else [(name, source.files[name]) for name in missing]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            for name, md5 in wanted:
                reasons = []
                for mirror in source.mirrors:
                    try:
                        downloader = pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 16)
                        pooch.retrieve(mirror + name, f"md5:{md5}", fname=name, path=scratch, downloader=downloader)
                        break
                    except Exception as error:  # whatever a network can do; the next mirror may do better
                        reasons.append(f"{urlsplit(mirror).netloc}: {_reason(error)}")
                else:
                    why = f"not downloaded ({', '.join(reasons)})"
                    raise RequestError(_what_to_fetch(source, folder, missing, why))
            if source.archive:
                _unpack(Path(scratch) / source.archive[0], source, Path(scratch))
            for name in missing:
                _check(Path(scratch) / name, source.files[name])
                shutil.move(Path(scratch) / name, folder / name)
    except OSError as error:
        raise RequestError(f"{folder} cannot be written ({error.strerror or error}); set MINIRES_DATA") from None
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # only where nothing came: an empty folder is left for nobody


def _reason(error: Exception) -> str:
    """A download's failure in a few words; the messages of requests are whole paragraphs."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"HTTP {status}"
    if isinstance(error, ValueError) and "hash" in str(error):
        return "it sent a file with another MD5 sum"
    return getattr(error, "strerror", None) or type(error).__name__


def _unpack(archive: Path, source: Source, to: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            stream = tar.extractfile(member) if name in source.files else None
            if stream is not None:
                with (to / name).open("wb") as out:
                    shutil.copyfileobj(stream, out)


def _what_to_fetch(source: Source, folder: Path, missing: list[str], why: str) -> str:
    lacking = f"{source.folder}: {len(missing)} of {len(source.files)} files {why}"
    if source.archive:
        fetch = f"fetch {source.mirrors[0]}{source.archive[0]} and unpack it in {folder.parent}"
    else:
        fetch = f"fetch {', '.join(missing)} from {source.mirrors[0]} into {folder}"
    return f"{lacking}; {fetch}, or set MINIRES_DATA to a folder that has {source.folder}/"
