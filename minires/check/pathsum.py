"""The chain rule taken at its word: a gradient as the sum over all paths of the product of local Jacobians.

    dL/dx = sum over the paths p from L down to x of  gy J_1 J_2 ... J_n,  one J for each step of p

An engine for reading, and for checking the other one. It goes down every path on its own, so a stack of n diamonds
costs 2^n; it keeps no tape, adds up nothing on the way, and knows no backward formula: each local Jacobian comes
from the step's own forward, by complex step. The sum over paths is Bauer's (1974, Computational Graphs and Rounding
Error).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from minires.backend import Array
from minires.check.differentiate import complex_step


@dataclass(frozen=True, eq=False)
class Node:
    """A value, and the nodes it was made of, each with the Jacobian of this value by that one.

    Attributes
        value     the array
        parents   (node, Jacobian of shape (value.size, node.value.size)) in the order of the arguments; a node that
                  is used twice stands there twice
    """

    value: Array
    parents: tuple[tuple[Node, Array], ...] = ()


def step(f: Callable[..., Array], *arguments: Node | Array) -> Node:
    """The node f(*arguments), for an f on plain arrays that also holds for complex ones."""
    values = [a.value if isinstance(a, Node) else a for a in arguments]
    tracked = [(k, a) for k, a in enumerate(arguments) if isinstance(a, Node)]
    return Node(np.asarray(f(*values)), tuple((a, _jacobian(f, values, k)) for k, a in tracked))


def paths(root: Node, x: Node) -> Iterator[tuple[Array, ...]]:
    """The Jacobians along each path from root down to x, root's first; for root itself one path without steps."""
    if root is x:
        yield ()
    for parent, jacobian in root.parents:
        for rest in paths(parent, x):
            yield (jacobian, *rest)


def terms(root: Node, x: Node, gy: Array) -> list[Array]:
    """What each path contributes to the gradient of <gy, root> by x."""
    found = []
    for path in paths(root, x):
        g = np.asarray(gy).reshape(-1)
        for jacobian in path:
            g = g @ jacobian
        found.append(g.reshape(x.value.shape))
    return found


def gradient(root: Node, x: Node, gy: Array) -> Array:
    """The gradient of <gy, root> by x: the sum over all paths; zeros where none leads there."""
    return sum(terms(root, x, gy), np.zeros(x.value.shape))


def count(root: Node, x: Node) -> int:
    """How many paths lead from root to x."""
    return int(root is x) + sum(count(parent, x) for parent, _ in root.parents)


def _jacobian(f: Callable[..., Array], values: Sequence[Array], k: int) -> Array:
    """df / d(argument k), both flattened."""
    x = np.asarray(values[k])
    columns = []
    for unit in np.eye(x.size):

        def along(h: complex, unit: Array = unit) -> list[Array]:
            moved = [*values[:k], x + h * unit.reshape(x.shape), *values[k + 1 :]]
            return [np.asarray(f(*moved))]

        columns.append(complex_step(along)[0].reshape(-1))
    return np.stack(columns, axis=1) if columns else np.zeros((np.asarray(f(*values)).size, 0))
