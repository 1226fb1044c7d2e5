"""Laws of convolution: one sum S(x, w, g), linear in each; every gradient is S with one of the three left out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from minires import functional as F
from minires.backend import Array
from minires.check.case import Case
from minires.check.cases import conv as cases
from minires.check.draw import Draw
from minires.check.law import law, pull, require, same
from minires.engine import Tensor
from minires.ops.conv import Conv2d, ConvTranspose2d, Padding

Options = dict[str, Any]
Triple = tuple[Array, Array, Array]
NONE: Padding = (0, 0), (0, 0)
WIDE = (2, 0), (0, 4), (3, 1), (2, 0), (4, 4)  # beyond small images and kernels, on either side

# --- the sum that holds the three maps together


@law(Conv2d)
def a_convolutions_gradients_answer_to_one_form(draw: Draw) -> None:
    """<gx, x> = <gw, w> = S(x, w, gy), and <gy, y> = S(x, w, gy) + <gb, b>: Euler's theorem for each factor."""
    _one_form(Conv2d, *_convolution(draw), draw)


@law(ConvTranspose2d)
def a_transposed_convolutions_gradients_answer_to_one_form(draw: Draw) -> None:
    """<gx, x> = <gw, w> = S(gy, w, x), and <gy, y> = S(gy, w, x) + <gb, b>: the same sum, images exchanged."""
    _one_form(ConvTranspose2d, *_transposed(draw), draw)


@law(Conv2d, ConvTranspose2d)
def a_convolution_and_its_transpose_are_adjoint(draw: Draw) -> None:
    """<conv2d(x, w), g> = <x, conv_transpose2d(g, w)>, with the very same weights: each is the other's transpose.

    Dumoulin and Visin 2016, A Guide to Convolution Arithmetic, chapter 4.
    """
    (x, w, _), options = _convolution(draw)
    y = Conv2d.apply(x, w, None, **options).data
    g = draw.normal(*y.shape)
    back = ConvTranspose2d.apply(g, w, None, **_turned(options, x, w, g)).data
    same(np.sum(x * back), np.sum(y * g), "<x, conv_transpose2d(g)>", scale=float(np.abs(y * g).sum()) + 1e-3)


@law(Conv2d)
def a_convolutions_gx_is_the_transposed_convolution_of_gy(draw: Draw) -> None:
    """gx = conv_transpose2d(gy, w), and gw is what the transposed convolution, with gy for its image, gives w."""
    (x, w, _), options = _convolution(draw)
    gy = draw.normal(*Conv2d.apply(x, w, None, **options).shape)
    _, (gx, gw) = pull(lambda x, w: Conv2d.apply(x, w, None, **options), x, w, gy=gy)
    turned = _turned(options, x, w, gy)
    back, (_, gw_turned) = pull(lambda g, w: ConvTranspose2d.apply(g, w, None, **turned), gy, w, gy=x)
    same(gx, back, "gx")
    same(gw, gw_turned, "gw")


@law(ConvTranspose2d)
def a_transposed_convolutions_gx_is_the_convolution_of_gy(draw: Draw) -> None:
    """gx = conv2d(gy, w), and gw is what the convolution of gy, with x for its gradient, gives w.

    An output_padding of a stride or more, which a dilation allows, leaves room for more outputs: they don't count.
    """
    (x, w, _), options = _transposed(draw)
    gy = draw.normal(*ConvTranspose2d.apply(x, w, None, **options).shape)
    _, (gx, gw) = pull(lambda x, w: ConvTranspose2d.apply(x, w, None, **options), x, w, gy=gy)
    plain = {k: v for k, v in options.items() if k != "output_padding"}
    h, wide = x.shape[2:]
    counting = np.zeros(Conv2d.apply(gy, w, None, **plain).shape)
    counting[:, :, :h, :wide] = x
    seen, (_, gw_plain) = pull(lambda g, w: Conv2d.apply(g, w, None, **plain), gy, w, gy=counting)
    same(gx, seen[:, :, :h, :wide], "gx")
    same(gw, gw_plain, "gw", scale=1e-3)


