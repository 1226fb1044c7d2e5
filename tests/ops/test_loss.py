import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minires.check import gradcheck
from minires.check.reference import loss as reference
from minires.engine import Tensor
from minires.errors import RequestError
from minires.functional.loss import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    dice_loss,
    huber_loss,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from minires.functional.softmax import log_softmax, softmax
from tests.parity import assert_close, assert_like_torch, spread_out

rng = np.random.default_rng(17)
REDUCTIONS = ("mean", "sum", "none")
SHAPES = [(5, 3), (1, 4), (4, 1), (2, 3, 4), (2, 3, 2, 3)]
PAIRWISE = [mse_loss, l1_loss, smooth_l1_loss, huber_loss]
each_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)
each_shape = pytest.mark.parametrize("shape", SHAPES)


def logits(shape, dtype=np.float64, rng=rng):
    return (2 * rng.standard_normal(shape)).astype(dtype)


def classes(shape, ignored=False, rng=rng):
    """Random targets (N, *) for logits of `shape`; the first and perhaps more are -100 if asked."""
    t = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    if ignored and t.size > 1:
        t[rng.random(t.shape) < 0.3] = -100
        t.flat[0], t.flat[-1] = -100, 0
    return t


def distribution(shape):
    return np.moveaxis(rng.dirichlet(np.ones(shape[1]), (shape[0], *shape[2:])), -1, 1)


def class_weights(shape):
    return rng.uniform(0.2, 2.0, shape[1])


def gradients(f, *arrays, gy=None):
    leaves = [Tensor(a, requires_grad=True) for a in arrays]
    f(*leaves).backward(gy)
    return [leaf.grad for leaf in leaves]


# --- cross-entropy and NLL: gradients, twin, PyTorch


@each_reduction
@each_shape
def test_class_losses_have_the_right_gradients(shape, reduction):
    x, one = logits(shape), shape[1] == 1
    t, w = classes(shape, ignored=True), class_weights(shape)
    for weight in (None, w):
        gradcheck(lambda x, w=weight: nll_loss(x, t, w, reduction=reduction), x)
        for smoothing in (0.0, 0.3):
            gradcheck(
                lambda x, w=weight, a=smoothing: cross_entropy(x, t, w, reduction=reduction, label_smoothing=a),
                x,
                may_vanish=one,  # a single class has probability 1 whatever its score is
            )


@each_reduction
@each_shape
def test_cross_entropy_with_probabilities_has_the_right_gradients(shape, reduction):
    x, t, w = logits(shape), distribution(shape), class_weights(shape)
    one = shape[1] == 1
    gradcheck(lambda x, t: cross_entropy(x, t, reduction=reduction), x, t, may_vanish=one)
    gradcheck(lambda x, t: cross_entropy(x, t, w, reduction=reduction, label_smoothing=0.2), x, t, may_vanish=one)
    gradcheck(lambda x: cross_entropy(x, 2.5 * t, reduction=reduction), x, may_vanish=one)  # need not sum to one


@settings(deadline=None, max_examples=25)
@given(*[st.integers(1, 4)] * 3, st.booleans(), st.sampled_from(REDUCTIONS), st.integers(0, 99))
def test_cross_entropy_gradients_for_any_geometry(n, c, length, weighted, reduction, seed):
    rng = np.random.default_rng(seed)
    shape = (n, c + 1, length)
    x, t = logits(shape, rng=rng), classes(shape, rng=rng)
    w = rng.uniform(0.2, 2.0, c + 1) if weighted else None
    gradcheck(lambda x: cross_entropy(x, t, w, reduction=reduction, label_smoothing=0.1), x)


@each_reduction
@each_shape
def test_class_losses_equal_their_index_loops(shape, reduction):
    x, t, w, p = logits(shape), classes(shape, ignored=True), class_weights(shape), distribution(shape)
    options = {"reduction": reduction}
    assert_close(nll_loss(x, t, w, **options).data, reference.nll_loss(x, t, w, **options))
    options["label_smoothing"] = 0.3
    assert_close(cross_entropy(x, t, w, **options).data, reference.cross_entropy(x, t, w, **options))
    assert_close(cross_entropy(x, p, w, **options).data, reference.cross_entropy_soft(x, p, w, **options))


