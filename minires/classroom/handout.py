"""A student's folder: one file to edit, statement, hints, rubric, and no line of the solution."""

from __future__ import annotations

from pathlib import Path

from minires.classroom import cut, folder
from minires.classroom.assignment import Assignment
from minires.errors import RequestError

ORDINALS = ("Hint", "A stronger hint", "The last hint")


def hand_out(assignment: Assignment, directory: Path) -> list[str]:
    """Writes the folder and returns the names of its files. Raises RequestError for a folder that is not empty."""
    found = files(assignment)
    for name in found:
        if (leaked := leaks(assignment, found[name])) and name != assignment.file:
            raise RequestError(f"{assignment.name}: its {name} holds a line of the solution: {leaked[0]}")
    folder.write(directory, found)
    return list(found)


def files(assignment: Assignment) -> dict[str, str]:
    """The texts of the folder, by file name."""
    return {
        assignment.file: cut.answer(assignment),
        "README.md": readme(assignment),
        "HINTS.md": hints(assignment),
        "RUBRIC.md": f"# {assignment.name}: what earns how much\n\n{assignment.rubric.strip()}\n",
    }


def leaks(assignment: Assignment, text: str) -> list[str]:
    """The lines of the solution that stand in the text."""
    lines = {line.partition("  #")[0].strip() for line in text.splitlines()}
    return sorted(cut.secrets(assignment) & lines)


def readme(assignment: Assignment) -> str:
    """The statement, what to edit, and how to have it graded."""
    blanks = "\n".join(f"- `{cut.short(blank)}`" for blank in assignment.blanks)
    return f"""# {assignment.name}: {assignment.title}

About {assignment.minutes} minutes. You edit one file, `{assignment.file}`, and in it you write:

{blanks}

Keep the names and parameters as they are. What you add beside them is yours: helpers, tests, prints. Python's standard
library and NumPy are there; `minires` itself is not, as it holds the answer.

{assignment.statement.strip()}

## Have it graded

As often as you like, offline:

    minires class grade {assignment.name} .

The report says which law your answer breaks, which mistake that looks like, and the smallest input that shows it. Where
it can't tell what the mistake is, it says so. Hints are in `HINTS.md`, from vague to plain; `RUBRIC.md` says what earns
how much.
"""


def hints(assignment: Assignment) -> str:
    """The hints, each folded: one is opened at a time."""
    parts = [
        f"# {assignment.name}: hints",
        "Sorted by what the grader's report says. Open one, go back to your file, and open the next only if you must.",
    ]
    for subject, tiers in assignment.hints.items():
        parts.append(f"## {subject}")
        for i, hint in enumerate(tiers):
            title = ORDINALS[i] if i < len(ORDINALS) else f"Hint {i + 1}"
            parts.append(f"<details>\n<summary>{title}</summary>\n\n{hint.strip()}\n\n</details>")
    return "\n\n".join(parts) + "\n"
