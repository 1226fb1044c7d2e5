"""How each framework computes the items: one file a framework, all with the interface of `base`.

make(name, threads)    the peer of that name, in an interpreter that has its framework
CANDIDATES             every candidate: which peer, which variant of it, under which environment
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """What takes part in a comparison.

    Attributes
        peer       its file in this package, and the word that chooses it on the command line
        variant    told to the peer's constructor
        images     makes a difference only where an item is about images
        settings   environment variables of its worker
    """

    name: str
    label: str
    peer: str
    variant: str = ""
    images: bool = False
    settings: dict[str, str] = field(default_factory=dict)


CANDIDATES = {
    found.name: found
    for found in (
        Candidate("minires", "minires", "minires"),
        Candidate("minires-numpy", "minires, NumPy kernels", "minires", settings={"MINIRES_FAST": "off"}),
        Candidate("minires-formulas", "minires, formulas only", "minires", settings={"MINIRES_KERNELS": "off"}),
        Candidate("torch", "PyTorch", "torch"),
        Candidate("torch-channels-last", "PyTorch, channels last", "torch", "channels-last", images=True),
        Candidate("jax", "JAX, jit", "jax"),
        Candidate("chainer", "Chainer", "chainer"),
        Candidate("mygrad", "MyGrad", "mygrad"),
        Candidate("autograd", "autograd", "autograd"),
        Candidate("tinygrad", "tinygrad, TinyJit", "tinygrad"),
        Candidate("dezero", "DeZero", "dezero"),
    )
}
PEERS = tuple(dict.fromkeys(c.peer for c in CANDIDATES.values()))


def make(name: str, threads: int) -> Any:
    """The candidate's peer. Raises ImportError where its framework is not installed."""
    candidate = CANDIDATES[name]
    module = importlib.import_module(f"{__name__}.{candidate.peer}")
    return module.make(threads, candidate.variant)
