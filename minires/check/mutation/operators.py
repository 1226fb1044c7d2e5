"""The mechanical changes: what may go wrong at one node of a syntax tree."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

SWAPPED = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}
COMPARED = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
RENAMED = {"sum": "mean", "mean": "sum", "maximum": "minimum", "minimum": "maximum", "max": "min", "min": "max"}
RENAMED |= {"cos": "sin", "sin": "cos", "exp": "expm1", "zeros": "ones", "ones": "zeros", "any": "all", "all": "any"}
DROPPED_CALLS = {"swap", "swapaxes", "transpose", "moveaxis", "flip", "conj"}  # f(x) -> x, x.f(...) -> x
DROPPED_ATTRIBUTES = {"T", "real", "mT"}
COMMUTATIVE = {"min", "max", "maximum", "minimum", "swapaxes"}  # swapping what they take changes nothing


@dataclass(frozen=True)
class Change:
    """One change to one function.

    Attributes
        operator   what kind of change, as in "drop the left term"
        line       where, in the file
        before     the statement as it is
        after      the statement as it becomes
        function   the whole changed function
    """

    operator: str
    line: int
    before: str
    after: str
    function: ast.FunctionDef


def changes(function: ast.FunctionDef) -> Iterator[Change]:
    """Every single change to a function's body."""
    seen = {ast.unparse(function)}
    for k, node in enumerate(_body(function)):
        for operator, replacement in _replacements(node):
            changed = copy.deepcopy(function)
            target = list(_body(changed))[k]
            ast.fix_missing_locations(_Replace(target, replacement).visit(changed))
            text = ast.unparse(changed)
            if text in seen:
                continue
            seen.add(text)
            before, after = _difference(function, changed)
            yield Change(operator, node.lineno, before, after, changed)


def _body(function: ast.FunctionDef) -> Iterator[ast.expr | ast.stmt]:
    """Every node of the body that has a line, docstring and annotations left out."""
    for statement in function.body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        for node in ast.walk(statement):
            if isinstance(node, (ast.expr, ast.stmt)):
                yield node


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, replacement: ast.AST) -> None:
        self.target, self.replacement = target, replacement

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self.target:
            return ast.copy_location(self.replacement, node)
        return self.generic_visit(node)


def _replacements(node: ast.expr | ast.stmt) -> Iterator[tuple[str, ast.AST]]:
    """What the node may become."""
    match node:
        case ast.BinOp(left, op, right):
            yield from _of_operation(left, op, right)
        case ast.UnaryOp(ast.USub() | ast.Not(), operand):
            yield "drop the sign", operand
        case ast.Constant(value):
            yield from _of_constant(value)
        case ast.Compare(left, [op], [right]) if type(op) in COMPARED:
            yield "compare otherwise", ast.Compare(left, [COMPARED[type(op)]()], [right])
        case ast.BoolOp(op, values):
            yield "and for or", ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
        case ast.IfExp(_, body, orelse):
            yield "always the first", body
            yield "always the second", orelse
        case ast.Call():
            yield from _of_call(node)
        case ast.Attribute(value, name, ast.Load()) if name in DROPPED_ATTRIBUTES:
            yield f"drop .{name}", value
        case ast.If(_, body, orelse):
            yield "condition always true", ast.If(ast.Constant(True), body, orelse)
            yield "condition always false", ast.If(ast.Constant(False), body, orelse)
        case ast.AugAssign(target, op, value):
            yield "assign, do not accumulate", ast.Assign([target], value)
            if type(op) in SWAPPED:
                yield "another operator", ast.AugAssign(target, SWAPPED[type(op)](), value)
            yield "drop the statement", ast.Pass()
        case ast.Assign([ast.Subscript()], _) | ast.Expr(ast.Call()):
            yield "drop the statement", ast.Pass()
        case ast.Return(ast.Tuple(elements)):
            for i, element in enumerate(elements):
                for how, wrong in _of_gradient(element):
                    yield how, ast.Return(ast.Tuple([*elements[:i], wrong, *elements[i + 1 :]], ast.Load()))
                if i + 1 < len(elements):
                    turned = [*elements[:i], elements[i + 1], element, *elements[i + 2 :]]
                    yield "swap two gradients", ast.Return(ast.Tuple(turned, ast.Load()))
        case ast.Return(value) if value is not None:
            for how, wrong in _of_gradient(value):
                yield how, ast.Return(wrong)


def _of_operation(left: ast.expr, op: ast.operator, right: ast.expr) -> Iterator[tuple[str, ast.AST]]:
    if type(op) in SWAPPED:
        yield "another operator", ast.BinOp(left, SWAPPED[type(op)](), right)
    if isinstance(op, (ast.MatMult, ast.Sub, ast.Div)):
        yield "swap the operands", ast.BinOp(right, op, left)
    if not isinstance(op, ast.MatMult):
        yield "drop the right operand", left
    if isinstance(op, (ast.Add, ast.Sub, ast.Mult, ast.BitAnd, ast.BitOr)):
        yield "drop the left operand", right


def _of_constant(value: object) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(value, bool):
        yield "the other truth value", ast.Constant(not value)
    elif isinstance(value, int):
        yield "one more", _number(value + 1)
        yield "one less", _number(value - 1)
    elif isinstance(value, float):
        yield "another number", _number(1.1 * value if value else 1.0)


def _number(value: float) -> ast.expr:
    return ast.Constant(value) if value >= 0 else ast.UnaryOp(ast.USub(), ast.Constant(-value))


def _of_call(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    function, arguments, keywords = node.func, node.args, node.keywords
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    owner = function.value if isinstance(function, ast.Attribute) else None
    for i in range(0 if name in COMMUTATIVE else len(arguments) - 1):
        turned = [*arguments[:i], arguments[i + 1], arguments[i], *arguments[i + 2 :]]
        yield "swap two arguments", ast.Call(function, turned, keywords)
    for i, keyword in enumerate(keywords):
        if keyword.arg is not None:
            yield f"drop {keyword.arg}", ast.Call(function, arguments, [*keywords[:i], *keywords[i + 1 :]])
    if name in RENAMED and owner is not None:
        yield (
            f"{RENAMED[name]} for {name}",
            ast.Call(ast.Attribute(owner, RENAMED[name], ast.Load()), arguments, keywords),
        )
    if name == "where" and len(arguments) == 3:
        yield "always the first", arguments[1]
        yield "always the second", arguments[2]
    if name in DROPPED_CALLS:
        kept = arguments[0] if arguments and (owner is None or getattr(owner, "id", "") == "xp") else owner
        if kept is not None:
            yield f"drop {name}", kept


def _of_gradient(value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """A returned gradient may be off by a factor, turned round, or missing."""
    if isinstance(value, ast.Constant):
        return
    yield "scaled by 1.1", ast.BinOp(value, ast.Mult(), ast.Constant(1.1))
    yield "negated", ast.UnaryOp(ast.USub(), value)
    yield "none", ast.Constant(None)


def _difference(old: ast.FunctionDef, new: ast.FunctionDef) -> tuple[str, str]:
    """The first line in which two functions differ, before and after."""
    before, after = ast.unparse(old).splitlines(), ast.unparse(new).splitlines()
    for a, b in zip(before, after, strict=False):
        if a != b:
            return a.strip(), b.strip()
    return before[-1].strip(), after[-1].strip()
