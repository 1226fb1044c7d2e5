"""Mends what the tools leave that would be in a reader's way who uses a screen reader."""

from __future__ import annotations

import re
from typing import Any

# myst-nb names a folded cell's switch "Toggle hidden content", which is not what it says on it
SWITCH = re.compile(r'(<summary) aria-label="Toggle hidden content"')

# Sphinx writes a long signature as a list of definitions, without a term that they define
LONG_SIGNATURE = re.compile(r"<dl>\s*((?:<dd>(?:(?!</?d[ldt]\b).)*</dd>\s*)+)</dl>", re.DOTALL)

# a table whose first column needs no title
NO_HEADER = re.compile(r'<th class="head([^"]*)"><p></p></th>')


def mended(body: str) -> str:
    """The HTML of a page's content, mended."""
    body = NO_HEADER.sub(r'<td class="head\1"></td>', SWITCH.sub(r"\1", body))
    return LONG_SIGNATURE.sub(lambda found: re.sub(r"<(/?)dd>", _as_line, found[1]), body)


def _as_line(tag: re.Match[str]) -> str:
    return "</span>" if tag[1] else '<span class="parameter">'


def setup(app: Any) -> dict[str, Any]:
    """Sphinx calls this."""

    def mend(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
        if "body" in context:
            context["body"] = mended(context["body"])

    app.connect("html-page-context", mend)
    return {"version": "1", "parallel_read_safe": True}
