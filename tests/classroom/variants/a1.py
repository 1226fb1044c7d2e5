"""Right scalar engines."""

from __future__ import annotations

from tests.classroom.variants.draw import Draw, filled


def engine(pick: Draw) -> tuple[dict[str, str], str]:
    zero, one = pick("Fraction(0) Fraction(1)", "0 1", "0.0 1.0", "Fraction(0,7) Fraction(3,3)").split()
    functions = {
        "Value.__add__": pick(
            "def __add__(self, other):\n    o = lift(other)\n    return Value(self.data + o.data, (self, 1), (o, 1))",
            "def __add__(self, other):\n    b = lift(other)\n    return Value(b.data + self.data, (b, 1.0), (self, 1))",
            "def __add__(self, other):\n    pair = [self, lift(other)]\n"
            "    return Value(sum(v.data for v in pair), *((v, Fraction(1)) for v in pair))",
        ),
        "Value.__mul__": pick(
            "def __mul__(self, other):\n    other = lift(other)\n"
            "    return Value(self.data * other.data, (self, other.data), (other, self.data))",
            "def __mul__(self, other):\n    a, b = self, lift(other)\n"
            "    out = Value(b.data * a.data, (b, a.data), (a, b.data))\n    return out",
        ),
        "Value.tanh": pick(
            "def tanh(self):\n    y = math.tanh(self.data)\n    return Value(y, (self, 1 - y**2))",
            "def tanh(self):\n    y = math.tanh(self.data)\n    return Value(y, (self, (1 - y) * (1 + y)))",
            "def tanh(self):\n    x = float(self.data)\n    return Value(math.tanh(x), (self, 1 / math.cosh(x) ** 2))",
            "def tanh(self):\n    e = math.exp(2 * self.data)\n    y = (e - 1) / (e + 1)\n"
            "    return Value(y, (self, 4 * e / (e + 1) ** 2))",
        ),
        "Value.history": history(pick),
    }
    functions["Value.backward"] = filled(
        pick(
            """
def backward(self):
    {nodes}
    for v in nodes:
        v.grad = {zero}
    self.grad = {one}
    for v in nodes:
        for {edge} in v.edges:
            {add}
""",
            """
def backward(self):
    {nodes}
    grads = {v: {zero} for v in nodes}
    grads[self] = {one}
    for v in nodes:
        g = grads[v]
        for x, slope in v.edges:
            grads[x] = grads[x] + g * slope
    for v in nodes:
        v.grad = grads[v]
""",
            """
def backward(self):
    {nodes}
    users = {v: [] for v in nodes}
    for v in nodes:
        for x, slope in v.edges:
            users[x].append((v, slope))
    for v in nodes:
        v.grad = {one} if v is self else sum((slope * u.grad for u, slope in users[v]), {zero})
""",
        ),
        nodes=pick(
            "nodes = self.history()",
            "nodes = list(self.history())",
            "nodes = topological(self)",
            "nodes = sorted(topological(self), key=lambda v: -v.serial)",
        ),
        zero=zero,
        one=one,
        edge=pick("x, slope", "(x, slope)"),
        add=pick("x.grad += slope * v.grad", "x.grad = x.grad + v.grad * slope", "hand(x, slope, v)"),
    )
    return functions, HELPERS


HELPERS = '''
def topological(root):
    """All that root depends on, each after all that was made from it."""
    order, seen, waiting = [], set(), [(root, False)]
    while waiting:
        v, done = waiting.pop()
        if done:
            order.append(v)
        elif id(v) not in seen:
            seen.add(id(v))
            waiting.append((v, True))
            waiting.extend((x, False) for x, _ in v.edges)
    return order[::-1]


def hand(x, slope, v):
    x.grad += v.grad * slope
'''


def history(pick: Draw) -> str:
    return filled(
        pick(
            """
def history(self):
    reached, waiting = {self}, [self]
    while waiting:
        v = waiting.pop({end})
        for x, _ in v.edges:
            if x not in reached:
                reached.add(x)
                waiting.append(x)
    return {ordered}
""",
            """
def history(self):
    found, reached = [self], {self}
    for v in found:
        new = [x for x, _ in v.edges if x not in reached]
        for x in new:
            if x not in reached:
                reached.add(x)
                found.append(x)
    return {ordered}
""",
            "def history(self):\n    return topological(self)",
            """
def history(self):
    count, waiting, reached = {self: 0}, [self], {self}
    while waiting:
        for x, _ in waiting.pop().edges:
            count[x] = count.get(x, 0) + 1
            if x not in reached:
                reached.add(x)
                waiting.append(x)
    order, free = [], [self]
    while free:
        v = free.pop()
        order.append(v)
        for x, _ in v.edges:
            count[x] -= 1
            if not count[x]:
                free.append(x)
    return order
""",
        ),
        end=pick("", "0"),
        ordered=pick(
            "sorted(reached, key=lambda v: v.serial, reverse=True)",
            "sorted(reached, key=lambda v: -v.serial)",
            "list(reversed(sorted(list(reached), key=lambda v: v.serial)))",
        ),
    )
