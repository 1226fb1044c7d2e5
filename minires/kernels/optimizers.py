"""Update rules on NumPy: the formulas of `minires.optim` for all parameters of a group at once.

A formula's `update` makes an array for every product on its way, and a small network has many small parameters. Here

- a parameter that is large is cut into blocks which fit in a core's cache, and the whole rule runs on one block before
  the next, on all cores;
- small ones are laid side by side in a *bundle*, which is worked on as one array. Parameters keep their own memory and
  are copied in and out; the optimizer's state lies in the bundle for good, and each parameter's entry is a view of it;
- products go to memory that is used again.

Each rule computes what its formula computes, operation for operation, so the results are equal bit for bit, whatever
the blocks. A parameter's first step, which makes its state, is left to the formula.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minires.backend import Array
from minires.engine import Tensor
from minires.kernels.threads import each, scratch

BLOCK = 1 << 15  # numbers of one array in a block
SMALL = 1 << 13  # numbers up to which a parameter is laid beside others, as a copy costs less than a call
THREADED = 1 << 19  # numbers in all from which a second core pays

Named = tuple[str, Tensor]
State = dict[str, dict[str, Any]]
Apply = Callable[[Array, Array, dict[str, Any], dict[str, Any]], None]


class Rule(NamedTuple):
    """How one optimizer's formula is computed on flat arrays.

    apply     apply(p, g, state, options): changes p and the arrays of `state`, all 1-D and of one length, in place;
              g is not written to. state["step"], where there is one, counts the steps including this
    keeps     keeps(options): the names of the state's arrays
    counts    whether there is a "step"
    """

    apply: Apply
    keeps: Callable[[dict[str, Any]], tuple[str, ...]]
    counts: bool = False


class NumpyWalk:
    """One group's steps on NumPy. It remembers the layout, which holds for as long as the same arrays come back."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.keys: tuple[str, ...] = ()
        self.members: list[Member] = []
        self.left: set[int] = set()  # the parameters that were left to the formula, by id
        self.blocks: list[Block] = []

    def step(self, due: Sequence[Named], state: State, options: dict[str, Any]) -> list[Named]:
        """Updates those parameters of `due` that it can, and counts the change; returns the rest, for the formula."""
        keys, rest = self.rule.keeps(options), []
        if not keys and sum([p.data.size for _, p in due]) < THREADED:
            return list(due)  # two passes over each, and no state: copies would cost what they save
        if self.left:
            rest = [(n, p) for n, p in due if id(p) in self.left and not self.member(n, p, state, keys).sound()]
            out = {id(p) for _, p in rest}
            due = [(n, p) for n, p in due if id(p) not in out]
        if keys != self.keys or not self.fits(due, state):
            members = [self.member(n, p, state, keys) for n, p in due]
            sound = apart([m for m in members if m.sound()])
            taken = {id(m.parameter) for m in sound}
            rest = [*rest, *((n, p) for n, p in due if id(p) not in taken)]
            self.keys, self.members, self.blocks = keys, sound, blocks(sound)
        self.left = {id(p) for _, p in rest}
        self.run(options)
        return rest

    def member(self, name: str, parameter: Tensor, state: State, keys: tuple[str, ...]) -> Member:
        return Member(parameter, state.setdefault(name, {}), keys, self.rule.counts)

    def fits(self, due: Sequence[Named], state: State) -> bool:
        """Whether the layout is still that of these parameters, gradients and states."""
        if len(due) != len(self.members):
            return False
        for (name, parameter), m in zip(due, self.members, strict=True):
            g, entries = parameter.grad, m.entries
            if (
                parameter is not m.parameter
                or parameter.data is not m.p
                or type(g) is not np.ndarray
                or g.dtype is not m.dtype
                or g.shape != m.shape
                or state.get(name) is not entries
                or (m.counts and entries["step"] != m.lead.entries["step"])
            ):
                return False
            for key, held in m.arrays:
                if entries.get(key) is not held:
                    return False
        return True

    def run(self, options: dict[str, Any]) -> None:
        """One step of every member."""
        blocks, apply = self.blocks, self.rule.apply
        for m in self.members:
            if m.counts:
                m.entries["step"] += 1
            m.parameter.touch()
        if sum([b.p.size for b in blocks]) < THREADED:
            for block in blocks:
                block.step(apply, options)
        else:
            each(len(blocks), lambda i: blocks[i].step(apply, options))


