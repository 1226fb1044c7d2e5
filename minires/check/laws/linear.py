"""Laws of matrix products: linear in each factor, and whatever was used twice gets a sum."""

from __future__ import annotations

from typing import Any

import numpy as np

from minires import functional as F
from minires.check.cases.linear import factors, layer
from minires.check.draw import Draw
from minires.check.law import law, pull, same
from minires.ops.linear import Linear, Matmul

# --- the product of two matrices


@law(Matmul)
def a_matrix_product_is_one_trilinear_form(draw: Draw) -> None:
    """<gy, y> = <gx, x> = <gw, w>: the sum of gy x w over all three indices, whichever factor is left out.

    Euler's theorem for a function that is linear in x and in w: its derivative along x itself is the function.
    """
    x, w = factors(draw)
    gy = draw.normal(*np.shape(F.matmul(x, w).data))
    y, (gx, gw) = pull(F.matmul, x, w, gy=gy)
    form, scale = np.sum(gy * y), float(np.abs(gy * y).sum()) + 1e-3
    same(np.sum(gx * x), form, "<gx, x>", scale=scale)
    same(np.sum(gw * w), form, "<gw, w>", scale=scale)


@law(Matmul)
def a_product_turned_round_has_the_same_gradients_turned(draw: Draw) -> None:
    """(x w)ᵀ = wᵀ xᵀ. So the gradient of x as the left factor is that of xᵀ as the right one, transposed."""
    t, k, d = draw.size(), draw.size(), draw.size()
    x, w, gy = draw.normal(t, k), draw.normal(k, d), draw.normal(t, d)
    y, (gx, gw) = pull(F.matmul, x, w, gy=gy)
    turned, (gw_turned, gx_turned) = pull(F.matmul, w.T.copy(), x.T.copy(), gy=gy.T.copy())
    same(turned.T, y, "wᵀ xᵀ")
    same(gx_turned.T, gx, "gx as the gradient of a right factor")
    same(gw_turned.T, gw, "gw as the gradient of a left factor")


@law(Matmul)
def the_gradient_of_a_row_times_a_column_is_the_other_one(draw: Draw) -> None:
    """y = x . w of two vectors: gx = gy w and gw = gy x. The same for a (1, K) row and a (K, 1) column."""
    k = draw.size(1, 6)
    x, w, gy = draw.normal(k), draw.normal(k), draw.normal()
    _, (gx, gw) = pull(F.matmul, x, w, gy=gy)
    same(gx, gy * w, "gx of a dot product")
    same(gw, gy * x, "gw of a dot product")
    _, (gx, gw) = pull(F.matmul, x[None, :], w[:, None], gy=gy.reshape(1, 1))
    same(gx[0], gy * w, "gx of a row times a column")
    same(gw[:, 0], gy * x, "gw of a row times a column")


@law(Matmul)
def the_gradient_of_a_trace_is_the_other_factor_transposed(draw: Draw) -> None:
    """d trace(x w) / dx = wᵀ and d trace(x w) / dw = xᵀ, for square factors too, where shapes would not tell.

    gx = gy wᵀ and gw = xᵀ gy for gy = t I. Giles 2008, An Extended Collection of Matrix Derivative Results, 2.2.
    """
    k, t = draw.size(2, 5), draw.normal()
    x, w = draw.normal(k, k), draw.normal(k, k)
    _, (gx, gw) = pull(F.matmul, x, w, gy=t * np.eye(k))
    same(gx, t * w.T, "gx of the trace")
    same(gw, t * x.T, "gw of the trace")


@law(Matmul)
def an_orthogonal_matrix_keeps_every_gradients_length(draw: Draw) -> None:
    """gx = gy Qᵀ, so |gx| = |gy| row by row, and gx Q = gy: why orthogonal weights neither fade nor explode.

    Saxe, McClelland and Ganguli 2014, Exact Solutions to the Nonlinear Dynamics of Learning in Deep Linear Neural
    Networks.
    """
    t, k = draw.size(), draw.size(2, 5)
    q = np.linalg.qr(draw.normal(k, k))[0]
    x, gy = draw.normal(t, k), draw.normal(t, k)
    _, (gx, _) = pull(F.matmul, x, q, gy=gy)
    same(np.sum(gx * gx, axis=1), np.sum(gy * gy, axis=1), "the squared length of gx")
    same(gx @ q, gy, "gx Q")