@each_reduction
@each_shape
@pytest.mark.parametrize("weighted", [False, True])
def test_class_losses_match_torch(shape, reduction, weighted):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    x, t, p = logits(shape), classes(shape, ignored=True), distribution(shape)
    w = class_weights(shape) if weighted else None
    t_, w_ = torch.tensor(t), None if w is None else torch.tensor(w)
    assert_like_torch(
        lambda x: nll_loss(x, t, w, reduction=reduction), lambda x: F.nll_loss(x, t_, w_, reduction=reduction), x
    )
    for smoothing in (0.0, 0.3):
        o = {"reduction": reduction, "label_smoothing": smoothing}
        assert_like_torch(lambda x, o=o: cross_entropy(x, t, w, **o), lambda x, o=o: F.cross_entropy(x, t_, w_, **o), x)
        assert_like_torch(
            lambda x, p, o=o: cross_entropy(x, p, w, **o), lambda x, p, o=o: F.cross_entropy(x, p, w_, **o), x, p
        )


def test_another_ignore_index_may_be_a_class_or_not():
    F, torch = pytest.importorskip("torch").nn.functional, pytest.importorskip("torch")
    x, t = logits((6, 4)), np.array([2, 0, 1, 2, 3, 2])
    for ignored in (2, -1, 9):
        t[1] = ignored
        target = torch.tensor(t)
        assert_like_torch(
            lambda x, i=ignored: cross_entropy(x, t, ignore_index=i, label_smoothing=0.1),
            lambda x, i=ignored, t=target: F.cross_entropy(x, t, ignore_index=i, label_smoothing=0.1),
            x,
        )


def test_one_sample_without_a_batch_axis():
    F, torch = pytest.importorskip("torch").nn.functional, pytest.importorskip("torch")
    x, t, p = logits(5), np.array(3), rng.dirichlet(np.ones(5))
    for reduction in REDUCTIONS:
        assert_like_torch(
            lambda x, r=reduction: cross_entropy(x, t, reduction=r),
            lambda x, r=reduction: F.cross_entropy(x, torch.tensor(3), reduction=r),
            x,
        )
        assert_like_torch(
            lambda x, r=reduction: cross_entropy(x, p, reduction=r),
            lambda x, r=reduction: F.cross_entropy(x, torch.tensor(p), reduction=r),
            x,
        )


# --- cross-entropy: laws


