"""What can be explained by name: an expression, an op on small random numbers, a residual block, the skip itself."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from minires import backend, nn
from minires import functional as F
from minires.backend import Array
from minires.check import Case, Seeded, Subject, subjects
from minires.engine import Tensor
from minires.errors import RequestError
from minires.explain.build import backward
from minires.explain.expression import EXAMPLE, Expression
from minires.explain.figure.measure import BLOCK
from minires.explain.printing import norm
from minires.explain.tape import record
from minires.explain.walk import Walk
from minires.models.preact_resnet import PreActBlock
from minires.models.resnet import BasicBlock, Bottleneck
from minires.switches import enable_grad, formulas_only
from minires.where import SYMBOLS, Index

ALIASES = {"attention": "scaled_dot_product_attention"}
WITHOUT_GRADIENT = ("argmax", "argmin", "one_hot")  # they give integers
DRAWS = 100  # cases among which a small one is taken,
CHOICES = 8  # the first of this many that gives every input a gradient,
LEAST = 4  # of at least so many entries: with fewer, sums and means have nothing to show
ONES = ("stride", "padding", "dilation", "groups", "gain", "delta", "alpha", "beta", "low", "high", "before", "after")
USUAL = {**dict.fromkeys(ONES, 1.0), "slope": 0.1, "threshold": 5.0}  # of an option's numbers; else 2 for sizes, and 0
BY_ENTRY = ("elementwise", "activation")  # families whose ops show most on plain numbers


def walk(subject: str, values: Mapping[str, Array] | None = None, seed: int = 0) -> Walk:
    """The walk of whatever the name or the expression means.

    subject    an expression ("x + tanh(w * x)"), an op ("conv2d", "+"), a block (see `BLOCKS`)
    values     of an expression's variables; the rest is drawn
    seed       of what is drawn

    Raises RequestError for anything else, with the nearest name.
    """
    if subject in BLOCKS or not _is_expression(subject):
        if values:
            raise RequestError(f"--at is for the names in an expression, but {subject} is none; drop it")
        return block(subject, seed) if subject in BLOCKS else op(subject, seed)
    return expression(subject, values, seed=seed)


def _is_expression(subject: str) -> bool:
    return not re.fullmatch(r"[A-Za-z_][\w.]*|[-+*/@]|\*\*|\[\]|\+1", subject.strip())


# --- an expression


def expression(text: str, at: Mapping[str, Any] | None = None, gy: Any = None, *, seed: int = 0) -> Walk:
    """The walk of an expression, as `expression("x + tanh(w * x)", {"x": 0.5, "w": 2})`.

    at      numbers or arrays by name
    gy      what arrives at the result; 1 for a number, drawn for an array
    seed    of what is drawn: numbers for the names that have no value, to two decimals

    Raises RequestError for what is no expression, a value for a name that it does not have, a result that depends on
    no variable, and a step whose value or gradient is not finite.
    """
    program, values = Expression(text), at or {}
    strange = next((name for name in values if name not in program.variables), None)
    if strange is not None:
        there = f"its names are {', '.join(program.variables)}" if program.variables else "there is no name in it"
        raise RequestError(f"explain: {program.text!r} has no {strange}; {there}")
    if not program.variables:
        raise RequestError(f"explain: {program.text!r} has no variable, so nothing has a gradient; write as in 'x**2'")
    rng = np.random.default_rng(_checked(seed))
    leaves = {}
    for name in program.variables:
        drawn = _drawn(rng)  # also where it is not needed: so no value hangs on which others are given
        leaves[name] = _leaf(np.array(values.get(name, drawn), dtype=np.float64))
    free = [name for name in program.variables if name not in values]
    title = program.text + (f"    with {' and '.join(free)} drawn from seed {seed}" if free else "")
    found = _walked(lambda: program(leaves), leaves, title, rng, gy)
    _require_finite(found)
    return found


def _require_finite(found: Walk) -> None:
    for step in found.steps:
        for value in step.makes:
            if value.array is not None and not np.all(np.isfinite(value.array)):
                wrong = value.array[~np.isfinite(value.array)].flat[0]
                raise RequestError(
                    f"explain: step {step.number}, {step.op}, is not finite: {step.forward[0].text} gives {wrong}; "
                    "choose other numbers with --at"
                )
    for step in reversed(found.steps):
        for term in step.terms:
            if not np.all(np.isfinite(term.gradient)):
                raise RequestError(
                    f"explain: the gradient of step {step.number}, {step.op}, is not finite at these numbers; "
                    "choose others with --at"
                )


# --- an op


def op(name: str, seed: int = 0) -> Walk:
    """The walk of one op on small random numbers, those that `minires check` draws for it.

    name    as in `minires.functional`, of a class or a layer, or an operator's sign

    Raises RequestError, with the nearest names, for what is none.
    """
    subject = _subject(name)
    found = []
    for case in _small_ones(subject, _checked(seed)):
        found.append(_of_case(subject, case, seed, name))
        if _is_telling(found[-1]):
            return found[-1]
    return next((walk for walk in found if not _has_zero(walk)), found[0])


def _subject(name: str) -> Subject:
    known = subjects()
    wanted = SYMBOLS.get(name, ALIASES.get(name, name))
    if wanted in WITHOUT_GRADIENT:
        raise RequestError(f"explain: {wanted} gives integers, and they have no gradient; name another op, as softmax")
    found = next((s for s in known if wanted in (s.name, s.op.__name__)), None)
    if found is not None:
        return found
    try:
        classes = _index().classes(wanted)
    except RequestError as error:
        end = "" if str(error).endswith("?") else "."
        raise RequestError(
            f"explain: {error}{end} Or name a block: {', '.join(BLOCKS)}; or give an expression, as {EXAMPLE!r}"
        ) from None
    found = next((s for c in classes for s in known if s.op.__name__ == c), None)
    if found is None:
        raise RequestError(f"explain: no case draws inputs for {name}; name one of its ops: {', '.join(classes)}")
    return found


@functools.cache
def _index() -> Index:
    return Index()


def _of_case(subject: Subject, case: Case, seed: int, asked: str) -> Walk:
    leaves = case.leaves(case.inputs)
    names = {re.sub(r"xs\[(\d+)\]", r"x_\1", subject.input_name(i)): leaf for i, leaf in enumerate(leaves)}
    present = {name: leaf for name, leaf in names.items() if hasattr(leaf, "shape")}
    options = "".join(f", {k}={v}" for k, v in case.options.items() if v is not None and not isinstance(v, np.ndarray))
    behind = f", the op behind {asked}" if asked in vars(F) and asked != subject.name else ""
    title = f"{subject.name}({', '.join(present)}{options}){behind}"
    rng = np.random.default_rng((seed, 1))
    return _walked(lambda: subject.op.apply(*leaves, **case.options), present, title, rng)


def _has_zero(walk: Walk) -> bool:
    return any(norm(walk.gradient(leaf)) < 1e-6 for leaf in walk.leaves)


def _is_telling(walk: Walk) -> bool:
    """Whether every input has a gradient, and not just a copy of what arrived."""
    arrived = list(walk.seeds.values())
    if _has_zero(walk) or not all(gy.size for gy in arrived):
        return False
    return not any(np.array_equal(walk.gradient(leaf), arrived[0]) for leaf in walk.leaves)


def _small_ones(subject: Subject, seed: int) -> list[Case]:
    """Of the cases drawn from the seed, the smallest and plainest."""
    by_entry = subject.op.__module__.rpartition(".")[2] in BY_ENTRY

    def size(case: Case) -> tuple[bool, float]:
        entries = sum(np.size(x) for x in case.inputs if x is not None)
        if by_entry:
            return not all(isinstance(x, np.ndarray) and x.ndim == 0 for x in case.inputs), _oddity(case)
        return entries < LEAST, entries + 4 * _oddity(case)

    cases = [subject.draw(Seeded((seed, k))) for k in range(DRAWS)]
    full = [c for c in cases if c.checked and all(np.size(x) for x in c.inputs if x is not None)]
    return sorted(full, key=size)[:CHOICES]


def _oddity(case: Case) -> float:
    """How far the options are from the plainest."""
    far = 0.0
    for name, value in case.options.items():
        usual = 2.0 if "size" in name or "shape" in name else USUAL.get(name, 0.0)
        far += sum(abs(float(number) - usual) for number in re.findall(r"\d+\.?\d*", str(value)))
        far += 9 * any(word in str(value) for word in ("inf", "longdouble"))
    return far


# --- a block


def block(name: str = "block", seed: int = 0) -> Walk:
    """The walk of a residual block with tiny sizes; see `BLOCKS` for the names.

    Raises RequestError for another name.
    """
    if name not in BLOCKS:
        raise RequestError(f"explain: no block is called {name}; there are {', '.join(BLOCKS)}")
    return BLOCKS[name](_checked(seed))


def _skip(seed: int) -> Walk:
    """y = x + tanh(W x), with the numbers of the interactive figure, whatever the seed."""
    leaves = {"x": _leaf(np.array(BLOCK["x"])), "W": _leaf(np.array(BLOCK["w"]))}

    def run() -> Tensor:
        return F.residual_add(leaves["x"], F.tanh(F.matmul(leaves["W"], leaves["x"])))

    return _walked(run, leaves, "y = x + tanh(W x), the figure's block", np.random.default_rng(0), np.array(BLOCK["g"]))


def _two_layers(seed: int) -> Walk:
    rng = np.random.default_rng(seed)
    leaves = {name: _leaf(_drawn(rng, *shape)) for name, shape in (("x", (2,)), ("W1", (2, 2)), ("W2", (2, 2)))}

    def run() -> Tensor:
        h = F.tanh(F.matmul(leaves["W1"], leaves["x"]))
        return F.residual_add(leaves["x"], F.matmul(leaves["W2"], h))

    return _walked(run, leaves, "y = x + W2 tanh(W1 x)", rng)


def _images(make: Callable[[], nn.Module], channels: int, title: str) -> Callable[[int], Walk]:
    return _module(make, (1, channels, 3, 3), title)


def _module(make: Callable[[], nn.Module], shape: tuple[int, ...], title: str) -> Callable[[int], Walk]:
    def walked(seed: int) -> Walk:
        rng = np.random.default_rng(seed)
        with _drawing(seed):
            module = make().to(np.float64)
        x = _leaf(_drawn(rng, *shape))
        return _walked(lambda: module(x), {"x": x, **dict(module.named_parameters())}, title, rng)

    return walked


def _feed_forward(norm: str) -> nn.Module:
    branch = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
    return nn.Residual(branch, norm=norm, norm_layer=nn.LayerNorm(4))


BLOCKS: dict[str, Callable[[int], Walk]] = {
    "block": _two_layers,
    "skip": _skip,
    "basic": _images(lambda: BasicBlock(2, 2, 1), 2, "y = relu(x + F(x)), a basic block of a ResNet"),
    "bottleneck": _images(lambda: Bottleneck(4, 4, 1), 4, "y = relu(x + F(x)), a bottleneck of a ResNet"),
    "preact": _images(lambda: PreActBlock(2, 2), 2, "y = x + F(relu(bn(x))), a pre-activation block"),
    "prenorm": _module(lambda: _feed_forward("pre"), (2, 4), "y = x + F(norm(x)), pre-norm"),
    "postnorm": _module(lambda: _feed_forward("post"), (2, 4), "y = norm(x + F(x)), post-norm"),
}


# --- what all have in common


def _walked(
    run: Callable[[], Any],
    names: Mapping[str, Any],
    title: str,
    rng: np.random.Generator,
    gy: Any = None,
) -> Walk:
    """Forward by the ops' own formulas, and back; what arrives at an array is drawn, unless it is given."""
    with formulas_only(), enable_grad(), np.errstate(all="ignore"), record() as seen:
        made = run()
        results = [
            y for y in (made if isinstance(made, tuple) else (made,)) if isinstance(y, Tensor) and y.requires_grad
        ]
        if not results:
            raise RequestError(f"explain: nothing with a gradient comes out of {title}")
        gys = [gy] if gy is not None else [_drawn(rng, *y.shape) if y.ndim else None for y in results]
        several = len(results) > 1
        result, arriving = (results, gys) if several else (results[0], gys[0])
        return backward(result, arriving, names, seen=seen, title=title)


def _leaf(array: Array) -> Tensor:
    return Tensor(array, requires_grad=True)


def _drawn(rng: np.random.Generator, *shape: int) -> Array:
    """Numbers of either sign, none near 0, to two decimals, so that what is printed is the whole number."""
    return np.asarray(np.round(np.copysign(rng.uniform(0.2, 1.5, shape), rng.standard_normal(shape)), 2))


@contextmanager
def _drawing(seed: int) -> Iterator[None]:
    """minires' generator from this seed, and as it was afterwards."""
    before = backend.generator_state()
    backend.manual_seed(seed)
    try:
        yield
    finally:
        backend.set_generator_state(before)


def _checked(seed: int) -> int:
    if seed < 0:
        raise RequestError(f"--seed {seed} is not usable: it must be at least 0")
    return seed
