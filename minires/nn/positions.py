"""Where a token stands, as a row of sines and cosines that is added to its embedding.

Nothing is learned and nothing is kept: the rows are made where they are needed, in float64, so that every dtype gets
the same positions, and a sequence may be longer than any that was trained on.
"""

from __future__ import annotations

from minires import backend
from minires.backend import Array
from minires.errors import RequestError


def sinusoidal(positions: Array, width: int, base: float = 10000.0) -> Array:
    """PE[p, 2i] = sin(p / base^(2i / width)), PE[p, 2i + 1] = cos(p / base^(2i / width)).

    A step of s turns each pair (sin, cos) by a fixed angle, so PE[p + s] is a linear function of PE[p], the same one
    for every p. Relative positions may be negative.

    Shapes    positions: (L,), numbers; the result: (L, width), float64
    Source    Vaswani et al. 2017, Attention Is All You Need, section 3.5

    Raises RequestError for an odd width, where a sine would lack its cosine.
    """
    if width < 2 or width % 2:
        raise RequestError(f"sinusoidal positions come in pairs of a sine and a cosine, and width {width} is not even")
    xp = backend.find((positions,)).xp
    rates = base ** (xp.arange(0, width, 2) / -width)  # (width / 2,)
    angles = positions[:, None] * rates  # (L, width / 2)
    return xp.stack((xp.sin(angles), xp.cos(angles)), axis=-1).reshape(-1, width)  # (L, width)
