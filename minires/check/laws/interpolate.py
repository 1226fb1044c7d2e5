"""Laws of resizing: the weights of each new pixel sum to one, so no gradient is lost, and each finds its place."""

from __future__ import annotations

from typing import Any

import numpy as np

from minires import functional as F
from minires.backend import Array
from minires.check.case import Case
from minires.check.cases import interpolate as cases
from minires.check.draw import Draw
from minires.check.law import law, pull, require, same, same_bits
from minires.engine import Tensor
from minires.ops.interpolate import Bilinear, Nearest


@law(Nearest, Bilinear)
def resizing_keeps_the_sum_of_the_gradient(draw: Draw) -> None:
    """sum gx = sum gy for every image and channel: each new pixel's weights sum to one."""
    for op, drawn in ((Nearest, cases.nearest), (Bilinear, cases.bilinear)):
        x, options = _resized(drawn(draw), draw)
        gy = draw.normal(*x.shape[:2], *options["size"])
        _, (gx,) = pull(_of(op, options), x, gy=gy)
        same(gx.sum(axis=(2, 3)), gy.sum(axis=(2, 3)), f"the sum of {op.__name__}'s gx", scale=1e-1)
    factor = draw.choice([2.0, 1.5, 3.0])  # new pixels beyond the old ones' centers
    x = draw.normal(1, 2, draw.size(2, 4), draw.size(2, 4))
    gy = draw.normal(*F.interpolate(x, scale_factor=factor, mode="bilinear").shape)
    _, (gx,) = pull(lambda x: F.interpolate(x, scale_factor=factor, mode="bilinear"), x, gy=gy)
    same(gx.sum(axis=(2, 3)), gy.sum(axis=(2, 3)), "the sum of an enlargement's gx", scale=1e-1)


@law(Nearest, Bilinear)
def to_its_own_size_an_image_and_its_gradient_pass_unchanged(draw: Draw) -> None:
    """y = x and gx = gy, bit for bit, by size or by a factor of one."""
    x = draw.normal(draw.size(1, 2), draw.size(1, 2), draw.size(1, 4), draw.size(1, 4))
    gy = draw.normal(*x.shape)
    for mode, corners in (("nearest", None), ("bilinear", False), ("bilinear", True)):
        for how in ({"size": x.shape[2:]}, {"scale_factor": 1.0}):
            y, (gx,) = pull(
                lambda x, how=how, mode=mode, corners=corners: F.interpolate(
                    x, mode=mode, align_corners=corners, **how
                ),
                x,
                gy=gy,
            )
            same_bits(y, x, f"the image under {mode}")
            same_bits(gx, gy, f"gx of {mode}")


@law(Nearest, Bilinear)
def rows_and_columns_play_the_same_part_in_resizing(draw: Draw) -> None:
    """An image, sizes and steps turned on the diagonal turn y and gx on the diagonal."""
    for op, drawn in ((Nearest, cases.nearest), (Bilinear, cases.bilinear)):
        x, options = _resized(drawn(draw), draw)
        turned = {**options, "size": options["size"][::-1], "step": options["step"][::-1]}
        gy = draw.normal(*x.shape[:2], *options["size"])
        y, (gx,) = pull(_of(op, options), x, gy=gy)
        z, (hx,) = pull(_of(op, turned), _diagonal(x), gy=_diagonal(gy))
        same(_diagonal(z), y, f"the output of {op.__name__}")
        same(_diagonal(hx), gx, f"gx of {op.__name__}", scale=1e-1)


# --- copies


@law(Nearest)
def a_copied_pixel_sums_the_gradients_of_its_copies(draw: Draw) -> None:
    """gx[i, j] = sum of gy over the new pixels that hold x[i, j]; a pixel that was passed over gets exactly 0.

    Which they are is read off y: x's values are all different.
    """
    x, options = _resized(cases.nearest(draw), draw)
    x = draw.apart(*x.shape)
    gy = draw.normal(*x.shape[:2], *options["size"])
    y, (gx,) = pull(_of(Nearest, options), x, gy=gy)
    require(bool(np.isin(y, x).all()), "a new pixel is no copy")
    for at in np.ndindex(x.shape):
        copies = y == x[at]
        same(gx[at], gy[copies].sum(), "gx of one pixel", scale=1e-1)
        require(bool(copies.any()) or gx[at] == 0, "a pixel that was passed over has a gradient")


@law(Nearest)
def enlarging_by_whole_factors_sums_each_block(draw: Draw) -> None:
    """For OH = k H and OW = l W each pixel becomes a k x l block: gx = k l avg_pool2d(gy, (k, l)), the sum over it."""
    k, l_ = draw.size(1, 4), draw.size(1, 4)
    x = draw.normal(draw.size(1, 2), draw.size(1, 2), draw.size(1, 4), draw.size(1, 4))
    y = x.repeat(k, axis=2).repeat(l_, axis=3)
    gy = draw.normal(*y.shape)
    z, (gx,) = pull(lambda x: F.interpolate(x, size=y.shape[2:]), x, gy=gy)
    same_bits(z, y, "the enlarged image")
    same(gx, k * l_ * F.avg_pool2d(gy, (k, l_)).data, "gx")


# --- weighted means


