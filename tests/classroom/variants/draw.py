"""What variants are written in: a draw of one of several texts, and texts with places to fill."""

from __future__ import annotations

import re
from collections.abc import Callable

Draw = Callable[..., str]  # one of its arguments


def filled(text: str, **pieces: str) -> str:
    """The text with {name} filled in; a piece of several lines keeps its place's indentation."""
    for name, piece in pieces.items():
        found = re.search(r"( *)\{" + name + r"\}", text)
        if found:
            text = text.replace("{" + name + "}", piece.replace("\n", "\n" + found.group(1)))
    return text
