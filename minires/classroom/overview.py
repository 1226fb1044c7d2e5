"""A class at a glance: a page made from a folder of results, with nothing to load and nowhere to send anything.

For each assignment: which mistake how many students make, where they make it (mistakes x tests), and who stands where
(students x tests). Shades go with numbers and words; nothing is told by color alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import median

from minires.classroom.assignment import assignments, causes
from minires.classroom.result import Result, TestResult, load
from minires.errors import RequestError

LARGEST = 2**24  # bytes of a result


@dataclass(frozen=True)
class Student:
    """A result and whose it is."""

    name: str
    result: Result


def collect(directory: Path) -> tuple[list[Student], list[str]]:
    """The results of a folder, STUDENT.json each, by name; and a line for each file that is left out.

    Raises RequestError when there is no folder or not one result in it.
    """
    if not directory.is_dir():
        raise RequestError(
            f"there is no folder {directory}; fill one: minires class grade A5 ada --json > DIR/ada.json"
        )
    students, left_out = [], []
    for file in sorted(directory.glob("*.json"), key=lambda f: (f.stem.lower(), f.stem)):
        try:
            if file.stat().st_size > LARGEST:
                raise ValueError("far too large for a result")
            students.append(Student(file.stem, load(file.read_text(encoding="utf-8-sig"))))
        except (OSError, ValueError) as error:
            told = f"{error.strerror}" if isinstance(error, OSError) else str(error)
            left_out.append(f"{file.name}: {'no UTF-8 text' if isinstance(error, UnicodeDecodeError) else told}")
    if not students:
        why = f"; {left_out[0]}" if left_out else ""
        raise RequestError(f"{directory} holds no result, STUDENT.json of minires class grade --json{why}")
    return students, left_out


def write(out: Path, students: Sequence[Student]) -> None:
    """Writes the page. Raises RequestError when it cannot be written."""
    half = out.with_name(out.name + ".part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        half.write_text(page(students), encoding="utf-8")
        half.replace(out)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise RequestError(f"{out} cannot be written: {error.strerror}; name another file with --out") from None


def page(students: Sequence[Student]) -> str:
    """The page, whole."""
    names = sorted({s.result.assignment for s in students}, key=lambda n: (len(n), n))
    sections = "\n".join(_section(name, [s for s in students if s.result.assignment == name]) for name in names)
    title = f"Class report: {', '.join(names)}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>Class report</h1>
{sections}
</main>
</body>
</html>
"""


