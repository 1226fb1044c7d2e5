"""The library's own source as pages: every file of minires/ with its line numbers, to link to."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def page_of(file: str) -> str:
    """The page of a file under the checkout: "source/minires/ops/conv" for "minires/ops/conv.py"."""
    return "source/" + file.removesuffix(".py")


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """Where a documented object's code stands, seen from a folder of pages such as api/ (for sphinx.ext.linkcode)."""
    if domain != "py" or not info["module"]:
        return None
    found: Any = importlib.import_module(info["module"])
    try:
        for part in info["fullname"].split("."):
            found = getattr(found, part)
        found = inspect.unwrap(found.fget if isinstance(found, property) else found)
        file = Path(inspect.getsourcefile(found) or "").resolve().relative_to(ROOT).as_posix()
        line = inspect.getsourcelines(found)[1]
    except (AttributeError, TypeError, ValueError, OSError):
        return None
    return f"../{page_of(file)}.html#L-{line}"


def _pages(app: Any) -> Iterator[tuple[str, dict[str, Any], str]]:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    formatter = HtmlFormatter(linenos="inline", linespans="L")
    for file in sorted((ROOT / "minires").rglob("*.py")):
        name = file.relative_to(ROOT).as_posix()
        code = highlight(file.read_text(encoding="utf-8"), PythonLexer(), formatter)
        code = code.replace("<pre>", '<pre tabindex="0">', 1)
        yield page_of(name), {"title": name, "body": f'<div class="source"><h1>{name}</h1>\n{code}</div>'}, "page.html"


def setup(app: Any) -> dict[str, Any]:
    """Sphinx calls this."""
    app.connect("html-collect-pages", _pages)
    return {"version": "1", "parallel_read_safe": True}
