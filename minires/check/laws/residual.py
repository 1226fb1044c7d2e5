"""Laws of the skip connection: what the +1 does, and what it does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minires import functional as F
from minires.backend import Array
from minires.check.draw import Draw
from minires.check.law import law, pull, require, same, same_bits
from minires.engine import Edge, Tensor
from minires.errors import GraphError, RequestError
from minires.ledger import ledger
from minires.ops.residual import PadChannels, ResidualAdd
from minires.switches import watch
from minires.transforms import jvp

Branch = Callable[[Any], Tensor]

# --- one skip


@law(ResidualAdd)
def both_gradients_of_residual_add_are_gy_bit_for_bit(draw: Draw) -> None:
    """gx = gy and gf = gy, untouched. He et al. 2016, eq. 5."""
    shape = draw.shape()
    gy = draw.normal(*shape)
    _, (gx, gf) = pull(F.residual_add, draw.normal(*shape), draw.normal(*shape), gy=gy)
    same_bits(gx, gy, "the skip's gradient")
    same_bits(gf, gy, "the branch's gradient")


@law(ResidualAdd)
def which_operand_is_the_skip_does_not_matter(draw: Draw) -> None:
    """x + f = f + x: output and both gradients are the same bits, because addition commutes, rounding included."""
    shape = draw.shape()
    x, f, gy = (draw.normal(*shape) for _ in range(3))
    y, (gx, gf) = pull(F.residual_add, x, f, gy=gy)
    turned, (gf_turned, gx_turned) = pull(F.residual_add, f, x, gy=gy)
    same_bits(turned, y, "f + x")
    same_bits(gx_turned, gx, "the skip's gradient with the operands turned")
    same_bits(gf_turned, gf, "the branch's gradient with the operands turned")


@law(ResidualAdd)
def x_added_to_itself_gets_the_gradient_twice(draw: Draw) -> None:
    """y = x + x = 2x, so gx = 2 gy: where the branch is the identity too, (I + J_F)^T gy with J_F = I."""
    shape = draw.shape()
    gy = draw.normal(*shape)
    _, (gx,) = pull(lambda x: F.residual_add(x, x), draw.normal(*shape), gy=gy)
    same_bits(gx, 2 * gy, "the gradient of x + x")


@law(ResidualAdd)
def a_skip_that_would_broadcast_is_refused(draw: Draw) -> None:
    """Equation 1 adds element by element, so x and F(x) are of one shape. He et al. 2015, section 3.2.

    `F.residual_add` says so before it adds; the op itself, if somebody calls it, refuses to sum a gradient back.
    """
    n, d = draw.size(2, 4), draw.size(1, 4)
    short, full = draw.normal(1, d), draw.normal(n, d)
    for x, f in ((short, full), (full, short), (short[0], full), (full, np.float64(1.5))):
        require(_refuses(RequestError, F.residual_add, x, f), f"{x.shape} + {f.shape} was not refused")
    leaf = Tensor(short, requires_grad=True)
    summed = ResidualAdd.apply(leaf, full)
    require(_refuses(GraphError, summed.backward, draw.normal(n, d)), "a broadcast skip's gradient was summed")


# --- one block


@law(ResidualAdd)
def a_blocks_gradient_is_gy_plus_the_branchs_transposed_jacobian_times_gy(draw: Draw) -> None:
    """For y = x + tanh(x w): gx = gy + w (gy (1 - tanh^2))^T, with J_F written out by hand."""
    n, d = draw.size(), draw.size(1, 5)
    x, w, gy = draw.normal(n, d), draw.normal(d, d), draw.normal(n, d)
    _, (gx,) = pull(lambda x: F.residual_add(x, F.tanh(F.matmul(x, w))), x, gy=gy)
    t = F.tanh(x @ w).data
    same(gx, gy + (gy * (1 - t * t)) @ w.T, "gx = gy + J_F^T gy")


@law(ResidualAdd)
def whatever_the_branch_a_blocks_gradient_is_gy_plus_its_pull(draw: Draw) -> None:
    """gx = (I + J_F)^T gy, with J_F measured forward by the complex step. He et al. 2016, eq. 5, for one block."""
    branch, x = _branch(draw)
    gy = draw.normal(*x.shape)
    _, (gx,) = pull(lambda x: F.residual_add(x, branch(x)), x, gy=gy)
    same(gx, gy + _transposed(_jacobian(branch, x), gy), "gx = gy + J_F^T gy", scale=float(np.abs(gy).max()))


@law(ResidualAdd)
def a_branch_of_norm_e_changes_the_gradients_norm_by_at_most_e(draw: Draw) -> None:
    """(1 - e) |gy| <= |gx| <= (1 + e) |gy| where ||J_F||_2 = e, so a small branch cannot make a gradient vanish.

    By the triangle inequality for gx = gy + J_F^T gy. F(x) = e x and F(x) = -e x reach the two ends.
    """
    branch, x = _branch(draw)
    gy = draw.normal(*x.shape)
    norm = float(np.linalg.norm(_jacobian(branch, x), 2))
    size = float(np.linalg.norm(gy))
    for e in (0.01, 0.3, 0.9):
        gain = e / norm if norm > 0 else 1.0
        _, (gx,) = pull(lambda x, gain=gain: F.residual_add(x, branch(x) * gain), x, gy=gy)
        ratio = float(np.linalg.norm(gx)) / size
        require(1 - e - 1e-12 <= ratio <= 1 + e + 1e-12, f"|gx| / |gy| is {ratio:.6g} for a branch of norm {e}")
        for slope in (e, -e):
            _, (gx,) = pull(lambda x, slope=slope: F.residual_add(x, x * slope), x, gy=gy)
            same(gx, (1 + slope) * gy, f"the gradient past the branch {slope} x")


@law(ResidualAdd)
def the_ledger_tells_the_skips_share_from_the_branchs(draw: Draw) -> None:
    """Of the contributions to gx one is the skip's, gy bit for bit, the others sum to J_F^T gy, and all to gx."""
    branch, x = _branch(draw)
    gy = draw.normal(*x.shape)
    leaf = Tensor(x, requires_grad=True)
    with ledger() as book:
        F.residual_add(leaf, branch(leaf)).backward(gy)
    entries = book.into(leaf)
    skips = [e.gradient for e in entries if e.op == "ResidualAdd" and e.index == 0]
    others = [e.gradient for e in entries if e.op != "ResidualAdd"]
    require(len(skips) == 1 and len(others) >= 1, "x was not reached by one skip and by the branch")
    same_bits(skips[0], gy, "the skip's share")
    _, (pulled,) = pull(branch, x, gy=gy)
    same(sum(others), pulled, "the branch's share", scale=float(np.abs(gy).max()))
    require(leaf.grad is not None, "x got no gradient")
    same(sum(e.gradient for e in entries), leaf.grad, "the sum of the shares")