class Member:
    """One parameter, and the arrays that its steps change."""

    __slots__ = ("arrays", "counts", "dtype", "entries", "lead", "p", "parameter", "shape")

    def __init__(self, parameter: Tensor, entries: dict[str, Any], keys: tuple[str, ...], counts: bool) -> None:
        self.parameter, self.p, self.entries, self.counts = parameter, parameter.data, entries, counts
        self.shape, self.dtype = self.p.shape, self.p.dtype
        self.arrays: list[tuple[str, Any]] = [(key, entries.get(key)) for key in keys]
        self.lead = self  # the first of its bundle

    def sound(self) -> bool:
        """Whether all arrays are here, of one shape and real dtype, in an order that can be seen flat."""
        arrays = [self.p, self.parameter.grad, *(a for _, a in self.arrays)]
        if self.counts and "step" not in self.entries:
            return False
        if any(type(a) is not np.ndarray or a.shape != self.shape or a.dtype is not self.dtype for a in arrays):
            return False
        return self.dtype.char in "fd" and self.p.flags.c_contiguous and self.p.flags.writeable

    def keep(self, key: str, held: Array) -> None:
        """Takes `held` in the place of the state's array of that name."""
        self.entries[key] = held
        self.arrays = [(k, held if k == key else a) for k, a in self.arrays]

    def count(self) -> dict[str, Any]:
        return {"step": self.entries["step"]} if self.counts else {}


class Block:
    """A piece of work for one thread: flat arrays, on which `step` does one step of the rule."""

    p: Array

    def step(self, apply: Apply, options: dict[str, Any]) -> None:
        raise NotImplementedError


class Slice(Block):
    """A part of one parameter."""

    def __init__(self, member: Member, part: slice) -> None:
        for key, held in member.arrays:
            if not held.flags.c_contiguous:
                member.keep(key, np.ascontiguousarray(held))
        self.member, self.part = member, part
        self.p = member.p.reshape(-1)[part]
        self.state = {key: held.reshape(-1)[part] for key, held in member.arrays}

    def step(self, apply: Apply, options: dict[str, Any]) -> None:
        g: Any = self.member.parameter.grad
        flat = g.reshape(-1)[self.part] if g.flags.c_contiguous else g.flat[self.part]
        apply(self.p, flat, {**self.state, **self.member.count()}, options)


class Bundle(Block):
    """Several small parameters side by side: their state for good, their values for the length of a step."""

    def __init__(self, members: list[Member]) -> None:
        size, dtype = sum(m.p.size for m in members), members[0].dtype
        self.members = members
        self.p, self.g = np.empty(size, dtype), np.empty(size, dtype)
        self.p_parts, self.g_parts = parts(self.p, members), parts(self.g, members)
        self.state = {key: np.empty(size, dtype) for key, _ in members[0].arrays}
        for key, flat in self.state.items():
            for m, part in zip(members, parts(flat, members), strict=True):
                part[...] = m.entries[key]
                m.keep(key, part)
        for m in members:
            m.lead = members[0]

    def step(self, apply: Apply, options: dict[str, Any]) -> None:
        for m, p, g in zip(self.members, self.p_parts, self.g_parts, strict=True):
            p[...] = m.p
            g[...] = m.parameter.grad
        apply(self.p, self.g, {**self.state, **self.members[0].count()}, options)
        for m, p in zip(self.members, self.p_parts, strict=True):
            m.p[...] = p


def blocks(members: list[Member]) -> list[Block]:
    """The members as pieces of work: large ones cut, small ones of one dtype and count in bundles."""
    made: list[Block] = []
    small: dict[Any, list[Member]] = {}
    for m in members:
        if m.p.size > SMALL:
            made.extend(Slice(m, slice(i, i + BLOCK)) for i in range(0, m.p.size, BLOCK))
            continue
        held = small.setdefault((m.dtype, *m.count().values()), [])
        if sum(s.p.size for s in held) + m.p.size > BLOCK:
            made.append(bundle(held))
            held.clear()
        held.append(m)
    return [*made, *(bundle(held) for held in small.values())]


def bundle(members: list[Member]) -> Block:
    """Members side by side; one alone needs no copies."""
    return Slice(members[0], slice(None)) if len(members) == 1 else Bundle(list(members))


def parts(flat: Array, members: list[Member]) -> list[Array]:
    """One array's consecutive parts, in the members' shapes."""
    ends = np.cumsum([m.p.size for m in members])
    return [flat[end - m.p.size : end].reshape(m.shape) for m, end in zip(members, ends, strict=True)]


def apart(members: list[Member]) -> list[Member]:
    """The members whose memory no other member's overlaps: threads must not meet in it."""
    spans = sorted((*np.lib.array_utils.byte_bounds(m.p), i) for i, m in enumerate(members) if m.p.size)
    met: set[int] = set()
    end, owner = 0, -1
    for low, high, i in spans:
        if low < end:
            met |= {i, owner}
        if high > end:
            end, owner = high, i
    return [m for i, m in enumerate(members) if i not in met]


# --- the rules, operation for operation as in their formulas ---------------------------------------


