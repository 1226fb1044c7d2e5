"""An outcome as one page: the figure with its words, the verdicts, the numbers behind them, and how to repeat it.

Self-contained, without scripts: it can be mailed, printed, and read in the dark, aloud, or on a telephone.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

from minires.lab.experiment import Experiment, Results, Table, Verdict

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --faint: #565656; --paper: #ffffff; --card: #f4f5f7; --line: #c9ccd1;
  --yes: #00664d; --no: #a33a00; --link: #0b5a94 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9e9e9; --faint: #b4b4b4; --paper: #16181b; --card: #22252a; --line: #4a4f57;
    --yes: #6fd3b3; --no: #ffab7a; --link: #8cc8f5 } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 62rem; font: 1rem/1.55 system-ui, sans-serif;
  color: var(--ink); background: var(--paper); overflow-wrap: break-word }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .3rem }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem }
p { max-width: 44rem }
a { color: var(--link) }
.question { font-size: 1.15rem; margin: 0 0 .4rem }
.made, .source, figcaption { color: var(--faint) }
figure { margin: 1.4rem 0 }
figure img { display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 4px }
@media screen and (max-width: 38rem) { figure img { max-width: none; width: 38rem } }
figcaption { margin-top: .6rem; font-size: .95rem; max-width: 44rem }
.verdicts { list-style: none; padding: 0; margin: 0 }
.verdicts li { background: var(--card); border-left: .4rem solid var(--no); border-radius: 3px; padding: .7rem 1rem;
  margin: 0 0 .8rem; break-inside: avoid }
.verdicts li.holds { border-color: var(--yes) }
.verdicts p { margin: .15rem 0; max-width: none }
.verdicts .word { font-weight: 700; color: var(--no) }
.verdicts .holds .word { color: var(--yes) }
.verdicts .claim { font-weight: 600 }
.wide { overflow-x: auto; max-width: 100% }
.wide:focus-visible { outline: 3px solid var(--link) }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top }
thead th { border-bottom-width: 2px; vertical-align: bottom }
th:first-child, .words { text-align: left }
tbody th { font-weight: 400 }
pre { background: var(--card); padding: .7rem 1rem; border-radius: 3px; white-space: pre-wrap; overflow-wrap: anywhere }
@media print { body { max-width: none; padding: 0; font-size: 10.5pt } .wide { overflow: visible }
  tr, figure { break-inside: avoid } }
"""


def page(
    experiment: Experiment, record: dict[str, Any], results: Results, verdicts: Sequence[Verdict], picture: bytes | None
) -> str:
    """NAME.html. `record` is what NAME.json holds; `picture` the PNG, or None where there is none."""
    body = [
        f"<h1>{escape(experiment.title)}</h1>",
        f'<p class="question">{escape(experiment.question)}</p>',
        f'<p class="made">{escape(_made(record))}</p>',
        _figure(experiment.alt(results), picture),
        "<h2>What was claimed, and what was seen</h2>",
        _verdicts(verdicts),
        "<h2>What this measures</h2>",
        *(f"<p>{escape(paragraph)}</p>" for paragraph in experiment.about.split("\n\n")),
        "<h2>The numbers behind the figure</h2>",
        *(_table(table) for table in experiment.tables(results)),
        "<h2>How to repeat it</h2>",
        f"<pre><code>{escape(repeat(record))}</code></pre>",
        f"<p>All numbers of every seed are in {escape(experiment.name)}.json, which lies beside this page.</p>",
    ]
    return _document(experiment.title, body)


def index(records: Sequence[dict[str, Any]]) -> str:
    """index.html of `minires lab all`: a line an experiment, each a link to its page."""
    rows = "".join(
        f'<tr><th scope="row"><a href="{escape(r["experiment"])}.html">{escape(r["title"])}</a></th>'
        f'<td class="words">{escape(r["question"])}</td>'
        f"<td>{sum(v['holds'] for v in r['verdicts'])} of {len(r['verdicts'])}</td><td>{r['seconds']:.0f} s</td></tr>"
        for r in records
    )
    head = (
        '<th scope="col">experiment</th><th scope="col" class="words">question</th>'
        '<th scope="col">claims that hold</th><th scope="col">took</th>'
    )
    body = [
        "<h1>Residual networks, measured</h1>",
        f'<p class="made">minires {escape(records[0]["minires"])}, scale {escape(records[0]["scale"])}</p>',
        f'<div class="wide" tabindex="0" role="region" aria-label="The experiments">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>",
    ]
    return _document("Residual networks, measured", body)


def repeat(record: dict[str, Any]) -> str:
    """The command that gives these numbers again."""
    return f"minires lab {record['experiment']} --scale {record['scale']} --seeds {record['seeds']}"


def _made(record: dict[str, Any]) -> str:
    seeds = "seed 0" if record["seeds"] == 1 else f"seeds 0 to {record['seeds'] - 1}"
    return f"Measured with minires {record['minires']}, scale {record['scale']}, {seeds}, in {record['seconds']:.0f} s."


def _document(title: str, body: Sequence[str]) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)} - minires lab</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _figure(alt: str, picture: bytes | None) -> str:
    """The picture, with its words below it for everyone; the words alone where there is no picture."""
    words = escape(alt)
    if picture is None:
        return f"<h2>The figure, in words</h2>\n<p>{words}</p>"
    data = base64.b64encode(picture).decode()
    return (
        f'<figure><div class="wide" tabindex="0" role="region" aria-label="The figure">'
        f'<img src="data:image/png;base64,{data}" alt="{words}"></div>'
        f'<figcaption aria-hidden="true">{words}</figcaption></figure>'
    )


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    items = (
        f'<li class="{"holds" if v.holds else "fails"}"><p class="word">{v.word}</p>'
        f'<p class="claim">{escape(v.claim)}</p><p class="source">{escape(v.source)}</p>'
        f"<p>{escape(v.observed)}</p></li>"
        for v in verdicts
    )
    return f'<ul class="verdicts">{"".join(items)}</ul>'


def _table(table: Table) -> str:
    kinds = [' class="words"' if words else "" for words in table.words()]
    head = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in zip(table.header, kinds, strict=True))
    rows = ""
    for first, *rest in table.cells():
        cells = "".join(f"<td{kind}>{escape(text)}</td>" for text, kind in zip(rest, kinds[1:], strict=True))
        rows += f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>'
    title = escape(table.title)
    return (
        f'<h3>{title}</h3>\n<div class="wide" tabindex="0" role="region" aria-label="{title}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
