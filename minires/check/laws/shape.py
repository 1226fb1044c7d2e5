"""Laws of ops that move numbers: the way back is the transpose of the way there."""

from __future__ import annotations

from typing import Any

import numpy as np

from minires import functional as F
from minires.backend import Array
from minires.check.draw import Draw
from minires.check.law import law, pull, same, same_bits
from minires.check.oracles import pull_back
from minires.engine import Tensor
from minires.ops.shape import (
    AdvancedIndex,
    BasicIndex,
    Concat,
    Flip,
    Pad,
    PadAxis,
    Permute,
    Reshape,
    Split,
    Stack,
    Unbind,
)


@law(Reshape, Permute, Flip)
def reordering_backward_undoes_reordering_forward(draw: Draw) -> None:
    """With gy = y, gx = x bit for bit: each is a permutation matrix P, and P^T P = I. So <gx, gx> = <gy, gy>, too."""
    n = draw.size(2, 3)
    for shape in ((n, n, n), (2, n, draw.size(2, 3))):
        x = draw.normal(*shape)
        turn = draw.choice([(1, 2, 0), (2, 0, 1)])
        _undone(lambda x, turn=turn: F.permute(x, turn), x, "permute by a cycle of three axes")
        _undone(lambda x: F.permute(x, (0, 2, 1)), x, "permute that exchanges two axes")
        _undone(lambda x: F.reshape(x, x.shape[0] * x.shape[1], x.shape[2]), x, "reshape that joins two axes")
        _undone(lambda x: F.reshape(x, (x.shape[2], -1)), x, "reshape across axes")
        _undone(lambda x: F.flip(x, (0, 2)), x, "flip of two axes")


@law(Concat, Split)
def cat_and_split_are_each_others_inverse_and_gradient(draw: Draw) -> None:
    """split(cat(x_0, x_1, ...)) = x_0, x_1, ...; the gradient of cat is split(gy), that of split is cat(gy_k)."""
    shape, axis = [draw.size(1, 3), draw.size(1, 3), draw.size(1, 3)], draw.integer(0, 2)
    lengths = [draw.size(1, 3) for _ in range(draw.size(2, 4))]
    xs, gs = ([draw.normal(*shape[:axis], n, *shape[axis + 1 :]) for n in lengths] for _ in range(2))
    whole, gwhole = F.cat(xs, axis).data, np.concatenate(gs, axis)
    _, gxs = pull(lambda *xs: F.cat(xs, axis), *xs, gy=gwhole)
    _, gx, pieces = _pulled_apart(lambda x: F.split(x, lengths, axis), whole, gs)
    for k, x in enumerate(xs):
        same_bits(pieces[k], x, f"piece {k} of split is input {k} of cat")
        same_bits(gxs[k], gs[k], f"input {k} of cat gets the gradient of its own part")
    same_bits(gx, gwhole, "split's input gets the pieces' gradients, end to end")


@law(Stack, Unbind)
def stack_and_unbind_are_each_others_inverse_and_gradient(draw: Draw) -> None:
    """unbind(stack(x_0, x_1, ...)) = x_0, x_1, ...; the gradient of stack is unbind(gy), of unbind stack(gy_k)."""
    n = draw.size(2, 3)
    shape, axis = (n, draw.size(2, 3)), draw.integer(0, 2)
    for a in {axis, 1}:
        xs, gs = ([draw.normal(*shape) for _ in range(n)] for _ in range(2))
        whole, gwhole = F.stack(xs, a).data, np.stack(gs, a)
        _, gxs = pull(lambda *xs, a=a: F.stack(xs, a), *xs, gy=gwhole)
        _, gx, pieces = _pulled_apart(lambda x, a=a: F.unbind(x, a), whole, gs)
        for k, x in enumerate(xs):
            same_bits(pieces[k], x, f"piece {k} of unbind is input {k} of stack")
            same_bits(gxs[k], gs[k], f"input {k} of stack gets the gradient of its own slice")
        same_bits(gx, gwhole, "unbind's input gets the pieces' gradients, side by side")


@law(Pad)
def the_gradient_of_a_border_is_the_crop_and_of_a_crop_the_border(draw: Draw) -> None:
    """gx = pad(gy, -widths) with zeros: padding and cropping by the same widths are adjoint, whatever the constant."""
    shape = [draw.size(3, 4), draw.size(3, 4)]
    widths = [draw.integer(0, 2), draw.integer(0, 2), draw.integer(1, 2), draw.integer(-1, 2)]
    value = float(draw.normal())
    x = draw.normal(*shape)
    gy = draw.normal(shape[0] + widths[2] + widths[3], shape[1] + widths[0] + widths[1])
    _, (gx,) = pull(lambda x: F.pad(x, widths, value=value), x, gy=gy)
    same_bits(gx, F.pad(gy, [-w for w in widths]).data, "gx is gy, cropped where x was padded")
    _, (gz,) = pull(lambda z: F.pad(z, [-w for w in widths]), gy, gy=x)
    same_bits(gz, F.pad(x, widths).data, "and the crop's gradient is padded with zeros")


