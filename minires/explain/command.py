"""`minires explain`: prints the walk, and keeps it as a page or a graph."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from minires.errors import RequestError
from minires.explain import subjects
from minires.explain.expression import values_at
from minires.explain.terminal import WIDTH, colored, narrowed

FIGURE = "skip"  # the subject that has a figure to play with


def run(subject: str | None, *, at: Sequence[str], seed: int, html: Path | None, svg: Path | None, show: bool) -> None:
    """Prints the walk of `subject`, writes the files that are asked for, and opens the page in the browser.

    subject    an expression, an op, a block; None for the block x + W2 tanh(W1 x)
    at         "NAME=X" for an expression's names
    html       where to keep the page; that of "skip" is the interactive figure
    svg        where to keep the graph

    Raises RequestError for a subject that there is not, and a file that cannot be written.
    """
    name = (subject or "block").strip()
    walk = subjects.walk(name, values_at(at), seed)
    _print(str(walk))
    if svg is not None:
        _write(svg, walk.svg())
    if html is None and not show:
        if name == FIGURE:
            print(f"\nThe same block as a figure to step through: minires explain {FIGURE} --open")
        return
    if name == FIGURE:
        from minires.explain import figure

        page = figure.page()
    else:
        page = walk.page()
    path = html if html is not None else Path(tempfile.mkdtemp(prefix="minires-explain-")) / "page.html"
    _write(path, page)
    if show and not webbrowser.open(path.resolve().as_uri()):
        print("no browser could be opened; open it yourself")


def _print(text: str) -> None:
    if sys.stdout.isatty():
        text = narrowed(text, shutil.get_terminal_size((WIDTH, 24)).columns)
        text = text if os.environ.get("NO_COLOR") else colored(text)
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))


def _write(path: Path, content: str) -> None:
    """Under a temporary name first, so that nothing half-written is left behind."""
    if path.is_dir() or not path.name:
        raise RequestError(f"cannot write {path}: it is a folder; give the name of a file in it")
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_text(content, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        if not path.parent.is_dir():
            raise RequestError(f"cannot write {path}: there is no folder {path.parent}; make it first") from None
        raise RequestError(f"cannot write {path}: {error.strerror or error}; choose another place") from None
    print(f"\nwrote {path}")
