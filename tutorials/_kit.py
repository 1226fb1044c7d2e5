"""What every tutorial uses: figures that can also be read aloud, their colors, and how long to compute.

    from _kit import panels, show, smoke

    figure, (left, right) = panels(2)
    ...
    show(figure, alt="What the picture says, with its numbers.", caption="Which run it is.")

The same file is a script, a notebook, a page of the site and a test, so `show` asks where it is: in a notebook and on
the site it displays the figure with its text, elsewhere it writes a PNG into build/figures and prints where.
"""

from __future__ import annotations

import base64
import html
import importlib.util
import io
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minires.errors import RequestError

SKIP, BRANCH, SUM, PLAIN = "#0072b2", "#d55e00", "#444444", "#999999"  # told apart by readers with any color vision

smoke = os.environ.get("MINIRES_BUDGET") == "smoke"  # as short as it can be: in tests, and while the site is built
has_matplotlib = importlib.util.find_spec("matplotlib") is not None

FIGURES = Path(__file__).resolve().parents[1] / "build" / "figures"
_shown: Counter[str] = Counter()  # figures of each tutorial so far


def show(figure: Any, *, alt: str, caption: str = "") -> None:
    """Shows a figure together with the text that stands for it.

    figure     a matplotlib Figure, or a drawing made of characters such as `text_chart` gives
    alt        what a reader who cannot see the figure has to know: what is compared, and the numbers
    caption    printed below it

    Raises RequestError without an alt text.
    """
    if not alt.strip():
        raise RequestError("show: alt is empty; say in words and numbers what the figure shows")
    drawing = figure if isinstance(figure, str) else None
    picture = b"" if drawing is not None else _png(figure)
    if _in_notebook():
        display = importlib.import_module("IPython.display").display
        display({"text/html": _as_html(drawing, picture, alt, caption), "text/plain": alt}, raw=True)
        return
    tutorial = Path(sys._getframe(1).f_code.co_filename).stem
    number = _shown[tutorial] = _shown[tutorial] + 1
    below = drawing if drawing is not None else f"saved as {_saved(picture, tutorial, number)}"
    print("", f"Figure {number}. {caption}".rstrip(), below, alt, sep="\n")


def panels(columns: int = 1, rows: int = 1, *, width: float = 8.0, height: float = 3.6) -> tuple[Any, list[Any]]:
    """An empty figure in the house's style, width x height inches, and its panels, row by row."""
    if not has_matplotlib:
        _refuse("this figure needs matplotlib; type: pip install 'minires[plot]'")
    canvas = importlib.import_module("matplotlib.backends.backend_agg").FigureCanvasAgg
    figure = importlib.import_module("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")
    canvas(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", alpha=0.25)
        panel.set_axisbelow(True)
    return figure, axes


def text_chart(curves: Mapping[str, Sequence[float]], *, top: float, width: int = 60, height: int = 12) -> str:
    """Curves over equal steps, between 0 and `top`, as characters: for a terminal without matplotlib.

    A curve is drawn with a mark of its own, named in the last line; where curves meet, the later one is seen.
    """
    marks = dict(zip(curves, ".o#x+*", strict=False))
    grid = [[" "] * width for _ in range(height)]
    for name, values in curves.items():
        for column in range(width):
            value = values[round(column * (len(values) - 1) / (width - 1))]
            row = round((1 - min(max(value / top, 0), 1)) * (height - 1))
            grid[row][column] = marks[name]
    labels = {0: f"{top:.1f}", height - 1: "0.0"}
    lines = [f"{labels.get(i, ''):>5} |{''.join(row)}".rstrip() for i, row in enumerate(grid)]
    legend = "   ".join(f"{mark} {name}" for name, mark in marks.items())
    return "\n".join([*lines, f"{'':>5} +{'-' * width}", f"{'':>7}{legend}"])


# --- where it goes


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _png(figure: Any) -> bytes:
    kept = io.BytesIO()
    figure.savefig(kept, format="png", dpi=150, facecolor="white")
    return kept.getvalue()


def _as_html(drawing: str | None, picture: bytes, alt: str, caption: str) -> str:
    said, below = html.escape(alt), f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    if drawing is not None:
        inside = f'<pre role="img" aria-label="{said}">{html.escape(drawing)}</pre>'
    else:
        source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        inside = f'<img src="{source}" alt="{said}" style="max-width: 100%; height: auto">'
    return f"<figure>{inside}{below}</figure>"


def _saved(picture: bytes, tutorial: str, number: int) -> Path:
    """Writes it under a temporary name first, so that no half of it is ever found."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    path = FIGURES / f"{tutorial}-{number}.png"
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    unfinished.write_bytes(picture)
    return unfinished.replace(path)


def _refuse(line: str) -> None:
    """One line, and no traceback where the tutorial runs as a script."""
    if _in_notebook():
        raise RequestError(line)
    print(f"minires: {line}", file=sys.stderr)
    raise SystemExit(2)