@law(Matmul)
def a_product_of_three_has_the_same_gradients_however_it_is_bracketed(draw: Draw) -> None:
    """(x a) b = x (a b), and so are the gradients of x, a and b: ga = xᵀ gy bᵀ either way."""
    n, k, m, d = draw.size(), draw.size(), draw.size(), draw.size()
    x, a, b, gy = draw.normal(n, k), draw.normal(k, m), draw.normal(m, d), draw.normal(n, d)
    _, left = pull(lambda x, a, b: F.matmul(F.matmul(x, a), b), x, a, b, gy=gy)
    _, right = pull(lambda x, a, b: F.matmul(x, F.matmul(a, b)), x, a, b, gy=gy)
    scale = 1e-3 + max(float(np.abs(g).max()) for g in left)
    for name, one, other in zip(("x", "a", "b"), left, right, strict=True):
        same(other, one, f"the gradient of {name} with the last two multiplied first", scale=scale)
    same(left[1], x.T @ gy @ b.T, "the gradient of the middle factor", scale=scale)


@law(Matmul)
def a_matrix_that_a_batch_shares_gets_the_sum_of_what_each_use_sends(draw: Draw) -> None:
    """y_n = x_n w: gw = sum_n x_nᵀ gy_n, for a w without batch axis as for one of length 1; and so for a shared x."""
    n, t, k, d = draw.size(2, 4), draw.size(), draw.size(), draw.size()
    xs, gy = draw.normal(n, t, k), draw.normal(n, t, d)
    ws, x, w = draw.normal(n, k, d), draw.normal(t, k), draw.normal(k, d)
    each = [pull(F.matmul, one, w, gy=g)[1] for one, g in zip(xs, gy, strict=True)]
    for shared in (w, w[None]):
        _, (gx, gw) = pull(F.matmul, xs, shared, gy=gy)
        same(gx, np.stack([g for g, _ in each]), "gx of a batch")
        same(gw, np.sum([g for _, g in each], axis=0).reshape(shared.shape), "gw of a shared right factor", scale=1e-3)
    each = [pull(F.matmul, x, one, gy=g)[1] for one, g in zip(ws, gy, strict=True)]
    for shared in (x, x[None]):
        _, (gx, gw) = pull(F.matmul, shared, ws, gy=gy)
        same(gx, np.sum([g for g, _ in each], axis=0).reshape(shared.shape), "gx of a shared left factor", scale=1e-3)
        same(gw, np.stack([g for _, g in each]), "gw of a batch")


# --- the layer


@law(Linear)
def a_layer_is_a_product_with_the_transposed_weight_plus_the_bias(draw: Draw) -> None:
    """y = x wᵀ + b: gx and gwᵀ are those of the product x wᵀ, and gb what broadcasting b sums up."""
    x, w, b, gy = _layer(draw)
    y, (gx, gw, gb) = pull(F.linear, x, w, b, gy=gy)
    other, (gx2, gwt, gb2) = pull(lambda x, wt, b: F.add(F.matmul(x, wt), b), x, w.T.copy(), b, gy=gy)
    same(y, other, "x wᵀ + b")
    same(gx, gx2, "gx")
    same(gw, gwt.T, "gw")
    same(gb, gb2, "gb")


@law(Linear)
def a_layers_three_gradients_answer_to_one_form(draw: Draw) -> None:
    """<gy, y> = <gx, x> + <gb, b> = <gw, w> + <gb, b>: y is linear in x (but for b) and in w and b."""
    x, w, b, gy = _layer(draw)
    y, (gx, gw, gb) = pull(F.linear, x, w, b, gy=gy)
    form, scale = np.sum(gy * y), float(np.abs(gy * y).sum() + np.abs(gb * b).sum()) + 1e-3
    same(np.sum(gx * x) + np.sum(gb * b), form, "<gx, x> + <gb, b>", scale=scale)
    same(np.sum(gw * w) + np.sum(gb * b), form, "<gw, w> + <gb, b>", scale=scale)


