"""Mutants that no check can notice, each with the proof that it computes the same.

The key is (place, the line before, the line after). A mutant that is proved equal here and yet noticed has a wrong
proof, and a test says so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minires.check.mutation.mutants import Mutant

NEEDLESS = (
    "`self.needs[i]` only spares work: with the condition always true, a gradient is computed that nobody asked for, "
    "and the engine drops it (`_fit` returns None where an input has no edge)"
)

PROOFS: dict[tuple[str, str, str], str] = {}


def why_equivalent(mutant: Mutant) -> str | None:
    """The proof that a mutant is equal to the original, if there is one."""
    place, before, after = mutant.key
    if re.fullmatch(r"if self\.needs\[\d\]( or self\.needs\[\d\])*:", before) and after == "if True:":
        return NEEDLESS
    return PROOFS.get((place, before, after))
