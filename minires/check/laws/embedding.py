"""Laws of looking up: a row learns from each place that read it."""

from __future__ import annotations

import numpy as np

from minires import functional as F
from minires.check.draw import Draw
from minires.check.law import law, pull, same, same_bits
from minires.ops.embedding import Embedding, OneHot


@law(Embedding)
def a_row_gets_as_many_gradients_as_it_was_read(draw: Draw) -> None:
    """gw[v] = count(v) g where each place carries the same g; in general the sum over the places that read v."""
    rows, d = draw.size(2, 5), draw.size(1, 3)
    w, indices = draw.normal(rows, d), draw.integers(rows, 2, rows)  # twice as many places as rows
    g = draw.normal(d)
    _, (gw,) = pull(lambda w: F.embedding(indices, w), w, gy=np.broadcast_to(g, (2, rows, d)))
    counts = np.bincount(indices.ravel(), minlength=rows)
    same(gw, counts[:, None] * g, "gw = count g")
    gy = draw.normal(2, rows, d)
    _, (gw,) = pull(lambda w: F.embedding(indices, w), w, gy=gy)
    same(gw.sum(axis=0), gy.sum(axis=(0, 1)), "Σ gw = Σ gy: no gradient is lost")


@law(Embedding, OneHot)
def looking_up_is_multiplying_one_hot_rows_with_the_table(draw: Draw) -> None:
    """y = onehot(indices) w and gw = onehot(indices)^T gy, the matrix written out."""
    rows, d, n = draw.size(2, 5), draw.size(1, 3), draw.size(2, 6)
    w, indices, gy = draw.normal(rows, d), draw.integers(rows, n), draw.normal(n, d)
    matrix = F.one_hot(indices, rows).data
    same_bits(matrix.sum(axis=1), np.ones(n, matrix.dtype), "a row of the one-hot matrix holds a single 1")
    same_bits(matrix.argmax(axis=1), indices, "and it stands where the index says")
    y, (gw,) = pull(lambda w: F.embedding(indices, w), w, gy=gy)
    same(y, matrix @ w, "y = onehot w")
    same(gw, matrix.T @ gy, "gw = onehot^T gy")


@law(Embedding)
def the_padding_row_gets_no_gradient_and_the_others_all_of_theirs(draw: Draw) -> None:
    """gw[padding_idx] = 0 however often it was read; forward reads it like any row. As in torch.nn.Embedding."""
    rows, d = draw.size(2, 4), draw.size(1, 3)
    w = draw.normal(rows, d)
    for padding in range(rows):
        indices = np.concatenate([draw.integers(rows, rows), [padding]])
        gy = draw.normal(len(indices), d)
        y, (gw,) = pull(lambda w, i=indices, p=padding: F.embedding(i, w, padding_idx=p), w, gy=gy)
        _, (full,) = pull(lambda w, i=indices: F.embedding(i, w), w, gy=gy)
        same_bits(y, w[indices], "forward reads the padding row as it stands")
        others = np.arange(rows) != padding
        same_bits(gw[padding], np.zeros(d), f"row {padding} is padding and gets nothing")
        same_bits(gw[others], full[others], "the other rows get what they would without padding")