def test_cross_entropy_gradient_is_p_minus_y_over_n():
    x, t = logits((6, 4)), classes((6, 4))
    (gx,) = gradients(lambda x: cross_entropy(x, t), x)
    assert_close(gx, (softmax(x, 1).data - np.eye(4)[t]) / 6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_fused_cross_entropy_is_nll_of_log_softmax(smoothing):
    shape = (3, 4, 5)
    x, t, w = logits(shape), classes(shape, ignored=True), class_weights(shape)
    gy = rng.standard_normal((3, 5))
    (fused,) = gradients(lambda x: cross_entropy(x, t, w, reduction="none"), x, gy=gy)
    (composed,) = gradients(lambda x: nll_loss(log_softmax(x, 1), t, w, reduction="none"), x, gy=gy)
    assert_close(fused, composed)
    onehot = np.moveaxis(np.eye(4)[t.clip(0)], -1, 1)
    same = cross_entropy(x, onehot, w, reduction="none", label_smoothing=smoothing).data * (t >= 0)
    assert_close(cross_entropy(x, t, w, reduction="none", label_smoothing=smoothing).data, same)


def test_cross_entropy_gx_sums_to_zero_over_the_classes():
    x, t = logits((3, 4, 5)), classes((3, 4, 5))
    for target in (t, distribution((3, 4, 5))):
        (gx,) = gradients(lambda x, t=target: cross_entropy(x, t, class_weights(x.shape), label_smoothing=0.1), x)
        assert np.max(np.abs(gx.sum(1))) < 1e-15


def test_an_ignored_sample_gets_no_gradient_and_does_not_count():
    x, t = logits((4, 3)), np.array([1, -100, 2, -100])
    (gx,) = gradients(lambda x: cross_entropy(x, t, label_smoothing=0.1), x)
    assert np.all(gx[[1, 3]] == 0)
    assert_close(cross_entropy(x, t).data, cross_entropy(x[[0, 2]], t[[0, 2]]).data)
    x[1, 0] = -np.inf  # nor does it matter what its logits are
    assert np.isfinite(cross_entropy(x, t, label_smoothing=0.1, reduction="sum").data) == np.True_


def test_if_every_sample_is_ignored_the_mean_is_nan_and_the_sum_zero():
    x, t = logits((2, 3)), np.array([-100, -100])
    assert cross_entropy(x, t, reduction="sum").item() == 0
    for loss in (cross_entropy, nll_loss):
        with pytest.warns(RuntimeWarning, match="invalid value"):
            assert np.isnan(loss(x, t).item())


def test_huge_logits_do_not_overflow():
    x, t = np.array([[1e4, 0.0, -1e4], [1e4, 0.0, -1e4]]), np.array([0, 2])
    assert_close(cross_entropy(x, t, reduction="none").data, np.array([0.0, 2e4]))
    (gx,) = gradients(lambda x: cross_entropy(x, t, reduction="sum"), x)
    assert_close(gx, np.array([[0.0, 0.0, 0.0], [1.0, 0.0, -1.0]]))


def test_unsigned_and_short_integers_are_classes_too():
    x, t = logits((4, 3)), classes((4, 3))
    for dtype in (np.uint8, np.int32):
        assert np.array_equal(cross_entropy(x, t.astype(dtype)).data, cross_entropy(x, t).data)


# --- numbers


@each_reduction
@pytest.mark.parametrize("loss", PAIRWISE)
def test_pairwise_losses(loss, reduction):
    for shape in [(5,), (2, 3, 4), (1, 1), ()]:
        x, t = 2 * rng.standard_normal((2, *shape))
        x, t = np.asarray(x), np.asarray(t)
        gradcheck(lambda x, t: loss(x, t, reduction=reduction), x, t)
        expected = getattr(reference, loss.__name__)(x, t, reduction=reduction)
        assert_close(loss(x, t, reduction=reduction).data, expected)
    gradcheck(lambda x, t: loss(x, t, reduction=reduction), spread_out(3, 4), rng.standard_normal((3, 4)))


@each_reduction
@pytest.mark.parametrize("loss", PAIRWISE)
def test_pairwise_losses_match_torch(loss, reduction):
    F = pytest.importorskip("torch").nn.functional
    x, t = 2 * rng.standard_normal((2, 3, 4))
    peer = getattr(F, loss.__name__)
    assert_like_torch(lambda x, t: loss(x, t, reduction=reduction), lambda x, t: peer(x, t, reduction=reduction), x, t)


@pytest.mark.parametrize(
    ("loss", "options"),
    [(smooth_l1_loss, {"beta": b}) for b in (0.0, 0.3, 2.0)] + [(huber_loss, {"delta": d}) for d in (0.3, 2.0)],
)
def test_where_the_parabola_ends(loss, options):
    F = pytest.importorskip("torch").nn.functional
    x, t = rng.standard_normal((2, 20))
    gradcheck(lambda x, t: loss(x, t, **options), x, t)
    assert_like_torch(lambda x, t: loss(x, t, **options), lambda x, t: getattr(F, loss.__name__)(x, t, **options), x, t)
    corner = next(iter(options.values()))
    x = t + np.resize([corner, -corner, 0.0], 20)
    assert_like_torch(lambda x, t: loss(x, t, **options), lambda x, t: getattr(F, loss.__name__)(x, t, **options), x, t)


def test_l1_takes_slope_zero_at_its_kink():
    x = rng.standard_normal(4)
    (gx, gt) = gradients(lambda x, t: l1_loss(x, t, reduction="sum"), x, x.copy())
    assert np.all(gx == 0)
    assert np.all(gt == 0)


def test_the_two_sides_of_a_pairwise_loss_pull_with_equal_force():
    for loss in PAIRWISE:
        gx, gt = gradients(loss, *rng.standard_normal((2, 3, 4)))
        assert np.array_equal(gx, -gt)


def test_integer_targets_do_not_draw_float32_up_to_float64():
    x = logits((2, 3, 4), np.float32)
    for loss in (*PAIRWISE, binary_cross_entropy_with_logits, dice_loss):
        for dtype in (np.int64, np.uint8, bool):
            assert loss(x, np.ones((2, 3, 4), dtype)).dtype == np.float32


# --- masks


@each_reduction
def test_binary_cross_entropy(reduction):
    for shape in [(5,), (2, 3, 4), (1, 1)]:
        x, t = logits(shape), rng.random(shape)
        w, u = rng.uniform(0.2, 2.0, shape[-1:]), rng.uniform(0.2, 2.0, shape)
        for weights in ({}, {"weight": w}, {"pos_weight": u}, {"weight": w, "pos_weight": u}):
            gradcheck(
                lambda x, t, k=weights: binary_cross_entropy_with_logits(x, t, reduction=reduction, **k),
                x, t, tolerance=1e-9,
            )  # fmt: skip
        every = np.broadcast_to(w, shape)
        assert_close(
            binary_cross_entropy_with_logits(x, t, w, pos_weight=u, reduction=reduction).data,
            reference.binary_cross_entropy_with_logits(x, t, every, u, reduction),
        )


@each_reduction
def test_binary_cross_entropy_matches_torch(reduction):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    x, t, w, u = logits((3, 4)), rng.random((3, 4)), rng.uniform(0.2, 2.0, (3, 1)), rng.uniform(0.2, 2.0, 4)
    theirs = {"weight": torch.tensor(w), "pos_weight": torch.tensor(u)}
    assert_like_torch(
        lambda x, t: binary_cross_entropy_with_logits(x, t, w, pos_weight=u, reduction=reduction),
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction=reduction, **theirs),
        x, t,
    )  # fmt: skip