# --- a stack of blocks


@law(ResidualAdd)
def where_every_branch_is_zero_a_stack_passes_gradients_bit_for_bit(draw: Draw) -> None:
    """F_k = 0 and J_k = 0 for each of L blocks: y = x and gx = gy, whatever L. He et al. 2016, eq. 5."""
    n, d = draw.size(), draw.size(1, 5)
    x, w, gy = draw.normal(n, d), draw.normal(d, d), draw.normal(n, d)
    zeros = np.zeros((d, d))
    branches = [lambda x: F.matmul(F.tanh(F.matmul(x, w)), zeros)] * draw.integer(1, 30)
    y, (gx,) = pull(lambda x: _stack(x, branches)[-1], x, gy=gy)
    same_bits(y, x, "the output of a stack of identities")
    same_bits(gx, gy, "the gradient past it")


@law(ResidualAdd)
def a_stacks_gradient_is_the_sum_over_all_its_paths(draw: Draw) -> None:
    """prod_k (I + J_k) = the sum over all subsets S of {1, ..., L} of prod_{k in S} J_k: 2^L paths.

    Exact for the Jacobian at a point, with J_k taken at the x_k that the net itself passes through.
    Veit et al. 2016, Residual Networks Behave Like Ensembles of Relatively Shallow Networks.
    """
    branches, x = _branches(draw, 6)
    gy = draw.normal(*x.shape)
    points = [t.data for t in _stack(x, branches)]
    jacobians = [_jacobian(f, at) for f, at in zip(branches, points, strict=False)]
    product, paths = np.eye(x.size), np.zeros((x.size, x.size))
    for j in jacobians:
        product = (np.eye(x.size) + j) @ product
    for taken in itertools.product((False, True), repeat=len(jacobians)):
        path = np.eye(x.size)
        for j in itertools.compress(jacobians, taken):
            path = j @ path
        paths += path
    same(paths, product, "the sum over the paths")
    _, (gx,) = pull(lambda x: _stack(x, branches)[-1], x, gy=gy)
    same(gx, _transposed(paths, gy), "the gradient through all paths", scale=float(np.abs(paths).max()))