@law(Conv2d)
def at_stride_1_gx_is_a_convolution_of_gy_with_the_kernel_turned_round(draw: Draw) -> None:
    """gx = conv2d(gy, w') with w'[c, o, k, l] = w[o, c, K - 1 - k, L - 1 - l] and, on each side, padding d (K - 1) - p.

    Dumoulin and Visin 2016, chapter 4: what was padded narrowly is padded widely on the way back.
    """
    kernel = draw.size(2, 3), draw.size(1, 3)
    dilation = draw.choice([2, 1, 3]), draw.choice([2, 1, 3])
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    padding = tuple(draw.choice([(0, 1), (1, 1), (1, 0), (0, 0)]) if r else (0, 0) for r in reach)
    back = tuple((r - first, r - last) for r, (first, last) in zip(reach, padding, strict=True))
    sizes = [r + draw.integer(1, 3) for r in reach]
    x = draw.normal(draw.size(1, 2), draw.size(1, 2), *sizes)
    w = draw.normal(draw.size(1, 3), x.shape[1], *kernel)
    options: Options = {"stride": (1, 1), "dilation": dilation, "groups": 1}
    gy = draw.normal(*Conv2d.apply(x, w, None, padding=padding, **options).shape)
    _, (gx,) = pull(lambda x: Conv2d.apply(x, w, None, padding=padding, **options), x, gy=gy)
    turned = np.ascontiguousarray(w[:, :, ::-1, ::-1].swapaxes(0, 1))
    same(gx, Conv2d.apply(gy, turned, None, padding=back, **options).data, "gx")


# --- one output and what it looked at


@law(Conv2d)
def one_outputs_gradient_paints_the_kernel_where_that_output_looked(draw: Draw) -> None:
    """For gy = 1 at (n, o, i, j) alone: gx[n, c, s i + d k - p, s j + d l - p] = w[o, c, k, l], and 0 elsewhere.

    And gw[o, c, k, l] = x[n, c, s i + d k - p, s j + d l - p], or 0 where the tap lay on padding.
    """
    (x, w, _), options = _convolution(draw)
    shape = Conv2d.apply(x, w, None, **options).shape
    for _ in range(4):
        n, o, i, j = at = tuple(draw.integer(0, size - 1) for size in shape)
        gy = np.zeros(shape)
        gy[at] = 1.0
        _, (gx, gw) = pull(lambda x, w: Conv2d.apply(x, w, None, **options), x, w, gy=gy)
        painted, seen = np.zeros(x.shape), np.zeros(w.shape)
        for c, (k, m, row, column) in itertools.product(range(w.shape[1]), _taps(options, w, x, i, j)):
            channel = o // (len(w) // options["groups"]) * w.shape[1] + c
            painted[n, channel, row, column] = w[o, c, k, m]
            seen[o, c, k, m] = x[n, channel, row, column]
        same(gx, painted, "gx", 1e-14)
        same(gw, seen, "gw", 1e-14)


@law(ConvTranspose2d)
def one_pixel_paints_the_kernel_and_collects_its_gradient_with_the_same_weights(draw: Draw) -> None:
    """gx[n, c, i, j] = sum of w[c, o, k, l] gy at the pixels that x[n, c, i, j] painted, s i + d k - p, s j + d l - p.

    Only what lies inside y: what padding cut off has no gradient.
    """
    (x, w, _), options = _transposed(draw)
    gy = draw.normal(*ConvTranspose2d.apply(x, w, None, **options).shape)
    _, (gx, _) = pull(lambda x, w: ConvTranspose2d.apply(x, w, None, **options), x, w, gy=gy)
    for _ in range(4):
        n, c, i, j = at = tuple(draw.integer(0, size - 1) for size in x.shape)
        collected = 0.0
        for o, (k, m, row, column) in itertools.product(range(w.shape[1]), _taps(options, w, gy, i, j)):
            channel = c // (len(w) // options["groups"]) * w.shape[1] + o
            collected += w[c, o, k, m] * gy[n, channel, row, column]
        same(gx[at], collected, "gx of one pixel", scale=1e-2)


# --- symmetries


