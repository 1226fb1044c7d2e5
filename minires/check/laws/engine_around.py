"""Laws of what stands around the walk backward: shapes, dtypes, who owns which array, and what is on the tape."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from minires import engine
from minires import functional as F
from minires.backend import Array
from minires.check.draw import Draw
from minires.check.law import law, pull, require, same, same_bits
from minires.engine import Edge, Function, Tensor
from minires.errors import GraphError
from minires.ledger import ledger
from minires.switches import debug, enable_grad, no_grad, watch


class SavesAView(Function):
    """y = x^2, from x upside down: an op that saves another array on its input's memory."""

    def forward(self, x: Array) -> Array:
        self.turned = x[::-1]
        return x * x

    def backward(self, gy: Array) -> Array:
        return 2 * self.turned[::-1] * gy


# --- what broadcasting repeated


@law()
def un_broadcasting_is_the_adjoint_of_broadcasting(draw: Draw) -> None:
    """<broadcast(x), g> = <x, sum_to(g)> for all x and g."""
    shape = draw.shape(0, 3)
    small = draw.broadcastable(shape)
    x, g = draw.normal(*small), draw.normal(*shape)
    spread = np.broadcast_to(x, shape)
    back = engine.sum_to(g, small)
    require(back.shape == small, f"un-broadcasting {shape} to {small} gave {back.shape}")
    same(np.sum(x * back), np.sum(spread * g), "<x, sum_to(g)>", scale=float(np.abs(spread * g).sum()))


@law()
def what_broadcasting_repeated_is_summed_back(draw: Draw) -> None:
    """y = x + w with w repeated: gw[j] = the sum of gy over all places that w[j] went to. A bias, a gain, a scalar."""
    shape = tuple(draw.size(2, 4) for _ in range(draw.integer(1, 3)))
    small = draw.choice([(), (1,) * len(shape), shape[1:], (*shape[:-1], 1), (1, *shape[1:])])
    x, w, gy = draw.normal(*shape), draw.normal(*small), draw.normal(*shape)
    _, (gx, gw) = pull(F.add, x, w, gy=gy)
    expected = np.zeros(small)
    for at in np.ndindex(shape):
        own = tuple(0 if n == 1 else i for i, n in zip(at[len(shape) - len(small) :], small, strict=True))
        expected[own] += gy[at]
    same_bits(gx, gy, "gx")
    same(gw, expected, f"gw of shape {small}, repeated to {shape}", scale=1.0)


@law()
def which_axis_was_repeated_is_told_by_position_not_by_length(draw: Draw) -> None:
    """Where all axes have one length, (n, n) + (n,) repeats along the first: gw[j] = sum_i gy[i, j]."""
    n = draw.size(2, 4)
    gy = draw.normal(n, n)
    _, (_, row, column) = pull(lambda x, r, c: x + r + c, *_normals(draw, (n, n), (n,), (n, 1)), gy=gy)
    same(row, gy.sum(0), "the gradient of (n,)", scale=1.0)
    same(column, gy.sum(1)[:, None], "the gradient of (n, 1)", scale=1.0)


@law()
def a_gradient_has_its_leafs_dtype(draw: Draw) -> None:
    """float32 times float64 is float64, and the float32 leaf's gradient is float32 all the same. Real stays real."""
    d = draw.size()
    x = Tensor(draw.normal(d).astype(np.float32), requires_grad=True)
    w = Tensor(draw.normal(d), requires_grad=True)
    gy = draw.normal(d)
    (x * w + F.tanh(x) * w).backward(gy)
    for t, factor in ((x, w.data + w.data * (1 - np.tanh(x.data) ** 2)), (w, x.data + np.tanh(x.data))):
        g: Any = t.grad
        require(g.dtype == t.dtype, f"a leaf is {t.dtype}, its gradient {g.dtype}")
        same(g, factor * gy, "the gradient", 1e-5, scale=1.0)
    z = Tensor(draw.normal(d), requires_grad=True)
    (z * np.full(d, 1j)).backward(draw.normal(d) + 1j * gy)
    require(z.grad is not None and z.grad.dtype == np.float64, "a real leaf's gradient is complex")
    same(z.grad, -gy, "the real part of i (u + i v)")