@law(ResidualAdd)
def walked_path_by_path_backward_adds_up_to_the_gradient(draw: Draw) -> None:
    """The same 2^L terms from the engine: in each walk every block keeps either its skip's edge or its branch's.

    Veit et al. 2016 measure gradients in this way, along paths of one length at a time.
    """
    branches, x = _branches(draw, 4)
    gy = draw.normal(*x.shape)
    leaf = Tensor(x, requires_grad=True)
    stack = _stack(leaf, branches)
    blocks = {t.op.serial: k for k, t in enumerate(stack[1:]) if t.op is not None}
    shares: list[Array] = []
    for through in itertools.product((0, 1), repeat=len(branches)):  # 0: the skip, 1: the branch
        ways = {serial: through[k] for serial, k in blocks.items()}
        leaf.grad = None
        with watch(_only(ways)):
            stack[-1].backward(gy, retain_graph=True)
        shares.append(np.zeros(x.shape) if leaf.grad is None else leaf.grad)
    _, (gx,) = pull(lambda x: _stack(x, branches)[-1], x, gy=gy)
    size = max(float(np.abs(share).max()) for share in shares)
    same(sum(shares), gx, "the sum of the walks", scale=size)
    same_bits(shares[0], gy, "the walk past every branch")


@law(ResidualAdd)
def a_stack_is_its_input_plus_its_branches_and_so_is_its_gradient(draw: Draw) -> None:
    """x_L = x_l + sum_k F_k(x_k), and g_l = gy + the sum of what the branches l, ..., L - 1 hand back.

    He et al. 2016, eq. 4 and 5: a sum, where the plain net has a product.
    """
    branches, x = _branches(draw, 6)
    gy = draw.normal(*x.shape)
    stack = _stack(Tensor(x, requires_grad=True), branches)
    with ledger() as book:
        stack[-1].backward(gy)
    grown, gradient = x, gy
    for f, t in zip(branches, stack, strict=False):
        grown = grown + f(t.data).data
    same(stack[-1].data, grown, "x_L = x_0 + the branches' outputs")
    for t in reversed(stack[:-1]):
        entries = book.into(t)
        gradient = gradient + sum(e.gradient for e in entries if e.op != "ResidualAdd")
        same(sum(e.gradient for e in entries), gradient, "g_l = gy + the branches' shares")


@law(ResidualAdd)
def with_the_skips_cut_the_plain_stacks_gradient_remains(draw: Draw) -> None:
    """With zero for every skip's gradient backward gives prod_k J_k^T gy, the chain rule of a net without skips.

    For one block that is gx - gy.
    """
    branches, x = _branches(draw, 5)
    gy = draw.normal(*x.shape)
    leaf = Tensor(x, requires_grad=True)
    stack = _stack(leaf, branches)
    with watch(_only({t.op.serial: 1 for t in stack if t.op is not None})):
        stack[-1].backward(gy)
    plain = gy
    for f, t in zip(reversed(branches), reversed(stack[:-1]), strict=True):
        _, (plain,) = pull(f, t.data, gy=plain)
    same(leaf.grad, plain, "the gradient without the skips")
    first = branches[0]
    _, (gx,) = pull(lambda x: F.residual_add(x, first(x)), x, gy=gy)
    _, (alone,) = pull(first, x, gy=gy)
    same(gx - gy, alone, "gx - gy of one block", scale=float(np.abs(gx).max()))


