"""The whole idea on one page: reverse-mode differentiation of scalars, in plain Python.

A `Value` is a number that remembers what it was made from, and how fast it changes with each of these: for
y = a * b it keeps (a, b) and (b, a), since dy/da = b and dy/db = a. Backward is the chain rule, edge by edge:

    grad of the input  +=  slope along the edge  *  grad of the value

Take the diamond of every residual network, y = x + f(x). Two edges lead from y back to x: one straight, the
skip, with slope 1, and one through f, with slope f'(x). The += adds them: the famous "+1", tutorial 1, (1.4):

    >>> x = Value(3)
    >>> f = x**2 / 2                 # f'(x) = x
    >>> y = x + f
    >>> y.backward()
    >>> f.grad, x.grad               # dy/df = 1, and dy/dx = 1 + f'(3)
    (Fraction(1, 1), Fraction(4, 1))

Integers become fractions, so + - * / and integer powers are exact. `python -m minires.scalar` prints the same
block step by step, and then twenty of them.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import count

Number = int | float | Fraction


class Value:
    """A number, the values it was made from, and its gradient.

    data     the number: a Fraction, or a float once a float, exp, log or tanh came in
    grad     dy/d(this value), after y.backward()
    edges    (input, slope) for each input: how fast `data` changes with it
    serial   its place in the order of creation
    """

    __slots__ = ("data", "edges", "grad", "serial")
    _serials = count()

    def __init__(self, data: Number, *edges: tuple[Value, Number]) -> None:
        self.data = Fraction(data) if isinstance(data, int) else data
        self.grad: Number = Fraction(0)
        self.edges = edges
        self.serial = next(Value._serials)

    # --- each operation: its value, and its slope along every edge

    def __add__(self, other: Value | Number) -> Value:
        a, b = self, lift(other)
        return Value(a.data + b.data, (a, 1), (b, 1))

    def __mul__(self, other: Value | Number) -> Value:
        a, b = self, lift(other)
        return Value(a.data * b.data, (a, b.data), (b, a.data))

    def __pow__(self, n: Number) -> Value:
        return Value(self.data**n, (self, n * self.data ** (n - 1) if n else 0))

    def relu(self) -> Value:
        return Value(max(self.data, 0), (self, 1 if self.data > 0 else 0))  # slope 0 at the kink itself

    def exp(self) -> Value:
        return Value(y := math.exp(self.data), (self, y))

    def log(self) -> Value:
        return Value(math.log(self.data), (self, 1 / self.data))

    def tanh(self) -> Value:
        return Value(y := math.tanh(self.data), (self, 1 - y * y))

    # --- and what follows from these

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Value:
        return self * -1

    def __sub__(self, other: Value | Number) -> Value:
        return self + -lift(other)

    def __truediv__(self, other: Value | Number) -> Value:
        return self * lift(other) ** -1

    def __rsub__(self, other: Number) -> Value:
        return lift(other) - self

    def __rtruediv__(self, other: Number) -> Value:
        return lift(other) / self

    def __repr__(self) -> str:
        return f"Value({self.data}, grad={self.grad})"

    # --- the chain rule

    def history(self) -> list[Value]:
        """This value and all that it depends on, each once, the youngest first."""
        reached, waiting = {self}, [self]
        while waiting:
            for x, _ in waiting.pop().edges:
                if x not in reached:
                    reached.add(x)
                    waiting.append(x)
        return sorted(reached, key=lambda v: v.serial, reverse=True)

    def backward(self) -> None:
        """Sets `grad` of every value in the history to d(self)/d(value).

        Inputs are older than what is made from them. So, youngest first, each value's turn comes when its grad
        is complete, and it passes it on once, however many paths lead to it: tutorial 1, (1.6).
        """
        values = self.history()
        for v in values:
            v.grad = Fraction(0)
        self.grad = Fraction(1)
        for v in values:
            for x, slope in v.edges:
                x.grad += slope * v.grad


def lift(x: Value | Number) -> Value:
    """x as a Value; a plain number becomes a constant, with no edges."""
    return x if isinstance(x, Value) else Value(x)


def main() -> None:
    """Prints where the gradient of a residual block comes from, and what becomes of it in depth."""
    x, w = Value(3), Value(Fraction(1, 2))
    f = w * x**2
    y = x + f
    (_, skip), (_, branch) = y.edges
    f.backward()
    print(f"A residual block, y = x + f(x), with f(x) = w x^2, x = {x.data} and w = {w.data}: y = {y.data}\n")
    print(f"  by the skip    {skip}                    <- the +1")
    print(f"  through f      {branch} * f'(x)         = {branch * x.grad}")
    y.backward()
    print(f"  together       dy/dx = 1 + f'(x) = {x.grad}\n")
    x = plain = residual = Value(1)
    for _ in range(20):
        plain, residual = plain / 10, residual + residual / 10
    print("Twenty of them, with f(x) = x / 10:\n")
    for name, out in ("without skips", plain), ("with skips   ", residual):
        out.backward()
        print(f"  {name}  dy/dx = {float(x.grad):.3g}")


if __name__ == "__main__":
    main()