@law(Bilinear)
def bilinear_resizing_reproduces_a_slanted_plane_and_keeps_the_gradients_moments(draw: Draw) -> None:
    """For x[i, j] = a + b i + c j: y[p, q] = a + b u(p) + c v(q), with u and v where a new pixel lies on the old grid.

    So <gx, plane> = <gy, plane>: a gradient's sum and its center of mass, seen on the old grid, stay where they were.
    """
    drawn, options = _resized(cases.bilinear(draw), draw)
    u, v = (_places(drawn.shape[2 + axis], axis, options) for axis in (0, 1))
    a, b, c = draw.normal(3)
    gy = draw.normal(*drawn.shape[:2], *options["size"])
    _, (gx,) = pull(_of(Bilinear, options), drawn, gy=gy)
    i, j = np.arange(drawn.shape[2])[:, None], np.arange(drawn.shape[3])
    plane, resized = a + b * i + c * j, a + b * u[:, None] + c * v
    y = Bilinear.apply(np.broadcast_to(plane, drawn.shape).copy(), **options).data
    same(y, np.broadcast_to(resized, gy.shape), "the resized plane", scale=1.0)
    scale = float(np.abs(gy * resized).sum()) + 1e-1
    same(np.sum(gx * plane), np.sum(gy * resized), "<gx, plane>", scale=scale)
    for weights, places, name in ((i + 0 * j, u[:, None] + 0 * v, "rows"), (j + 0 * i, v + 0 * u[:, None], "columns")):
        moment = np.sum(gx * weights, axis=(2, 3))
        same(moment, np.sum(gy * places, axis=(2, 3)), f"the gradient's moment along {name}", scale=1.0)


@law(Bilinear)
def bilinear_resizing_of_a_mirror_image_has_the_gradient_in_the_mirror(draw: Draw) -> None:
    """x and gy read backward give y and gx read backward, where the new grid lies symmetrically on the old one."""
    x, options = _resized(cases.bilinear(draw), draw)
    corners = options["align_corners"]
    if corners and 1 in options["size"]:
        return  # one new pixel takes the first corner, not the middle

    def resize(x: Any) -> Tensor:
        return F.interpolate(x, size=options["size"], mode="bilinear", align_corners=corners)

    gy = draw.normal(*x.shape[:2], *options["size"])
    y, (gx,) = pull(resize, x, gy=gy)
    z, (hx,) = pull(resize, _mirror(x), gy=_mirror(gy))
    same(_mirror(z), y, "the output")
    same(_mirror(hx), gx, "gx", scale=1e-1)


@law(Bilinear)
def bilinear_halving_is_average_pooling(draw: Draw) -> None:
    """To half the size (edges aligned) each new pixel lies amid four: y and gx are those of avg_pool2d(x, 2)."""
    h, w = draw.size(1, 3), draw.size(1, 3)
    x = draw.normal(draw.size(1, 2), draw.size(1, 2), 2 * h, 2 * w)
    gy = draw.normal(*x.shape[:2], h, w)
    y, (gx,) = pull(lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear"), x, gy=gy)
    z, (hx,) = pull(lambda x: F.avg_pool2d(x, 2), x, gy=gy)
    same(y, z, "the halved image")
    same(gx, hx, "gx")


@law(Bilinear)
def a_bilinear_gradient_reaches_only_the_neighbors_of_its_pixel(draw: Draw) -> None:
    """For gy = 1 at (p, q) alone: gx[i, j] = (1 - |u(p) - i|)(1 - |v(q) - j|) for pixels less than 1 away, else 0."""
    x, options = _resized(cases.bilinear(draw), draw)
    p, q = (draw.integer(0, n - 1) for n in options["size"])
    gy = np.zeros((*x.shape[:2], *options["size"]))
    gy[:, :, p, q] = 1.0
    u, v = _places(x.shape[2], 0, options)[p], _places(x.shape[3], 1, options)[q]
    expected = np.zeros(x.shape)
    for i, j in np.ndindex(x.shape[2:]):
        if abs(u - i) < 1 and abs(v - j) < 1:
            expected[:, :, i, j] = (1 - abs(u - i)) * (1 - abs(v - j))
    _, (gx,) = pull(_of(Bilinear, options), x, gy=gy)
    same(gx, expected, "gx")


# --- words


def _resized(case: Case, draw: Draw) -> tuple[Array, dict[str, Any]]:
    """An image, and options over the op's whole range."""
    x = case.inputs[0]
    return x if x.size else draw.normal(1, *x.shape[1:]), case.options


def _of(op: Any, options: dict[str, Any]) -> Any:
    return lambda x: op.apply(x, **options)


def _places(old: int, axis: int, options: dict[str, Any]) -> Array:
    """Where each new pixel lies on the old grid, at most at its ends."""
    p, step = np.arange(options["size"][axis]), options["step"][axis]
    u = p * step if options["align_corners"] else p * step + (step - 1) / 2
    return np.minimum(np.maximum(u, 0.0), old - 1.0)


def _diagonal(x: Array) -> Array:
    return np.ascontiguousarray(x.swapaxes(2, 3))


def _mirror(x: Array) -> Array:
    return np.ascontiguousarray(x[:, :, ::-1, ::-1])