def _section(assignment: str, students: Sequence[Student]) -> str:
    scores = [s.result.score for s in students]
    most = max(s.result.max_score for s in students)
    complete = sum(s.result.complete for s in students)
    tests = list(dict.fromkeys(test.name for s in students for test in s.result.tests))
    number = {name: i + 1 for i, name in enumerate(tests)}
    mistakes = _mistakes(students)
    summary = (
        f"{_many(len(students), 'student')}; {complete} with every test passed; "
        f"median {median(scores):g} of {most:g} points, lowest {min(scores):g}, highest {max(scores):g}."
    )
    known = assignments()
    heading = f"{assignment}: {known[assignment].title}" if assignment in known else assignment
    legend = "".join(f"<li>{escape(name)}</li>" for name in tests)
    parts = [
        f'<section aria-labelledby="{escape(assignment)}"><h2 id="{escape(assignment)}">{escape(heading)}</h2>',
        f"<p>{summary}</p>",
        _mistake_table(assignment, mistakes, len(students)),
        f"<h3>{escape(assignment)}: the tests</h3><ol>{legend}</ol>",
        _heat_map(assignment, mistakes, students, number),
        _student_table(assignment, students, number) + "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _mistakes(students: Sequence[Student]) -> list[tuple[str, list[str]]]:
    """Each cause and who made it, the most frequent first."""
    who: dict[str, list[str]] = {}
    for student in students:
        for cause in dict.fromkeys(_cause(test) for test in student.result.tests if not test.passed):
            who.setdefault(cause, []).append(student.name)
    return sorted(who.items(), key=lambda item: (-len(item[1]), item[0]))


def _cause(test: TestResult) -> str:
    return test.cause or "UNKNOWN"


# --- the three tables


def _mistake_table(assignment: str, mistakes: Sequence[tuple[str, list[str]]], students: int) -> str:
    if not mistakes:
        return "<p>Nobody made a mistake.</p>"
    known = causes()
    rows = []
    for cause, who in mistakes:
        meaning = known[cause].meaning if cause in known else ""
        if cause == "UNKNOWN":
            meaning = "wrong, and the grader can't tell why: worth a look"
        share = 100 * len(who) / students
        rows.append(
            f'<tr><th scope="row">{_code(cause)}<span class="meaning">{escape(meaning)}</span></th>'
            f'<td class="count"><span class="bar" style="width:{share:.0f}%"></span>'
            f"<span>{len(who)} of {students}</span></td><td>{escape(', '.join(who))}</td></tr>"
        )
    head = "<tr><th scope='col'>Mistake</th><th scope='col'>Students</th><th scope='col'>Who</th></tr>"
    return _table(f"{assignment}: which mistake, how many", head, rows, "mistakes")


def _heat_map(
    assignment: str,
    mistakes: Sequence[tuple[str, list[str]]],
    students: Sequence[Student],
    number: dict[str, int],
) -> str:
    if not mistakes:
        return ""
    failures = Counter((_cause(t), t.name) for s in students for t in s.result.tests if not t.passed)
    rows = []
    for cause, _ in mistakes:
        cells = "".join(_shaded(failures[cause, test], len(students)) for test in number)
        rows.append(f'<tr><th scope="row">{_code(cause)}</th>{cells}</tr>')
    head = f"<tr><th scope='col'>Mistake</th>{_test_heads(number)}</tr>"
    return _table(f"{assignment}: which mistake in which test, number of students", head, rows, "heat")


def _shaded(n: int, students: int) -> str:
    """A cell of the heat map: the number, on a blue the darker the more of the class it is."""
    if n == 0:
        return '<td class="none">0</td>'
    level = min(4, 1 + (4 * n - 1) // students)
    return f'<td class="level{level}">{n}</td>'


def _student_table(assignment: str, students: Sequence[Student], number: dict[str, int]) -> str:
    rows = []
    for student in students:
        by_name = {test.name: test for test in student.result.tests}
        cells = "".join(_verdict(by_name.get(test)) for test in number)
        score = f"{student.result.score:g} of {student.result.max_score:g}"
        rows.append(f'<tr><th scope="row">{escape(student.name)}</th><td class="score">{score}</td>{cells}</tr>')
    head = f"<tr><th scope='col'>Student</th><th scope='col'>Score</th>{_test_heads(number)}</tr>"
    return _table(f"{assignment}: who stands where", head, rows, "students")


def _test_heads(number: dict[str, int]) -> str:
    return "".join(f'<th scope="col"><span class="unseen">Test </span>{i}</th>' for i in number.values())


def _verdict(test: TestResult | None) -> str:
    if test is None:
        return '<td class="none">not run</td>'
    if test.passed:
        return '<td class="passed">passed</td>'
    return f'<td class="failed">{_code(_cause(test))}</td>'


def _code(cause: str) -> str:
    """The cause's name, which may be broken at its underscores."""
    return f"<code>{escape(cause).replace('_', '_<wbr>')}</code>"


def _table(caption: str, head: str, rows: Sequence[str], kind: str) -> str:
    """A table under its heading, in a frame that scrolls by itself where the page is narrow."""
    label = escape(re.sub(r"\W+", "-", caption))
    return (
        f'<h3 id="{label}">{escape(caption)}</h3>'
        f'<div class="wide" role="region" aria-labelledby="{label}" tabindex="0">'
        f'<table class="{kind}" aria-labelledby="{label}">'
        f"<thead>{head}</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _many(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #fff; color: #1a1a1a; font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.375rem; margin: 2.5rem 0 0.25rem; padding-top: 1rem; border-top: 2px solid #0072b2; }
h3 { font-size: 1.0625rem; margin: 2rem 0 0.5rem; }
.wide { overflow-x: auto; position: relative; }
.wide:focus-visible { outline: 3px solid #0072b2; outline-offset: 2px; }
table { border-collapse: collapse; font-size: 0.9375rem; }
th, td { border: 1px solid #d0d0d0; padding: 0.375rem 0.625rem; text-align: left; vertical-align: top; }
thead th { background: #f3f5f7; white-space: nowrap; }
tbody th { font-weight: 600; }
code { font: 0.875rem/1.4 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.heat th:first-child, .students th:first-child { position: sticky; left: 0; z-index: 1; background: #fff; }
.heat thead th, .students thead th { text-align: center; }
.heat thead th:first-child, .students thead th:first-child { text-align: left; background: #f3f5f7; }
.meaning { display: block; font-weight: 400; color: #444; max-width: 30rem; }
.mistakes { width: 100%; }
.mistakes .count { position: relative; min-width: 5rem; white-space: nowrap; }
.bar { position: absolute; left: 0; top: 0; bottom: 0; background: #cfe3f1; }
.count span:last-child { position: relative; font-variant-numeric: tabular-nums; }
.heat td { text-align: center; min-width: 3rem; font-variant-numeric: tabular-nums; }
.none { color: #6b6b6b; }
.level1 { background: #e3eff7; }
.level2 { background: #a9cfe6; }
.level3 { background: #4f9bcb; color: #000; font-weight: 600; }
.level4 { background: #00507d; color: #fff; font-weight: 600; }
.students td { padding: 0.375rem; font-size: 0.875rem; }
.students .score { white-space: nowrap; text-align: right; font-variant-numeric: tabular-nums; }
.students .passed { background: #eef6fb; color: #00507d; }
.students .failed { background: #fdeee5; border-left: 4px solid #d55e00; }
.students .failed code { font-size: 0.75rem; }
ol { padding-left: 2.25rem; max-width: 45rem; }
@media (max-width: 40rem) { body { font-size: 15px; } th, td { padding: 0.25rem 0.375rem; } }
@media print { .wide { overflow: visible; } main { max-width: none; } * { print-color-adjust: exact; } }
"""
