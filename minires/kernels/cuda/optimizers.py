"""Update rules on CuPy: all parameters of a group in one launch, or as few as their addresses fit in.

The formulas take four to fifteen launches a parameter. Here the addresses of many go with one launch, and learning
rate and counts stay on the device: a captured step reads them anew at every replay. Launches of one step: one for every
120 parameters (SGD), 96 (Adam, AdamW) or 80 (RMSprop) of one dtype, and Adam one more, which counts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minires import backend, cuda_graph
from minires.backend import Array
from minires.engine import Tensor
from minires.kernels.cuda.source import LIMIT, REAL, Source, ceil
from minires.kernels.optimizers import Named, State, adam_keeps, register, rmsprop_keeps, sgd_keeps

THREADS = 256
BLOCKS = 128  # of one parameter: enough for the largest, and not too many that find nothing to do
COUNTS = {3: 120, 4: 96, 5: 80}  # how many parameters' arrays fit, by arrays a parameter (optimizers.cu)
TABLES = {k: np.dtype([("at", np.int64, (k, n)), ("n", np.int32, (n,))], align=True) for k, n in COUNTS.items()}


class Rule(NamedTuple):
    """How one optimizer's formula is launched.

    kernel     its name in optimizers.cu
    places     the state's arrays, in the kernel's order
    keeps      keeps(options): those that there are
    numbers    numbers(options): the kernel's last arguments
    counts     whether there is a "step"
    """

    kernel: str
    places: tuple[str, ...]
    keeps: Callable[[dict[str, Any]], tuple[str, ...]]
    numbers: Callable[[dict[str, Any]], tuple[float | int, ...]]
    counts: bool = False


class CudaWalk:
    """One group's steps on CuPy."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.rate: Any = None  # the learning rate on the device, and what it holds
        self.holds: float | None = None
        self.steps: dict[tuple[int, ...], Array] = {}  # the counts of the parameters that are stepped together, by ids

    def step(self, due: Sequence[Named], state: State, options: dict[str, Any]) -> list[Named]:
        """Updates those parameters of `due` that it can, and counts the change; returns the rest, for the formula."""
        if all(type(p.data) is np.ndarray for _, p in due):
            return list(due)
        keys, rest = self.rule.keeps(options), []
        groups: dict[Any, list[Named]] = {}
        for name, parameter in due:
            if sound(parameter, state.setdefault(name, {}), keys, self.rule.counts):
                groups.setdefault(parameter.dtype, []).append((name, parameter))
            else:
                rest.append((name, parameter))
        for members in groups.values():
            library = backend.find([p.data for _, p in members])
            lr = self.lr(library.xp, options)
            most = COUNTS[len(self.rule.places) + 2]
            for i in range(0, len(members), most):
                self.launch(library.xp, members[i : i + most], state, options, keys, lr)
        return rest

    def lr(self, xp: Any, options: dict[str, Any]) -> Array:
        """The learning rate as a 0-d array, which a replay sets anew."""
        if cuda_graph.capturing():
            cuda_graph.constant(lambda: self.rule.numbers(options))
            return cuda_graph.live(xp, lambda: options["lr"])
        if self.rate is None:
            self.rate = xp.empty((), np.float64)
        if self.holds != options["lr"]:
            self.holds = options["lr"]
            self.rate.fill(self.holds)
        return self.rate

    def launch(
        self, xp: Any, members: list[Named], state: State, options: dict[str, Any], keys: tuple[str, ...], lr: Array
    ) -> None:
        arrays = [
            [p.data, xp.ascontiguousarray(p.grad), *(state[name][k] if k in keys else None for k in self.rule.places)]
            for name, p in members
        ]
        table = np.zeros((), TABLES[len(arrays[0])])
        table["at"][:, : len(members)] = [
            [0 if a is None else a.data.ptr for a in row] for row in zip(*arrays, strict=True)
        ]
        table["n"][: len(members)] = sizes = [p.size for _, p in members]
        counts = (self.counted(xp, members, state),) if self.rule.counts else ()
        grid = min(BLOCKS, max(1, ceil(max(sizes), THREADS))), len(members)
        source = Source(xp, "optimizers", members[0][1].dtype)
        source(self.rule.kernel, grid, (THREADS,), table, lr, *counts, *self.rule.numbers(options))
        for _, p in members:
            p.touch()

    def counted(self, xp: Any, members: list[Named], state: State) -> Array:
        """The members' counts in one array, (n,), one higher than before; each state's "step" is a view of it."""
        who = tuple([id(p) for _, p in members])
        steps = self.steps.get(who)
        if steps is None or any(state[name]["step"].base is not steps for name, _ in members):
            steps = self.steps[who] = xp.empty(len(members), np.int64)
            for i, (name, _) in enumerate(members):
                steps[i] = state[name]["step"]
                state[name]["step"] = steps[i]
        steps += 1
        return steps


def sound(parameter: Tensor, entries: dict[str, Any], keys: tuple[str, ...], counts: bool) -> bool:
    """Whether all arrays are here, on CuPy, of one shape and real dtype, without gaps, in C order."""
    p = parameter.data
    if backend.find((p,)).name != "cupy" or p.dtype.char not in REAL or p.size >= LIMIT:
        return False
    if counts and not hasattr(entries.get("step"), "shape"):
        return False
    held = [p, parameter.grad, *(entries.get(key) for key in keys)]
    if any(type(a) is not type(p) or a.shape != p.shape or a.dtype != p.dtype for a in held):
        return False
    return all(a.flags.c_contiguous for a in (p, *held[2:]))


def sgd_numbers(options: dict[str, Any]) -> tuple[float | int, ...]:
    values = (options["momentum"], options["dampening"], options["weight_decay"])
    return *map(float, values), int(options["nesterov"])


def adam_numbers(options: dict[str, Any]) -> tuple[float | int, ...]:
    return *map(float, (*options["betas"], options["eps"], options["weight_decay"])), 0


def adamw_numbers(options: dict[str, Any]) -> tuple[float | int, ...]:
    return *adam_numbers(options)[:-1], 1


def rmsprop_numbers(options: dict[str, Any]) -> tuple[float | int, ...]:
    values = (options["alpha"], options["eps"], options["weight_decay"], options["momentum"])
    return *map(float, values), int(options["centered"])


MOMENTS = ("exp_avg", "exp_avg_sq")
SQUARES = ("square_avg", "grad_avg", "momentum_buffer")
RULES = {
    "sgd.SGD": Rule("sgd", ("momentum_buffer",), sgd_keeps, sgd_numbers),
    "adam.Adam": Rule("adam", MOMENTS, adam_keeps, adam_numbers, counts=True),
    "adam.AdamW": Rule("adam", MOMENTS, adam_keeps, adamw_numbers, counts=True),
    "rmsprop.RMSprop": Rule("rmsprop", SQUARES, rmsprop_keeps, rmsprop_numbers),
}
for name, rule in RULES.items():
    register(f"minires.optim.{name}.update", functools.partial(CudaWalk, rule))