def test_binary_cross_entropy_gradient_is_p_minus_t_over_n():
    x, t = logits((3, 4)), rng.random((3, 4))
    (gx,) = gradients(lambda x: binary_cross_entropy_with_logits(x, t), x)
    assert_close(gx, (1 / (1 + np.exp(-x)) - t) / 12)


def test_binary_cross_entropy_of_huge_logits_does_not_overflow():
    x, t = np.array([1e4, -1e4, 1e4, -1e4, 0.0]), np.array([1.0, 0.0, 0.0, 1.0, 0.5])
    y = binary_cross_entropy_with_logits(x, t, reduction="none").data
    assert_close(y, np.array([0.0, 0.0, 1e4, 1e4, np.log(2)]))
    (gx,) = gradients(lambda x: binary_cross_entropy_with_logits(x, t, reduction="sum"), x)
    assert_close(gx, np.array([0.0, 0.0, 1.0, -1.0, 0.0]))


def test_binary_cross_entropy_at_logit_zero_has_its_full_slope():
    gradcheck(lambda x: binary_cross_entropy_with_logits(x, np.array([1.0, 0.0, 0.3])), np.zeros(3))


@each_reduction
def test_dice_loss(reduction):
    for shape in [(2, 3, 4), (1, 1, 2, 3), (2, 1, 1)]:
        x, t = rng.random(shape), rng.random(shape)
        gradcheck(lambda x, t: dice_loss(x, t, reduction=reduction), x, t)
        gradcheck(lambda x, t: dice_loss(x, t, eps=0.1, reduction=reduction), x, t)
        expected = reference.dice_loss(x, t, eps=0.1, reduction=reduction)
        assert_close(dice_loss(x, t, eps=0.1, reduction=reduction).data, expected)


def test_dice_loss_is_zero_for_a_perfect_mask_and_near_one_for_a_disjoint_one():
    t = (rng.random((2, 3, 50)) < 0.5).astype(float)
    assert_close(dice_loss(t, t).data, np.zeros(()))
    assert dice_loss(1 - t, t, eps=1e-9).item() > 1 - 1e-8
    assert dice_loss(0 * t, 0 * t).item() == 0


