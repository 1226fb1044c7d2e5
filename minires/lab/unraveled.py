"""The unraveled view: a residual net's gradient as a sum over the 2^L paths that take each block's skip or its branch.

    terms = path_terms(f, x)               # (2^L, *x.shape): what comes through each path
    terms.sum(axis=0)                      # what backpropagation gives, to rounding

For x_{l+1} = x_l + F_l(x_l) the chain rule reads g = prod_l (I + J_l)ᵀ gy. Expanded, it has one term for each subset of
blocks: the product of their J_lᵀ alone. `mr.lesion` computes such a term by cutting the other edges of every block.

Source: Veit et al. 2016, Residual Networks Behave Like Ensembles of Relatively Shallow Networks, sections 3 and 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import minires as mr
from minires import functional as F
from minires.engine import Function, Tensor
from minires.errors import RequestError
from minires.lesion import residual_sums

MOST = 16  # blocks whose paths are listed one by one: 65,536


# --- every path


def path_terms(f: Callable[[Any], Any], x: np.ndarray, gy: np.ndarray | None = None) -> np.ndarray:
    """The gradient that reaches x through each of the 2^L paths: (2^L, *x.shape).

    Path number i takes the branch of block k where bit k of i is set, and its skip where not: 0 runs through skips
    alone, 2^L - 1 through every branch.

    f     x -> a Tensor, with L residual sums on its tape, one behind the other, block 0 nearest to x
    gy    the gradient of f(x); None where that is a scalar

    Raises RequestError for more than 16 blocks, for none, and for a gy that is missing.
    Source    Veit et al. 2016, eq. 5 and 6, for the gradient
    """
    walk = Walk(f, x, gy)
    if walk.blocks > MOST:
        raise RequestError(
            f"path_terms: {walk.blocks} blocks have 2^{walk.blocks} paths, too many to list; gradient_by_length sums "
            "them by length"
        )
    subsets = ([k for k in range(walk.blocks) if path >> k & 1] for path in range(2**walk.blocks))
    return np.stack([walk.through(taken) for taken in subsets])


def path_sum(f: Callable[[Any], Any], x: np.ndarray, gy: np.ndarray | None = None) -> np.ndarray:
    """The sum over all paths, of x's shape: the gradient that backpropagation finds in one pass."""
    total: np.ndarray = path_terms(f, x, gy).sum(axis=0)
    return total


def path_lengths(blocks: int) -> np.ndarray:
    """How many branches each path of `path_terms` takes: (2^blocks,)."""
    return np.array([path.bit_count() for path in range(2**blocks)])


def gradient_by_length(f: Callable[[Any], Any], x: np.ndarray, gy: np.ndarray | None = None) -> np.ndarray:
    """What all paths through k branches bring together, for k = 0, ..., L: (L + 1, *x.shape). Its sum is the gradient.

    Exact, in L + 1 passes: a pass that multiplies every branch's gradient by t gives sum_k t^k g_k, a polynomial in t.
    With t on the unit circle, a Fourier transform returns its coefficients.

    f, gy    as in `path_terms`, but for any number of blocks
    """
    walk = Walk(f, x, gy, np.complex128)  # a real tape would only keep the gradient's real part
    circle = np.exp(2j * np.pi * np.arange(walk.blocks + 1) / (walk.blocks + 1))
    passes = []
    for t in circle:
        with mr.lesion(skip_grad=1, branch_grad=t):
            passes.append(walk.back())
    return np.fft.fft(np.stack(passes), axis=0).real / len(circle)


def path_norms(
    f: Callable[[Any], Any], x: np.ndarray, draws: int, seed: int, gy: np.ndarray | None = None
) -> np.ndarray:
    """The mean norm of what one path through k branches brings, k = 0, ..., L, over random paths: (L + 1,).

    f, gy    as in `path_terms`, but for any number of blocks
    Source   Veit et al. 2016, section 5, figure 6 (b)
    """
    walk, rng = Walk(f, x, gy), np.random.default_rng(seed)
    norms = np.zeros(walk.blocks + 1)
    for k in range(walk.blocks + 1):
        taken = [rng.choice(walk.blocks, k, replace=False).tolist() for _ in range(draws if 0 < k < walk.blocks else 1)]
        norms[k] = np.mean([np.linalg.norm(walk.through(blocks)) for blocks in taken])
    return norms


