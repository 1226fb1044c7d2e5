"""The figure's drawings as SVG text: the block, and the two columns for readers without JavaScript."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape

from minires.explain.figure.text import short


def block() -> str:
    """The residual block: solid lanes forward, dashed lanes backward. view.js lights a lane when its step comes.

    Every part names the steps that it belongs to; the first of them is when it appears.
    """
    parts = [
        _lane("1", "trunk", "M147 12V78>", "M140 90H72V110", "M170 90H228V110"),
        _lane("2", "via-branch", "M72 110V168>", "M72 232V300"),
        _lane("3", "via-skip", "M228 110V300"),
        _lane("4", "via-branch", "M72 300V336H131>"),
        _lane("4", "via-skip", "M228 300V336H179>"),
        _lane("4", "trunk", "M147 346V426>"),
        _lane("5", "trunk back", "M163 426V350>"),
        _lane("6", "via-branch back", "M140 322H96V236>"),
        _lane("6", "via-skip back plus", "M170 322H204V150"),
        _lane("7", "via-branch back", "M96 168V108"),
        _lane("8", "via-branch back", "M96 108V102H131>"),
        _lane("8", "via-skip back plus", "M204 150V102H179>"),
        _lane("8", "trunk back", "M163 78V12>"),
        '<g data-from="2 7"><rect class="mr-box" x="36" y="172" width="96" height="60" rx="8"/>'
        '<text class="mr-name" x="84" y="197" text-anchor="middle">F</text>'
        '<text x="84" y="217" text-anchor="middle">tanh(W x)</text></g>',
        _node("1 8", 96, "8"),
        _node("4 6", 329, "4"),
        '<g data-from="6" class="mr-plus"><rect class="mr-badge" x="185" y="134" width="38" height="26" rx="13"/>'
        '<text class="mr-badge-text mr-kept" x="204" y="152" text-anchor="middle">+1</text>'
        '<text class="mr-badge-text mr-cut" x="204" y="152" text-anchor="middle">×0</text></g>',
        _label("1", 108, 26, "x", "x"),
        _label("2", 32, 124, "x", "x"),
        _label("2", 32, 262, "F(x)", "f"),
        _label("3", 270, 188, "x", "x"),
        _label("4", 108, 376, "y", "y"),
        _label("5", 202, 376, "g", "g"),
        _label("6", 134, 262, "g", "g"),
        _label("6", 169, 188, "g", "skip", cut="0"),
        _label("7", 134, 126, "Jᵀg", "branch"),
        _label("8", 206, 26, "g + Jᵀg", "gx", cut="0 + Jᵀg"),
    ]
    told = (
        "A block: x splits into a branch F and a skip, which are summed to y. Backward, the gradient g goes both ways."
    )
    return f'<svg viewBox="0 0 304 440" role="img" aria-label="{told}">{"".join(parts)}</svg>'


def _lane(steps: str, kinds: str, *paths: str) -> str:
    """A way that a number takes, of M, H and V commands; one that ends in > has an arrowhead there."""
    names = " ".join(f"mr-{kind}" for kind in kinds.split())
    drawn = "".join(f'<path class="mr-way" pathLength="100" d="{d.rstrip(">")}"/>' for d in paths)
    heads = "".join(_head(d.rstrip(">")) for d in paths if d.endswith(">"))
    return f'<g data-from="{steps}" class="mr-lane {names}">{drawn}{heads}</g>'


def _head(d: str) -> str:
    (x, y), before = _pen(d), _pen(d[: max(d.rfind("H"), d.rfind("V"))])
    turn = math.degrees(math.atan2(y - before[1], x - before[0]))
    return f'<path class="mr-head" transform="translate({x:g} {y:g}) rotate({turn:g})" d="M4 0L-7 -5.5V5.5Z"/>'


def _pen(d: str) -> tuple[float, float]:
    """Where a path of one M and any H and V commands ends."""
    x, y = map(float, re.findall(r"M(\d+) (\d+)", d)[0])
    for command, end in re.findall(r"([HV])(\d+)", d):
        x, y = (float(end), y) if command == "H" else (x, float(end))
    return x, y


def _node(steps: str, y: int, plus_from: str) -> str:
    plus = f'<text class="mr-sign" data-from="{plus_from}" x="155" y="{y + 7}" text-anchor="middle">+</text>'
    return f'<g data-from="{steps}"><circle class="mr-node" cx="155" cy="{y}" r="17"/></g>{plus}'


def _label(step: str, x: int, y: int, name: str, value: str, cut: str = "") -> str:
    """A name, and below it the column of two numbers that view.js or Python fills in."""
    names = f'<text class="mr-name{" mr-kept" if cut else ""}" text-anchor="middle" x="{x}" y="{y}">{name}</text>'
    if cut:
        names += f'<text class="mr-name mr-cut" text-anchor="middle" x="{x}" y="{y}">{cut}</text>'
    numbers = "".join(
        f'<text class="mr-value" text-anchor="end" x="{x + 21}" y="{y + 18 + 15 * i}" data-v="{value}{i}"></text>'
        for i in (0, 1)
    )
    brackets = f"M{x - 20} {y + 6}h-5v31h5M{x + 21} {y + 6}h5v31h-5"
    return f'<g data-from="{step}">{names}{numbers}<path class="mr-bracket" d="{brackets}"/></g>'


def decades(shares: Sequence[float]) -> int:
    """The half-width of the log scale, in decades, that all of them fit into."""
    far = max(abs(math.log10(r)) if r > 0 else 0.0 for r in shares)
    return next((d for d in (3, 6, 10, 15, 20) if far <= d), 30)


def chart(shares: Sequence[float], span: int, width: int = 300) -> str:
    """One row a layer, from the output down: a colored cell, a bar from 1 to the share, and some of the numbers.

    shares   |∂ℒ/∂x_l| / |∂ℒ/∂x_L| for l = 0 (the input) to L
    span     the half-width of the log scale, in decades
    """
    rows = len(shares)
    row = min(22.0, max(4.0, 420 / rows))
    cell = 10 if width < 220 else 18
    left, right = 34.0 + cell, width - 54.0
    middle = (left + right) / 2
    step = next(n for n in (1, 2, 4, 5, 10) if n * row >= 15)
    parts = [f'<path class="mr-axis" d="M{_f(middle)} -4V{_f(rows * row + 4)}"/>']
    for layer, r in enumerate(shares):
        y = (rows - 1 - layer) * row
        x = middle + (right - left) / 2 * max(-1.0, min(1.0, math.log10(r) / span if r > 0 else -1.0))
        high = row - (2 if row > 6 else 0.6)
        tone = _tone((x - middle) / (right - middle))
        parts.append(f'<rect {tone} x="28" y="{_f(y)}" width="{cell}" height="{_f(high)}"/>')
        parts.append(
            f'<rect {tone} x="{_f(min(x, middle))}" y="{_f(y)}" width="{_f(max(1.5, abs(x - middle)))}" '
            f'height="{_f(high)}"/>'
        )
        if layer in (0, rows - 1) or (layer % step == 0 and (rows - 1 - layer) * row >= 15):
            base = f'y="{_f(y + row / 2 + 4)}"'
            parts.append(f'<text x="24" {base} text-anchor="end">{layer}</text>')
            parts.append(f'<text x="{_f(right + 8)}" {base} text-anchor="start">{escape(short(r))}</text>')
    return _framed(parts, rows * row, span, (left, right), width)


def _framed(parts: list[str], bottom: float, span: int, ends: tuple[float, float], width: int) -> str:
    """The color scale and its three numbers below the rows."""
    left, right = ends
    piece = (right - left) / 21
    for i in range(21):
        place = f'x="{_f(left + i * piece)}" y="{_f(bottom + 6)}" width="{_f(piece + 0.3)}" height="6"'
        parts.append(f"<rect {_tone((i - 10) / 10)} {place}/>")
    ticks = [(28.0, f"1e-{span}", "start"), (right + 8, f"1e{span}", "start")]
    if width >= 220:
        ticks.append(((left + right) / 2, "1", "middle"))
    for x, name, anchor in ticks:
        parts.append(f'<text x="{_f(x)}" y="{_f(bottom + 26)}" text-anchor="{anchor}">{name}</text>')
    size = f'width="{width}" height="{_f(bottom + 36)}" viewBox="0 -4 {width} {_f(bottom + 36)}"'
    return f'<svg {size} aria-hidden="true">{"".join(parts)}</svg>'


def _tone(t: float) -> str:
    """The color of -1 (faded to the scale's end) to 1, as skip.css mixes it."""
    return f'class="{"mr-fade" if t < 0 else "mr-grow"}" style="--t:{_f(100 * abs(t))}%"'


def _f(v: float) -> str:
    return f"{math.floor(10 * v + 0.5) / 10:g}"  # halves go up, as in JavaScript
