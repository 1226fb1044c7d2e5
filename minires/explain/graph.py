"""The graph of a walk as SVG: values run down along gray lines, gradients up along colored ones, with |g| beside them.

The skip is blue and solid, the branch vermilion and dashed, everything else dark and dotted; so nothing hangs on color
alone. A "+" marks where gradients meet and add.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from minires.backend import Array
from minires.explain.layout import Box, Drawing, arranged
from minires.explain.printing import is_number, nested, norm, number, short, told
from minires.explain.terminal import meeting
from minires.explain.walk import Step, Term, Value, Walk
from minires.explain.words import gradient_name

MOST = 120  # steps that are drawn; of a longer walk, the last of them
CHARACTER, PADDING, LINE = 7.3, 12.0, 17.0  # pixels: of a letter at most, beside the text, from line to line
APART = 5.0  # half of what lies between an edge's line forward and its line backward
R = 8.0  # of the circle around a "+"
GAP, SAMPLES = 5.0, 12  # pixels from a line to its label; points on each piece of a line
MANY = 24  # places along a line that are tried for its label
SUMS = ("residual_add", "add")
WAYS = {"skip": "the skip's gradient, up", "branch": "the branch's gradient, up", "": "other gradients, up"}


@dataclass(frozen=True)
class Node:
    """A box: what kind it is, of which step, and its lines of text."""

    kind: str  # "step", "leaf", "constant" or "seed"
    step: int
    lines: tuple[str, ...]
    plus: bool = False  # whether gradients meet here

    @property
    def size(self) -> tuple[float, float]:
        return max(map(len, self.lines)) * CHARACTER + 2 * PADDING, len(self.lines) * LINE + PADDING + (
            6 if self.plus else 0
        )


@dataclass(frozen=True)
class Line:
    """What joins two boxes: a value on its way down and, where there is one, a gradient on its way up."""

    source: str
    target: str
    gradient: Array | None = None
    term: Term | None = None

    @property
    def role(self) -> str:
        return self.term.role if self.term else ""

    @property
    def label(self) -> str:
        """|g|, and at a residual sum which way it is."""
        if self.term is None:
            return ""
        way = self.role if self.term.op in SUMS else ""
        return f"{way} {_length(self.term.gradient)}".strip()

    @property
    def width(self) -> float:
        """What it needs where it passes beside boxes."""
        return len(self.label) * CHARACTER + 4 * APART


Point = tuple[float, float]


def svg(walk: Walk) -> str:
    """A whole SVG document with its own style, for light and for dark."""
    nodes, lines = content(walk)
    drawing = arranged({key: node.size for key, node in nodes.items()}, [(e.source, e.target, e.width) for e in lines])
    legend = list(_legend(lines, drawing.height))
    routes = [_route(line, k, lines, drawing) for k, line in enumerate(lines)]
    labels = _labels(lines, routes, drawing)
    width = round(max(280, drawing.width, *(spot.right + GAP for spot, _ in labels)))
    height = round(drawing.height + LINE * (len(legend) + 1))
    about = _about(walk)
    body = "\n".join([*_body(nodes, lines, routes, drawing), *(text for _, text in labels), *legend])
    return f"""<svg xmlns="http://www.w3.org/2000/svg" class="mr-graph" role="img" aria-label="{escape(about[0])}"
 width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<title>{escape(about[0])}</title>