class Walk:
    """f(x), computed once, and as many walks back as are asked for.

    Attributes
        blocks    L, how many residual sums f(x) depends on
    """

    def __init__(self, f: Callable[[Any], Any], x: np.ndarray, gy: np.ndarray | None, dtype: Any = np.float64) -> None:
        self.x = Tensor(np.asarray(x, dtype=dtype), requires_grad=True)
        self.y = f(self.x)
        self.blocks = len(residual_sums(self.y.op)) if isinstance(self.y.op, Function) else 0
        if not self.blocks:
            raise RequestError("there is no residual sum between x and f(x); use F.residual_add or nn.Residual")
        if gy is None and self.y.shape != ():
            raise RequestError(f"f(x) has shape {tuple(self.y.shape)}; give gy, its gradient, of the same shape")
        self.gy = None if gy is None else np.asarray(gy, dtype=dtype)

    def back(self) -> np.ndarray:
        """The gradient of x, as what watches the tape lets it be."""
        self.x.grad = None
        self.y.backward(self.gy, retain_graph=True)
        found: np.ndarray = np.zeros_like(self.x.data) if self.x.grad is None else self.x.grad
        return found

    def through(self, taken: Sequence[int]) -> np.ndarray:
        """The part of the gradient that comes through these blocks' branches and the other blocks' skips."""
        others = [k for k in range(self.blocks) if k not in taken]
        with mr.lesion(skip_grad=0, branch_grad=1, block=taken), mr.lesion(skip_grad=1, branch_grad=0, block=others):
            return self.back()


# --- the lengths that carry gradient


def counted(blocks: int) -> np.ndarray:
    """The share of paths of each length, counted on the tape: with branches x -> x every path brings exactly 1."""

    def chain(x: Tensor) -> Tensor:
        for _ in range(blocks):
            x = F.residual_add(x, x * 1.0)
        return x

    shares: np.ndarray = gradient_by_length(chain, np.ones(())) / 2.0**blocks
    return shares


def length_distribution(blocks: int, gain: float = 1.0) -> np.ndarray:
    """The share of paths of length 0, ..., `blocks` when each branch on a path counts `gain` times: (blocks + 1,).

    The weights C(blocks, k) gain^k, over their sum: the binomial distribution with p = gain / (1 + gain). At gain 1
    every path counts once. The mean length is blocks p: of the order of blocks, and of its root only where gain is.

    Raises RequestError for more than 1,000 blocks, whose paths are more than a float can count.
    """
    if blocks > 1000:
        raise RequestError(f"{blocks} blocks have more paths than a float can count; give at most 1000")
    p = gain / (1 + gain)
    return np.array([math.comb(blocks, k) * p**k * (1 - p) ** (blocks - k) for k in range(blocks + 1)])


def mean_length(shares: np.ndarray) -> float:
    """The mean of k under shares (L + 1,), which need not add up to 1."""
    return float(np.arange(len(shares)) @ shares / np.sum(shares))


def central_range(shares: np.ndarray, mass: float = 0.95) -> tuple[int, int]:
    """The lengths between which the middle `mass` of the shares lies: quantiles (1 - mass) / 2 and (1 + mass) / 2."""
    below = np.cumsum(shares) / np.sum(shares)
    low, high = np.searchsorted(below, [(1 - mass) / 2, (1 + mass) / 2])
    return int(low), int(high)


def mass_by_length(norms: np.ndarray) -> np.ndarray:
    """C(L, k) times the norm of one path of length k, over the sum of all: the measure of Veit et al., figure 6 (c)."""
    blocks = len(norms) - 1
    mass = np.array([math.comb(blocks, k) for k in range(blocks + 1)]) * norms
    shares: np.ndarray = mass / mass.sum()
    return shares


def log_slope(norms: np.ndarray) -> tuple[float, float]:
    """(slope, R^2) of the straight line through log(norm) by length; exp(slope) is one more branch's factor."""
    length, logs = np.arange(len(norms)), np.log(norms)
    slope, start = np.polyfit(length, logs, 1)
    rest = logs - (slope * length + start)
    return float(slope), float(1 - np.sum(rest**2) / np.sum((logs - logs.mean()) ** 2))
