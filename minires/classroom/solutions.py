"""For teachers: the answer as it stands in the library, and how to mark what the grader cannot."""

from __future__ import annotations

from pathlib import Path

from minires.classroom import cut, folder
from minires.classroom.assignment import Assignment


def solutions(assignment: Assignment, directory: Path) -> list[str]:
    """Writes the folder and returns the names of its files. Raises RequestError for a folder that is not empty."""
    found = {
        assignment.file: cut.answer(assignment, complete=True),
        "RUBRIC.md": f"# {assignment.name}: what earns how much\n\n{assignment.rubric.strip()}\n",
        "GUIDE.md": f"# {assignment.name}: marking guide\n\nFor the teacher.\n\n{assignment.guide.strip()}\n",
    }
    folder.write(directory, found)
    return list(found)
