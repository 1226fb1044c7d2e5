"""What `minires check` prints: a table to read, one JSON object to process, and the mutation score as a page."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from minires.check.bug import Bug
from minires.check.case import Subject
from minires.check.examine import OpReport
from minires.check.mutation.judge import Verdict
from minires.check.oracles import ORACLES

HEADS = {name: name.replace("complex-step", "complex").replace("index-loops", "loops") for name in ORACLES}


def digits(max_rel_error: float | None) -> str:
    """To how many digits an oracle agreed; "exact" where not a bit was different, "-" where it was not asked."""
    if max_rel_error is None:
        return "-"
    return "exact" if max_rel_error == 0 else f"{min(-math.log10(max_rel_error), 16):.1f}"


def names_width(subjects: Sequence[Subject]) -> tuple[int, int]:
    """How wide the table's first two columns are."""
    return max(len(s.name) for s in subjects) + 2, max(6, *(len(" ".join(s.inputs)) for s in subjects))


def head(wide: tuple[int, int]) -> str:
    """The table's first lines."""
    told = "digits to which backward agreed with"
    columns = "".join(f"{name:>9}" for name in HEADS.values())
    heads = f"{'op':{wide[0]}}{'inputs':{wide[1]}}{columns}{'laws':>6}{'bugs':>7}{'mutants':>9}"
    return f"{'':{sum(wide) + 2}}{told}\n{heads}"


def row(
    report: OpReport, bugs: Sequence[Verdict], mutants: Sequence[Verdict] | None = None, *, wide: tuple[int, int]
) -> str:
    """One op's line; below it, what was found wrong."""
    said = {found.name: found.max_rel_error for found in report.oracles}
    columns = "".join(f"{digits(said.get(name)):>9}" for name in HEADS)
    held = len(report.invariants) + len(report.laws)
    named = f"{report.op:{wide[0]}}{' '.join(report.inputs):{wide[1]}}"
    line = f"{named}{columns}{held:>6}{_caught(bugs):>7}{_caught(mutants):>9}"
    wrong = [*report.failures, *(v.wrong for v in [*bugs, *(mutants or ())] if v.wrong)]
    return "\n".join([line, *(f"  WRONG {each}" for each in wrong)])


def entry(report: OpReport, bugs: Sequence[Verdict], mutants: Sequence[Verdict] | None = None) -> dict[str, Any]:
    """The same for a program."""
    found: dict[str, Any] = {
        "op": report.op,
        "inputs": report.inputs,
        "oracles": [
            {"name": each.name, "max_rel_error": each.max_rel_error}
            for each in report.oracles
            if each.max_rel_error is not None
        ],
        "laws": [*report.invariants, *report.laws],
        "bugs": _counted(bugs),
        "passed": report.passed and not any(v.wrong for v in [*bugs, *(mutants or ())]),
        "failures": report.failures,
        "exceptions": {each.name: each.reason for each in report.oracles if each.reason},
    }
    if mutants is not None:
        found["mutants"] = _counted(mutants)
    return found


def summary(entries: Sequence[dict[str, Any]], engine: dict[str, Any] | None) -> str:
    """The last lines of the table."""
    lines = [""]
    if engine is not None:
        zoo = engine["bugs"]
        lines.append(
            f"engine: {len(engine['laws'])} laws hold, {zoo['noticed']}/{zoo['planted']} broken engines noticed"
        )
        lines += [f"  WRONG {each}" for each in engine["failures"]]
    wrong = [each["op"] for each in entries if not each["passed"]]
    said = [(o["max_rel_error"], o["name"], each["op"]) for each in entries for o in each["oracles"]]
    if wrong:
        lines.append(f"{len(wrong)} of {len(entries)} ops are not proved: {', '.join(wrong)}")
    elif said:
        error, name, op = max(said)
        ops = "1 op" if len(entries) == 1 else f"{len(entries)} ops"
        lines.append(f"{ops} proved; the least agreement is {digits(error)} digits ({op}, {name})")
    for reason in dict.fromkeys(reason for each in entries for reason in each["exceptions"].values()):
        without = [each["op"] for each in entries if reason in each["exceptions"].values()]
        lines.append(f"no complex step for {', '.join(without)}: {reason}")
    return "\n".join(lines)


