"""A walk as HTML: the graph, then every step in words and formulas; a whole page, or a part of one for a notebook.

Nothing is asked of a server, and nothing needs a script. The page has a small one, which lights up one step after the
other on the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path

from numpy import array2string

from minires import __version__
from minires.backend import Array
from minires.explain.graph import MOST, svg
from minires.explain.printing import is_number, norm, number, short
from minires.explain.terminal import meeting, named_gradient, shown_steps, spelled
from minires.explain.walk import Shown, Step, Term, Value, Walk
from minires.explain.words import gradient_name

WRITTEN_OUT = 64  # entries that an array may have to be shown whole, folded away


def page(walk: Walk) -> str:
    """A whole page: self-contained, printable, for light and dark, from 360 pixels of width on."""
    title = escape(walk.title)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}: backward, step by step</title>
<style>{_file("page.css")}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>A backward pass, step by step. Values run forward from the inputs to the result; then the gradient that arrives
there runs back, op by op. Where a value was used more than once, its gradients meet and add.</p>
{_part(walk, _CONTROLS, "h2")}
</main>
<footer>Made by minires {__version__}. Every gradient is the tape's own; the formulas are those of the ops'
docstrings.</footer>
<script>
{_file("page.js")}</script>
</body>
</html>
"""


def fragment(walk: Walk) -> str:
    """The same as a part of a page, without script."""
    return f"<style>{_file('page.css')}</style>{_part(walk, '', 'h4')}"


_CONTROLS = """<div class="controls" role="group" aria-label="Go through the steps" hidden>
<button type="button" data-go="-1">Previous</button>
<button type="button" data-go="1">Next</button>
<button type="button" data-go="0">Show all</button>
<p class="said" aria-live="polite"></p>
<div class="card"></div>
</div>
"""


def _part(walk: Walk, controls: str, heading: str) -> str:
    drawn = f"<p>The graph shows the last {MOST} of {len(walk.steps):,} steps.</p>" if len(walk.steps) > MOST else ""
    sections = [
        ("Inputs", "".join(_inputs(walk))),
        ("Forward", _steps(walk, walk.steps, _forward, "forward-steps")),
        ("Backward", _seeds(walk) + _steps(walk, walk.steps[::-1], _backward(walk), "backward-steps")),
        ("Gradients", "".join(_gradients(walk))),
    ]
    told = "".join(f"<section><{heading}>{name}</{heading}>\n{text}</section>\n" for name, text in sections if text)
    return f"""<div class="mr-explain">
{controls}<div class="graph" tabindex="0" role="region" aria-label="The graph">{svg(walk)}</div>
{drawn}{told}</div>
"""


# --- the sections


def _inputs(walk: Walk) -> Iterator[str]:
    inputs = [v for v in walk.values.values() if v.step == 0 and (v.name[0].isalpha() or v.name[0] == "_")]
    if not inputs:
        return
    yield _table("name", "shape", "values")
    for value in inputs:
        note = "" if value.name in walk.totals else " <small>constant: no gradient</small>"
        cells = f"<td>{_shape(value)}</td><td>{_entries(value.array)}{note}</td>"
        yield f'<tr><th scope="row">{escape(value.name)}</th>{cells}</tr>'
    yield "</table></div>"


def _steps(walk: Walk, steps: Sequence[Step], told: Callable[[Step], Iterator[str]], name: str) -> str:
    items = []
    for step in shown_steps(walk, steps):
        if isinstance(step, int):
            items.append(f'<li class="cut">{step:,} steps are left out here.</li>')
        else:
            items.append("".join(told(step)))
    return f'<ol class="{name}">\n{"".join(items)}</ol>\n'


def _forward(step: Step) -> Iterator[str]:
    yield _opened(step, f"{step.op}: {'; '.join(map(_made, step.makes))}")
    first = step.makes[0]
    for shown in step.forward:
        yield _formula(spelled(shown, first.array if shown.whole else None))
    yield _legend(step)
    for value in step.makes:
        if value.array is None:
            yield f'<p class="value"><code>{escape(value.name)} {value.shape}</code></p>'
        elif not is_number(value.array) or not any(shown.whole for shown in step.forward):
            yield from _array(f"{value.name} ", value.array, "|·|")
    yield "</li>\n"


def _backward(walk: Walk) -> Callable[[Step], Iterator[str]]:
    remarks: set[str] = set()  # as in the text: each is made once

    def told(step: Step) -> Iterator[str]:
        yield from _backward_step(step, walk, remarks)

    return told


