"""A walk as text, at most 100 columns wide, that reads well without color."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

import numpy as np

from minires.explain.printing import is_number, nested, norm, number, short, told
from minires.explain.roles import BRANCH, SKIP
from minires.explain.walk import Shown, Step, Term, Value, Walk
from minires.explain.words import gradient_name

WIDTH, NARROW = 100, 40
LONG = 16  # an op's name that has its place in front of the line
KEPT = "\N{NO-BREAK SPACE}"
_TOGETHER = re.compile(
    r"\|[g.]\| (?=\S)|-> [^\s,]+(, by the \w+)?|\(step \d+\)|\b(skip|branch|step) (?=[-\d\[|])| = (?=\[?-?\d)"
)
RESET, BOLD = "\033[0m", "\033[1m"
COLORS = {SKIP: "\033[38;5;33m", BRANCH: "\033[38;5;202m"}  # blue and vermilion; the words say it too


def text(walk: Walk) -> str:
    """The whole walk: what goes in, forward, backward, and the gradients of the leaves."""
    parts = [_wrapped("", walk.title, "  "), _inputs(walk), _forward(walk), _backward(walk), _gradients(walk)]
    return "\n\n".join("\n".join(part) for part in parts if part)


def colored(plain: str) -> str:
    """The same with headings in bold, and the skip and the branch in their colors."""
    plain = re.sub(r"(?m)^(Forward|Backward|Gradients|Inputs)\b.*$", rf"{BOLD}\g<0>{RESET}", plain)
    for role, color in COLORS.items():
        plain = re.sub(rf"\b{role}\b( (\|g\| )?-?[\d.][\d.e+-]*)?", rf"{color}\g<0>{RESET}", plain)
    return plain


def narrowed(plain: str, columns: int) -> str:
    """The same for a terminal of fewer columns than 100: lines that are too long go on below, further in."""
    columns = max(columns, NARROW)
    if columns >= WIDTH:
        return plain
    lines: list[str] = []
    for line in plain.split("\n"):
        indent = min(len(line) - len(line.lstrip()) + 4, columns // 2)
        lines += _wrapped("", line, " " * indent, columns) if len(line) > columns else [line]
    return "\n".join(lines)


def _inputs(walk: Walk) -> list[str]:
    inputs = [v for v in walk.values.values() if v.step == 0 and not _is_literal(v)]
    width = max((len(v.name) for v in inputs), default=0)
    lines = [
        f"  {v.name:{width}}  {_value(v)}{'' if v.name in walk.totals else '   constant: no gradient'}" for v in inputs
    ]
    return ["Inputs", *lines] if lines else []


def _forward(walk: Walk) -> list[str]:
    lines = ["Forward"]
    for step in shown_steps(walk, walk.steps):
        lines += [_left_out(step)] if isinstance(step, int) else _forward_step(walk, step)
    return lines


def _forward_step(walk: Walk, step: Step) -> Iterator[str]:
    head, indent = _head(walk, step)
    first = step.makes[0]
    if first.array is not None and is_number(first.array) and [shown.whole for shown in step.forward] == [True]:
        yield from _wrapped(head, spelled(step.forward[0], first.array), indent)
        return
    made = "; ".join(f"{value.name} {_value(value)}" for value in step.makes)
    yield from _wrapped(head, f"{made}   from {', '.join(read for read in step.reads if read)}", indent)
    for shown in step.forward:
        yield from _wrapped(indent + "  ", spelled(shown, first.array if shown.numbers else None), indent + "    ")
    yield from _legend(step, indent)


def _legend(step: Step, indent: str) -> list[str]:
    return _wrapped(indent + "  ", f"here {step.legend}", indent + "    ") if step.legend else []


def _backward(walk: Walk) -> list[str]:
    seeds = ", ".join(named_gradient(name, gy) for name, gy in walk.seeds.items())
    lines = _wrapped("", f"Backward, from {seeds}", "  ")
    arrived: dict[str, list[Term]] = {}
    remarks: set[str] = set()  # each is made once, and what stands behind the formulas once for each op
    for step in shown_steps(walk, walk.steps[::-1]):
        if isinstance(step, int):
            lines.append(_left_out(step))
            continue
        for term in step.terms:
            if term.receiver not in arrived:
                arrived[term.receiver] = [t for t in walk.into(term.receiver) if t.step > step.number]
        lines += _backward_step(walk, step, arrived, remarks)
    return lines


def _backward_step(walk: Walk, step: Step, arrived: dict[str, list[Term]], remarks: set[str]) -> Iterator[str]:
    head, indent = _head(walk, step)
    received = zip(step.makes, step.gys, strict=True)
    told_gys = "; ".join(named_gradient(value.name, gy) for value, gy in received if gy is not None)
    yield from _wrapped(head, f"receives {told_gys}", indent)
    for line in step.before:
        yield from _wrapped(indent + "  ", line, indent + "    ")
    for term in step.terms:
        yield from _term(term, indent)
        remark = term.formula.remark if term.formula else ""
        if remark and remark not in remarks:
            yield from _wrapped(indent + "    ", f"({remark})", indent + "    ")
            remarks.add(remark)
        arrived[term.receiver].append(term)
    for line in step.after if step.op not in remarks else ():
        yield from _wrapped(indent + "  ", line, indent + "    ")
    remarks.add(step.op)
    yield from _legend(step, indent)
    for receiver in dict.fromkeys(term.receiver for term in step.terms):
        if len(arrived[receiver]) > 1:
            yield from _wrapped(" " * (len(indent) - 3) + "+  ", meeting(receiver, arrived[receiver]), indent + "  ")


def _term(term: Term, indent: str) -> Iterator[str]:
    to = f"   -> {term.receiver}" + (f", by the {term.role}" if term.role else "")
    shown = term.formula or Shown(gradient_name(term.receiver))
    if is_number(term.gradient):
        yield from _wrapped(indent, spelled(shown, term.gradient) + to, indent + "    ")
    else:
        yield from _wrapped(indent, spelled(shown, term.gradient), indent + "    ")
        yield from _wrapped(indent + "  = ", told(term.gradient) + to, indent + "    ")


def meeting(receiver: str, terms: Sequence[Term]) -> str:
    """Where gradients meet and add: "x now has 2 contributions: skip 1 + branch 0.84 = 1.84"."""
    total = terms[0].gradient
    for term in terms[1:]:
        total = np.asarray(total + term.gradient)
    if total.size <= 4:
        parts = " + ".join(f"{term.role or f'step {term.step}'} {nested(term.gradient)}" for term in terms)
        return f"{receiver} now has {len(terms)} contributions: {parts} = {nested(total)}"
    parts = " and ".join(f"{term.role or f'step {term.step}'} {_length(term.gradient)}" for term in terms)
    return f"{receiver} now has {len(terms)} contributions: {parts} add up to {_length(total)}  {short(total)}".rstrip()


def _gradients(walk: Walk) -> list[str]:
    lines = ["Gradients"]
    width = max((len(name) for name in walk.leaves), default=0)
    for name in walk.leaves:
        terms = walk.into(name)
        origin = ""
        if len(terms) > 1:
            parts = [f"{term.role or term.op} {_length(term.gradient)} (step {term.step})" for term in terms]
            origin = f"   from {', '.join(parts)}"
        lines += _wrapped(f"  {name:{width}}  ", told(walk.gradient(name)) + origin, " " * (width + 6))
    return lines


def shown_steps(walk: Walk, steps: Sequence[Step]) -> Iterator[Step | int]:
    """The steps within the walk's limit at either end, and how many are left out between them."""
    if len(steps) <= 2 * walk.limit:
        yield from steps
        return
    yield from steps[: walk.limit]
    yield len(steps) - 2 * walk.limit
    yield from steps[-walk.limit :]