def page(verdicts: Sequence[Verdict], zoo: Sequence[tuple[Bug, Sequence[str]]], code: str) -> str:
    """The mutation score as a page in Markdown."""
    killed = sum(v.killed_by is not None for v in verdicts)
    proved = sum(v.equal for v in verdicts)
    survived = [v for v in verdicts if v.survived]
    caught = sum(bool(by) for _, by in zoo)
    by_name = sum(found.killed_by in by for found, by in zoo)
    real = len(verdicts) - proved
    share = 100 * killed / real if real else 100.0
    lines = [
        "# Mutation score",
        "",
        "Who tests the tests? Each gradient is broken on purpose, in two ways, and the checks must notice. The bug zoo "
        "holds mistakes that people make; the mechanical mutants change one thing at a time in every `backward` of "
        "`minires/ops`, and in the helpers it calls.",
        "",
        f"- Bug zoo: {caught} of {len(zoo)} noticed, {by_name} by the proof that the bug names.",
        f"- Mechanical mutants: {len(verdicts)}. Noticed: {killed}. Proved equal to the original: {proved}. "
        f"Survived: {len(survived)}. Score: {share:.2f} % of those that compute something else.",
        "",
        "Repeat it with `minires check --mutants --table FILE`. PyTorch takes no part, so that the score is the same "
        f"without it. The gradients' code has the fingerprint `{code}`; a test holds this page to it.",
        "",
        "## Mechanical mutants, function by function",
        "",
        "| function | mutants | noticed | equal | first noticed by |",
        "|---|---:|---:|---:|---|",
    ]
    by_place: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        by_place[verdict.place].append(verdict)
    for place, here in sorted(by_place.items()):
        killers = Counter(v.killed_by for v in here if v.killed_by is not None)
        told = ", ".join(f"{name} {n}" for name, n in killers.most_common())
        equal = sum(v.equal for v in here)
        lines.append(f"| `{place}` | {len(here)} | {sum(killers.values())} | {equal} | {told} |")
    lines += ["", "## Equal to the original", "", "No check can notice these, since nothing is different.", ""]
    reasons: dict[str, list[str]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.equal:
            reasons[verdict.proof or ""].append(verdict.name)
    for reason, names in reasons.items():
        lines += [f"- {reason}:", *(f"    - `{_one_line(name)}`" for name in names)]
    if survived:
        lines += ["", "## Survived", "", *(f"- `{_one_line(v.name)}`" for v in survived)]
    lines += ["", "## The bug zoo", "", "| bug | of | what its user notices | noticed by |", "|---|---|---|---|"]
    for each, by in zoo:
        of = each.op.__name__ if each.op is not None else "the engine"
        others = f" and {len(by) - 1} more" if len(by) > 1 else ""
        named = f"{each.killed_by}{others}" if each.killed_by in by else ", ".join(by) or "nobody"
        lines.append(f"| {each.name} | {of} | {_one_line(each.symptom)} | {named} |")
    return "\n".join(lines) + "\n"


def described(found: Bug) -> str:
    """A bug of the zoo as a paragraph for the terminal."""
    of = found.op.__name__ if found.op is not None else "the engine"
    what = "\n".join(f"    {line}".rstrip() for line in found.what.splitlines())
    return f"{found.name} ({of})\n{what}\n    symptom: {found.symptom}\n    noticed by: {found.killed_by}"


def _caught(verdicts: Sequence[Verdict] | None) -> str:
    if not verdicts:
        return "-"
    equal = sum(v.equal for v in verdicts)
    return f"{sum(v.killed_by is not None for v in verdicts)}/{len(verdicts) - equal}"


def _counted(verdicts: Sequence[Verdict]) -> dict[str, int]:
    return {
        "planted": len(verdicts),
        "noticed": sum(v.killed_by is not None for v in verdicts),
        "equal": sum(v.equal for v in verdicts),
    }


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