<desc>{escape(about[1])}</desc>
<style>{style()}</style>
<rect class="ground" width="{width}" height="{height}"/>
{body}
</svg>
"""


def style() -> str:
    """Of every graph: in the light, in the dark, and under the themes of Jupyter and of the site."""
    text = Path(__file__).with_name("graph.css").read_text(encoding="utf-8")
    light, dark, rest = text.split("/* --- */\n")
    themes = [f".mr-graph {light}", f"@media screen and (prefers-color-scheme: dark) {{ .mr-graph {dark} }}\n"]
    for where, colors in (("light", light), ("dark", dark)):
        jupyter = "true" if where == "light" else "false"
        themes.append(f'[data-theme="{where}"] .mr-graph, [data-jp-theme-light="{jupyter}"] .mr-graph {colors}')
    return "".join([*themes, rest])


def content(walk: Walk) -> tuple[dict[str, Node], list[Line]]:
    """The boxes by name, sources before targets, and the lines between them."""
    steps = walk.steps[-MOST:]
    made = {value.name: f"step {step.number}" for step in steps for value in step.makes}
    nodes: dict[str, Node] = {}
    lines: list[Line] = []
    for step in steps:
        terms = {term.index: term for term in step.terms}
        key = f"step {step.number}"
        for index, name in enumerate(step.reads):
            if name is None or (index not in terms and not name[0].isalpha() and name[0] != "_"):
                continue  # absent, or a number, which stands in the formula
            source = made.get(name, name)
            if source not in nodes:
                nodes[source] = _leaf(walk, walk.values[name], index in terms)
            term = terms.get(index)
            lines.append(Line(source, key, term.gradient if term else None, term))
        nodes[key] = Node("step", step.number, _step_lines(step), any(_meets(walk, v.name) for v in step.makes))
    for name, gy in walk.seeds.items():
        if name not in made and name not in nodes:
            nodes[name] = _leaf(walk, walk.values[name], True)
        nodes[f"seed {name}"] = Node("seed", 0, (f"{gradient_name(name)} arrives", told(gy)))
        lines.append(Line(made.get(name, name), f"seed {name}", gy))
    return nodes, lines


def _leaf(walk: Walk, value: Value, differentiated: bool) -> Node:
    kind = "leaf" if differentiated else "constant"
    cut = ("...",) if value.step else ()  # made by a step that is not drawn
    return Node(kind, value.step, (*cut, value.name, _told(value)), _meets(walk, value.name))


def _step_lines(step: Step) -> tuple[str, ...]:
    return (f"{step.number}  {step.op}", *(f"{value.name} {_told(value)}" for value in step.makes))


def _told(value: Value) -> str:
    if value.array is None or not short(value.array) or len(short(value.array)) > 24:
        return str(value.shape)
    return f"= {short(value.array)}"


def _meets(walk: Walk, name: str) -> bool:
    return name in walk.totals and len(walk.into(name)) > 1


def _length(g: Array) -> str:
    return nested(g) if is_number(g) else f"|g| {number(norm(g))}"


def _about(walk: Walk) -> tuple[str, str]:
    """The title and the description for who does not see the graph."""
    drawn = f", the last {MOST} of {len(walk.steps):,} steps" if len(walk.steps) > MOST else ""
    meetings = [meeting(name, walk.into(name)) for name in walk.totals if _meets(walk, name)]
    told = "Gradients meet: " + "; ".join(meetings[:12]) + "." if meetings else "No gradients meet."
    return f"Graph of {walk.title}{drawn}", f"Values flow down, gradients up. {told}"


# --- drawing


def _body(
    nodes: dict[str, Node], lines: Sequence[Line], routes: Sequence[Sequence[Point]], drawing: Drawing
) -> Iterator[str]:
    for line, route in zip(lines, routes, strict=True):
        if nodes[line.target].kind != "seed":
            yield f'<path class="forward" d="{_path(route, -APART)}"/>'
    for line, route in zip(lines, routes, strict=True):
        if line.gradient is not None:
            yield _gradient(nodes[line.source], line, route)
    for key, node in nodes.items():
        yield _box(key, node, drawing.boxes[key])


def _legend(lines: Sequence[Line], top: float) -> Iterator[str]:
    roles = [role for role in WAYS if any(line.role == role and line.gradient is not None for line in lines)]
    rows = [("forward", "values, down"), *((f"gradient {role}", WAYS[role]) for role in roles)]
    for k, (kind, words) in enumerate(rows):
        y = top + LINE * (k + 0.5)
        yield f'<path class="{kind}" d="M16 {y:.1f}h40"/><text class="value" x="66" y="{y + 4:.1f}">{words}</text>'


def _route(line: Line, index: int, lines: Sequence[Line], drawing: Drawing) -> list[Point]:
    """From the middle of the source's lower side, through the bends, to a place on the target's upper side."""
    source, target = drawing.boxes[line.source], drawing.boxes[line.target]

    def comes_from(k: int) -> float:
        return drawing.bends[k][-1][0] if drawing.bends[k] else drawing.boxes[lines[k].source].x

    arriving = sorted((k for k, each in enumerate(lines) if each.target == line.target), key=comes_from)
    room = target.width - 2 * PADDING
    port = target.left + PADDING + room * (arriving.index(index) + 0.5) / len(arriving)
    bends = [point for x, start, end in drawing.bends[index] for point in ((x, start), (x, end))]
    return [(source.x, source.bottom), *bends, (port, target.top)]


def _path(route: Sequence[Point], aside: float) -> str:
    """A smooth line that leaves and arrives upright; straight along the bends."""
    (x, y), *_ = route
    parts = [f"M{x + aside:.1f} {y:.1f}"]
    for k, ((x0, y0), (x1, y1)) in enumerate(itertools.pairwise(route)):
        if k % 2:  # from the beginning to the end of a bend
            parts.append(f"L{x1 + aside:.1f} {y1:.1f}")
        else:
            middle = (y0 + y1) / 2
            parts.append(f"C{x0 + aside:.1f} {middle:.1f} {x1 + aside:.1f} {middle:.1f} {x1 + aside:.1f} {y1:.1f}")
    return "".join(parts)


def _gradient(source: Node, line: Line, route: Sequence[Point]) -> str:
    x, y = route[0][0] + APART, route[0][1]
    head = f'<path class="arrow {line.role}" {_data(line)} d="M{x:.1f} {y:.1f}l-4.5 9h9z"/>' if not source.plus else ""
    return f'<path class="gradient {line.role}" {_data(line)} d="{_path(route, APART)}"/>{head}'


def _data(line: Line) -> str:
    return f'data-step="{line.term.step if line.term else "Infinity"}"'  # what arrives from outside is there first


def _box(key: str, node: Node, box: Box) -> str:
    lines = []
    for k, text in enumerate(node.lines):
        y = box.top + PADDING / 2 + LINE * (k + 0.76)
        lines.append(
            f'<text class="{"value" if k else "name"}" x="{box.x:.1f}" y="{y:.1f}" text-anchor="middle">'
            f"{escape(text)}</text>"
        )
    data = f'data-node="{node.step}"' if node.kind == "step" else ""
    plus = ""
    if node.plus:
        x, y = box.x + APART, box.bottom
        plus = f'<g class="plus"><circle cx="{x:.1f}" cy="{y:.1f}" r="{R}"/>'
        plus += f'<path d="M{x - 4:.1f} {y:.1f}h8M{x:.1f} {y - 4:.1f}v8"/></g>'
    return (
        f'<g class="{node.kind}" {data}><rect x="{box.left:.1f}" y="{box.top:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}" rx="{6 if node.kind == "step" else 14}"/>{"".join(lines)}{plus}</g>'
    )


def _labels(lines: Sequence[Line], routes: Sequence[Sequence[Point]], drawing: Drawing) -> list[tuple[Box, str]]:
    """|g| beside each gradient's line, in the place where least is in its way."""
    drawn = np.array([(x + aside, y) for route in routes for x, y in _points(route) for aside in (-APART, APART)])
    placed = list(drawing.boxes.values())
    found = []
    for line, route in zip(lines, routes, strict=True):
        if line.label:
            spot = _spot(len(line.label) * CHARACTER, _points(route), placed, drawn)
            placed.append(spot)
            at = f'x="{spot.left:.1f}" y="{spot.y + 4:.1f}"'
            found.append((spot, f'<text class="label {line.role}" {_data(line)} {at}>{escape(line.label)}</text>'))
    return found


