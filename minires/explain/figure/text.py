"""Numbers as the figure shows them. `view.js` writes them alike, and a test compares the two."""

from __future__ import annotations

import math
from collections.abc import Sequence

_COMMA = ",\N{NO-BREAK SPACE}"


def decimal(v: float) -> str:
    """Two decimals, with a true minus sign."""
    text = f"{v:.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "−")


def vector(values: Sequence[float]) -> str:
    """Such as (1.20, −0.70), which no line end breaks."""
    return f"({_COMMA.join(map(decimal, values))})"


def total(a: Sequence[float], b: Sequence[float]) -> str:
    """The sum of two vectors, written out."""
    return f"{vector(a)} + {vector(b)} = {vector([v + w for v, w in zip(a, b, strict=True)])}"


def short(v: float) -> str:
    """Two significant digits; beyond 30 decades only the bound."""
    if not v >= 1e-30:
        return "0" if v == 0 else "overflow" if math.isnan(v) else "<1e-30"
    if v > 1e30:
        return ">1e30"
    mantissa, exponent = f"{v:.1e}".split("e")
    power = int(exponent)
    return f"{float(mantissa) * 10**power:.{max(0, 1 - power)}f}" if -3 < power < 3 else f"{mantissa}e{power}"


def fate(r: float) -> str:
    """What became of a gradient of which the share r arrives."""
    if r == 0:
        return "nothing arrives"
    if r < 0.1:
        return f"fades by {'more than 1e30' if r < 1e-30 else short(1 / r)}"
    if r <= 10:
        return f"stays within a factor of 10 ({short(r)})"
    return f"grows by {'more than 1e30' if r > 1e30 else short(r)}"


def shown(kept: dict[str, list[float]], parts: dict[str, list[float]]) -> dict[str, str]:
    """Every number of the block as it is shown, by the name that skip.html gives its place.

    parts   the block's numbers, kept those that it has with the +1
    """
    texts = {
        "sumy": total(parts["x"], parts["f"]),
        "sumgx": total(parts["skip"], parts["branch"]),
        "whole": vector(kept["gx"]),
    }
    for name, part in parts.items():
        texts[name] = vector(part)
        texts |= {f"{name}{i}": decimal(v) for i, v in enumerate(part)}
        texts[f"{name}norm"] = decimal(math.hypot(*part))
    return texts