@law(PadAxis)
def a_border_that_continues_x_folds_back_onto_x(draw: Draw) -> None:
    """gx = the inside of gy, plus its borders: mirrored (reflect), summed into the edges (replicate), or wrapped round.

    Each y reads one x, so Σ gx = Σ gy along the axis.
    """
    n = draw.size(3, 4)
    for mode in ("reflect", "replicate", "circular"):
        before, after = draw.size(1, n - 1), draw.size(1, n - 1)
        x, gy = draw.normal(2, n), draw.normal(2, before + n + after)
        _, (gx,) = pull(lambda x, p=(before, after), m=mode: F.pad(x, p, m), x, gy=gy)
        left, folded, right = gy[:, :before], gy[:, before : before + n].copy(), gy[:, before + n :]
        if mode == "reflect":
            folded[:, 1 : before + 1] += left[:, ::-1]
            folded[:, n - 1 - after : n - 1] += right[:, ::-1]
        elif mode == "replicate":
            folded[:, 0] += left.sum(axis=1)
            folded[:, -1] += right.sum(axis=1)
        else:
            folded[:, n - before :] += left
            folded[:, :after] += right
        same(gx, folded, f"gx is gy with its borders folded in, mode {mode}")
        same(gx.sum(axis=1), gy.sum(axis=1), f"Σ gx = Σ gy, mode {mode}")


@law(BasicIndex)
def what_a_slice_reads_gets_gy_and_what_it_skips_gets_nothing(draw: Draw) -> None:
    """gx[index] = gy and Σ gx^2 = Σ gy^2, for steps forward and backward: no element is read twice."""
    x = draw.normal(draw.size(2, 4), draw.size(3, 5), 2)
    step = draw.choice([1, 2])
    for index in (
        (draw.integer(-2, 1), slice(None, None, step)),
        (slice(None), slice(None, None, -step), 0),
        (Ellipsis, slice(None, 0, -1), None, slice(1, None)),
    ):
        gy = draw.normal(*x[index].shape)
        _, (gx,) = pull(lambda x, i=index: F.getitem(x, i), x, gy=gy)
        same_bits(gx[index], gy, f"gx[index] = gy for {index}")
        same((gx * gx).sum(), (gy * gy).sum(), f"nothing elsewhere for {index}")


@law(AdvancedIndex)
def an_element_read_k_times_gets_the_sum_of_k_gradients(draw: Draw) -> None:
    """gx_i = Σ gy_j over all j that read x_i: where each y_j carries the same g, gx_i = count(i) g."""
    n, m = draw.size(2, 4), draw.size(2, 3)
    x = draw.normal(n, m)
    rows = draw.integers(n, n + 1)  # one more than there are rows: some row is read twice
    _, (gx,) = pull(lambda x: F.getitem(x, rows), x, gy=np.broadcast_to(g := draw.normal(m), (n + 1, m)))
    same(gx, np.bincount(rows, minlength=n)[:, None] * g, "gx = count g")
    columns, gy = draw.integers(m, n + 1), draw.normal(n + 1)
    _, (gx,) = pull(lambda x: F.getitem(x, (rows, columns)), x, gy=gy)
    same(gx.ravel(), np.bincount(rows * m + columns, gy, n * m), "gx is gy, counted into the places read")
    chosen = draw.mask(n, m)
    _, (gx,) = pull(lambda x: F.getitem(x, chosen), x, gy=(gy := draw.normal(int(chosen.sum()))))
    same_bits(gx[chosen], gy, "a mask reads each element once")
    same_bits(gx[~chosen], np.zeros(int((~chosen).sum())), "what a mask leaves out gets nothing")


# --- what the laws are written in


def _undone(f: Any, x: Array, what: str) -> None:
    y = f(x).data
    _, (gx,) = pull(f, x, gy=y)
    same_bits(gx, x, f"{what}: pulled back from y, x")


def _pulled_apart(f: Any, x: Array, gys: list[Array]) -> tuple[Array, Array, list[Array]]:
    """x, the gradient of x for the cotangents of all of f's outputs, and the outputs."""
    leaf = Tensor(x, requires_grad=True)
    ys = f(leaf)
    pull_back(ys, list(gys))
    return x, np.asarray(leaf.grad), [y.data for y in ys]
