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
    "`self.needs[i]` only spares work: always true, it lets a gradient be computed that nobody asked for, and the "
    "engine drops it (`_fit` returns None where an input has no edge)"
)
STRICT = "`strict=True` only guards the author: the sequences are equally long by construction"
SYMMETRIC = "a sum of products, sum(a b), does not ask which of its two factors is named first"
LEFT_OVER = "NumPy takes any negative length in a reshape, -2 as well as -1, for the one that is left over"

PROOFS: dict[tuple[str, str, str], str] = {}


def _equal(place: str, before: str, *afters: str, proof: str) -> None:
    PROOFS.update({(place, before, after): proof for after in afters})


_equal(
    "linear.Matmul.backward",
    "gx = gx[..., 0, :] if self.x.ndim == 1 else gx",
    "gx = gx",
    "gx = gx[..., 0, :] if self.x.ndim == 0 else gx",
    proof="where x has one axis, gx is (*, 1, K), and the engine's `sum_to` sums the leading axes, this one included",
)
_equal(
    "linear.Matmul.backward",
    "gx = gx[..., 0, :] if self.x.ndim == 1 else gx",
    "gx = gx[..., -1, :] if self.x.ndim == 1 else gx",
    proof="the axis has length 1, so its first entry is its last",
)
_equal(
    "linear.Matmul.backward",
    "gw = gw[..., 0] if self.w.ndim == 1 else gw",
    "gw = gw[..., -1] if self.w.ndim == 1 else gw",
    proof="the axis has length 1, so its first entry is its last",
)
_equal(
    "linear.Matmul.backward",
    "gw = rows(x).T @ rows(gy) if w.ndim == 2 else swap(x) @ gy",
    "gw = swap(x) @ gy",
    "gw = rows(x).T @ rows(gy) if w.ndim == 1 else swap(x) @ gy",
    proof="one product of all rows is only quicker: else gw keeps x's leading axes, and the engine sums them",
)
_equal(
    "conv.Convolution.scatter",
    "for k, m, seen, under in self.taps(rows.shape[2:4], rows.shape[4:], shape[2:]):",
    "for k, m, seen, under in self.taps(rows.shape[2:5], rows.shape[4:], shape[2:]):",
    proof="`taps` takes the kernel's height and width and looks at no third number",
)
_equal(
    "elementwise.Pow.backward",
    "flat = (x.real == 0) & (w.real >= 0)",
    "flat = (x.real == 0) & (w >= 0)",
    proof="they differ for w = 0 - ih alone, and then y is 0^w, which is NaN and makes the gradient so either way",
)


_equal(
    "loss.softplus",
    "negative = x.real < 0",
    "negative = x.real <= 0",
    "negative = x < 0",
    "negative = x.real < 1",
    "negative = x.real < -1",
    proof="x + log(1 + e^-x) = log(1 + e^x) for every x: the choice only keeps e^|x| from overflowing, at |x| > 700",
)


def why_equivalent(mutant: Mutant) -> str | None:
    """The proof that a mutant is equal to the original, if there is one."""
    place, before, after = mutant.key
    always = re.fullmatch(r"if (not )?\(?self\.needs\[\d\]( or self\.needs\[\d\])*\)?:", before)
    if always and after == ("if False:" if always[1] else "if True:"):
        return NEEDLESS
    if after == re.sub(r" if self\.needs\[\d\] else None", "", before, count=1):
        return NEEDLESS
    if after in (before.replace(", strict=True", ""), before.replace("strict=True", "strict=False")):
        return STRICT
    if after != before and after == re.sub(
        r"(reshape\([^()]*)-1\)", r"\1-2)", re.sub(r"(reshape\([^()]*)-1,", r"\1-2,", before)
    ):
        return LEFT_OVER
    products = r"(dot_channels|mean_of_products)\((self\.)?xp,|einsum\('(\w+),\3->"
    if mutant.change.operator == "swap two arguments" and re.search(products, before) and re.search(products, after):
        return SYMMETRIC
    return PROOFS.get((place, before, after))
