"""Wrong scalar engines."""

from tests.classroom.mistakes import Mistake, mistake


def recursive(body: str) -> str:
    """A backward with a recursion beside it, started from self with gradient 1, all others 0."""
    return f"""
def backward(self):
    for v in self.history():
        v.grad = Fraction(0)
    self.grad = Fraction(1)

{body}
    go(self)
"""


A1: tuple[Mistake, ...] = (
    mistake(
        "OVERWRITES_GRADIENT",
        "= for +=",
        Value__backward="""
def backward(self):
    values = self.history()
    for v in values:
        v.grad = Fraction(0)
    self.grad = Fraction(1)
    for v in values:
        for x, slope in v.edges:
            x.grad = slope * v.grad
""",
    ),
    mistake(
        "OVERWRITES_GRADIENT",
        "depth-first sort, = for +=",
        also=("RECURSION_LIMIT",),
        Value__backward="""
def backward(self):
    order, seen = [], set()
    def build(v):
        if v not in seen:
            seen.add(v)
            for x, _ in v.edges:
                build(x)
            order.append(v)
    build(self)
    for v in order:
        v.grad = Fraction(0)
    self.grad = Fraction(1)
    for v in reversed(order):
        for x, slope in v.edges:
            x.grad = slope * v.grad
""",
    ),
    mistake(
        "OVERWRITES_GRADIENT",
        "recursion, = for +=",
        also=("RECURSION_LIMIT", "EXPONENTIAL_TIME"),
        Value__backward=recursive("""
    def go(v):
        for x, slope in v.edges:
            x.grad = slope * v.grad
            go(x)
"""),
    ),
    mistake(
        "NO_TOPOLOGICAL_ORDER",
        "breadth first",
        Value__history="""
def history(self):
    reached, queue = [self], [self]
    while queue:
        for x, _ in queue.pop(0).edges:
            if x not in reached:
                reached.append(x)
                queue.append(x)
    return reached
""",
    ),
    mistake(
        "NO_TOPOLOGICAL_ORDER",
        "depth first, before the inputs",
        also=("RECURSION_LIMIT",),
        Value__history="""
def history(self):
    order, seen = [], set()
    def visit(v):
        if v in seen:
            return
        seen.add(v)
        order.append(v)
        for x, _ in v.edges:
            visit(x)
    visit(self)
    return order
""",
    ),
    mistake(
        "NO_TOPOLOGICAL_ORDER",
        "the order of a set",
        Value__history="""
def history(self):
    reached, waiting = {self}, [self]
    while waiting:
        for x, _ in waiting.pop().edges:
            if x not in reached:
                reached.add(x)
                waiting.append(x)
    return list(reached)
""",
    ),
    mistake(
        "NO_TOPOLOGICAL_ORDER",
        "whoever comes second is sent away",
        also=("RECURSION_LIMIT",),
        Value__backward="""
def backward(self):
    for v in self.history():
        v.grad = Fraction(0)
    seen = set()
    def go(v, share):
        v.grad += share
        if v in seen:
            return
        seen.add(v)
        for x, slope in v.edges:
            go(x, slope * share)
    go(self, Fraction(1))
""",
    ),
    mistake(
        "ONE_STEP_ONLY",
        "the oldest first",
        Value__history="""
def history(self):
    reached, waiting = {self}, [self]
    while waiting:
        for x, _ in waiting.pop().edges:
            if x not in reached:
                reached.add(x)
                waiting.append(x)
    return sorted(reached, key=lambda v: v.serial)
""",
    ),
    mistake(
        "DOUBLE_COUNT",
        "a turn at every arrival",
        also=("RECURSION_LIMIT", "EXPONENTIAL_TIME"),
        Value__backward=recursive("""
    def go(v):
        for x, slope in v.edges:
            x.grad += slope * v.grad
            go(x)
"""),
    ),
    mistake(
        "DOUBLE_COUNT",
        "hands out to all, then goes down each",
        also=("RECURSION_LIMIT", "EXPONENTIAL_TIME"),
        Value__backward=recursive("""
    def go(v):
        for x, slope in v.edges:
            x.grad += slope * v.grad
        for x, _ in v.edges:
            go(x)
"""),
    ),
    mistake(
        "DOUBLE_COUNT",
        "the history lists a value once a path",
        also=("EXPONENTIAL_TIME",),
        Value__history="""
def history(self):
    found, waiting = [self], [self]
    while waiting:
        for x, _ in waiting.pop().edges:
            found.append(x)
            waiting.append(x)
    return sorted(found, key=lambda v: v.serial, reverse=True)
""",
    ),
    mistake(
        "STALE_GRADIENTS",
        "nothing is set to 0",
        Value__backward="""
def backward(self):
    self.grad = Fraction(1)
    for v in self.history():
        for x, slope in v.edges:
            x.grad += slope * v.grad
""",
    ),
    mistake(
        "STALE_GRADIENTS",
        "the leaves keep theirs",
        Value__backward="""
def backward(self):
    values = self.history()
    for v in values:
        if v.edges:
            v.grad = Fraction(0)
    self.grad = Fraction(1)
    for v in values:
        for x, slope in v.edges:
            x.grad += slope * v.grad
""",
    ),
    mistake(
        "RECURSION_LIMIT",
        Value__history="""
def history(self):
    order, seen = [], set()
    def build(v):
        if v not in seen:
            seen.add(v)
            for x, _ in v.edges:
                build(x)
            order.append(v)
    build(self)
    return order[::-1]
""",
    ),
    mistake(
        "EXPONENTIAL_TIME",
        "each path on its own, with a stack",
        Value__backward="""
def backward(self):
    for v in self.history():
        v.grad = Fraction(0)
    waiting = [(self, Fraction(1))]
    while waiting:
        v, share = waiting.pop()
        v.grad += share
        for x, slope in v.edges:
            waiting.append((x, slope * share))
""",
    ),
    mistake(
        "NO_SEED",
        Value__backward="""
def backward(self):
    values = self.history()
    for v in values:
        v.grad = Fraction(0)
    for v in values:
        for x, slope in v.edges:
            x.grad += slope * v.grad
""",
    ),
    mistake("ONE_STEP_ONLY", "a history of one", Value__history="def history(self):\n    return [self]\n"),
    Mistake(
        "WRONG_LOCAL_SLOPE",
        {
            "Value.__mul__": """
def __mul__(self, other):
    a, b = self, lift(other)
    return Value(a.data * b.data, (a, a.data), (b, b.data))
"""
        },
        "* hands each its own value",
    ),
    Mistake(
        "WRONG_LOCAL_SLOPE",
        {
            "Value.__mul__": """
def __mul__(self, other):
    a, b = self, lift(other)
    return Value(a.data * b.data, (a, 1), (b, 1))
"""
        },
        "* as if it were +",
    ),
    Mistake(
        "WRONG_LOCAL_SLOPE",
        {
            "Value.__add__": """
def __add__(self, other):
    a, b = self, lift(other)
    return Value(a.data + b.data, (a, 1))
"""
        },
        "+ forgets its second operand",
    ),
    mistake(
        "WRONG_LOCAL_SLOPE",
        "tanh of the input, squared",
        Value__tanh="def tanh(self):\n    return Value(math.tanh(self.data), (self, 1 - self.data * self.data))\n",
    ),
    mistake(
        "WRONG_LOCAL_SLOPE",
        "tanh without the square",
        Value__tanh="def tanh(self):\n    y = math.tanh(self.data)\n    return Value(y, (self, 1 - y))\n",
    ),
    mistake(
        "WRONG_LOCAL_SLOPE",
        "tanh with a sigmoid's slope",
        Value__tanh="def tanh(self):\n    y = math.tanh(self.data)\n    return Value(y, (self, y * (1 - y)))\n",
    ),
    mistake(
        "WRONG_VALUE",
        Value__tanh="""
def tanh(self):
    y = 1 / (1 + math.exp(-self.data))
    return Value(y, (self, 1 - math.tanh(self.data) ** 2))
""",
    ),
    Mistake(
        "PLAIN_NUMBER_REFUSED",
        {
            "Value.__add__": """
def __add__(self, other):
    return Value(self.data + other.data, (self, 1), (other, 1))
"""
        },
    ),
    mistake(
        "DOUBLE_COUNT",
        "a stack of those that wait, and nobody noted",
        also=("EXPONENTIAL_TIME",),
        Value__backward="""
def backward(self):
    for v in self.history():
        v.grad = 0
    self.grad = 1
    todo = [self]
    while todo:
        v = todo.pop()
        for x, slope in v.edges:
            x.grad += slope * v.grad
            todo.append(x)
""",
    ),
    mistake(
        "STALE_GRADIENTS",
        "only the leaves begin at 0",
        Value__backward="""
def backward(self):
    values = self.history()
    for v in values:
        if not v.edges:
            v.grad = 0
    self.grad = 1
    for v in values:
        for x, slope in v.edges:
            x.grad += slope * v.grad
""",
    ),
)
