"""The interactive figure of the skip connection: one block step by step, and how far a gradient reaches in many.

    fragment()    HTML for a page of the site, a notebook, a tutorial
    page()        a whole page that needs nothing else, as `minires explain skip --open` shows it
    golden()      the numbers that minires measured; `python -m minires.explain.figure` measures them again

`skip.js` computes the same numbers in the reader's browser, and `view.js` shows them. Without JavaScript, and on
paper, the reader finds the measured numbers in the drawings, the sentences and the tables.
"""

from __future__ import annotations

import functools
import json
import re
from importlib import resources
from string import Template
from typing import Any

import minires as mr
from minires.explain.figure import draw, measure, text

__all__ = ["fragment", "golden", "page"]

_IMPORT = re.compile(r'^import .* from "\./skip\.js";\n', re.MULTILINE)
_WHAT = (
    ("x", "x", "the input"),
    ("f", "F(x)", "the branch"),
    ("y", "y = x + F(x)", "the sum"),
    ("g", "g = ∂ℒ/∂y", "arrives"),
    ("skip", "g, past F", "the skip’s share"),
    ("branch", "Jᵀg", "the branch’s share"),
    ("gx", "∂ℒ/∂x", "their sum"),
)


@functools.cache
def golden() -> dict[str, Any]:
    """What minires measured: {"block": {"kept", "dropped"}, "cases": [{"settings", "norms"}]}, see `measure`."""
    found: dict[str, Any] = json.loads(_source("golden.json"))
    return found


def fragment() -> str:
    """The figure as HTML: style, static drawings and tables with the measured numbers, and the script.

    It stands in any page, also several times, and asks no server for anything. Its classes begin with `mr-`.
    """
    script = _source("skip.js") + _IMPORT.sub("", _source("view.js"))
    return f'<style>\n{_source("skip.css")}</style>\n{_static()}<script type="module">\n{script}</script>\n'


def page() -> str:
    """A whole page around the figure. Its last line says how far the browser's numbers are from minires's."""
    numbers = json.dumps(golden(), separators=(",", ":"))
    whole = Template(_source("page.html"))
    return whole.substitute(fragment=fragment(), version=mr.__version__, golden=numbers)


def _static() -> str:
    """skip.html with every number in its place: all a reader without JavaScript sees."""
    kept = golden()["block"]["kept"]
    norms = next(case["norms"] for case in golden()["cases"] if case["settings"] == measure.DEFAULTS)
    plain = [v / norms["plain"][-1] for v in norms["plain"]]
    skip = [v / norms["skip"][-1] for v in norms["skip"]]
    span = draw.decades(plain + skip)
    layers = reversed(list(enumerate(zip(plain, skip, strict=True))))
    html = Template(_source("skip.html")).substitute(
        block=draw.block(),
        block_rows="\n".join(_row(*what) for what in _WHAT),
        weights=" and ".join(text.vector(row) for row in measure.BLOCK["w"]),
        batch=measure.BATCH,
        width=measure.WIDTH,
        verdict=f"Plain: {text.fate(plain[0])}. With skips: {text.fate(skip[0])}.",
        plain=draw.chart(plain, span),
        skip=draw.chart(skip, span),
        layer_rows="\n".join(
            f'<tr><th scope="row">{layer}</th><td>{text.short(p)}</td><td>{text.short(s)}</td></tr>'
            for layer, (p, s) in layers
        ),
    )
    texts = text.shown(kept, kept)
    return re.sub(r'(data-v="(\w+)">)', lambda found: found[1] + texts[found[2]], html)


def _row(name: str, formula: str, role: str) -> str:
    cells = "".join(f'<td data-v="{name}{column}"></td>' for column in (0, 1, "norm"))
    return f'<tr><th scope="row">{formula} <small>{role}</small></th>{cells}</tr>'


def _source(name: str) -> str:
    return (resources.files(__name__) / name).read_text(encoding="utf-8")
