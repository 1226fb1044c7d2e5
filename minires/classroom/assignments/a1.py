"""A1, the scalar engine: two operations and tanh with their slopes, and the walk backward."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from minires.classroom.answer import Answer, Failed, Reply
from minires.classroom.assignment import Assignment, Test
from minires.classroom.assignments import a1_suspects, hints, prose
from minires.classroom.assignments.a1_suspects import Program, edges, name, same, text, truth
from minires.classroom.child.steps import Ref, Step, call, get, operate
from minires.classroom.diagnosis import UNKNOWN, plain

PREAMBLE = '''"""A1: a scalar engine. Write what is missing; the statement is in README.md."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import count

Number = int | float | Fraction
'''

# --- running a program


def steps(program: Program, backwards: int = 1, prefix: str = "") -> tuple[list[Step], list[str], list[str]]:
    """What runs a program and then `backward` so often; the names of all data, and of all gradients."""
    found: list[Step] = []
    for i, node in enumerate(program):
        it = prefix + name(i)
        if node.sign == "leaf":
            found.append(call(it, "Value", node.value))
        else:
            found.append(operate(it, node.sign, *(Ref(prefix + name(j)) for j in node.operands)))
    names = [prefix + name(i) for i in range(len(program))]
    found += [call(f"{prefix}none", f"{names[-1]}.backward") for _ in range(backwards)]
    found += [get(f"{it}.data", f"{it}.data") for it in names]
    if backwards:
        found += [get(f"{it}.grad", f"{it}.grad") for it in names]
    return found, [f"{it}.data" for it in names], [f"{it}.grad" for it in names]


def gradients(answer: Answer, program: Program, backwards: int = 1) -> list[Any]:
    """Of all nodes."""
    script, _, kept = steps(program, backwards)
    reply = answer.script(script, {}, kept)
    return [reply[it] for it in kept]


def shown(program: Program, got: Sequence[Any], want: Sequence[Any]) -> dict[str, Any]:
    """A counterexample: the program, and the gradients that came."""
    names = [name(i) for i in range(len(program))]
    return {
        "program": text(program),
        "yours": dict(zip(names, map(plain, got), strict=True)),
        "expected": dict(zip(names, map(plain, want), strict=True)),
    }


# --- the tests


def computes(answer: Answer) -> None:
    """The data of sums, products and tanh."""
    for a, b in ((1, 1), (2, 3), (-4, 7)):
        for sign, want in (("+", a + b), ("*", a * b)):
            script = [call("a", "Value", a), call("b", "Value", b), operate("y", sign, Ref("a"), Ref("b"))]
            _compare_data(answer, [*script, get("data", "y.data")], f"{a} {sign} {b}", want)
    for x in (0.5, -1.25):
        script = [call("a", "Value", x), call("y", "a.tanh"), get("data", "y.data")]
        _compare_data(answer, script, f"tanh({x})", math.tanh(x))


def _compare_data(answer: Answer, script: Sequence[Step], what: str, want: Any) -> None:
    got = answer.script(script, {}, ("data",))["data"]
    if not same([got], [want]):
        found = {"yours": plain(got), "expected": plain(want)}
        raise Failed(f"{what} is {plain(got)} with you; it should be {plain(want)}", "WRONG_VALUE", found)


def takes_plain_numbers(answer: Answer) -> None:
    """a + 2, 2 + a, a * 3, 3 * a."""
    for sign, other, want, slope in (("+", 2, 7, 1), ("*", 3, 15, 3)):
        for operands in ((Ref("a"), other), (other, Ref("a"))):
            script = [call("a", "Value", 5), operate("y", sign, *operands), get("data", "y.data")]
            script += [call("none", "y.backward"), get("grad", "a.grad")]
            reply = answer.script(script, {}, ("data", "grad"), tolerate=True)
            told = f" {sign} ".join("a" if isinstance(x, Ref) else str(x) for x in operands)
            if reply.error is not None:
                if "data" not in reply.values and reply.error.exception in ("AttributeError", "TypeError"):
                    computes(answer)  # does it work with a Value?
                    found = {"program": f"a = 5; {told}"}
                    told = f"{told} raises {reply.error.exception}; a plain number must do as an operand"
                    raise Failed(told, "PLAIN_NUMBER_REFUSED", found)
                raise reply.error
            if not same([reply["data"], reply["grad"]], [want, slope]):
                found = {"data": plain(reply["data"]), "grad": plain(reply["grad"])}
                expected = {"data": want, "grad": slope}
                graphs(answer)  # names it where it is no matter of plain numbers
                raise Failed(f"{told} is wrong", UNKNOWN, {"a": 5, "yours": found, "expected": expected})


TANH: tuple[tuple[str, Callable[[float, float], float]], ...] = (
    ("1 - x^2, of the input, where it is 1 - y^2", lambda x, y: 1 - x * x),
    ("1 - y, without the square", lambda x, y: 1 - y),
    ("y (1 - y), the slope of a sigmoid", lambda x, y: y * (1 - y)),
    ("1 + y^2: the sign is wrong", lambda x, y: 1 + y * y),
    ("y^2 - 1: the sign is wrong", lambda x, y: y * y - 1),
    ("y^2, without the 1 -", lambda x, y: y * y),
    ("y itself", lambda x, y: y),
    ("1, as if tanh were the identity", lambda x, y: 1.0),
)


def has_right_slopes(answer: Answer) -> None:
    """dy/da and dy/db of one operation, on leaves of their own."""
    leaf = a1_suspects.Node
    for sign in "+*":
        programs = [(leaf("leaf", a), leaf("leaf", b), leaf(sign, 0, (0, 1))) for a, b in ((2, 3), (5, -7), (4, 9))]
        compare(answer, programs)
    points = (0.5, -1.25, 2.0)
    slopes = []
    for x in points:
        script = [call("a", "Value", x), call("y", "a.tanh"), call("none", "y.backward"), get("grad", "a.grad")]
        slopes.append(answer.script(script, {}, ("grad",))["grad"])
    right = [1 - math.tanh(x) ** 2 for x in points]
    if same(slopes, right):
        return
    found = {"program": f"a = {points[0]}; y = a.tanh(); y.backward()", "yours": plain(slopes[0]), "expected": right[0]}
    if same(slopes, [0, 0, 0]):
        graphs(answer)  # names it where all gradients are 0
        raise Failed("dy/da is 0 for tanh", "WRONG_LOCAL_SLOPE", found)
    for told, slope in TANH:
        if same(slopes, [slope(x, math.tanh(x)) for x in points]):
            raise Failed(f"your tanh has the slope {told}", "WRONG_LOCAL_SLOPE", found)
    raise Failed("the slope of your tanh is wrong; it fits no mistake known here", UNKNOWN, found)


def compare(answer: Answer, programs: Sequence[Program]) -> None:
    """All gradients of all programs, against the sums over all paths; raises Failed with the mistake's name."""
    answers = [gradients(answer, program) for program in programs]
    right = [truth(program) for program in programs]
    wrong = [not same(got, want) for got, want in zip(answers, right, strict=True)]
    if not any(wrong):
        return
    example = _smallest(answer)
    if example is None:
        first = wrong.index(True)
        example = shown(programs[first], answers[first], right[first])
    found = a1_suspects.named(programs, answers) or _unordered(answer)
    if found is None:
        raise Failed("gradients are wrong; they fit no mistake known here", UNKNOWN, example)
    raise Failed(f"{found[1]} ({sum(wrong)} of {len(wrong)} programs are wrong)", found[0], example)


def _smallest(answer: Answer) -> dict[str, Any] | None:
    for program in a1_suspects.ladder():
        got, want = gradients(answer, program), truth(program)
        if not same(got, want):
            return shown(program, got, want)
    return None


def _unordered(answer: Answer) -> tuple[str, str] | None:
    """Whether the same program gets different gradients, all explained by one turn a node, in some order.

    That is how the order of a set of objects shows: it depends on where in memory they are.
    """
    for program in a1_suspects.drawn(seed=11, count=3, operations=5):
        script, kept, copies = [], [], 6
        for k in range(copies):
            more, _, names = steps(program, prefix=f"p{k}_")
            script += more
            kept += names
        reply = answer.script(script, {}, kept)
        size = len(program)
        found = [[reply[it] for it in kept[k * size : (k + 1) * size]] for k in range(copies)]
        graph = edges(program)
        if all(same(each, found[0]) for each in found):
            continue
        if all(a1_suspects.in_some_order(graph, each) for each in found):
            return "NO_TOPOLOGICAL_ORDER", "the same program gets other gradients each time: the order is that of a set"
    return None


def trees(answer: Answer) -> None:
    """Every value used once: a gradient is the product of the slopes on its one path."""
    compare(answer, a1_suspects.trees(seed=1, count=12, leaves=4))


def diamonds(answer: Answer) -> None:
    """y = x + f(x), and values used more than once."""
    node = a1_suspects.Node
    x, square = node("leaf", 3), node("*", 0, (0, 0))
    block = (node("*", 0, (0, 1)), node("+", 0, (0, 2)))  # f = x w, y = x + f
    deep = (node("*", 0, (3, 1)), node("+", 0, (3, 4)))  # the same on top of it
    compare(
        answer,
        [
            (x, node("+", 0, (0, 0)), node("*", 0, (1, 1))),
            (x, square, node("+", 0, (1, 0)), node("*", 0, (2, 1))),
            (x, node("leaf", 5), *block),
            (x, node("leaf", 5), *block, *deep),
        ],
    )


def graphs(answer: Answer) -> None:
    """Random programs, against the sum over all paths."""
    compare(answer, a1_suspects.drawn(seed=2, count=20, operations=5))


def repeated(answer: Answer) -> None:
    """A second backward gives what the first one gave."""
    programs = a1_suspects.drawn(seed=3, count=4, operations=3)
    for program in programs:
        once, twice = gradients(answer, program), gradients(answer, program, backwards=2)
        graph = edges(program)
        want = truth(program)
        if same(twice, want):
            _from_another_root(answer, program)
            continue
        example = shown(program, twice, want) | {"after the first": plain_all(once)}
        example["program"] += f"; {name(len(program) - 1)}.backward()"
        stale = [_added_up(graph, *each) for each in ((False, ""), (True, ""), (False, "leaves"), (False, "inner"))]
        doubled = [2 * g for g in want]
        if same(once, want) and any(same(twice, each) for each in (*stale, doubled, [*doubled[:-1], want[-1]])):
            told = "the second backward adds to what the first has left; it must start from 0"
            raise Failed(told, "STALE_GRADIENTS", example)
        graphs(answer)  # names it where the first backward is wrong already
        raise Failed("the second backward is wrong; it fits no mistake known here", UNKNOWN, example)


def plain_all(numbers: Sequence[Any]) -> list[Any]:
    return [plain(number) for number in numbers]


def _from_another_root(answer: Answer, program: Program) -> None:
    """After the last value's backward, that of the one before it gives that one's gradients."""
    shorter, last = program[:-1], name(len(program) - 1)
    names = [name(i) for i in range(len(shorter))]
    script, _, _ = steps(program)
    script += [call("none", f"{names[-1]}.backward"), *(get(f"{it}.grad", f"{it}.grad") for it in names)]
    reply = answer.script(script, {}, [f"{it}.grad" for it in names])
    got, want = [reply[f"{it}.grad"] for it in names], truth(shorter)
    reached = a1_suspects.youngest_first(edges(shorter))  # no other value is told anything
    if same([got[i] for i in reached], [want[i] for i in reached]):
        return
    example = shown(shorter, got, want)
    example["program"] = f"{text(program)}; {names[-1]}.backward()"
    told = f"{last}.backward() leaves something behind: {names[-1]}.backward() after it is wrong"
    raise Failed(f"{told}; it fits no mistake known here", UNKNOWN, example)


def _added_up(graph: Any, seed_added: bool, left: str) -> list[Any]:
    """The gradients after two walks; the second starts from what the first has left in all values, or some."""
    found: list[Any] = [Fraction(0)] * len(graph)
    for _ in range(2):
        if left:
            found = [g if bool(graph[i]) == (left == "inner") else Fraction(0) for i, g in enumerate(found)]
        found[-1] = found[-1] + 1 if seed_added else Fraction(1)
        for node in a1_suspects.youngest_first(graph):
            for i, slope in graph[node]:
                found[i] += slope * found[node]
    return found


CHAIN = 10_000


def long_chain(answer: Answer) -> None:
    """A chain of 10,000 values, under Python's default limit of recursion."""
    script = [call("a", "Value", 1), call("one", "Value", 1), operate("y", "+", Ref("a"), Ref("one"))]
    script += [operate("y", "+", Ref("y"), Ref("one")) for _ in range(CHAIN - 1)]
    script += [call("none", "y.backward"), get("grad", "a.grad")]
    reply = answer.script(script, {}, ("grad",), tolerate=True)
    if reply.error is not None and reply.error.exception == "RecursionError":
        told = f"{reply.error.message}: a call within a call for each value of the chain"
        raise Failed(told, "RECURSION_LIMIT", {"program": f"y = a + 1 + 1 + ... ({CHAIN} times); y.backward()"})
    if reply.error is not None:
        raise reply.error
    if not same([reply["grad"]], [1]):
        example = {"program": f"y = a + 1 + 1 + ... ({CHAIN} times)", "yours": plain(reply["grad"]), "expected": 1.0}
        graphs(answer)  # names it where it is no matter of length
        raise Failed("the gradient at the end of a long chain is wrong", UNKNOWN, example)


FEW, MANY = 8, 16


def many_diamonds(answer: Answer) -> None:
    """y = y + y, again and again: 2^n paths, but n values."""
    few, many = _diamonds(answer, FEW), _diamonds(answer, MANY)
    if _slow(few, many):
        many = _diamonds(answer, MANY)  # once more: the machine may have been busy
    if _slow(few, many):
        times = f"{MANY} diamonds take {many.seconds / few.seconds:.0f} times as long as {FEW}"
        found = _stack(MANY, f"{many.seconds:.2g} s", f"about {2 * few.seconds:.2g} s")
        raise Failed(f"{times}: each path is walked on its own", "EXPONENTIAL_TIME", found)
    for count, reply in ((FEW, few), (MANY, many)):
        if not same([reply["grad"]], [2**count]):
            graphs(answer)  # names it where it is no matter of number
            found = _stack(count, plain(reply["grad"]), 2**count)
            raise Failed("the gradient through a stack of diamonds is wrong", UNKNOWN, found)


def _slow(few: Reply, many: Reply) -> bool:
    """Twice as many diamonds take twice as long where each value has one turn; by paths it is 256 times."""
    return many.seconds > 0.02 and many.seconds > 20 * few.seconds


def _stack(count: int, yours: Any, expected: Any) -> dict[str, Any]:
    program = f"y = a; y = y + y ({count} times); y.backward()"
    return {"program": program, "yours": yours, "expected": expected}


def _diamonds(answer: Answer, count: int) -> Reply:
    script = [call("a", "Value", 1), operate("y", "+", Ref("a"), Ref("a"))]
    script += [operate("y", "+", Ref("y"), Ref("y")) for _ in range(count - 1)]
    return answer.script([*script, call("none", "y.backward"), get("grad", "a.grad")], {}, ("grad",))


CAUSES = (
    "OVERWRITES_GRADIENT",
    "NO_TOPOLOGICAL_ORDER",
    "DOUBLE_COUNT",
    "STALE_GRADIENTS",
    "RECURSION_LIMIT",
    "EXPONENTIAL_TIME",
    "WRONG_LOCAL_SLOPE",
    "WRONG_VALUE",
    "PLAIN_NUMBER_REFUSED",
    "NO_SEED",
    "ONE_STEP_ONLY",
)

ASSIGNMENT = Assignment(
    name="A1",
    title="A scalar engine",
    blanks=(
        "minires.scalar.Value.__add__",
        "minires.scalar.Value.__mul__",
        "minires.scalar.Value.tanh",
        "minires.scalar.Value.history",
        "minires.scalar.Value.backward",
    ),
    given=("minires.scalar.lift",),
    file="scalar_engine.py",
    preamble=PREAMBLE,
    statement=prose("A1", "statement"),
    rubric=prose("A1", "rubric"),
    guide=prose("A1", "guide"),
    hints=hints(CAUSES),
    tests=(
        Test("sums, products and tanh have their values", 5, computes),
        Test("a plain number will do as an operand", 3, takes_plain_numbers),
        Test("each operation has its slopes", 10, has_right_slopes),
        Test("on a tree a gradient is the product of the slopes on its path", 8, trees),
        Test("where paths meet their gradients add, as in y = x + f(x)", 10, diamonds),
        Test("on any graph a gradient is the sum over all paths", 10, graphs),
        Test("a second backward gives what the first one gave", 5, repeated),
        Test("a chain of 10,000 values is no deeper than a stack allows", 5, long_chain),
        Test("each value has one turn, however many paths lead to it", 4, many_diamonds),
    ),
    minutes=75,
)