# --- who owns the arrays


@law()
def the_cotangent_stays_the_callers(draw: Draw) -> None:
    """backward neither writes to gy nor keeps it: not where gradients meet, and not as the .grad of a leaf."""
    d = draw.size()
    x, gy = Tensor(draw.normal(d), requires_grad=True), draw.normal(d)
    before = gy.copy()
    doubled = x + x
    (doubled + x + doubled).backward(gy)
    same_bits(gy, before, "the cotangent after backward")
    same(x.grad, 5 * gy, "gx")
    leaf = Tensor(draw.normal(d), requires_grad=True)
    leaf.backward(gy)
    same_bits(leaf.grad, gy, "the gradient of a leaf by itself")
    require(not any(np.shares_memory(t.grad, gy) for t in (x, leaf)), "a leaf keeps the caller's array")


@law()
def no_two_leaves_share_a_gradient_array(draw: Draw) -> None:
    """y = a + b has ga = gb = gy, in arrays of their own, also where a view of gy is handed back."""
    d = draw.size()
    a, b, c = (Tensor(draw.normal(d), requires_grad=True) for _ in range(3))
    gy = draw.normal(d)
    y = F.residual_add(a, b) + F.reshape(c, d)
    y.backward(gy)
    for t in (a, b, c):
        same_bits(t.grad, gy, "the gradient of a summand")
    grads: list[Any] = [a.grad, b.grad, c.grad, gy]
    shared = any(np.shares_memory(grads[i], grads[j]) for i in range(4) for j in range(i))
    require(not shared, "two gradients share memory, so writing to one would change the other")


@law()
def a_gradient_that_somebody_holds_does_not_change(draw: Draw) -> None:
    """The .grad of the first backward is not written to by the second, which makes a new array."""
    d = draw.size()
    x, u, v = Tensor(draw.normal(d), requires_grad=True), draw.normal(d), draw.normal(d)
    F.tanh(x).backward(u)
    held: Any = x.grad
    before = held.copy()
    F.tanh(x).backward(v)
    same_bits(held, before, "the gradient held since the first backward")


@law()
def interior_tensors_keep_no_gradient(draw: Draw) -> None:
    """Only leaves keep .grad, and tensors that were asked to: then it is what arrived there from all sides."""
    d = draw.size()
    x, gy = Tensor(draw.normal(d), requires_grad=True), draw.normal(d)
    a = F.neg(x)
    asked = F.tanh(a).retain_grad()
    y = asked * 2.0 + F.exp(asked)
    y.backward(gy)
    require(a.grad is None and y.grad is None, "an interior tensor kept its gradient")
    same(asked.grad, (2.0 + np.exp(asked.data)) * gy, "the gradient of the tensor that was asked to keep it")


# --- what the tape remembers, and for how long


@law()
def a_second_backward_is_refused(draw: Draw) -> None:
    """What a walk has freed cannot be walked again, nor a part of it under another root: GraphError, not silence."""
    x = Tensor(draw.normal(3), requires_grad=True)
    trunk = F.tanh(x)
    first, second = F.exp(trunk), F.neg(trunk)
    first.backward(draw.normal(3))
    require(_refused(lambda: first.backward(draw.normal(3))), "a second backward was not refused")
    require(_refused(lambda: second.backward(draw.normal(3))), "backward into a freed trunk was not refused")


@law()
def backward_frees_what_the_ops_saved(draw: Draw) -> None:
    """Afterwards no op holds an array or an edge, and an activation that nobody else holds is gone."""
    x = Tensor(draw.normal(3), requires_grad=True)
    a = F.tanh(x)
    activation = weakref.ref(a.data)
    y = F.exp(a * a)
    ops = [y.op, a.op]
    del a
    require(activation() is not None, "an activation was dropped before backward")
    y.backward(draw.normal(3))
    require(all(op is not None and not vars(op) and not op.edges for op in ops), "an op holds what it saved")
    require(activation() is None, "an activation outlives backward")


