"""The assignments: one file each, which ends in `ASSIGNMENT = Assignment(...)`; their prose stands in A1/, A4/, A5/."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from minires.classroom.causes import CAUSES


def prose(assignment: str, page: str) -> str:
    """A page of an assignment's Markdown: statement, rubric or guide."""
    return resources.files(__name__).joinpath(assignment, f"{page}.md").read_text(encoding="utf-8")


def hints(causes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The hints of these causes, as an assignment hands them out."""
    return {cause: CAUSES[cause].hints for cause in causes}