# --- the shortcut that pads


@law(PadChannels)
def pad_channels_is_undone_by_cropping(draw: Draw) -> None:
    """crop(pad(x)) = x[:, :, ::stride, ::stride] bit for bit, and the added channels are 0. He et al. 2015, 3.3 (A)."""
    x, out, stride = _image(draw)
    y = F.pad_channels(x, out, stride).data
    same_bits(_crop(y, x.shape[1]), np.ascontiguousarray(x[:, :, ::stride, ::stride]), "what is left of x")
    same(np.sum(y * y), np.sum(x[:, :, ::stride, ::stride] ** 2), "the squares of what was padded", 1e-12)


@law(PadChannels)
def the_gradient_past_padding_is_the_cropped_gy_on_the_pixels_that_were_kept(draw: Draw) -> None:
    """gx[:, :, ::stride, ::stride] = crop(gy) bit for bit, and every pixel passed over gets exactly 0."""
    x, out, stride = _image(draw)
    gy = draw.normal(*F.pad_channels(x, out, stride).shape)
    _, (gx,) = pull(lambda x: F.pad_channels(x, out, stride), x, gy=gy)
    same_bits(np.ascontiguousarray(gx[:, :, ::stride, ::stride]), _crop(gy, x.shape[1]), "the gradient of a kept pixel")
    passed_over = np.ones(x.shape, bool)
    passed_over[:, :, ::stride, ::stride] = False
    require(not gx[passed_over].any(), "a pixel that was passed over has a gradient")


@law(PadChannels)
def the_added_channels_gradient_goes_nowhere(draw: Draw) -> None:
    """The zeros are constants: gx stays the same bits whatever gradient arrives at the added channels."""
    x, out, stride = _image(draw)
    before, c = (out - x.shape[1]) // 2, x.shape[1]
    gy = draw.normal(*F.pad_channels(x, out, stride).shape)
    other = draw.normal(*gy.shape)
    other[:, before : before + c] = gy[:, before : before + c]
    _, (gx,) = pull(lambda x: F.pad_channels(x, out, stride), x, gy=gy)
    _, (same_gx,) = pull(lambda x: F.pad_channels(x, out, stride), x, gy=other)
    same_bits(same_gx, gx, "gx under another gradient of the added channels")


@law(PadChannels)
def padding_forward_and_backward_are_each_others_adjoint(draw: Draw) -> None:
    """<pad(x), gy> = <x, gx> for any x and gy, and gx does not depend on x: padding is linear."""
    x, out, stride = _image(draw)
    y = F.pad_channels(x, out, stride).data
    gy = draw.normal(*y.shape)
    _, (gx,) = pull(lambda x: F.pad_channels(x, out, stride), x, gy=gy)
    same(np.sum(x * gx), np.sum(y * gy), "<x, gx>", 1e-12, scale=float(np.abs(y * gy).sum()))
    _, (elsewhere,) = pull(lambda x: F.pad_channels(x, out, stride), draw.normal(*x.shape), gy=gy)
    same_bits(elsewhere, gx, "gx at another x")


@law(ResidualAdd, PadChannels)
def a_widening_blocks_gradient_is_the_cropped_gy_plus_the_branchs_pull(draw: Draw) -> None:
    """y = pad(x) + F(x): gx = pad^T gy + J_F^T gy. The identity is gone: some pixels hear from the branch alone."""
    x, out, stride = _image(draw)
    w = draw.normal(out, x.shape[1], 3, 3)

    def branch(x: Any) -> Tensor:
        return F.tanh(F.conv2d(x, w, stride=stride, padding=1))

    gy = draw.normal(*branch(x).shape)
    _, (gx,) = pull(lambda x: F.residual_add(F.pad_channels(x, out, stride), branch(x)), x, gy=gy)
    _, (pulled,) = pull(branch, x, gy=gy)
    expected = pulled.copy()
    expected[:, :, ::stride, ::stride] += _crop(gy, x.shape[1])
    same(gx, expected, "gx = pad^T gy + J_F^T gy", 1e-12)


