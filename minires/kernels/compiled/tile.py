"""The innermost loop: a small block of a matrix product, held in vector registers while it grows.

A convolution is a matrix product whose left factor is read through strides: rows of patches overlap in memory, which
a BLAS refuses. `tile` is the piece of a BLAS that does not mind. It is written as LLVM instructions since a
compiler that is given loops over scalars does not keep the block in registers.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_features = llvm.get_host_cpu_features()
VECTOR = 64 if _features.get("avx512f") else 32 if _features.get("avx2") else 16  # bytes in a vector register
MANY = VECTOR == 64 or not llvm.get_process_triple().startswith(("x86", "i686"))  # 32 registers, else 16
PIXELS = 8 if MANY else 4  # so that a tile of 2 x PIXELS vectors, its factors included, fits in the registers


def lanes(itemsize: int) -> int:
    """How many numbers of that size one vector register holds."""
    return VECTOR // itemsize


@intrinsic(prefer_literal=True)
def tile(
    typing: Any, rows: Any, pixels: Any, vectors: Any, side: Any, step: Any, y: Any, y0: Any, yr: Any, yp: Any,
    a: Any, a0: Any, ar: Any, ak: Any, table: Any, t0: Any, nt: Any,
    b: Any, b0: Any, bt: Any, bk: Any, nk: Any, add: Any,
) -> Any:  # fmt: skip
    """y[y0 + r yr + p yp + q] (+)= sum over t < nt, s < side and k < nk of

        a[a0 + table[t0 + t side] + r ar + (p + s) step + k ak]  b[b0 + (t side + s) bt + k bk + q]

    for r < rows, p < pixels and q < vectors * lanes. All arrays are flat and contiguous, indices count elements.
    rows, pixels, vectors, side and step are constants; nt and nk are at least 1. With `add` the sum starts from y,
    else from 0. With `side` taps next to each other, each number of `a` is loaded once and serves as many sums.
    """
    shape = [v.literal_value for v in (rows, pixels, vectors, side, step)]
    word, flag = types.intp, types.boolean
    signature = types.void(
        rows, pixels, vectors, side, step, y, word, word, word, a, word, word, word,
        table, word, word, b, word, word, word, word, flag,
    )  # fmt: skip

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        arrays = {5: y, 9: a, 13: table, 16: b}
        given = [
            context.make_array(arrays[i])(context, builder, v).data if i in arrays else v for i, v in enumerate(args)
        ]
        _emit(builder, context.get_value_type(y.dtype), y.dtype.bitwidth // 8, shape, given[5:])
        return context.get_dummy_value()

    return signature, codegen


def _emit(builder: Any, scalar: Any, size: int, shape: list[int], given: list[Any]) -> None:
    """The instructions of `tile`: load or clear, then a loop over t around a loop over k, then store."""
    rows, pixels, vectors, side, step = shape
    y, y0, yr, yp, a, a0, ar, ak, table, t0, nt, b, b0, bt, bk, nk, add = given
    n = lanes(size)
    vector, word = ir.VectorType(scalar, n), ir.IntType(64)
    name = f"llvm.fmuladd.v{n}f{size * 8}"
    multiply_add = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)

    def at(base: Any, *terms: Any) -> Any:
        for term in terms:
            base = builder.gep(base, [ir.Constant(word, term) if isinstance(term, int) else term])
        return base

    def as_vector(pointer: Any) -> Any:
        return builder.bitcast(pointer, vector.as_pointer())

    def times(value: Any, constant: int) -> Any:
        return builder.mul(value, ir.Constant(word, constant))

    def close(nodes: list[Any], values: list[Any], counter: Any, limit: Any, start: Any, after: Any) -> None:
        for node, v in zip(nodes, values, strict=True):
            node.add_incoming(v, builder.block)
        builder.cbranch(builder.icmp_signed("<", counter, limit), start, after)

    blocks = [builder.append_basic_block(f"tile.{s}") for s in ("load", "begin", "outer", "inner", "next", "done")]
    load, begin, outer, inner, following, done = blocks
    entry, one = builder.block, ir.Constant(word, 1)
    places = [
        as_vector(at(y, y0, times(yr, r), times(yp, p), q * n))
        for r in range(rows) for p in range(pixels) for q in range(vectors)
    ]  # fmt: skip
    a, b, table = at(a, a0), at(b, b0), at(table, t0)
    builder.cbranch(add, load, begin)
    builder.position_at_end(load)
    held = [builder.load(place, align=size) for place in places]
    builder.branch(begin)

    builder.position_at_end(begin)
    sums = _merged(builder, [ir.Constant(vector, [0.0] * n)] * len(places), entry)
    for node, v in zip(sums, held, strict=True):
        node.add_incoming(v, load)
    builder.branch(outer)

    builder.position_at_end(outer)
    t, right, *sums = outers = _merged(builder, [ir.Constant(word, 0), b, *sums], begin)
    left = at(a, builder.load(at(table, times(t, side))))
    builder.branch(inner)

    builder.position_at_end(inner)
    k, pa, pb, *sums = inners = _merged(builder, [ir.Constant(word, 0), left, right, *sums], outer)
    bs = [
        [builder.load(as_vector(at(pb, times(bt, s), q * n)), align=size) for q in range(vectors)] for s in range(side)
    ]
    grown = list(sums)
    for r in range(rows):
        row = at(pa, times(ar, r)) if r else pa
        for p in range(pixels + side - 1):
            value = _filled(builder, vector, builder.load(at(row, p * step), align=size))
            for s in range(max(0, p - pixels + 1), min(side, p + 1)):
                for q in range(vectors):
                    i = (r * pixels + p - s) * vectors + q
                    grown[i] = builder.call(multiply_add, [value, bs[s][q], grown[i]])
    k = builder.add(k, one)
    close(inners, [k, at(pa, ak), at(pb, bk), *grown], k, nk, inner, following)

    builder.position_at_end(following)
    t = builder.add(t, one)
    close(outers, [t, at(right, times(bt, side)), *grown], t, nt, outer, done)

    builder.position_at_end(done)
    for place, v in zip(places, grown, strict=True):
        builder.store(v, place, align=size)


def _merged(builder: Any, values: list[Any], block: Any) -> list[Any]:
    """What the values are at the start of a block that is first reached from `block`."""
    nodes = [builder.phi(v.type) for v in values]
    for node, v in zip(nodes, values, strict=True):
        node.add_incoming(v, block)
    return nodes


def _filled(builder: Any, vector: Any, number: Any) -> Any:
    """A vector that holds the number in every lane."""
    alone = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    lane = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(alone, ir.Constant(vector, ir.Undefined), lane)


@intrinsic(prefer_literal=True)
def move(typing: Any, count: Any, a: Any, a0: Any, b: Any, b0: Any, some: Any) -> Any:
    """a[a0 + c] = b[b0 + c] where c < some, else 0, for c < count. Reads b[b0 ... b0 + count - 1] all the same."""
    word = types.intp

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scalar, size = context.get_value_type(a.dtype), a.dtype.bitwidth // 8
        n = min(lanes(size), count.literal_value)
        vector, index = ir.VectorType(scalar, n), ir.IntType(64)
        out, source = (
            builder.gep(context.make_array(ty)(context, builder, array).data, [start])
            for ty, array, start in ((a, args[1], args[2]), (b, args[3], args[4]))
        )
        last = _filled(builder, ir.VectorType(index, n), args[5])
        for c in range(0, count.literal_value, n):
            taken = builder.icmp_signed("<", ir.Constant(last.type, list(range(c, c + n))), last)
            place, origin = (builder.bitcast(builder.gep(p, [index(c)]), vector.as_pointer()) for p in (out, source))
            value = builder.select(taken, builder.load(origin, align=size), ir.Constant(vector, [0.0] * n))
            builder.store(value, place, align=size)
        return context.get_dummy_value()

    return types.void(count, a, word, b, word, word), codegen
