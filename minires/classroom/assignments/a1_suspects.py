"""Scalar programs, their gradient by adding up paths, and engines that walk them in the wrong way.

A program is a list of nodes in the order they are made. What an answer to A1 made of it is compared with what each
wrong engine would have made: numbers are exact, so that equal means equal.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

Gradients = list[Any]  # one number a node: Fraction, int or float
Edges = list[list[tuple[int, Any]]]  # for each node (input, slope), in the order of the operands
Walk = Callable[[Edges], Gradients]  # backward from the last node


@dataclass(frozen=True)
class Node:
    """A leaf with a value, or a sign, + or *, and the numbers of its two operands."""

    sign: str
    value: int = 0
    operands: tuple[int, int] = (0, 0)


Program = tuple[Node, ...]


def name(i: int) -> str:
    """a, b, ..., z, a1, b1, ..."""
    return chr(ord("a") + i % 26) + (str(i // 26) if i >= 26 else "")


def text(program: Program) -> str:
    """As a reader writes it: "a = 3; b = a * a; b.backward()"."""
    lines = [
        f"{name(i)} = {n.value}" if n.sign == "leaf" else f"{name(i)} = {f' {n.sign} '.join(map(name, n.operands))}"
        for i, n in enumerate(program)
    ]
    return "; ".join([*lines, f"{name(len(program) - 1)}.backward()"])


def values(program: Program) -> list[Fraction]:
    """The value of every node."""
    found: list[Fraction] = []
    for node in program:
        if node.sign == "leaf":
            found.append(Fraction(node.value))
        else:
            a, b = (found[i] for i in node.operands)
            found.append(a + b if node.sign == "+" else a * b)
    return found


Slopes = Callable[[Any, Any], tuple[Any, Any]]
RIGHT_SLOPES: dict[str, Slopes] = {"+": lambda a, b: (1, 1), "*": lambda a, b: (b, a)}


def edges(program: Program, slopes: dict[str, Slopes] = RIGHT_SLOPES) -> Edges:
    """The slopes along all edges."""
    at = values(program)
    found: Edges = []
    for node in program:
        i, j = node.operands
        found.append([] if node.sign == "leaf" else list(zip((i, j), slopes[node.sign](at[i], at[j]), strict=True)))
    return found


def by_paths(graph: Edges) -> Gradients:
    """For each node the sum over all paths from the last node to it, of the product of the slopes on the path."""
    found = [Fraction(0)] * len(graph)
    waiting = [(len(graph) - 1, Fraction(1))]
    while waiting:
        node, product = waiting.pop()
        found[node] += product
        waiting += [(i, product * slope) for i, slope in graph[node]]
    return found


@functools.cache
def truth(program: Program) -> Gradients:
    """The right gradients of all nodes."""
    return by_paths(edges(program))


# --- programs


def ladder() -> Iterator[Program]:
    """All programs with one leaf and up to three operations, each used by a later one; the shortest first."""
    for count in (1, 2, 3):
        for signs in itertools.product("+*", repeat=count):
            ranges = [itertools.combinations_with_replacement(range(k), 2) for k in range(1, count + 1)]
            for operands in itertools.product(*ranges):
                used = set(itertools.chain(*operands))
                if used == set(range(count)):
                    nodes = (Node(sign, 0, pair) for sign, pair in zip(signs, operands, strict=True))
                    yield (Node("leaf", 3), *nodes)


@functools.cache
def drawn(seed: int, count: int, operations: int) -> tuple[Program, ...]:
    """Random programs of two leaves; every operation takes what was made last, and anything before."""
    rng = np.random.default_rng(seed)
    found: list[Program] = []
    for _ in range(count):
        nodes = [Node("leaf", int(rng.choice([-3, -2, 2, 3]))), Node("leaf", int(rng.choice([5, 7, -5])))]
        for _ in range(operations):
            pair = [len(nodes) - 1, int(rng.integers(0, len(nodes)))]
            rng.shuffle(pair)
            nodes.append(Node(str(rng.choice(["+", "*"])), 0, (pair[0], pair[1])))
        found.append(tuple(nodes))
    return tuple(found)


@functools.cache
def trees(seed: int, count: int, leaves: int) -> tuple[Program, ...]:
    """Random programs in which every value is used once."""
    rng = np.random.default_rng(seed)
    found: list[Program] = []
    for _ in range(count):
        nodes = [Node("leaf", int(v)) for v in rng.choice([-3, -2, 2, 3, 5], leaves)]
        free = list(range(leaves))
        while len(free) > 1:
            i, j = (free.pop(int(rng.integers(0, len(free)))) for _ in range(2))
            nodes.append(Node(str(rng.choice(["+", "*"])), 0, (i, j)))
            free.append(len(nodes) - 1)
        found.append(tuple(nodes))
    return tuple(found)


# --- orders in which a walk may take the nodes


def _reached(graph: Edges) -> list[int]:
    seen, waiting = {len(graph) - 1}, [len(graph) - 1]
    while waiting:
        for i, _ in graph[waiting.pop()]:
            if i not in seen:
                seen.add(i)
                waiting.append(i)
    return sorted(seen)


def youngest_first(graph: Edges) -> list[int]:
    return _reached(graph)[::-1]


def nearest_first(graph: Edges) -> list[int]:
    """Breadth first."""
    found, queue = [len(graph) - 1], deque([len(graph) - 1])
    while queue:
        for i, _ in graph[queue.popleft()]:
            if i not in found:
                found.append(i)
                queue.append(i)
    return found


def _as_found(graph: Edges) -> list[int]:
    """As a stack of waiting nodes finds them."""
    found, waiting = [len(graph) - 1], [len(graph) - 1]
    while waiting:
        for i, _ in graph[waiting.pop()]:
            if i not in found:
                found.append(i)
                waiting.append(i)
    return found


def _as_popped(graph: Edges) -> list[int]:
    """Depth first from a stack, marked when taken."""
    found: list[int] = []
    waiting = [len(graph) - 1]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.append(node)
            waiting += [i for i, _ in graph[node]]
    return found


def _recursive(graph: Edges, after: bool) -> list[int]:
    """Depth first; each node before what it was made from, or after."""
    found: list[int] = []
    seen: set[int] = set()

    def visit(node: int) -> None:
        if node in seen:
            return
        seen.add(node)
        if not after:
            found.append(node)
        for i, _ in graph[node]:
            visit(i)
        if after:
            found.append(node)

    visit(len(graph) - 1)
    return found


def depth_first(graph: Edges) -> list[int]:
    return _recursive(graph, after=False)


def sorted_depth_first(graph: Edges) -> list[int]:
    return _recursive(graph, after=True)[::-1]


TOPOLOGICAL = (youngest_first, sorted_depth_first)
OTHER = (nearest_first, _as_found, _as_popped, depth_first)

# --- walks


def in_order(order: Callable[[Edges], list[int]], overwrite: bool = False, seed: int = 1) -> Walk:
    """Each node once, in this order: it hands slope times its gradient to each input, which adds it up, or not."""

    def walk(graph: Edges) -> Gradients:
        return accumulate(graph, order(graph), overwrite, seed)

    return walk


def accumulate(graph: Edges, order: Iterable[int], overwrite: bool = False, seed: int = 1) -> Gradients:
    """The same for an order that is given."""
    found: Gradients = [Fraction(0)] * len(graph)
    found[-1] = Fraction(seed)
    for node in order:
        for i, slope in graph[node]:
            found[i] = slope * found[node] + (0 if overwrite else found[i])
    return found


def at_every_arrival(overwrite: bool, waits: str = "") -> Walk:
    """At each arrival all of the gradient so far is passed on: by recursion, from a "queue" or a "stack"."""

    def walk(graph: Edges) -> Gradients:
        found: Gradients = [Fraction(0)] * len(graph)
        found[-1] = Fraction(1)

        def turn(node: int) -> None:
            for i, slope in graph[node]:
                found[i] = slope * found[node] + (0 if overwrite else found[i])
                turn(i)

        if not waits:
            turn(len(graph) - 1)
            return found
        waiting = deque([len(graph) - 1])
        while waiting:
            node = waiting.popleft() if waits == "queue" else waiting.pop()
            for i, slope in graph[node]:
                found[i] = slope * found[node] + (0 if overwrite else found[i])
                waiting.append(i)
        return found

    return walk


def all_inputs_first(graph: Edges) -> Gradients:
    """The recursion that hands out to all inputs, and then goes down each."""
    found: Gradients = [Fraction(0)] * len(graph)
    found[-1] = Fraction(1)

    def turn(node: int) -> None:
        for i, slope in graph[node]:
            found[i] += slope * found[node]
        for i, _ in graph[node]:
            turn(i)

    turn(len(graph) - 1)
    return found


def listed_twice(graph: Edges) -> Gradients:
    """In the right order, but a node stands in the history once for every path to it."""
    found, waiting = [len(graph) - 1], [len(graph) - 1]
    while waiting:
        inputs = [i for i, _ in graph[waiting.pop()]]
        found += inputs
        waiting += inputs
    return accumulate(graph, sorted(found, reverse=True))


def listed_at_each_edge(graph: Edges) -> Gradients:
    """In the right order, but a node stands in the history once for every edge to it."""
    found = [len(graph) - 1, *(i for node in _reached(graph) for i, _ in graph[node])]
    return accumulate(graph, sorted(found, reverse=True))


def second_sent_away(graph: Edges, backwards: bool = False) -> Gradients:
    """Along paths, with a note of who was there: whoever comes second to a node adds to it, but goes no further."""
    found: Gradients = [Fraction(0)] * len(graph)
    seen: set[int] = set()

    def walk(node: int, share: Any) -> None:
        found[node] += share
        if node in seen:
            return
        seen.add(node)
        for i, slope in reversed(graph[node]) if backwards else graph[node]:
            walk(i, slope * share)

    walk(len(graph) - 1, Fraction(1))
    return found


def one_step(graph: Edges) -> Gradients:
    """Also what comes of walking the oldest first: nothing has reached them when they have their turn."""
    return accumulate(graph, [len(graph) - 1])


@dataclass(frozen=True)
class WrongEngine:
    """A wrong walk, the name of its mistake, and what an answer does that walks like this."""

    cause: str
    told: str
    walk: Walk


LAST = "your numbers are those of an engine in which a second gradient replaces the first"
EARLY = "your numbers are those of an engine that passes gradients on too early"
AGAIN = "your numbers are those of an engine that passes one value's gradient on again and again"
ONE_STEP = "your numbers are those of an engine in which no value below the last operation has its turn in time"

WAITS = ("", "queue", "stack")

ENGINES: tuple[WrongEngine, ...] = (
    *(WrongEngine("OVERWRITES_GRADIENT", LAST, in_order(o, overwrite=True)) for o in (*TOPOLOGICAL, *OTHER)),
    *(WrongEngine("OVERWRITES_GRADIENT", LAST, at_every_arrival(True, waits)) for waits in WAITS),
    *(WrongEngine("NO_TOPOLOGICAL_ORDER", EARLY, in_order(order)) for order in OTHER),
    WrongEngine("NO_TOPOLOGICAL_ORDER", EARLY, second_sent_away),
    WrongEngine("NO_TOPOLOGICAL_ORDER", EARLY, lambda graph: second_sent_away(graph, backwards=True)),
    *(WrongEngine("DOUBLE_COUNT", AGAIN, at_every_arrival(False, waits)) for waits in WAITS),
    *(WrongEngine("DOUBLE_COUNT", AGAIN, walk) for walk in (all_inputs_first, listed_twice, listed_at_each_edge)),
    WrongEngine("ONE_STEP_ONLY", ONE_STEP, one_step),
    WrongEngine("NO_SEED", "all your gradients are 0", lambda graph: [Fraction(0)] * len(graph)),
)

WRONG_SLOPES: tuple[tuple[str, str, Slopes], ...] = (
    ("+", "+ hands nothing to its first operand", lambda a, b: (0, 1)),
    ("+", "+ hands nothing to its second operand", lambda a, b: (1, 0)),
    ("+", "+ hands on the operands' values, as if it were *", lambda a, b: (b, a)),
    ("+", "+ hands each operand its own value", lambda a, b: (a, b)),
    ("+", "+ hands on half to each, where each operand gets all of it", lambda a, b: (Fraction(1, 2), Fraction(1, 2))),
    ("*", "* hands each operand its own value: d(a b)/da is b, not a", lambda a, b: (a, b)),
    ("*", "* has slope 1 to both operands, as if it were +", lambda a, b: (1, 1)),
    ("*", "* hands nothing to its second operand", lambda a, b: (b, 0)),
    ("*", "* hands nothing to its first operand", lambda a, b: (0, a)),
    ("*", "* hands the product itself to both operands", lambda a, b: (a * b, a * b)),
)


def same(got: Sequence[Any], expected: Sequence[Any]) -> bool:
    """Equal numbers; floats to nine digits."""
    try:
        pairs = [(float(g), float(e)) for g, e in zip(got, expected, strict=True) if g != e]
    except (TypeError, ValueError, OverflowError):
        return False
    return all(abs(g - e) <= 1e-9 * max(1.0, abs(e)) for g, e in pairs)


def named(programs: Sequence[Program], answers: Sequence[Gradients]) -> tuple[str, str] | None:
    """(cause, what is done) of the one mistake by which every program gets its answer; None where there is none."""
    found: dict[str, str] = {}
    for cause, told, wrong in _all_wrong(tuple(programs)):
        if all(same(got, want) for got, want in zip(answers, wrong, strict=True)):
            found.setdefault(cause, told)
    return next(iter(found.items())) if len(found) == 1 else None


@functools.cache
def _all_wrong(programs: tuple[Program, ...]) -> list[tuple[str, str, list[Gradients]]]:
    """What each mistake would make of the programs."""
    graphs = [edges(program) for program in programs]
    found = [(engine.cause, engine.told, [engine.walk(graph) for graph in graphs]) for engine in ENGINES]
    for sign, told, slopes in WRONG_SLOPES:
        wrong = [by_paths(edges(program, RIGHT_SLOPES | {sign: slopes})) for program in programs]
        found.append(("WRONG_LOCAL_SLOPE", told, wrong))
    return found


def in_some_order(graph: Edges, got: Gradients) -> bool:
    """Whether this is what comes of giving each node one turn, in some order; for up to seven nodes."""
    nodes = youngest_first(graph)
    return len(nodes) <= 7 and any(same(got, accumulate(graph, order)) for order in itertools.permutations(nodes))