# --- what the laws are made of


def _branch(draw: Draw) -> tuple[Branch, Array]:
    """A branch of one of four kinds with random gains, and an x for it."""
    kind = draw.integer(0, 3)
    if kind == 0:
        return _convolutions(draw)
    n, d = draw.size(1, 3), draw.size(1, 4)
    x, w, v = draw.normal(n, d), draw.normal(d, d + 1), draw.normal(d + 1, d)
    if kind == 1:
        return lambda x: F.matmul(F.tanh(F.matmul(x, w)), v), x
    if kind == 2:
        return lambda x: F.matmul(F.relu(F.matmul(x, w)), v), x
    gain = draw.positive(d)  # a pre-norm sublayer: layer norm, then tokens that attend to each other
    return lambda x: _attend(F.layer_norm(x, d, gain, eps=0.5), w[:, :d]), x


def _attend(x: Any, w: Array) -> Tensor:
    return F.scaled_dot_product_attention(F.matmul(x, w), x, F.matmul(x, w.T))


def _convolutions(draw: Draw) -> tuple[Branch, Array]:
    c, h = draw.size(1, 2), draw.size(1, 3)
    x, u, v = draw.normal(2, c, h, 2), draw.normal(c, c, 3, 3), draw.normal(c, c, 3, 3)
    gain, bias = draw.positive(c), draw.normal(c)

    def branch(x: Any) -> Tensor:
        inner = F.batch_norm(F.conv2d(x, u, padding=1), None, None, gain, bias, training=True, eps=0.5)
        return F.conv2d(F.relu(inner), v, padding=1)

    return branch, x


def _branches(draw: Draw, most: int) -> tuple[list[Branch], Array]:
    """From one to `most` branches on vectors of one length, each linear, tanh or ReLU, and an x."""
    d = draw.size(1, 4)
    return [_small(draw, d) for _ in range(draw.integer(1, most))], draw.normal(1, d)


def _small(draw: Draw, d: int) -> Branch:
    w = draw.normal(d, d) * draw.choice([0.1, 0.5, 1.0])
    bend = draw.choice([F.tanh, F.relu, lambda x: x])
    return lambda x: bend(F.matmul(x, w))


def _stack(x: Any, branches: Sequence[Branch]) -> list[Tensor]:
    """x_0, ..., x_L of a stack of residual blocks."""
    points = [x if isinstance(x, Tensor) else Tensor(x)]
    for f in branches:
        points.append(F.residual_add(points[-1], f(points[-1])))
    return points


def _jacobian(f: Branch, x: Array) -> Array:
    """dy / dx, both flattened, from forward alone."""
    units = np.eye(x.size).reshape(x.size, *x.shape)
    return np.stack([jvp(f, x, unit)[1].data.reshape(-1) for unit in units], axis=1)


def _transposed(jacobian: Array, gy: Array) -> Array:
    return (jacobian.T @ gy.reshape(-1)).reshape(gy.shape)


def _only(way: dict[int, int]) -> Callable[[Edge, Array], Array | None]:
    """A watcher that lets gradient through one input alone of each op whose serial number is in `way`."""

    def watcher(edge: Edge, gradient: Array) -> Array | None:
        return np.zeros_like(gradient) if way.get(edge.op.serial, edge.index) != edge.index else None

    return watcher


def _refuses(error: type[Exception], call: Callable[..., Any], *arguments: Any) -> bool:
    try:
        call(*arguments)
    except error:
        return True
    return False


def _image(draw: Draw) -> tuple[Array, int, int]:
    """x (N, C, H, W), more channels for it, and a stride."""
    x = draw.normal(draw.size(1, 2), draw.size(1, 3), draw.size(1, 4), draw.size(1, 5))
    return x, x.shape[1] + draw.integer(1, 5), draw.size(1, 3)


def _crop(y: Array, channels: int) -> Array:
    before = (y.shape[1] - channels) // 2
    return np.ascontiguousarray(y[:, before : before + channels])