@law()
def a_saved_array_changed_in_place_is_refused(draw: Draw) -> None:
    """gx = gy w at the w that forward saw: after w changed, GraphError instead of another point's gradient."""
    d = draw.size()
    x, w = (Tensor(draw.normal(d), requires_grad=True) for _ in range(2))
    y = x * w
    with no_grad():
        if draw.flag():
            w.copy_(draw.normal(d))
        else:
            w[0] = 3.0
    require(_refused(lambda: y.backward(draw.normal(d))), "backward used a saved array that had changed")


@law()
def a_saved_view_of_a_changed_array_is_refused(draw: Draw) -> None:
    """One memory, one count: saved turned round, and changed itself, or through a view, or as a view of another."""
    d = draw.size(2, 4)
    x = Tensor(draw.normal(d), requires_grad=True)
    how = draw.integer(0, 2)
    y = SavesAView.apply(x if how < 2 else F.reshape(x, d, 1))
    with no_grad():
        (F.reshape(x, d, 1) if how == 1 else x).copy_(draw.normal(*((d, 1) if how == 1 else (d,))))
    require(_refused(lambda: y.backward(draw.normal(*y.shape))), "backward used a view of an array that had changed")


@law()
def a_change_through_a_detached_twin_is_refused(draw: Draw) -> None:
    """x.detach() lies on x's memory, so a change of one is a change of the other."""
    d = draw.size()
    x = Tensor(draw.normal(d), requires_grad=True)
    y = x * x
    x.detach().copy_(draw.normal(d))
    require(_refused(lambda: y.backward(draw.normal(d))), "a change through a detached tensor went unnoticed")


@law()
def an_array_that_no_op_saved_may_change(draw: Draw) -> None:
    """y = x + w saves nothing, so w may be changed before backward: the guard refuses only what would be wrong."""
    d = draw.size()
    x, w = (Tensor(draw.normal(d), requires_grad=True) for _ in range(2))
    y, gy = F.neg(x + w), draw.normal(d)
    with no_grad():
        w.copy_(draw.normal(d))
    y.backward(gy)
    same_bits(x.grad, -gy, "gx")


@law()
def under_debug_a_raw_write_to_a_saved_array_is_refused(draw: Draw) -> None:
    """A write past minires, straight into .data, changes no count; a checksum finds it. Without one all is as ever."""
    d = draw.size()
    x, gy = Tensor(draw.normal(d), requires_grad=True), draw.normal(d)
    with debug():
        y, z = F.tanh(x) * x, x * x
    y.backward(gy)
    same(x.grad, (np.tanh(x.data) + x.data * (1 - np.tanh(x.data) ** 2)) * gy, "gx under debug", scale=1.0)
    x.data[-1] += 1.0
    require(_refused(lambda: z.backward(gy)), "a raw write to a saved array went unnoticed")


# --- what is on the tape, and what goes in


@law()
def a_non_scalar_backward_needs_a_cotangent(draw: Draw) -> None:
    """Many numbers have no gradient until it is said how they count; one number counts as 1."""
    d = draw.size(2, 5)
    x = Tensor(draw.normal(d), requires_grad=True)
    require(_refused(lambda: F.tanh(x).backward()), "backward() of several numbers was not refused")
    require(_refused(lambda: F.tanh(x).backward(draw.normal(1))), "a cotangent of another shape was not refused")
    (x * x).sum().backward()
    same(x.grad, 2 * x.data, "the gradient of sum x^2")


@law()
def nothing_made_under_no_grad_carries_a_gradient(draw: Draw) -> None:
    """An island: y = b tanh(x) with b = exp(x) made under no_grad, so gx = b tanh'(x) gy, with b a constant."""
    d = draw.size()
    x, gy = Tensor(draw.normal(d), requires_grad=True), draw.normal(d)
    with no_grad():
        b = F.exp(x)
        with enable_grad():
            inner = F.tanh(x)
    require(not b.requires_grad and b.op is None, "a tensor made under no_grad is on the tape")
    (inner * b).backward(gy)
    same(x.grad, np.exp(x.data) * (1 - np.tanh(x.data) ** 2) * gy, "gx")