@law(Conv2d)
def a_shifted_image_shifts_the_output_and_the_gradient_and_leaves_the_weights_gradient_alone(draw: Draw) -> None:
    """Away from the border: x moved by s t pixels moves y by t; gy moved by t moves gx by s t; gw is the same.

    Fukushima 1980, Neocognitron; LeCun et al. 1989: one kernel for every place.
    """
    s, d, k, t = draw.size(1, 3), draw.size(1, 2), draw.size(1, 3), draw.size(1, 2)
    frame = d * (k - 1) + s * (t + 1)
    content = draw.normal(1, 2, draw.size(1, 4), draw.size(1, 4))
    x = np.pad(content, ((0, 0), (0, 0), (frame, frame), (frame, frame)))
    w = draw.normal(3, 2, k, k)

    def convolution(x: Any, w: Any) -> Tensor:
        return F.conv2d(x, w, stride=s, dilation=d)

    gy = draw.normal(*convolution(x, w).shape)
    gy[:, :, -t:] = gy[:, :, :, -t:] = 0
    axis = draw.choice([2, 3])
    y, (gx, gw) = pull(convolution, x, w, gy=gy)
    moved, (gx_moved, gw_moved) = pull(convolution, np.roll(x, s * t, axis), w, gy=np.roll(gy, t, axis))
    same(moved, np.roll(y, t, axis), "the output of a shifted image")
    same(gx_moved, np.roll(gx, s * t, axis), "gx of a shifted gy")
    same(gw_moved, gw, "gw, where x and gy are shifted alike")


@law(Conv2d, ConvTranspose2d)
def height_and_width_play_the_same_part(draw: Draw) -> None:
    """Image, kernel and every option turned on the diagonal turn y, gx and gw on the diagonal."""
    for op, ((x, w, b), options) in ((Conv2d, _convolution(draw)), (ConvTranspose2d, _transposed(draw))):
        f, turned = _of(op, options), _of(op, {k: v[::-1] if k != "groups" else v for k, v in options.items()})
        gy = draw.normal(*f(x, w, b).shape)
        y, (gx, gw, gb) = pull(f, x, w, b, gy=gy)
        z, (hx, hw, hb) = pull(turned, _diagonal(x), _diagonal(w), b, gy=_diagonal(gy))
        same(_diagonal(z), y, f"the output of {op.__name__}")
        same(_diagonal(hx), gx, f"gx of {op.__name__}")
        same(_diagonal(hw), gw, f"gw of {op.__name__}", scale=1e-3)
        same(hb, gb, f"gb of {op.__name__}", scale=1e-3)


