r"""Math for Sphinx by KaTeX, from files of the site itself.

A page carries the TeX, between \( \) and \[ \], which is what a reader without JavaScript sees; `_static/math.js` turns
it into formulas. A display with a `\tag{n.m}` gets the id `eq-n-m`.
"""

from __future__ import annotations

import re
from typing import Any

from equations import TAG, anchor


def _inline(translator: Any, node: Any) -> None:
    from docutils import nodes

    translator.body.append(f'<span class="math inline">\\({translator.encode(node.astext().strip())}\\)</span>')
    raise nodes.SkipNode


def _display(translator: Any, node: Any) -> None:
    from docutils import nodes

    text = node.astext().strip()
    tag = TAG.search(text)
    identity = f' id="{anchor(tag[1])}"' if tag else ""
    if not re.match(r"\\begin\{(align|gather|equation)", text):
        text = text if "\n\n" not in text else re.sub(r"\n\s*\n", "\n", text)
    translator.body.append(f'<div class="math display"{identity} tabindex="0">\\[{translator.encode(text)}\\]</div>\n')
    raise nodes.SkipNode


def _scripts(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    from docutils import nodes

    if doctree is not None and any(doctree.findall(lambda n: isinstance(n, (nodes.math, nodes.math_block)))):
        app.add_css_file("katex/katex.min.css")
        app.add_js_file("katex/katex.min.js", loading_method="defer")
        app.add_js_file("math.js", loading_method="defer")


def setup(app: Any) -> dict[str, Any]:
    """Sphinx calls this."""
    app.add_html_math_renderer("katex", inline_renderers=(_inline, None), block_renderers=(_display, None))
    app.connect("html-page-context", _scripts)
    return {"version": "1", "parallel_read_safe": True}