def sgd(p: Array, g: Array, state: dict[str, Any], options: dict[str, Any]) -> None:
    """`optim.SGD.update`."""
    u = scratch("step", p.shape, p.dtype)
    momentum, dampening = options["momentum"], options["dampening"]
    g = decayed(p, g, options)
    if momentum:
        b = state["momentum_buffer"]
        b *= momentum
        b += np.multiply(g, 1 - dampening, u) if dampening else g
        g = np.add(g, np.multiply(b, momentum, u), u) if options["nesterov"] else b
    p -= np.multiply(g, options["lr"], u)


def adam(p: Array, g: Array, state: dict[str, Any], options: dict[str, Any]) -> None:
    """`optim.Adam.update`, with the decay inside the gradient."""
    adam_step(p, decayed(p, g, options), state, options)


def adamw(p: Array, g: Array, state: dict[str, Any], options: dict[str, Any]) -> None:
    """`optim.AdamW.update`, with the decay beside the step."""
    if options["weight_decay"]:
        p *= 1 - options["lr"] * options["weight_decay"]
    adam_step(p, g, state, options)


def adam_step(p: Array, g: Array, state: dict[str, Any], options: dict[str, Any]) -> None:
    """Both moments, and the step along their quotient."""
    (beta1, beta2), t, m, v = options["betas"], state["step"], state["exp_avg"], state["exp_avg_sq"]
    u = scratch("step", p.shape, p.dtype)
    m *= beta1
    m += np.multiply(g, 1 - beta1, u)
    v *= beta2
    np.multiply(g, 1 - beta2, u)
    u *= g
    v += u
    np.sqrt(v, u)
    u *= (1 - beta2**t) ** -0.5
    u += options["eps"]
    np.divide(m, u, u)
    u *= options["lr"] / (1 - beta1**t)
    p -= u


def rmsprop(p: Array, g: Array, state: dict[str, Any], options: dict[str, Any]) -> None:
    """`optim.RMSprop.update`."""
    u, v, alpha = scratch("step", p.shape, p.dtype), state["square_avg"], options["alpha"]
    g = decayed(p, g, options)
    v *= alpha
    v += np.multiply(np.multiply(g, g, u), 1 - alpha, u)
    if options["centered"]:
        a = state["grad_avg"]
        a *= alpha
        a += np.multiply(g, 1 - alpha, u)
        np.subtract(v, np.multiply(a, a, u), u)
        np.sqrt(u, u)
    else:
        np.sqrt(v, u)
    u += options["eps"]
    np.divide(g, u, u)
    if options["momentum"]:
        b = state["momentum_buffer"]
        b *= options["momentum"]
        b += u
        np.multiply(b, options["lr"], u)
    else:
        u *= options["lr"]
    p -= u


def decayed(p: Array, g: Array, options: dict[str, Any]) -> Array:
    """g + weight_decay p; g itself where there is no decay."""
    if not options["weight_decay"]:
        return g
    sum_ = scratch("decayed", p.shape, p.dtype)
    np.multiply(p, options["weight_decay"], sum_)
    sum_ += g
    return sum_


def sgd_keeps(options: dict[str, Any]) -> tuple[str, ...]:
    return ("momentum_buffer",) if options["momentum"] else ()


def rmsprop_keeps(options: dict[str, Any]) -> tuple[str, ...]:
    return ("square_avg", *(["grad_avg"] * options["centered"]), *sgd_keeps(options))


def adam_keeps(_: dict[str, Any]) -> tuple[str, ...]:
    return "exp_avg", "exp_avg_sq"


# --- which formula has which rule ------------------------------------------------------------------

_walks: dict[str, list[Callable[[], Any]]] = {}


def register(formula: str, walk: Callable[[], Any]) -> None:
    """Makes a faster way known of stepping by `formula`, the full name of an optimizer's `update`.

    walk() has a method step(due, state, options) such as `NumpyWalk.step`, which leaves what it cannot take.
    """
    _walks.setdefault(formula, []).append(walk)


def walks(update: Any) -> list[Any]:
    """A new walk of every kind that is registered for an optimizer's `update`.

    It is found by the formula's full name, so a subclass with an `update` of its own has none.
    """
    return [walk() for walk in _walks.get(f"{update.__module__}.{update.__qualname__}", ())]


RULES = {
    "sgd.SGD": Rule(sgd, sgd_keeps),
    "adam.Adam": Rule(adam, adam_keeps, counts=True),
    "adam.AdamW": Rule(adamw, adam_keeps, counts=True),
    "rmsprop.RMSprop": Rule(rmsprop, rmsprop_keeps),
}
for name, rule in RULES.items():
    register(f"minires.optim.{name}.update", functools.partial(NumpyWalk, rule))