@law()
def a_detached_branch_gets_no_gradient(draw: Draw) -> None:
    """y = a a with one a detached: ga = a gy, half of 2 a gy."""
    d = draw.size()
    x, gy = Tensor(draw.normal(d), requires_grad=True), draw.normal(d)
    a = F.tanh(x)
    (a * a.detach()).backward(gy)
    same(x.grad, a.data * (1 - a.data * a.data) * gy, "gx")


@law()
def gradients_pass_through_views(draw: Draw) -> None:
    """Turned, cut and reshaped views of one array: each element's gradient comes back to where it was taken from."""
    n, m = draw.size(2, 4), draw.size(2, 4)
    x, gy = draw.normal(n, m), draw.normal(m, n - 1)
    _, (gx,) = pull(lambda x: F.reshape(F.transpose(x, 0, 1).reshape(m, n)[:, 1:], m, n - 1) + x.T[:, :-1], x, gy=gy)
    expected = np.zeros((n, m))
    expected[1:] += gy.T
    expected[:-1] += gy.T
    same(gx, expected, "gx", scale=1.0)


@law()
def an_op_with_two_outputs_gets_each_cotangent_in_its_place(draw: Draw) -> None:
    """(a, b) = split(x): ga comes first and gb second whoever was used first; an unused output counts as 0."""
    d = draw.size()
    x, c, gy = draw.normal(2 * d), draw.positive(d), draw.normal(d)
    for used in ((0,), (1,), (0, 1), (1, 0)):

        def halves(x: Tensor, used: tuple[int, ...] = used) -> Tensor:
            pieces = F.split(x, d)
            return sum((pieces[k] * c for k in used[1:]), F.neg(pieces[used[0]]))

        _, (gx,) = pull(halves, x, gy=gy)
        expected = np.zeros((2, d))
        expected[used[0]] -= gy
        for k in used[1:]:
            expected[k] += c * gy
        same(gx.reshape(2, d), expected, f"gx where outputs {used} are used")


# --- who watches


@law()
def a_watcher_sees_each_edge_once_and_what_it_carries(draw: Draw) -> None:
    """Every edge's gradient passes once, with its receiver's shape and dtype; those into x add up to x's gradient."""
    d = draw.size(2, 4)
    x = Tensor(draw.normal(d).astype(np.float32), requires_grad=True)
    w = Tensor(draw.normal(3, d), requires_grad=True)
    seen: list[tuple[int, int]] = []

    def look(edge: Edge, gradient: Array) -> None:
        to = edge.receiver
        expected = (to.shape, to.dtype) if isinstance(to, Tensor) else to.outputs[edge.output]
        require((gradient.shape, gradient.dtype) == expected, f"an edge into {expected} carries {gradient.shape}")
        seen.append((edge.op.serial, edge.index))

    with watch(look), ledger() as book:
        (x * w + F.tanh(x) + w).backward(draw.normal(3, d))
    require(len(seen) == len(set(seen)) == len(book) == 7, f"{len(seen)} gradients passed on 7 edges")
    for t in (x, w):
        same(sum(entry.gradient for entry in book.into(t)), t.grad, "the sum of the shares", 1e-5, scale=1.0)


@law()
def what_a_watcher_puts_in_a_gradients_place_is_what_passes_on(draw: Draw) -> None:
    """With the skip's edge replaced by r, gx = r + J_F^T gy: a lesion."""
    d = draw.size()
    x, r, gy = Tensor(draw.normal(d), requires_grad=True), draw.normal(d), draw.normal(d)
    y = F.residual_add(x, F.tanh(x))
    with watch(lambda edge, g: r if edge.op is y.op and edge.index == 0 else None):
        y.backward(gy)
    same(x.grad, r + (1 - np.tanh(x.data) ** 2) * gy, "gx = r + J_F^T gy", scale=1.0)


def _refused(call: Callable[[], Any]) -> bool:
    try:
        call()
    except GraphError:
        return True
    return False


def _normals(draw: Draw, *shapes: tuple[int, ...]) -> list[Array]:
    return [draw.normal(*shape) for shape in shapes]