def _spot(width: float, points: Sequence[Point], placed: Sequence[Box], drawn: Array) -> Box:
    """A place beside a line: clear of boxes and other labels first, then of lines, then near the line's middle."""
    height, middle = LINE - 2, (points[0][1] + points[-1][1]) / 2
    spots = []
    for _, at in points[:: max(1, len(points) // MANY)]:
        near = [x for x, other in points if abs(other - at) <= height / 2]
        spots.append(Box(max(near) + APART + GAP + width / 2, at, width, height))
        spots.append(Box(min(near) - APART - GAP - width / 2, at, width, height))

    left, top, right, bottom = np.array([(b.left, b.top, b.right, b.bottom) for b in placed]).T
    x, y = drawn.T

    def in_the_way(spot: Box) -> tuple[int, int, float]:
        boxes = (left < spot.right) & (spot.left < right) & (top < spot.bottom) & (spot.top < bottom)
        lines = (spot.left <= x) & (x <= spot.right) & (spot.top <= y) & (y <= spot.bottom)
        return int(boxes.sum()) + (spot.left < 2), int(lines.sum()), abs(spot.y - middle)

    return min(spots, key=in_the_way)


def _points(route: Sequence[Point]) -> list[Point]:
    """Points along the line, close to each other: its curves leave and arrive upright."""
    found = []
    for k, (a, b) in enumerate(itertools.pairwise(route)):
        for t in (i / SAMPLES for i in range(1, SAMPLES)):
            bent = 3 * t * t - 2 * t**3 if k % 2 == 0 else t
            y = 1.5 * t * (1 - t) * (a[1] + b[1]) + (1 - t) ** 3 * a[1] + t**3 * b[1]
            found.append((a[0] + (b[0] - a[0]) * bent, y))
    return found