# --- all of them


@each_reduction
def test_float32_stays_float32(reduction):
    shape = (3, 4, 2)
    x, p = logits(shape, np.float32), distribution(shape).astype(np.float32)
    t, w = classes(shape), class_weights(shape).astype(np.float32)
    for f in (
        lambda x: cross_entropy(x, t, reduction=reduction),
        lambda x: cross_entropy(x, t, w, reduction=reduction, label_smoothing=0.1),
        lambda x: cross_entropy(x, p, w, reduction=reduction, label_smoothing=0.1),
        lambda x: nll_loss(x, t, w, reduction=reduction),
        *[lambda x, loss=loss: loss(x, p, reduction=reduction) for loss in PAIRWISE],
        lambda x: binary_cross_entropy_with_logits(x, p, pos_weight=w[:2], reduction=reduction),
        lambda x: dice_loss(x, p, reduction=reduction),
    ):
        y = f(x)
        assert y.dtype == np.float32
        (gx,) = gradients(f, x, gy=rng.standard_normal(y.shape).astype(np.float32))
        assert gx.dtype == np.float32


PAIR = np.ones((2, 3)), np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mse_loss(np.ones((4, 1)), np.ones(4)), RequestError, r"mse_loss: input is \(4, 1\) and target \(4,\)"),
        (lambda: l1_loss(np.ones(4), np.ones(())), RequestError, r"l1_loss: input is \(4,\) and target \(\)"),
        (lambda: mse_loss(*PAIR, reduction="avg"), RequestError, "reduction is 'avg', but must be 'none'"),
        (lambda: mse_loss(np.ones(2, int), np.ones(2)), TypeError, "input is of dtype int64"),
        (lambda: smooth_l1_loss(*PAIR, beta=-1), RequestError, "beta is -1"),
        (lambda: huber_loss(*PAIR, delta=0), RequestError, "delta is 0"),
        (lambda: dice_loss(*PAIR), RequestError, "axis of positions"),
        (
            lambda: binary_cross_entropy_with_logits(*PAIR, pos_weight=np.ones(2)),
            RequestError,
            r"pos_weight is \(2,\), which does not broadcast to \(2, 3\)",
        ),
        (
            lambda: binary_cross_entropy_with_logits(*PAIR, weight=np.ones((4, 2, 3))),
            RequestError,
            r"weight is \(4, 2, 3\)",
        ),
        (lambda: cross_entropy(PAIR[0], np.array([0, 3])), IndexError, "holds class 3, but input has classes 0 to 2"),
        (lambda: nll_loss(PAIR[0], np.array([-1, 0])), IndexError, "nll_loss: target holds class -1"),
        (lambda: cross_entropy(PAIR[0], np.array([0, 1, 2])), RequestError, r"target is \(3,\).*it must be \(2,\)"),
        (lambda: cross_entropy(PAIR[0], np.ones((2, 3), int)), RequestError, r"target is \(2, 3\).*must be \(2,\)"),
        (lambda: cross_entropy(PAIR[0], np.array([0.0, 1.0])), RequestError, "class numbers must be integers"),
        (lambda: nll_loss(PAIR[0], np.array([0.0, 1.0])), TypeError, "float64, but class numbers must be integers"),
        (lambda: cross_entropy(PAIR[0], np.array([True, False])), TypeError, "bool"),
        (lambda: cross_entropy(PAIR[0], np.array([0, 1]), np.ones(2)), RequestError, r"weight is \(2,\).*3 classes"),
        (lambda: cross_entropy(PAIR[0], np.array([0, 1]), label_smoothing=2), RequestError, "label_smoothing is 2"),
        (lambda: cross_entropy(np.ones((2, 3), int), np.array([0, 1])), TypeError, "scores must be floats"),
        (lambda: cross_entropy(np.array(1.0), np.array(0)), RequestError, "0-d"),
        (
            lambda: nll_loss(PAIR[0], np.array([0, 1]), Tensor(np.ones(3), requires_grad=True)),
            RequestError,
            r"weight requires a gradient.*detach",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