@law(Linear)
def a_bias_gets_the_sum_of_gy_over_all_rows(draw: Draw) -> None:
    """gb[o] = sum over every leading index of gy[..., o]: a sum, not a mean, and of all leading axes."""
    x, w, b, gy = _layer(draw)
    _, (_, _, gb) = pull(F.linear, x, w, b, gy=gy)
    total = np.zeros(len(b))
    for at in np.ndindex(gy.shape[:-1]):
        total += gy[at]
    same(gb, total, "gb", scale=1e-3)


@law(Linear)
def one_rows_weight_gradient_is_an_outer_product_and_a_batchs_is_their_sum(draw: Draw) -> None:
    """gw = sum_r gy_r x_rᵀ: of rank 1 for one row, and of rank R at most for R of them.

    So |gw_r| = |gy_r| |x_r|: Goodfellow 2015, Efficient Per-Example Gradient Computations.
    """
    x, w = draw.normal(draw.size(2, 3), 4), draw.normal(4, 4)
    gys = draw.normal(len(x), 4)
    total = np.zeros(w.shape)
    for x_r, gy_r in zip(x, gys, strict=True):
        _, (_, gw) = pull(F.linear, x_r[None], w, gy=gy_r[None])
        same(gw, np.outer(gy_r, x_r), "gw of one row")
        total += gw
    _, (_, gw) = pull(F.linear, x, w, gy=gys)
    same(gw, total, "gw of the batch")
    beyond = np.linalg.svd(gw, compute_uv=False)[len(x) :]
    same(beyond, np.zeros(beyond.shape), "the singular values beyond the number of rows", scale=1.0)


@law(Linear)
def a_row_gets_gradient_from_its_own_output_alone(draw: Draw) -> None:
    """gx_r = gy_r w, whatever the other rows: where gy_r = 0 so is gx_r, and reordered rows reorder gx, not gw."""
    rows, d, o = draw.size(2, 5), draw.size(), draw.size()
    x, w, gy = draw.normal(rows, d), draw.normal(o, d), draw.normal(rows, o)
    gy[0] = 0
    order = draw.rng.permutation(rows)
    _, (gx, gw) = pull(F.linear, x, w, gy=gy)
    same(gx[0], np.zeros(d), "gx of a row whose output got no gradient")
    _, (moved, gw_moved) = pull(F.linear, x[order], w, gy=gy[order])
    same(moved, gx[order], "gx of reordered rows")
    same(gw_moved, gw, "gw of reordered rows")


@law(Linear)
def leading_axes_are_only_rows(draw: Draw) -> None:
    """x (N, T, D) and x reshaped to (N T, D) have the same gw and gb, and the same gx but for its shape."""
    n, t, d, o = draw.size(2, 3), draw.size(2, 3), draw.size(), draw.size()
    x, w, b, gy = draw.normal(n, t, d), draw.normal(o, d), draw.normal(o), draw.normal(n, t, o)
    _, (gx, gw, gb) = pull(F.linear, x, w, b, gy=gy)
    _, (gx_flat, gw_flat, gb_flat) = pull(F.linear, x.reshape(n * t, d), w, b, gy=gy.reshape(n * t, o))
    same(gx, gx_flat.reshape(x.shape), "gx")
    same(gw, gw_flat, "gw")
    same(gb, gb_flat, "gb", scale=1e-3)


def _layer(draw: Draw) -> tuple[Any, Any, Any, Any]:
    """x, w, a bias that is there, and gy."""
    x, w, b = layer(draw)
    b = draw.normal(len(w)) if b is None else b
    return x, w, b, draw.normal(*x.shape[:-1], len(w))