def _left_out(count: int) -> str:
    return f"  ... {count:,} steps are left out here; limit=N shows N from either end"


def spelled(shown: Shown, result: np.ndarray | None) -> str:
    """The formula, the same with numbers in it and, where it is one number, what it comes to."""
    text, written = shown.text, shown.numbers
    value = nested(result) if result is not None and is_number(result) else ""
    if written is None:
        return f"{text} = {value}" if value else text
    reason = f"   ({written.reason})" if written.reason else ""
    if written.entry is not None and result is not None:
        at, entry = ", ".join(map(str, written.entry)), nested(result[written.entry])
        if written.text == entry and not reason:
            return text  # a copy
        return f"{text};  at [{at}]: {written.text + ' = ' if written.text != entry else ''}{entry}{reason}"
    same = written.text in (value, "" if result is None else short(result))
    return " = ".join([text, *([] if same else [written.text]), *([value] if value else [])]) + reason


def _length(g: np.ndarray) -> str:
    return nested(g) if is_number(g) else f"|g| {number(norm(g))}"


def _value(value: Value) -> str:
    if value.array is None:
        return str(value.shape)
    equal = "= " if is_number(value.array) else " "
    return equal + told(value.array, "|.|")


def _is_literal(value: Value) -> bool:
    """Whether the name is the number itself."""
    return not re.match(r"[A-Za-z_]", value.name)


def named_gradient(name: str, g: np.ndarray) -> str:
    return f"{gradient_name(name)} {'=' if is_number(g) else ''} {told(g)}"


def _head(walk: Walk, step: Step) -> tuple[str, str]:
    """What a step's first line begins with, and the indent of the others. A long name has a line of its own."""
    digits = len(str(len(walk.steps)))
    width = min(LONG, max(len(each.op) for each in walk.steps))
    indent = " " * (digits + width + 6)
    head = f"  {step.number:>{digits}}  {step.op:{width}}  "
    return (head if len(head) <= len(indent) else f"{head.rstrip()}\n{indent}"), indent


def _wrapped(head: str, words: str, indent: str, width: int = WIDTH) -> list[str]:
    """`head` and then the words, broken between words where a line would be too long."""
    above, _, head = head.rpartition("\n")
    kept = _TOGETHER.sub(lambda m: m[0].replace(" ", KEPT) if len(m[0]) <= width // 2 else m[0], words)
    lines = textwrap.wrap(
        kept, width, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False, replace_whitespace=False
    )
    return [*([above] if above else []), *(line.replace(KEPT, " ") for line in lines)]
