"""The figure's numbers, measured by minires: the tape's ledger for the block, real small nets for the two columns.

`skip.js` computes the same in the reader's browser. Both start from the same weights, which are a hash of integers.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

import minires as mr
from minires import functional as F
from minires.ledger import Ledger

WIDTH, BATCH = 64, 16
SCALES: dict[str, Callable[[int], float]] = {
    "one": lambda depth: 1.0,
    "half": lambda depth: 0.5,
    "tenth": lambda depth: 0.1,
    "root": lambda depth: 1 / math.sqrt(depth),
    "zero": lambda depth: 0.0,
}
ACTIVATIONS = {"relu": F.relu, "tanh": F.tanh}
NORMS = {
    "none": lambda z: z,
    "batch": lambda z: F.batch_norm(z, None, None, training=True),
    "layer": lambda z: F.layer_norm(z, (WIDTH,)),
}
DEFAULTS: dict[str, Any] = {"depth": 56, "gain": 1.0, "scale": "one", "act": "relu", "norm": "none", "seed": 0}
BLOCK: dict[str, Any] = {"x": [1.2, -0.7], "w": [[0.8, -0.5], [0.6, 0.9]], "g": [0.5, -1.0]}


def block(dropped: bool = False) -> dict[str, list[float]]:
    """The eight steps' numbers for y = x + tanh(W x): x, f, y, then g, skip, branch and gx = skip + branch.

    dropped   leaves the +1 out of the backward pass, with `mr.lesion`
    """
    x = mr.tensor(np.array([BLOCK["x"]]), requires_grad=True)
    f = F.tanh(F.linear(x, mr.tensor(np.array(BLOCK["w"]))))
    y = F.residual_add(x, f)
    book = _back(y, np.array([BLOCK["g"]]), dropped)
    shares = {entry.op: entry.gradient for entry in book.into(x)}
    skip = shares.pop("ResidualAdd")
    (branch,) = shares.values()
    parts = {"x": x.data, "f": f.data, "y": y.data, "g": np.array([BLOCK["g"]])}
    parts |= {"skip": skip, "branch": branch, "gx": x.grad}
    return {name: [float(v) for v in part[0]] for name, part in parts.items()}


def stack(*, depth: int, gain: float, scale: str, act: str, norm: str, seed: int) -> dict[str, list[float]]:
    """|∂ℒ/∂x_l| for l = 0 (the input) to `depth` (the output) of three nets with the same weights.

    plain     x_{l+1} = F(x_l), with F(x) = act(norm(W_l x))
    skip      x_{l+1} = x_l + s F(x_l)
    dropped   the same net, when its backward pass leaves the +1 out

    ℒ = <c, x_L> with a random c; 16 samples of width 64; W_l's entries have the variance gain² / 64.
    """
    scaled = SCALES[scale](depth)
    weights = [noise(seed, 3 + layer, WIDTH, WIDTH) * (gain / math.sqrt(WIDTH)) for layer in range(depth)]

    def run(residual: bool, dropped: bool = False) -> list[float]:
        xs = [mr.tensor(noise(seed, 1, BATCH, WIDTH), requires_grad=True)]
        for w in weights:
            f = ACTIVATIONS[act](NORMS[norm](F.linear(xs[-1], mr.tensor(w))))
            xs.append(F.residual_add(xs[-1], scaled * f) if residual else f)
        c = noise(seed, 2, BATCH, WIDTH)
        book = _back(xs[-1], c, dropped)
        return [float(np.linalg.norm(_arrived(book, x))) for x in xs[:-1]] + [float(np.linalg.norm(c))]

    return {"plain": run(False), "skip": run(True), "dropped": run(True, dropped=True)}


def _back(y: Any, g: np.ndarray, dropped: bool) -> Ledger:
    """The ledger of y.backward(g); the lesion comes first, so that the ledger sees what it leaves."""
    with mr.lesion() if dropped else nullcontext(), mr.ledger() as book:
        y.backward(g)
    return book


def _arrived(book: Ledger, x: Any) -> np.ndarray:
    return sum(entry.gradient for entry in book.into(x))


def noise(seed: int, stream: int, *shape: int) -> np.ndarray:
    """Numbers with mean 0 and variance 1, uniform, the same in every language: a hash of (seed, stream, i)."""
    start = _mix(_mix(np.uint64(seed)) ^ np.uint64(stream))
    i = np.arange(math.prod(shape), dtype=np.uint64)
    h = _mix((start + i * np.uint64(0x9E3779B9)) & np.uint64(0xFFFFFFFF))
    return (((h.astype(np.float64) + 0.5) / 2**32 - 0.5) * math.sqrt(12)).reshape(shape)


def _mix(h: Any) -> Any:
    """A 32-bit mixer: multiply, shift, exclusive or (the constants are those of MurmurHash3's last step)."""
    low = np.uint64(0xFFFFFFFF)
    h = ((h ^ (h >> np.uint64(16))) * np.uint64(0x85EBCA6B)) & low
    h = ((h ^ (h >> np.uint64(13))) * np.uint64(0xC2B2AE35)) & low
    return h ^ (h >> np.uint64(16))


def cases() -> list[dict[str, Any]]:
    """The settings that golden.json holds: the figure's presets and extremes, and a grid of shallow nets.

    Deep plain nets with batch norm are left out: they multiply rounding errors as they multiply gradients, by 1e10 at
    depth 110, so that two libraries agree to fewer digits than the tests ask for.
    """
    he = math.sqrt(2)
    chosen: list[dict[str, Any]] = [
        {},
        {"gain": he},
        {"gain": he, "scale": "root"},
        {"gain": he, "scale": "zero"},
        {"gain": he, "norm": "batch", "depth": 36},
        {"act": "tanh", "gain": 0.8},
        {"scale": "root"},
        {"act": "tanh"},
        {"act": "tanh", "scale": "root"},
        {"norm": "layer"},
        {"act": "tanh", "norm": "batch", "depth": 20},
        {"gain": 0.5, "depth": 110},
        {"gain": 1.6, "depth": 110},
        {"gain": 1.3, "depth": 80, "scale": "half", "seed": 3},
        {"gain": he, "depth": 80, "scale": "tenth", "act": "tanh", "norm": "layer", "seed": 4},
    ]
    axes = (0.5, he), tuple(SCALES), tuple(ACTIVATIONS), tuple(NORMS)
    grid = [dict(zip(("gain", "scale", "act", "norm"), point, strict=True)) for point in itertools.product(*axes)]
    return [DEFAULTS | case for case in chosen] + [DEFAULTS | {"depth": 6, "seed": 1} | point for point in grid]


def measured() -> dict[str, Any]:
    """All of golden.json, computed now."""
    found = [{"settings": settings, "norms": stack(**settings)} for settings in cases()]
    return {"block": {"kept": block(), "dropped": block(dropped=True)}, "cases": found}


def written(found: dict[str, Any]) -> str:
    """golden.json's text: a line for each case, so that a change shows what changed."""
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in found["cases"])
    return f'{{"block": {json.dumps(found["block"])},\n"cases": [\n{lines}\n]}}\n'