@law(Conv2d)
def an_image_and_a_kernel_seen_in_the_mirror_have_their_gradients_in_the_mirror(draw: Draw) -> None:
    """x, w and gy read backward, with the paddings of the two sides exchanged, give y, gx and gw read backward.

    Where the last window ends with the padded image; else the windows of the mirror image lie elsewhere.
    """
    (x, w, b), options = _convolution(draw)
    sizes = []
    for p, d, k, stride in zip(options["padding"], options["dilation"], w.shape[2:], options["stride"], strict=True):
        reach = d * (k - 1) + 1 - sum(p)
        sizes.append(reach + stride * (max(0, -(-(1 - reach) // stride)) + draw.integer(0, 2)))
    x = draw.normal(*x.shape[:2], *sizes)
    f = _of(Conv2d, options)
    mirrored = _of(Conv2d, {**options, "padding": tuple(p[::-1] for p in options["padding"])})
    gy = draw.normal(*f(x, w, b).shape)
    y, (gx, gw, _) = pull(f, x, w, b, gy=gy)
    z, (hx, hw, _) = pull(mirrored, _mirror(x), _mirror(w), b, gy=_mirror(gy))
    same(_mirror(z), y, "the output")
    same(_mirror(hx), gx, "gx", scale=1e-3)
    same(_mirror(hw), gw, "gw", scale=1e-3)


# --- padding


@law(Conv2d)
def padding_is_nothing_but_zeros_whose_gradient_is_cut_off(draw: Draw) -> None:
    """conv2d of x with padding is conv2d of x amid zeros: y and gw are the same, and gx is the middle of the other gx.

    So too where the padding is wider than image and kernel, and whole taps see nothing else.
    """
    (_, w, b), options = _convolution(draw)
    padding = options["padding"] = draw.choice(WIDE), draw.choice(WIDE)
    options["stride"] = draw.choice([2, 1, 3]), draw.choice([2, 1, 3])
    reach = [d * (k - 1) + 1 for d, k in zip(options["dilation"], w.shape[2:], strict=True)]
    size = [max(1, r - sum(p)) + draw.integer(0, 1) for r, p in zip(reach, padding, strict=True)]
    x = draw.normal(1, w.shape[1] * options["groups"], *size)
    padded, bare = _of(Conv2d, options), _of(Conv2d, {**options, "padding": NONE})
    gy = draw.normal(*padded(x, w, b).shape)
    y, (gx, gw, _) = pull(padded, x, w, b, gy=gy)
    z, (hx, hw, _) = pull(bare, _amid_zeros(x, padding), w, b, gy=gy)
    same(y, z, "the output")
    same(gx, _middle(hx, padding), "gx", scale=1e-3)
    same(gw, hw, "gw", scale=1e-3)


@law(ConvTranspose2d)
def what_a_transposed_convolutions_padding_cuts_off_gets_zeros_for_gradient(draw: Draw) -> None:
    """conv_transpose2d with padding is the middle of the one without: gx and gw are those of gy amid zeros."""
    (x, w, b), options = _transposed(draw)
    padding = options["padding"] = draw.choice(WIDE), draw.choice(WIDE)
    size = [n + -(-sum(p) // s) for n, p, s in zip(x.shape[2:], padding, options["stride"], strict=True)]
    x = draw.normal(1, len(w), *size)
    cut, bare = _of(ConvTranspose2d, options), _of(ConvTranspose2d, {**options, "padding": NONE})
    gy = draw.normal(*cut(x, w, b).shape)
    y, (gx, gw, _) = pull(cut, x, w, b, gy=gy)
    z, (hx, hw, _) = pull(bare, x, w, b, gy=_amid_zeros(gy, padding))
    same(y, _middle(z, padding), "the output")
    same(gx, hx, "gx", scale=1e-3)
    same(gw, hw, "gw", scale=1e-3)


# --- convolutions that are linear layers


@law(Conv2d)
def a_1x1_convolution_is_a_linear_layer_on_every_pixel(draw: Draw) -> None:
    """y, gx, gw and gb are those of `linear` on the N H W pixels, each a row of C channels."""
    x = draw.normal(draw.size(1, 3), draw.size(1, 3), draw.size(1, 4), draw.size(1, 4))
    w = draw.normal(draw.size(1, 4), x.shape[1])
    b = draw.normal(len(w))
    gy = draw.normal(len(x), len(w), *x.shape[2:])
    y, (gx, gw, gb) = pull(F.conv2d, x, w[:, :, None, None], b, gy=gy)
    z, (hx, hw, hb) = pull(F.linear, _pixels(x), w, b, gy=_pixels(gy))
    same(_pixels(y), z, "the output")
    same(_pixels(gx), hx, "gx")
    same(gw[:, :, 0, 0], hw, "gw")
    same(gb, hb, "gb")


@law(Conv2d)
def a_kernel_as_large_as_the_image_is_a_linear_layer_on_all_of_it(draw: Draw) -> None:
    """With KH = H and KW = W there is one output a channel, and everything is `linear` on the flattened image."""
    n, c, o, h, wide = draw.size(1, 3), draw.size(1, 3), draw.size(1, 3), draw.size(1, 4), draw.size(2, 4)
    x, w, b, gy = draw.normal(n, c, h, wide), draw.normal(o, c, h, wide), draw.normal(o), draw.normal(n, o)
    y, (gx, gw, gb) = pull(F.conv2d, x, w, b, gy=gy[:, :, None, None])
    z, (hx, hw, hb) = pull(F.linear, x.reshape(n, -1), w.reshape(o, -1), b, gy=gy)
    same(y[:, :, 0, 0], z, "the output")
    same(gx.reshape(n, -1), hx, "gx")
    same(gw.reshape(o, -1), hw, "gw")
    same(gb, hb, "gb")


# --- batches, biases, groups


@law(Conv2d, ConvTranspose2d)
def a_channels_bias_gets_the_sum_of_gy_over_images_and_pixels(draw: Draw) -> None:
    """gb[o] = sum over n, i, j of gy[n, o, i, j]: b[o] stands in every one of these outputs."""
    for op, ((x, w, b), options) in ((Conv2d, _convolution(draw)), (ConvTranspose2d, _transposed(draw))):
        f = _of(op, options)
        gy = draw.normal(*f(x, w, b).shape)
        _, (_, _, gb) = pull(f, x, w, b, gy=gy)
        total = np.zeros(len(b))
        for n, o, i, j in np.ndindex(gy.shape):
            total[o] += gy[n, o, i, j]
        same(gb, total, f"gb of {op.__name__}", scale=1e-3)


@law(Conv2d, ConvTranspose2d)
def a_batchs_weight_gradient_is_the_sum_over_its_images(draw: Draw) -> None:
    """gw = sum_n gw_n and gx = the gx_n one below the other: images share weights, and nothing else."""
    for op, ((x, w, b), options) in ((Conv2d, _convolution(draw)), (ConvTranspose2d, _transposed(draw))):
        f, x = _of(op, options), draw.normal(draw.size(2, 3), *x.shape[1:])
        gy = draw.normal(*f(x, w, b).shape)
        _, (gx, gw, _) = pull(f, x, w, b, gy=gy)
        each = [pull(f, one[None], w, b, gy=g[None])[1] for one, g in zip(x, gy, strict=True)]
        same(gx, np.concatenate([g[0] for g in each]), f"gx of {op.__name__}")
        same(gw, np.sum([g[1] for g in each], axis=0), f"gw of {op.__name__}", scale=1e-3)


@law(Conv2d, ConvTranspose2d)
def groups_are_convolutions_side_by_side(draw: Draw) -> None:
    """Group q of y, gx, gw and gb is what a convolution of q's channels by q's weights, alone, gives.

    Krizhevsky, Sutskever and Hinton 2012, ImageNet Classification with Deep Convolutional Networks, section 3.5.
    """
    for op, ((x, w, b), options) in (
        (Conv2d, _grouped(*_convolution(draw), draw)),
        (ConvTranspose2d, _grouped(*_transposed(draw), draw)),
    ):
        f, alone = _of(op, options), _of(op, {**options, "groups": 1})
        gy = draw.normal(*f(x, w, b).shape)
        y, gradients = pull(f, x, w, b, gy=gy)
        g = options["groups"]
        parts = zip(_split(x, g, 1), _split(w, g, 0), _split(b, g, 0), _split(gy, g, 1), strict=True)
        found = [pull(alone, *part, gy=part_gy) for *part, part_gy in parts]
        same(y, np.concatenate([one for one, _ in found], axis=1), f"the output of {op.__name__}")
        for i, (name, axis) in enumerate((("gx", 1), ("gw", 0), ("gb", 0))):
            expected = np.concatenate([each[i] for _, each in found], axis=axis)
            same(gradients[i], expected, f"{name} of {op.__name__}", scale=1e-3)


@law(Conv2d, ConvTranspose2d)
def no_gradient_crosses_from_one_group_to_another(draw: Draw) -> None:
    """Where gy is 0 outside group q, so are gx, gw and gb: exactly, since nothing there is added up."""
    for op, ((x, w, b), options) in (
        (Conv2d, _grouped(*_convolution(draw), draw)),
        (ConvTranspose2d, _grouped(*_transposed(draw), draw)),
    ):
        f, g = _of(op, options), options["groups"]
        q = draw.integer(0, g - 1)
        gy = draw.normal(*f(x, w, b).shape)
        for k, part in enumerate(_split(gy, g, 1)):
            part *= k == q
        _, gradients = pull(f, x, w, b, gy=gy)
        for name, gradient, axis in zip(("gx", "gw", "gb"), gradients, (1, 0, 0), strict=True):
            others = [part for k, part in enumerate(_split(gradient, g, axis)) if k != q]
            require(not any(part.any() for part in others), f"{name} of {op.__name__} left group {q}")


# --- words


def _one_form(op: Any, inputs: Triple, options: Options, draw: Draw) -> None:
    x, w, b = inputs
    f = _of(op, options)
    gy = draw.normal(*f(x, w, b).shape)
    y, (gx, gw, gb) = pull(f, x, w, b, gy=gy)
    form, bias = np.sum(gy * y), np.sum(gb * b)
    scale = float(np.abs(gy * y).sum() + np.abs(gb * b).sum()) + 1e-3
    same(np.sum(gx * x) + bias, form, "<gx, x> + <gb, b>", scale=scale)
    same(np.sum(gw * w) + bias, form, "<gw, w> + <gb, b>", scale=scale)


def _convolution(draw: Draw) -> tuple[Triple, Options]:
    """x, w, b and options over the op's whole range; there is an image, and a bias."""
    return _complete(cases.conv2d(draw), draw, transposed=False)


def _transposed(draw: Draw) -> tuple[Triple, Options]:
    return _complete(cases.conv_transpose2d(draw), draw, transposed=True)


def _complete(case: Case, draw: Draw, transposed: bool) -> tuple[Triple, Options]:
    x, w, b = case.inputs
    out = w.shape[1] * case.options["groups"] if transposed else len(w)
    x = x if len(x) else draw.normal(1, *x.shape[1:])
    return (x, w, draw.normal(out) if b is None else b), dict(case.options)


def _grouped(inputs: Triple, options: Options, draw: Draw) -> tuple[Triple, Options]:
    """The same geometry with two or three groups."""
    groups, c, o = draw.size(2, 3), draw.size(1, 2), draw.choice([2, 1, 3])
    x, w, _ = inputs
    transposed = "output_padding" in options
    w = draw.normal(groups * (c if transposed else o), o if transposed else c, *w.shape[2:])
    x = draw.normal(len(x), groups * c, *x.shape[2:])
    return (x, w, draw.normal(groups * o)), {**options, "groups": groups}


def _turned(options: Options, x: Array, w: Array, g: Array) -> Options:
    """The options of the transposed convolution that leads from g's shape back to x's."""
    axes = zip(
        x.shape[2:], g.shape[2:], options["padding"], options["dilation"], w.shape[2:], options["stride"], strict=True
    )
    left = tuple(n - ((out - 1) * s - sum(p) + d * (k - 1) + 1) for n, out, p, d, k, s in axes)
    return {**options, "output_padding": left}


def _taps(options: Options, w: Array, image: Array, i: int, j: int) -> list[tuple[int, int, int, int]]:
    """(k, l) and the pixel under it, for each tap of the window at (i, j) that lies on the image."""
    (sh, sw), (dh, dw), ((top, _), (left, _)) = options["stride"], options["dilation"], options["padding"]
    under = [(k, m, sh * i + dh * k - top, sw * j + dw * m - left) for k, m in np.ndindex(*w.shape[2:])]
    return [tap for tap in under if 0 <= tap[2] < image.shape[2] and 0 <= tap[3] < image.shape[3]]


def _of(op: Any, options: Options) -> Callable[..., Tensor]:
    return lambda x, w, b: op.apply(x, w, b, **options)


def _amid_zeros(x: Array, padding: Padding) -> Array:
    return np.pad(x, ((0, 0), (0, 0), *padding))


def _middle(x: Array, padding: Padding) -> Array:
    """What is left without the padding."""
    (top, bottom), (left, right) = padding
    return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]


def _diagonal(x: Array) -> Array:
    return np.ascontiguousarray(x.swapaxes(2, 3))


def _mirror(x: Array) -> Array:
    return np.ascontiguousarray(x[:, :, ::-1, ::-1])


def _pixels(x: Array) -> Array:
    """(N, C, H, W) as (N H W, C)."""
    return x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1])


def _split(x: Array, parts: int, axis: int) -> list[Array]:
    return np.split(x, parts, axis)