def _backward_step(step: Step, walk: Walk, remarks: set[str]) -> Iterator[str]:
    arrived = [(v.name, gy) for v, gy in zip(step.makes, step.gys, strict=True) if gy is not None]
    receives = "; ".join(named_gradient(name, gy) for name, gy in arrived)
    meetings = [
        meeting(name, [t for t in walk.into(name) if t.step >= step.number])
        for name in dict.fromkeys(term.receiver for term in step.terms)
        if sum(t.step >= step.number for t in walk.into(name)) > 1
    ]
    said = "; ".join([f"{step.op} receives {receives}", *map(_hands_on, step.terms), *meetings])
    yield _opened(step, said)
    yield f'<p class="value">receives <code>{escape(receives)}</code></p>'
    yield from map(_formula, step.before)
    for term in step.terms:
        yield from _term(term, remarks)
    yield from (f'<p class="remark">{escape(line)}</p>' for line in step.after if step.op not in remarks)
    remarks.add(step.op)
    yield _legend(step)
    yield from (f'<p class="meeting"><b>+</b> {escape(text)}</p>' for text in meetings)
    yield "</li>\n"


def _term(term: Term, remarks: set[str]) -> Iterator[str]:
    shown = term.formula or Shown(gradient_name(term.receiver))
    way = f', by the <span class="{term.role}">{term.role}</span>' if term.role else ""
    to = f'<span class="to">to {escape(term.receiver)}{way}</span>'
    if is_number(term.gradient):
        yield _formula(spelled(shown, term.gradient), to)
    else:
        yield _formula(spelled(shown, term.gradient))
        yield from _array("= ", term.gradient, "|g|", to)
    if shown.remark and shown.remark not in remarks:
        remarks.add(shown.remark)
        yield f'<p class="remark">{escape(shown.remark)}</p>'


def _seeds(walk: Walk) -> str:
    return "".join(
        f'<p class="value"><code>{escape(named_gradient(n, gy))}</code> arrives</p>' for n, gy in walk.seeds.items()
    )


def _gradients(walk: Walk) -> Iterator[str]:
    yield _table("of", "gradient", "its contributions")
    for name in walk.leaves:
        terms = walk.into(name)
        parts = [f"{t.role or t.op} {_length(t.gradient)} from step {t.step}" for t in terms] if len(terms) > 1 else []
        yield (
            f'<tr><th scope="row">{escape(name)}</th><td>{"".join(_array("", walk.gradient(name), "|g|"))}</td>'
            f"<td>{escape(', '.join(parts))}</td></tr>"
        )
    yield "</table></div>"


# --- pieces


def _table(*columns: str) -> str:
    heads = "".join(f'<th scope="col">{column}</th>' for column in columns)
    return f'<div class="table"><table><tr>{heads}</tr>'


def _opened(step: Step, said: str) -> str:
    return (
        f'<li value="{step.number}" data-step="{step.number}" data-said="Step {step.number}, {escape(said)}.">'
        f'<p class="op"><b>{step.number}</b> <b>{escape(step.op)}</b> <small>{escape(step.about)}</small></p>'
    )


def _formula(text: str, after: str = "") -> str:
    return f'<p class="formula"><code>{escape(text)}</code> {after}</p>'


def _legend(step: Step) -> str:
    return f'<p class="remark">here {escape(step.legend)}</p>' if step.legend else ""


def _hands_on(term: Term) -> str:
    way = f" by the {term.role}" if term.role else ""
    return f"hands {term.receiver} {_length(term.gradient)}{way}"


def _made(value: Value) -> str:
    if value.array is None:
        return f"makes {value.name}"
    return f"makes {value.name} = {short(value.array)}" if short(value.array) else f"makes {value.name} {value.shape}"


def _shape(value: Value) -> str:
    return "a number" if value.shape == () else escape(str(value.shape))


def _length(g: Array) -> str:
    return short(g) if is_number(g) else f"|g| {number(norm(g))}"


def _array(before: str, a: Array, symbol: str, after: str = "") -> Iterator[str]:
    """A line with shape, length and entries, which are folded away below it where they are many."""
    few = "" if is_number(a) else "  ".join(["", *filter(None, [short(a)])])
    text = short(a) if is_number(a) else f"{a.shape}  {symbol} {number(norm(a))}{few}"
    yield f'<p class="value"><code>{escape(before + text)}</code> {after}</p>'
    if not few.strip() and not is_number(a):
        yield _entries(a)


def _entries(a: Array | None) -> str:
    if a is None or not a.size:
        return ""
    if short(a):
        return f"<code>{escape(short(a))}</code>"
    if a.size > WRITTEN_OUT:
        return ""
    rows = array2string(a, precision=4, suppress_small=True, max_line_width=72)
    return f'<details><summary>its {a.size} numbers</summary><pre tabindex="0">{escape(rows)}</pre></details>'


def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
